//! Text for people: sizes, counts and figures, and names that cannot deceive.

use maud::{Markup, html};
pub(crate) use wording::printable;

/// Longest name shown; what is longer loses its middle.
const NAME_SHOWN: usize = 120;

/// A narrow space that does not break a line, between groups of digits and before units.
const THIN: char = '\u{202f}';

/// `13.5 GB`.
pub(crate) fn bytes(n: u64) -> String {
    wording::bytes(n, THIN)
}

/// `6.74 B` of parameters.
pub(crate) fn many(n: u64) -> String {
    wording::many(n, THIN)
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn count(n: u64, thing: &str) -> String {
    wording::count(n, thing, THIN)
}

/// `1 234 567`.
pub(crate) fn thousands(n: u64) -> String {
    wording::thousands(n, THIN)
}

/// A figure with four digits that count: `0.02341`, `-1.5`, `3.2e-7`.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return if value.is_nan() { "NaN" } else { "∞" }.to_owned();
    }
    let magnitude = value.abs();
    let text = if !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.2e}");
        return text.replace('-', "−").replace(".00e", "e");
    } else if magnitude >= 1000.0 {
        format!("{value:.0}")
    } else {
        let digits = [1.0, 10.0, 100.0].iter().filter(|d| magnitude >= **d);
        let mut places = 4 - digits.count();
        for small in [0.1, 0.01] {
            places += usize::from(magnitude < small);
        }
        format!("{value:.places$}")
    };
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    text.replace('-', "−")
}

/// A share of a whole: `12.3 %`.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match percent {
        0.0 => "0".to_owned(),
        p if p < 0.05 => format!("<0.1{THIN}%"),
        p if p < 10.0 => format!("{p:.1}{THIN}%"),
        p => format!("{p:.0}{THIN}%"),
    }
}

/// `4.50` bits a weight.
pub(crate) fn bits(bytes: u64, elements: u64) -> String {
    format!("{:.2}", bytes as f64 * 8.0 / elements.max(1) as f64)
}

/// `3.2 s`, `4 min 10 s`, `2 h 5 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a figure for people
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.1}{THIN}s"),
        10..60 => format!("{whole}{THIN}s"),
        60..3600 => format!("{}{THIN}min {}{THIN}s", whole / 60, whole % 60),
        _ => format!(
            "{}{THIN}h {}{THIN}min",
            thousands(whole / 3600),
            whole % 3600 / 60
        ),
    }
}

/// A stranger's text, with what would hide or reorder it spelled out, and not too long.
pub(crate) fn name(text: &str) -> String {
    printable(&short(text, NAME_SHOWN))
}

/// A name that may be broken over lines behind its dots, slashes and underscores.
pub(crate) fn breaking(name: &str) -> Markup {
    html! {
        @for (i, part) in name.split_inclusive(['.', '/', '_']).enumerate() {
            @if i > 0 { wbr; }
            (part)
        }
    }
}

/// The beginning of a text, of at most `most` characters.
pub(crate) fn head(text: &str, most: usize) -> String {
    if text.char_indices().nth(most).is_none() {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// The text without its middle where it is longer than `most` characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    // Bytes are at least as many as characters: the count is only made where it can matter.
    if text.len() <= most || text.chars().count() <= most {
        return text.to_owned();
    }
    let head = most.saturating_sub(1).div_ceil(2);
    let tail = most.saturating_sub(1) - head;
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    let end: Vec<char> = text.chars().rev().take(tail).collect();
    out.extend(end.into_iter().rev());
    out
}

/// `[4096, 11008]` as `4096 × 11008`.
pub(crate) fn shape(dims: &[u64]) -> String {
    const SHOWN: usize = 8;
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    let mut text: Vec<String> = dims.iter().take(SHOWN).map(u64::to_string).collect();
    if dims.len() > SHOWN {
        text.push("…".to_owned());
    }
    text.join(" × ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable() {
        assert_eq!(bytes(999), "999\u{202f}B");
        assert_eq!(bytes(13_500_000_000), "13.5\u{202f}GB");
        assert_eq!(many(6_740_000_000), "6.74\u{202f}B");
        assert_eq!(many(42), "42");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(share(1, 3), "33\u{202f}%");
        assert_eq!(share(1, 100_000), "<0.1\u{202f}%");
        assert_eq!(seconds(250.0), "4\u{202f}min 10\u{202f}s");
        assert_eq!(shape(&[2, 3]), "2 × 3");
    }

    #[test]
    fn figures_have_four_digits() {
        let texts = [
            0.0,
            0.023_412,
            -1.5,
            3.2e-7,
            123.456,
            12_345.6,
            1e9,
            0.5,
            f64::INFINITY,
        ];
        let texts = texts.map(figure);
        let want = [
            "0",
            "0.02341",
            "−1.5",
            "3.20e−7",
            "123.5",
            "12346",
            "1e9",
            "0.5",
            "∞",
        ];
        assert_eq!(texts.each_ref().map(String::as_str), want);
    }

    #[test]
    fn names_cannot_deceive() {
        assert_eq!(
            printable("a\x1b\u{202e}b\u{200b}"),
            "a\\u{1b}\\u{202e}b\\u{200b}"
        );
        assert_eq!(short("abcdefghij", 5), "ab…ij");
        assert_eq!(short("ééééé", 5), "ééééé");
        assert_eq!(
            (head("abcdef", 4), head("ééé", 3)),
            ("abc…".into(), "ééé".into())
        );
        assert_eq!(breaking("a.b<").into_string(), "a.<wbr>b&lt;");
        assert!(name(&"x".repeat(100_000)).chars().count() <= NAME_SHOWN);
    }
}
