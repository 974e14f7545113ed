//! The progress of a migration: a bar for each worker and one for the whole on a terminal, a line a
//! model elsewhere.

use crate::args::Common;
use crate::show;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use migrate::{Observer, Unobserved};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// A line for each model that ends.
#[derive(Default)]
struct Lines {
    models: AtomicU64,
    ended: AtomicU64,
}

impl Observer for Lines {
    fn begin(&self, models: u64, _: u64) {
        self.models.store(models, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
    }

    fn started(&self, _: usize, _: &str, _: u64) {}

    fn step(&self, _: usize, _: &str, _: u64) {}

    fn advance(&self, _: usize, _: u64) {}

    fn finished(&self, _: usize, model: &str, failure: Option<&str>) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let of = self.models.load(Ordering::Relaxed).max(ended);
        eprintln!("{}", show::printable(&ending(ended, of, model, failure)));
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
}

struct Worker {
    bar: ProgressBar,
    /// The model's bytes, and how many of them the overall bar has.
    bytes: u64,
    counted: u64,
}

const OVERALL: &str = "{msg} {bar:28} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
const WORKER: &str = "  {prefix:.dim} {bar:16} {msg}";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
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
        // Each byte is written and compared.
        let bar = ProgressBar::new(bytes.saturating_mul(2)).with_style(style(OVERALL));
        drawn.overall = Some(drawn.all.add(bar));
        (drawn.models, drawn.ended) = (models, 0);
        drawn.title();
    }

    fn started(&self, number: usize, model: &str, bytes: u64) {
        let mut drawn = self.drawn();
        let bar = ProgressBar::new(0).with_style(style(WORKER));
        let bar = drawn.all.add(bar);
        bar.set_prefix(show::printable(model));
        if drawn.workers.len() <= number {
            drawn.workers.resize_with(number + 1, || None);
        }
        if let Some(slot) = drawn.workers.get_mut(number) {
            let bytes = bytes.saturating_mul(2);
            *slot = Some(Worker {
                bar,
                bytes,
                counted: 0,
            });
        }
    }

    fn step(&self, number: usize, step: &str, bytes: u64) {
        if let Some(worker) = self.drawn().worker(number) {
            worker.bar.set_length(bytes);
            worker.bar.set_position(0);
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

    fn finished(&self, number: usize, model: &str, failure: Option<&str>) {
        let mut drawn = self.drawn();
        if let Some(worker) = drawn.workers.get_mut(number).and_then(Option::take) {
            worker.bar.finish_and_clear();
            drawn.all.remove(&worker.bar);
            drawn.count(worker.bytes - worker.counted);
        }
        drawn.ended += 1;
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
