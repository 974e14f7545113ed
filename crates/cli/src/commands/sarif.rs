//! SARIF 2.1.0, the format in which code hosts take findings.

use ir::Result;
use scan::{RULES, Severity, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use weightbridge::{ScanReport, Scanned};

/// The rule under which files that could not be read are told.
const UNREADABLE: &str = "unreadable";

/// The report as a SARIF log of one run.
pub(super) fn log(report: &ScanReport) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.why},
                "defaultConfiguration": {"level": level(rule.severity)},
                "properties": {
                    "tags": ["security"],
                    // What code hosts sort by.
                    "security-severity": match rule.severity {
                        Severity::Dangerous => "9.0",
                        Severity::Suspicious => "4.0",
                    },
                },
            })
        })
        .collect();
    let results: Vec<Value> = report.files.iter().flat_map(results).collect();
    let artifacts: Vec<Value> = report
        .files
        .iter()
        .map(|file| json!({"location": {"uri": uri(&file.path)}}))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "weightbridge",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": !report.unread(),
                "exitCode": super::scan::code(report),
            }],
            "artifacts": artifacts,
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Dangerous => "error",
        Severity::Suspicious => "warning",
    }
}

fn results(file: &Scanned) -> Vec<Value> {
    let mut out: Vec<Value> = file
        .findings
        .iter()
        .map(|finding| {
            let text = format!("{}: {}", finding.what, finding.detail);
            result(
                file,
                finding.rule,
                level(finding.severity),
                &text,
                &finding.where_,
            )
        })
        .collect();
    if let (Verdict::Malformed, Some(error)) = (file.verdict, &file.error) {
        let place = error.place().unwrap_or_default();
        out.push(result(file, UNREADABLE, "error", &error.message(), &place));
    }
    out
}

fn result(file: &Scanned, rule: &str, level: &str, text: &str, place: &str) -> Value {
    let text = crate::show::printable(text);
    let index = RULES.iter().position(|known| known.id == rule);
    let mut location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri(&file.path)}},
    });
    if !place.is_empty() {
        location["logicalLocations"] =
            json!([{"fullyQualifiedName": crate::show::printable(place)}]);
    }
    json!({
        "ruleId": rule,
        "ruleIndex": index,
        "level": level,
        "message": {"text": text},
        "locations": [location],
    })
}

/// A path as a URI: relative as it was given, or with its scheme.
fn uri(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut out = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Writes the log to a file, or to stdout for `-`.
pub(super) fn write(report: &ScanReport, to: &Path) -> Result<()> {
    let log = log(report);
    if to.as_os_str() == "-" {
        crate::show::document(&log);
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&log).unwrap_or_default();
    let failed = |source| ir::Error::io("write", to, source);
    // A device or a pipe is written to; a file is there whole or not at all.
    if std::fs::metadata(to).is_ok_and(|there| !there.is_file()) {
        return std::fs::write(to, text + "\n").map_err(failed);
    }
    let mut out = ir::Output::new(to, true);
    let number = out.main_file()?;
    out.get(number)?.write_at(0, (text + "\n").as_bytes())?;
    out.commit().map(drop)
}
