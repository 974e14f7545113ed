//! A histogram as a small picture.

use crate::data::{Histogram, Values};
use crate::text;
use maud::{Markup, html};
use std::fmt::Write as _;

/// Height of the picture's own coordinates.
const TALL: f64 = 100.0;

/// The picture; `of` says of what, to those who hear the page.
pub(crate) fn histogram(values: &Values, of: &str, class: &str) -> Markup {
    let Some(histogram) = &values.histogram else {
        return html! {};
    };
    let bins = histogram.bins.len();
    html! {
        svg class={ "histogram " (class) } role="img" aria-label=(tell(values, histogram, of))
            viewBox={ "0 0 " (bins) " " (TALL) } preserveAspectRatio="none" {
            path class="bins" d=(outline(&histogram.bins)) {}
            @if let Some(x) = zero(histogram) {
                line class="zero" x1=(x) x2=(x) y1="0" y2=(TALL) {}
            }
        }
    }
}

/// Steps over the bins, closed along the bottom.
fn outline(bins: &[u64]) -> String {
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let mut path = format!("M0 {TALL}");
    for (x, n) in bins.iter().enumerate() {
        // What is there is seen, however little it is.
        let height = if *n == 0 {
            0.0
        } else {
            (*n as f64 / most * TALL).max(1.0)
        };
        // Writing to a String does not fail.
        let _ = write!(path, "V{:.0}H{}", TALL - height, x + 1);
    }
    path + &format!("V{TALL}Z")
}

/// Where zero stands, if it is inside.
fn zero(histogram: &Histogram) -> Option<String> {
    let Histogram {
        low, high, bins, ..
    } = histogram;
    let inside = *low < 0.0 && 0.0 < *high;
    inside.then(|| format!("{:.2}", -low / (high - low) * bins.len() as f64))
}

fn tell(values: &Values, histogram: &Histogram, of: &str) -> String {
    format!(
        "Histogram of {of}: from {} to {}, mean {}, standard deviation {}",
        text::figure(histogram.low),
        text::figure(histogram.high),
        text::figure(values.mean),
        text::figure(values.std)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_become_steps() {
        assert_eq!(outline(&[1, 2, 0, 1]), "M0 100V50H1V0H2V100H3V50H4V100Z");
        assert_eq!(outline(&[u64::MAX, 1]), "M0 100V0H1V99H2V100Z");
        let histogram = Histogram {
            low: -1.0,
            high: 3.0,
            bins: vec![0; 8],
            outside: 0,
        };
        assert_eq!(zero(&histogram).as_deref(), Some("2.00"));
    }
}
