//! `weightbridge diff`.

use crate::args::{Common, DTypeArg, DiffArgs};
use crate::exit;
use crate::show::{self, Paint, Tone};
use convert::{DiffOptions, DiffReport};
use ir::Result;
use serde_json::{Value, json};
use weightbridge::Session;

pub(crate) fn run(args: &DiffArgs, common: &Common, session: &Session) -> Result<u8> {
    let options = DiffOptions {
        tolerance: args.tolerance,
        as_dtype: args.as_dtype.and_then(DTypeArg::dtype),
        relative: false,
    };
    let report = weightbridge::diff(&args.a, &args.b, args.names.into(), options, session)?;
    if common.json {
        show::document(&document(&report));
    } else {
        tell(&report, common);
    }
    Ok(if report.same() { exit::OK } else { exit::NO })
}

/// JSON has no infinity: a figure that is not finite is told as text.
fn figure(value: Option<f64>) -> Value {
    match value {
        Some(x) if x.is_finite() => Value::from(x),
        Some(x) => Value::from(x.to_string()),
        None => Value::Null,
    }
}

fn document(report: &DiffReport) -> Value {
    let differ = report.differ.iter().map(|d| {
        json!({
            "name": d.name,
            "reason": d.reason,
            "max_abs": figure(d.max_abs),
            "max_rel": figure(d.max_rel),
            "rmse": figure(d.rmse),
        })
    });
    json!({
        "same": report.same(),
        "only_in_a": report.only_in_a,
        "only_in_b": report.only_in_b,
        "differ": differ.collect::<Vec<_>>(),
        "compared": report.compared,
    })
}

fn tell(report: &DiffReport, common: &Common) {
    let paint = Paint::new(common, true);
    let only = |side: &str, names: &[String]| {
        for name in names {
            let side = paint.text(Tone::Odd, &format!("only in {side}"));
            show::line(&format!("{side}  {}", show::printable(name)));
        }
    };
    only("A", &report.only_in_a);
    only("B", &report.only_in_b);
    for d in &report.differ {
        let word = paint.text(Tone::Odd, "differs");
        let figures = match (d.max_abs, d.max_rel, d.rmse) {
            (Some(abs), Some(rel), Some(rmse)) => {
                format!(": max {abs:.3e}, relative {rel:.3e}, rmse {rmse:.3e}")
            }
            _ => String::new(),
        };
        show::line(&format!(
            "{word}    {}  {}{figures}",
            show::printable(&d.name),
            d.reason
        ));
    }
    if !common.quiet {
        let compared = show::count(report.compared, "tensor");
        let word = if report.same() {
            "the same"
        } else {
            "different"
        };
        note!(
            "{word}: {compared} compared, {} differ",
            report.differ.len()
        );
    }
}
