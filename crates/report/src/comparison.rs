//! How far a model's values are from those it was made of.

use crate::data::{Comparison, ErrorRow, TensorRow};
use crate::frame::{filter, scroll};
use crate::grid::{Shade, stacks};
use crate::text;
use maud::{Markup, html};
use std::collections::{HashMap, HashSet};

/// Most rows: those with the largest error.
const ROWS: usize = 1000;
/// Most names of one list.
const NAMES: usize = 50;

/// Bounds of the relative error, and their colours. Q4_K of normally distributed weights is near
/// seven percent.
const STEPS: [(f64, &str, &str); 7] = [
    (0.0, "e0", "exact"),
    (0.003, "e1", "to 0.3 %"),
    (0.02, "e2", "to 2 %"),
    (0.05, "e3", "to 5 %"),
    (0.1, "e4", "to 10 %"),
    (0.2, "e5", "to 20 %"),
    (f64::INFINITY, "e6", "more"),
];

fn step(relative: f64) -> (&'static str, &'static str) {
    let step = STEPS.iter().find(|(most, ..)| relative <= *most);
    step.map_or(("e6", "more"), |(_, class, words)| (*class, *words))
}

pub(crate) fn comparison(found: &Comparison, tensors: &[TensorRow]) -> Markup {
    let exact = found.rows.iter().filter(|row| row.max_abs == 0.0).count();
    html! {
        p class="note" {
            "Against " code { (text::name(&found.against)) } ", " (text::printable(&found.names)) ": "
            (text::count(found.compared, "tensor")) " compared, " (text::thousands(exact as u64)) " exact. "
            "Every value is read. The relative error is the root of the mean square difference over the root of the mean square of the other's values."
        }
        @if !found.rows.is_empty() { (pictures(found, tensors)) (table(found)) }
        @let unlike: Vec<String> = found.unlike.iter().map(|fact| format!("{}: {}", fact.key, fact.value)).collect();
        (names("Cannot be compared", &unlike))
        (names("Only in this model", &found.only_here))
        (names("Only in the other", &found.only_there))
    }
}

fn pictures(found: &Comparison, tensors: &[TensorRow]) -> Markup {
    let errors: HashMap<&str, &ErrorRow> = found
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row))
        .collect();
    // Tensors may have been compared under other names than the model's own.
    let known: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let renamed: Vec<TensorRow>;
    let tensors = if found
        .rows
        .iter()
        .all(|row| known.contains(row.name.as_str()))
    {
        tensors
    } else {
        let row = |row: &ErrorRow| TensorRow {
            name: row.name.clone(),
            ..TensorRow::default()
        };
        renamed = found.rows.iter().map(row).collect();
        &renamed
    };
    let shade = |members: &[usize]| {
        let of = members
            .iter()
            .filter_map(|at| errors.get(tensors.get(*at)?.name.as_str()));
        let worst = of.map(|row| row.relative).reduce(f64::max)?;
        let (class, words) = step(worst);
        Some(Shade {
            class,
            words: words.to_owned(),
        })
    };
    let (stacks, _) = stacks(tensors);
    html! {
        ul class="legend" {
            @for (_, class, words) in &STEPS {
                li { svg class="swatch" aria-hidden="true" width="12" height="12" { rect class=(class) width="12" height="12" rx="3" {} } (words) }
            }
        }
        @for stack in &stacks {
            h3 { "Relative error in " code { (text::name(&stack.name)) } }
            (stack.draw(shade))
        }
    }
}

fn table(found: &Comparison) -> Markup {
    let mut rows: Vec<&ErrorRow> = found.rows.iter().collect();
    rows.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let table = html! {
        table id="errors-table" data-sort {
            thead { tr {
                th scope="col" { "Name" }
                th scope="col" { "Type" }
                th scope="col" class="n" aria-sort="descending" { "Relative" }
                th scope="col" class="n" { abbr title="root of the mean square difference" { "RMSE" } }
                th scope="col" class="n" { "Largest" }
            } }
            tbody { @for row in rows { tr {
                th scope="row" class="name" { code { (text::breaking(&text::name(&row.name))) } }
                td class="tight" { @if row.from == row.to { (text::name(&row.to)) } @else { (text::name(&row.from)) " → " (text::name(&row.to)) } }
                td class="n" data-v=(row.relative) {
                    svg class="swatch" aria-hidden="true" width="12" height="12" { rect class=(step(row.relative).0) width="12" height="12" rx="3" {} }
                    (percent(row.relative))
                }
                td class="n" data-v=(row.rmse) { (text::figure(row.rmse)) }
                td class="n" data-v=(row.max_abs) { (text::figure(row.max_abs)) }
            } } }
        }
    };
    html! {
        @if left_out > 0 {
            p class="note" { "The table has the largest errors; " (text::count(left_out as u64, "tensor")) " with smaller ones are left out." }
        }
        (filter("errors-table", "Filter errors", &[]))
        (scroll("Errors", &table))
    }
}

fn percent(relative: f64) -> String {
    match relative {
        0.0 => "exact".to_owned(),
        r if !r.is_finite() => "∞".to_owned(),
        r if r < 1e-5 => format!("{} %", text::figure(r * 100.0)),
        r => format!("{:.*} %", if r < 0.0095 { 3 } else { 2 }, r * 100.0),
    }
}

/// A list of names that opens.
fn names(title: &str, names: &[String]) -> Markup {
    html! {
        @if !names.is_empty() {
            details {
                summary { (title) " (" (text::thousands(names.len() as u64)) ")" }
                ul class="names" { @for name in names.iter().take(NAMES) { li { code { (text::name(name)) } } } }
                @if names.len() > NAMES { p class="note" { "And " (text::thousands((names.len() - NAMES) as u64)) " more." } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_everything() {
        assert_eq!(step(0.0).0, "e0");
        assert_eq!(step(0.004).0, "e2");
        assert_eq!(step(f64::INFINITY).0, "e6");
        assert_eq!(step(f64::NAN).0, "e6");
        assert_eq!(percent(0.074_56), "7.46 %");
    }
}
