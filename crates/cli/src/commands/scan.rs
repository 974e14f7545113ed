//! `weightbridge scan`.

use super::sarif;
use crate::args::{Common, ScanArgs};
use crate::exit;
use crate::show::{self, Paint, Tone};
use ir::Result;
use scan::{Severity, Verdict};
use serde_json::{Value, json};
use weightbridge::{ScanReport, Session};

pub(crate) fn run(args: &ScanArgs, common: &Common, session: &Session) -> Result<u8> {
    let log = sarif::Log::at(args, session)?;
    let report = weightbridge::scan(&args.inputs, session)?;
    match (&log, common.json) {
        (Some(sarif::Log::Printed), _) => {}
        (_, true) => show::document(&document(&report)),
        (_, false) => tell(&report, common),
    }
    if let Some(log) = log {
        log.write(&report, session)?;
    }
    Ok(code(&report))
}

/// The exit code of a report.
pub(super) fn code(report: &ScanReport) -> u8 {
    if report.count(Verdict::Dangerous) > 0 {
        exit::NO
    } else if report.unread() {
        exit::MACHINE
    } else if report.count(Verdict::Malformed) > 0 {
        exit::INPUT
    } else {
        exit::OK
    }
}

fn document(report: &ScanReport) -> Value {
    let files = report.files.iter().map(|file| {
        let findings = file.findings.iter().map(|finding| {
            json!({
                "severity": severity(finding.severity),
                "rule": finding.rule,
                "where": finding.where_,
                "what": finding.what,
                "detail": finding.detail,
            })
        });
        json!({
            "path": file.path.to_string_lossy(),
            "format": file.format,
            "verdict": verdict(file.verdict),
            "findings": findings.collect::<Vec<_>>(),
            "error": file.error.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "files": files.collect::<Vec<_>>(),
        "summary": {
            "dangerous": report.count(Verdict::Dangerous),
            "suspicious": report.count(Verdict::Suspicious),
            "clean": report.count(Verdict::Clean),
            "malformed": report.count(Verdict::Malformed),
            "passed_over": report.passed_over,
        },
    })
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Dangerous => "dangerous",
        Verdict::Suspicious => "suspicious",
        Verdict::Clean => "clean",
        Verdict::Malformed => "malformed",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Dangerous => "dangerous",
        Severity::Suspicious => "suspicious",
    }
}

fn tell(report: &ScanReport, common: &Common) {
    let paint = Paint::new(common, true);
    for file in &report.files {
        let tone = match file.verdict {
            Verdict::Dangerous => Tone::Bad,
            Verdict::Suspicious | Verdict::Malformed => Tone::Odd,
            Verdict::Clean => Tone::Good,
        };
        let word = paint.text(tone, &format!("{:10}", verdict(file.verdict)));
        show::line(&format!(
            "{word} {}",
            show::printable(&file.path.to_string_lossy())
        ));
        for finding in &file.findings {
            let tone = match finding.severity {
                Severity::Dangerous => Tone::Bad,
                Severity::Suspicious => Tone::Odd,
            };
            let rule = paint.text(tone, finding.rule);
            let what = show::printable(&format!("{} at {}", finding.what, finding.where_));
            show::line(&format!("  {rule}: {what}"));
            for line in finding.detail.lines() {
                show::line(&format!("      {}", show::printable(line)));
            }
        }
        if let Some(error) = &file.error {
            show::line(&format!("  {}", show::printable(&error.to_string())));
        }
    }
    if common.quiet {
        return;
    }
    let passed_over = match report.passed_over {
        0 => String::new(),
        n => format!(", {} without a model passed over", show::count(n, "file")),
    };
    note!(
        "{}: {} dangerous, {} suspicious, {} clean, {} malformed{passed_over}",
        show::count(report.files.len() as u64, "file"),
        report.count(Verdict::Dangerous),
        report.count(Verdict::Suspicious),
        report.count(Verdict::Clean),
        report.count(Verdict::Malformed),
    );
}
