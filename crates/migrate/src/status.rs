//! How far a plan is, from its journal alone.

use crate::journal::{Journal, Phase};
use crate::line::{Action, read_plan};
use crate::run::Failure;
use ir::Result;
use std::path::Path;

/// How far a plan is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Lines that say to convert or copy, and those that cannot be followed.
    pub models: u64,
    /// Those that are done.
    pub done: u64,
    /// Those that failed when they were last tried, and lines that cannot be followed.
    pub failed: Vec<Failure>,
    /// Those that nobody has tried to the end.
    pub pending: u64,
    /// Lines that say to leave a model.
    pub left: u64,
    /// Bytes of outputs that are done, and that are to be written in all.
    pub bytes_done: u64,
    /// The same of all models.
    pub bytes: u64,
    /// Bytes of originals removed.
    pub bytes_removed: u64,
    /// Seconds from the first start to the last end; runs in between count as they are.
    pub seconds: f64,
}

impl Status {
    /// Bytes of outputs a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.bytes_done as f64 / self.seconds
        } else {
            0.0
        }
    }
}

/// Reads how far a plan is. Nothing is touched: a run may go on meanwhile.
pub fn status(plan: &Path) -> Result<Status> {
    let read = read_plan(plan)?;
    let states = Journal::of(plan).states()?;
    let mut status = Status::default();
    let mut times = Vec::new();
    status.models += read.bad.len() as u64;
    status.failed.extend(read.bad.iter().map(Failure::of_bad));
    for (number, line) in &read.lines {
        if line.action == Action::Leave {
            status.left += 1;
            continue;
        }
        status.models += 1;
        status.bytes = status.bytes.saturating_add(line.bytes_out);
        let Some(state) = states.get(&line.id()) else {
            status.pending += 1;
            continue;
        };
        status.bytes_removed += state.removed.values().sum::<u64>();
        match &state.phase {
            Phase::Done(verified) => {
                status.done += 1;
                // What came out, not what was estimated.
                let bytes: u64 = verified.files.iter().map(|file| file.bytes).sum();
                status.bytes_done = status.bytes_done.saturating_add(bytes);
                status.bytes = (status.bytes - line.bytes_out).saturating_add(bytes);
                times.extend(state.started.zip(state.done));
            }
            Phase::Failed {
                class,
                message,
                help,
            } => status.failed.push(Failure {
                line: *number,
                model: line.model.clone(),
                class: class.clone(),
                message: message.clone(),
                help: help.clone(),
            }),
            Phase::Fresh | Phase::Verified(_) => status.pending += 1,
        }
    }
    status.failed.sort_by_key(|failure| failure.line);
    status.seconds = busy(times) as f64 / 1000.0;
    Ok(status)
}

/// How long at least one of these was under way: a plan may rest between two runs.
fn busy(mut times: Vec<(u64, u64)>) -> u64 {
    times.sort_unstable();
    let (mut until, mut total) = (0, 0u64);
    for (from, to) in times {
        total = total.saturating_add(to.saturating_sub(from.max(until)));
        until = until.max(to);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_runs_does_not_count() {
        assert_eq!(busy(vec![]), 0);
        assert_eq!(
            busy(vec![(5, 9), (1, 4), (3, 6), (100, 103), (101, 102)]),
            11
        );
    }
}
