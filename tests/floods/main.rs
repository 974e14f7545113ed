//! Files of a megabyte built to make as much as they can of every byte: each is judged in little
//! memory, and quickly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

mod graphs;
mod pickles;

use peak_alloc::PeakAlloc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weightbridge::Session;
use weightbridge_tests::folder;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const SIZE: usize = 1_000_000;
/// What is promised is 64 MiB for the process; without anything to read it takes some 10. A list that
/// grows counts twice here, and once in the process.
const MOST: f32 = 56.0;
/// A second is promised, of a release build on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(15);

/// One test at a time: they share the counting allocator and the clock.
static ALONE: Mutex<()> = Mutex::new(());

/// To be held from before what is judged is made.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was over its bounds in judging files of this name and these bytes, each told by its name.
fn over<'a>(file: &str, floods: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<String> {
    let dir = folder();
    let path = dir.path().join(file);
    let mut over = Vec::new();
    for (name, bytes) in floods {
        assert!(bytes.len() <= SIZE, "{name}: {}", bytes.len());
        std::fs::write(&path, bytes).unwrap();
        let before = PEAK.current_usage_as_mb();
        PEAK.reset_peak_usage();
        let begun = Instant::now();
        let judged = weightbridge::scan(std::slice::from_ref(&path), &Session::default());
        let took = begun.elapsed();
        let peak = PEAK.peak_usage_as_mb() - before;
        drop(judged);
        if peak > MOST || took > PATIENCE {
            over.push(format!("{name}: {peak:.1} MiB, {took:?}"));
        }
    }
    over
}
