//! What a conversion, or a reader, carried, changed and dropped.

use crate::data::{Conversion, RecordRow};
use crate::frame::{filter, scroll};
use crate::text;
use maud::{Markup, html};

/// Most records listed: losses come first.
const RECORDS: usize = 500;

pub(crate) fn conversion(done: &Conversion) -> Markup {
    html! {
        p {
            code { (text::name(&done.input)) } " (" (text::name(&done.from)) ") to "
            code { (text::name(&done.output)) } " (" (text::name(&done.to)) "): "
            (text::count(done.tensors, "tensor")) ", " (text::bytes(done.bytes))
            @if let Some(seconds) = done.seconds { ", in " (text::seconds(seconds)) }
            @if done.dry_run { "; a dry run, nothing was written" } "."
        }
        @if done.records.is_empty() {
            p { "Everything was carried as it was." }
        } @else {
            (records("conversion-table", "What the conversion did", &done.records))
        }
    }
}

/// A table of records.
pub(crate) fn records(id: &str, title: &str, records: &[RecordRow]) -> Markup {
    let mut rows: Vec<&RecordRow> = records.iter().collect();
    let left_out = rows.len().saturating_sub(RECORDS);
    if left_out > 0 {
        rows.sort_by_key(|record| !record.loss);
        rows.truncate(RECORDS);
    }
    let losses = records.iter().filter(|record| record.loss).count();
    let table = html! {
        table id=(id) data-sort {
            thead { tr {
                th scope="col" { "Outcome" } th scope="col" { "What" } th scope="col" { "Why" } th scope="col" { "Flag" }
            } }
            tbody { @for record in rows { tr {
                td class="tight" { span class=(tone(record)) { (text::name(&record.outcome)) } }
                th scope="row" class="name" { code { (text::breaking(&text::name(&record.what))) } }
                td class="words" { (text::printable(&text::short(&record.why, 400))) }
                td class="tight" { @if let Some(flag) = &record.flag { code { (text::name(flag)) } } }
            } } }
        }
    };
    html! {
        p class="note" {
            (text::count(records.len() as u64, "record")) ", "
            @if losses == 0 { "none of them a loss." } @else { (text::thousands(losses as u64)) " of them a loss." }
            @if left_out > 0 { " The table has losses first; " (text::thousands(left_out as u64)) " records are left out." }
        }
        (filter(id, &format!("Filter: {}", title.to_lowercase()), &["carried", "changed", "dropped"]))
        (scroll(title, &table))
    }
}

fn tone(record: &RecordRow) -> &'static str {
    match (record.outcome.as_str(), record.loss) {
        ("carried", _) => "tone good",
        (_, true) => "tone odd",
        _ => "tone dim",
    }
}
