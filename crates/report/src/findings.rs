//! What the files would do to those who load them elsewhere.

use crate::data::{FindingRow, Scan, ScannedFile};
use crate::text;
use maud::{Markup, html};

/// Most files listed one by one, findings of a file, and characters of one detail.
const FILES: usize = 200;
const FINDINGS: usize = 100;
const DETAIL: usize = 2000;

/// The worst verdict of all files.
pub(crate) fn verdict(scan: &Scan) -> &'static str {
    let any = |word: &str| scan.files.iter().any(|file| file.verdict == word);
    if scan.skipped.is_some() || scan.files.is_empty() {
        "not scanned"
    } else {
        let words = ["dangerous", "suspicious", "malformed"];
        words.into_iter().find(|word| any(word)).unwrap_or("clean")
    }
}

/// The style sheet's class for a verdict or severity.
pub(crate) fn tone(verdict: &str) -> &'static str {
    match verdict {
        "dangerous" => "tone bad",
        "suspicious" | "malformed" => "tone odd",
        "clean" => "tone good",
        _ => "tone dim",
    }
}

pub(crate) fn findings(scan: &Scan) -> Markup {
    let mut files: Vec<&ScannedFile> = scan.files.iter().collect();
    let rank = |file: &ScannedFile| match file.verdict.as_str() {
        "dangerous" => 0,
        "suspicious" => 1,
        "malformed" => 2,
        _ => 3,
    };
    files.sort_by_key(|file| rank(file));
    html! {
        @if let Some(why) = &scan.skipped { p class="note" { "Not scanned: " (text::name(why)) } }
        ul class="files" {
            @for file in files.iter().take(FILES) {
                li {
                    p { span class=(tone(&file.verdict)) { (text::name(&file.verdict)) } " " code { (text::name(&file.path)) } }
                    @if let Some(error) = &file.error { p class="soft" { (text::printable(&text::short(error, DETAIL))) } }
                    @if !file.findings.is_empty() {
                        ul class="findings" { @for found in file.findings.iter().take(FINDINGS) { (finding(found)) } }
                    }
                    @if file.findings.len() > FINDINGS {
                        p class="note" { (text::thousands((file.findings.len() - FINDINGS) as u64)) " more findings are left out." }
                    }
                }
            }
        }
        @if files.len() > FILES {
            p class="note" { (text::count((files.len() - FILES) as u64, "file")) " more, none worse than those above." }
        }
    }
}

fn finding(found: &FindingRow) -> Markup {
    html! {
        li {
            p {
                span class=(tone(&found.severity)) { (text::name(&found.severity)) } " "
                strong { (text::name(&found.rule)) } ": " code { (text::name(&found.what)) }
                " " span class="soft" { "at " (text::name(&found.place)) }
            }
            @if !found.detail.is_empty() { pre tabindex="0" { (text::printable(&text::short(&found.detail, DETAIL))) } }
        }
    }
}
