//! The page about a migration: what the plan says, and how far its journal tells each model to be.

use crate::journal::{Journal, Phase};
use crate::line::{Action, Line, read_plan};
use ir::{Output, Places, Region, Result};
use report::{MigrationPage, MigrationRow, Status};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Longest first line that is looked at to tell a plan.
const LOOK: u64 = 1 << 20;

/// Whether a file is a plan: its first line is one's.
pub fn is_plan(path: &Path) -> bool {
    let Ok(region) = Region::open(path) else {
        return false;
    };
    let len = usize::try_from(region.len().min(LOOK)).unwrap_or(0);
    let Ok(head) = region.bytes(0, len) else {
        return false;
    };
    let first = head.split(|byte| *byte == b'\n').next();
    let first: Option<Value> = first.and_then(|line| serde_json::from_slice(line).ok());
    let has = |key: &str| first.as_ref().is_some_and(|line| line.get(key).is_some());
    ["version", "action", "model", "root", "settings"]
        .into_iter()
        .all(has)
}

/// What there is to tell about a plan. Nothing is touched: a run may go on meanwhile.
pub fn page(plan: &Path) -> Result<MigrationPage> {
    let read = read_plan(plan)?;
    let states = Journal::of(plan).states()?;
    let mut rows: Vec<(usize, MigrationRow)> = Vec::with_capacity(read.lines.len());
    for (number, line) in &read.lines {
        let state = states.get(&line.id());
        let mut row = planned(line);
        if let Some(state) = state.filter(|_| line.action != Action::Leave) {
            let took = state.started.zip(state.done);
            match &state.phase {
                Phase::Fresh if state.started.is_some() => row.status = Status::Running,
                Phase::Fresh => {}
                Phase::Verified(_) => row.status = Status::Running,
                Phase::Done(verified) => {
                    row.status = Status::Done;
                    row.bytes_after = Some(verified.files.iter().map(|file| file.bytes).sum());
                    row.seconds = took.map(|(from, to)| to.saturating_sub(from) as f64 / 1000.0);
                    row.message = notes(line);
                }
                Phase::Failed { message, help, .. } => {
                    row.status = Status::Failed;
                    row.bytes_after = None;
                    let help = help.iter().map(|help| format!(". {help}"));
                    row.message = std::iter::once(message.clone()).chain(help).collect();
                }
            }
        }
        rows.push((*number, row));
    }
    for bad in read.bad {
        let row = MigrationRow {
            name: format!("line {}", bad.number),
            status: Status::Failed,
            message: bad.what,
            ..MigrationRow::default()
        };
        rows.push((bad.number, row));
    }
    rows.sort_by_key(|(number, _)| *number);
    let title = plan.file_stem().unwrap_or_default().to_string_lossy();
    Ok(MigrationPage {
        title: title.into_owned(),
        source: plan.to_string_lossy().into_owned(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    })
}

fn planned(line: &Line) -> MigrationRow {
    let severity = |wanted: &str| line.findings.iter().any(|found| found.severity == wanted);
    let verdict = match line.action {
        Action::Copy => "",
        _ if severity("dangerous") => "dangerous",
        _ if severity("suspicious") => "suspicious",
        _ => "clean",
    };
    MigrationRow {
        name: line.model.clone(),
        status: match line.action {
            Action::Leave => Status::Left,
            Action::Convert | Action::Copy => Status::Planned,
        },
        bytes_before: line.bytes_in,
        bytes_after: Some(line.bytes_out).filter(|_| line.action != Action::Leave),
        findings: line.findings.iter().map(|found| found.count).sum(),
        verdict: verdict.to_owned(),
        seconds: None,
        message: line.problem.clone().unwrap_or_else(|| notes(line)),
    }
}

/// What the plan says of a model beside its sizes.
fn notes(line: &Line) -> String {
    match line.report.len() {
        0 => String::new(),
        1 => "1 note in the plan".to_owned(),
        n => format!("{n} notes in the plan"),
    }
}

/// The page as a document, written where a path is given.
pub fn write_page(
    page: &MigrationPage,
    output: Option<&Path>,
    overwrite: bool,
    places: &Places,
) -> Result<(String, Option<(PathBuf, u64)>)> {
    let html = report::migration_page(page);
    let Some(path) = output else {
        return Ok((html, None));
    };
    let mut out = Output::new(path, overwrite).within(places);
    let number = out.main_file()?;
    out.get(number)?.write_at(0, html.as_bytes())?;
    let file = out.commit()?.into_iter().next();
    Ok((html, file))
}
