//! The progress of a migration: a bar for each worker and one for the whole on a terminal, a line a
//! model elsewhere.

use crate::args::Common;
use crate::show;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use migrate::{Observer, Unobserved};
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

/// The observer that fits the terminal and the flags.
pub(crate) fn observer(common: &Common) -> Arc<dyn Observer> {
    if common.quiet {
        Arc::new(Unobserved)
    } else if common.no_progress || !std::io::stderr().is_terminal() {
        Arc::new(Lines::default())
    } else {
        Arc::new(Bars::default())
    }
}

/// A line for each model that ends: how many models there are, and how many ended. The lock is held
/// while a line is written, so that lines stand in the order of their numbers.
#[derive(Default)]
struct Lines(Mutex<(u64, u64)>);

impl Observer for Lines {
    fn begin(&self, models: u64, _: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (models, 0);
    }

    fn started(&self, _: usize, _: &str, _: u64) {}

    fn step(&self, _: usize, _: &str, _: u64) {}

    fn advance(&self, _: usize, _: u64) {}

    fn idle(&self, _: usize) {}

    fn waiting(&self, _: &str) {}

    fn finished(&self, model: &str, failure: Option<&str>) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (models, ended) = &mut *counted;
        *ended += 1;
        let line = ending(*ended, *ended.max(models), model, failure);
        note!("{}", show::printable(&line));
    }

    fn end(&self) {}
}

fn ending(ended: u64, of: u64, model: &str, failure: Option<&str>) -> String {
    let model = if model.is_empty() { "." } else { model };
    match failure {
        None => format!("[{ended}/{of}] {model}"),
        Some(why) => format!("[{ended}/{of}] {model}: {why}"),
    }
}

/// Bars of bytes.
#[derive(Default)]
struct Bars(Mutex<Drawn>);

#[derive(Default)]
struct Drawn {
    all: MultiProgress,
    overall: Option<ProgressBar>,
    workers: Vec<Option<Worker>>,
    models: u64,
    ended: u64,
    /// Whether the overall bar counts models.
    counted: bool,
}

struct Worker {
    bar: ProgressBar,
    /// The model's bytes, and how many of them the overall bar has.
    bytes: u64,
    counted: u64,
}

/// Where no bytes are written, models are counted.
const COUNTED: &str = "{msg} {wide_bar} {eta} left";
const OVERALL: &str = "{msg} {wide_bar} {written} of {to_write}, {rate}/s, {eta} left";
/// What is of one width comes first, so that bars stand below each other; long names are cut.
const WORKER: &str = "  {bar:16} {msg:9} {prefix:.dim}";

/// Each byte is done twice: written, and compared. People are told of those of the outputs.
const TIMES: u64 = 2;

fn style(template: &str) -> ProgressStyle {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate for people
    let rate = |state: &ProgressState| state.per_sec() as u64;
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("written", bytes(ProgressState::pos))
        .with_key("to_write", bytes(|state| state.len().unwrap_or(0)))
        .with_key("rate", bytes(rate))
        .progress_chars("━╸─")
}

/// Bytes of the outputs, of what a bar counts.
fn bytes(
    of: fn(&ProgressState) -> u64,
) -> impl Fn(&ProgressState, &mut dyn fmt::Write) + Clone + Send + Sync {
    move |state, w| {
        let _ = w.write_str(&show::bytes(of(state) / TIMES));
    }
}

impl Bars {
    fn drawn(&self) -> std::sync::MutexGuard<'_, Drawn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawn {
    fn worker(&mut self, number: usize) -> Option<&mut Worker> {
        self.workers.get_mut(number)?.as_mut()
    }

    fn count(&self, bytes: u64) {
        if let Some(overall) = &self.overall {
            overall.inc(bytes);
        }
    }

    fn title(&self) {
        if let Some(overall) = &self.overall {
            overall.set_message(format!("{} of {} models", self.ended, self.models));
        }
    }
}

impl Observer for Bars {
    fn begin(&self, models: u64, bytes: u64) {
        let mut drawn = self.drawn();
        drawn.counted = bytes == 0;
        let bar = if drawn.counted {
            ProgressBar::new(models).with_style(style(COUNTED))
        } else {
            ProgressBar::new(bytes.saturating_mul(TIMES)).with_style(style(OVERALL))
        };
        drawn.overall = Some(drawn.all.add(bar));
        (drawn.models, drawn.ended) = (models, 0);
        drawn.title();
    }

    fn started(&self, number: usize, model: &str, bytes: u64) {
        let mut drawn = self.drawn();
        // Of no length it would be drawn full.
        let bar = ProgressBar::new(1).with_style(style(WORKER));
        let bar = drawn.all.add(bar);
        bar.set_prefix(show::printable(if model.is_empty() { "." } else { model }));
        bar.set_message("opening");
        if drawn.workers.len() <= number {
            drawn.workers.resize_with(number + 1, || None);
        }
        if let Some(slot) = drawn.workers.get_mut(number) {
            let bytes = bytes.saturating_mul(TIMES);
            *slot = Some(Worker {
                bar,
                bytes,
                counted: 0,
            });
        }
    }

    fn step(&self, number: usize, step: &str, bytes: u64) {
        if let Some(worker) = self.drawn().worker(number) {
            // What has no length goes on where the last step ended.
            if bytes > 0 {
                worker.bar.set_length(bytes);
                worker.bar.set_position(0);
            }
            worker.bar.set_message(step.to_owned());
        }
    }

    fn advance(&self, number: usize, bytes: u64) {
        let mut drawn = self.drawn();
        let Some(worker) = drawn.worker(number) else {
            return;
        };
        worker.bar.inc(bytes);
        let counted = bytes.min(worker.bytes - worker.counted);
        worker.counted += counted;
        drawn.count(counted);
    }

    fn idle(&self, number: usize) {
        let mut drawn = self.drawn();
        if let Some(worker) = drawn.workers.get_mut(number).and_then(Option::take) {
            worker.bar.finish_and_clear();
            drawn.all.remove(&worker.bar);
            drawn.count(worker.bytes - worker.counted);
        }
    }

    fn waiting(&self, _: &str) {}

    fn finished(&self, model: &str, failure: Option<&str>) {
        let mut drawn = self.drawn();
        drawn.ended += 1;
        if drawn.counted {
            drawn.count(1);
        }
        drawn.title();
        if failure.is_some() {
            let line = ending(drawn.ended, drawn.models, model, failure);
            let _ = drawn.all.println(show::printable(&line));
        }
    }

    fn end(&self) {
        let mut drawn = self.drawn();
        drawn.workers.clear();
        if let Some(overall) = drawn.overall.take() {
            overall.finish_and_clear();
        }
        let _ = drawn.all.clear();
    }
}
