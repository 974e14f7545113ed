//! SARIF 2.1.0, the format in which code hosts take findings.

use crate::args::ScanArgs;
use ir::{Error, Output, Places, Result};
use scan::{RULES, Severity, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use weightbridge::{ScanReport, Scanned, Session};

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

/// Where the log goes.
#[derive(Debug)]
pub(super) enum Log {
    /// To stdout, instead of the report.
    Printed,
    /// Into a device or a pipe, which are written to.
    Into(PathBuf),
    /// A file, there whole or not at all.
    File(Output),
}

impl Log {
    /// Where the command line says. An earlier log is replaced, as each run of a pipeline does;
    /// another file only with `--overwrite`, and nothing that is scanned.
    pub(super) fn at(args: &ScanArgs, session: &Session) -> Result<Option<Self>> {
        let Some(to) = &args.sarif else {
            return Ok(None);
        };
        if to.as_os_str() == "-" {
            return Ok(Some(Self::Printed));
        }
        let mut places = session.places.clone();
        let there = std::fs::metadata(to);
        if there
            .as_ref()
            .is_ok_and(|there| !there.is_file() && !there.is_dir())
        {
            return Ok(Some(Self::Into(to.clone())));
        }
        places.refuse_spared(to)?;
        let exists = places.exists(to)?;
        let ours = exists && is_log(to, &places);
        // Listing what is scanned is worth it only where a file that is no log would be replaced.
        if args.overwrite && !ours && exists {
            for file in weightbridge::files_to_scan(&args.inputs, session)? {
                places.spare(&file, "a file that is scanned");
            }
        }
        let file = || Output::new(to, args.overwrite || ours).within(&places);
        // What is quick to refuse is refused before what takes long. It goes again: no part of a
        // log is to lie in a folder that is scanned.
        file().main_file()?;
        Ok(Some(Self::File(file())))
    }

    /// Writes the log.
    pub(super) fn write(self, report: &ScanReport, session: &Session) -> Result<()> {
        let log = log(report);
        let text = || serde_json::to_string_pretty(&log).unwrap_or_default() + "\n";
        match self {
            Self::Printed => {
                crate::show::document(&log);
                Ok(())
            }
            Self::Into(to) => {
                std::fs::write(&to, text()).map_err(|source| Error::io("write", &to, source))
            }
            Self::File(mut out) => {
                let number = out.main_file()?;
                out.get(number)?.write_at(0, text().as_bytes())?;
                session.cancel.check()?;
                out.commit().map(drop)
            }
        }
    }
}

/// Longest beginning of a file looked at.
const HEAD: u64 = 4096;

/// Whether a file is empty or begins as a SARIF log does, of whatever tool.
fn is_log(path: &Path, places: &Places) -> bool {
    let head = places.region(path).and_then(|region| {
        let len = usize::try_from(region.len().min(HEAD)).unwrap_or(0);
        region.bytes(0, len)
    });
    head.is_ok_and(|head| begins_as_log(&String::from_utf8_lossy(&head)))
}

/// `{"$schema": "…sarif…"`, where the version may stand before.
fn begins_as_log(head: &str) -> bool {
    let head = head.trim_start_matches('\u{feff}').trim_start();
    if head.is_empty() {
        return true;
    }
    let schema = || {
        let first = head.strip_prefix('{')?;
        let rest = match member(first, "version") {
            Some((_, rest)) => rest.trim_start().strip_prefix(',')?,
            None => first,
        };
        member(rest, "$schema")
    };
    schema().is_some_and(|(value, _)| value.contains("sarif"))
}

/// The text of the member that a JSON text begins with, and what is behind it.
fn member<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.trim_start().strip_prefix('"')?.strip_prefix(name)?;
    let rest = rest.strip_prefix('"')?.trim_start().strip_prefix(':')?;
    rest.trim_start().strip_prefix('"')?.split_once('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_by_its_beginning() {
        let ours = serde_json::to_string_pretty(&log(&ScanReport::default())).unwrap();
        let others = [
            "",
            " \n",
            "\u{feff}{\"version\":\"2.1.0\",\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\"",
        ];
        for log in others.into_iter().chain([ours.as_str()]) {
            assert!(begins_as_log(log), "{log}");
        }
        let model = "{\"model_type\": \"$schema sarif\"}";
        let schema = "{\"$schema\": \"https://json-schema.org/draft-07\", \"x\": \"sarif\"}";
        for other in ["PK", "{}", "[]", "{\"version\": \"2.1.0\"}", model, schema] {
            assert!(!begins_as_log(other), "{other}");
        }
    }
}
