//! A run over a plan: workers, one budget, and an account of what is left.

use crate::advice;
use crate::batch::Batch;
use crate::budget::{Budget, Share};
use crate::disks::Disks;
use crate::journal::{Event, Journal, Phase, States, Verified};
use crate::line::{Action, BadLine, Line, Plan, read_plan};
use crate::observe::Observer;
use crate::remove::{self, Needs};
use crate::steps::{Outcome, Staged, Steps};
use crate::{MigrateError, Task, space};
use ir::{Class, Error, Result};
use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weightbridge::Session;

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The plan.
    pub plan: PathBuf,
    /// Models at a time; 0 for what suits the machine.
    pub jobs: usize,
    /// Whether originals go once their model is verified.
    pub delete_originals: bool,
    /// The part of the plan that is this run's.
    pub task: Option<Task>,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct RunReport {
    /// Lines in this run's part, those that are left alone not counted.
    pub models: u64,
    /// Done by this run.
    pub done: u64,
    /// Done before.
    pub already: u64,
    /// Lines that say to leave a model.
    pub left: u64,
    /// Bytes of the sources of what was done.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes of originals removed.
    pub bytes_removed: u64,
    /// Models whose originals were to be removed, and stay while lines of the plan cannot be followed:
    /// those may be about the same files.
    pub kept: u64,
    /// What failed, in the order of the plan.
    pub failed: Vec<Failure>,
    /// How long it took.
    pub seconds: f64,
}

/// A line that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the plan, counted from 1.
    pub line: usize,
    /// The model; empty where the line could not be read.
    pub model: String,
    /// The error's class, in lower case.
    pub class: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Failure {
    fn of(line: usize, model: &str, error: &Error) -> Self {
        Self {
            line,
            model: model.to_owned(),
            class: format!("{:?}", error.class()).to_lowercase(),
            message: advice::message(error),
            help: advice::help(error),
        }
    }

    /// A line that cannot be followed.
    pub(crate) fn of_bad(bad: &BadLine) -> Self {
        let what = bad.what.clone();
        let error = Error::from(MigrateError::BadLine { what });
        Self::of(bad.number, &bad.model, &error)
    }
}

/// How long to wait before looking again at a model that another run has in work.
const PATIENCE: Duration = Duration::from_millis(200);

/// Runs a plan. Only what concerns the whole is an error; what one model cannot is in the report.
pub fn run(
    request: &RunRequest,
    session: &Session,
    observer: &Arc<dyn Observer>,
) -> Result<RunReport> {
    let start = Instant::now();
    let plan = read_plan(&request.plan)?;
    let journal = Journal::of(&request.plan);
    let known = Mutex::new((journal.mark()?, journal.states()?));
    let steps = Steps {
        journal,
        session: session.clone(),
        observer: Arc::clone(observer),
        known,
        disks: Disks::default(),
    };
    let run = Run::new(request, plan, steps)?;
    let todo = run.todo();
    let unwritten = todo.iter().filter(|index| !run.done_before(**index));
    space::check(
        unwritten.filter_map(|index| run.line(*index)),
        run.jobs,
        request.delete_originals,
        &session.places,
    )?;
    let bytes = todo
        .iter()
        .filter_map(|index| run.line(*index))
        .map(|line| line.bytes_out)
        .sum();
    observer.begin(todo.len() as u64, bytes);
    run.work(&todo);
    observer.end();
    session.cancel.check()?;
    if request.delete_originals {
        run.sweep()?;
    }
    run.steps.journal.sync()?;
    let mut report = run
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report.failed.sort_by_key(|failure| failure.line);
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

struct Run<'a> {
    request: &'a RunRequest,
    plan: Plan,
    steps: Steps,
    needs: Needs,
    jobs: usize,
    /// Which lines are this run's.
    mine: Vec<bool>,
    report: Mutex<RunReport>,
}

impl<'a> Run<'a> {
    fn new(request: &'a RunRequest, plan: Plan, steps: Steps) -> Result<Self> {
        let in_place = |(_, line): &(usize, Line)| line.dest.is_none();
        if request.delete_originals && !plan.lines.is_empty() && !plan.lines.iter().any(in_place) {
            return Err(MigrateError::NotInPlace.into());
        }
        let mine = request.task.map_or_else(
            || vec![true; plan.lines.len()],
            |task| task.mine(&plan.lines),
        );
        let mut report = RunReport::default();
        // Lines that cannot be followed are nobody's part: every run tells of them.
        report.failed.extend(plan.bad.iter().map(Failure::of_bad));
        let lines = plan.lines.iter().zip(&mine).filter(|(_, mine)| **mine);
        report.left = lines
            .filter(|((_, line), _)| line.action == Action::Leave)
            .count() as u64;
        let threads = threads(steps.session.threads);
        let jobs = if request.jobs == 0 {
            threads.clamp(MIN_JOBS, MAX_JOBS)
        } else {
            request.jobs
        };
        Ok(Self {
            request,
            needs: Needs::of(&plan.lines),
            plan,
            steps,
            jobs: jobs.min(JOBS_CAP),
            mine,
            report: Mutex::new(report),
        })
    }

    fn line(&self, index: usize) -> Option<&Line> {
        self.plan.lines.get(index).map(|(_, line)| line)
    }

    /// Whether the journal says that a line is done.
    fn done_before(&self, index: usize) -> bool {
        let known = self
            .steps
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.line(index).is_some_and(|line| is_done(&known.1, line))
    }

    /// The lines to look at, the largest first: the last to end is then a small one. What earlier
    /// runs began and did not end comes after what they never came to, and what they ended but for
    /// its names before all: so that a run which is stopped again and again gains ground.
    fn todo(&self) -> Vec<usize> {
        let mut todo = Vec::new();
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (_, line)) in self.plan.lines.iter().enumerate() {
            if line.action == Action::Leave {
                continue;
            }
            if self.mine.get(index) == Some(&true) {
                report.models += 1;
                todo.push(index);
            } else if self.done_before(index) {
                self.needs.done(index);
            }
        }
        let known = self
            .steps
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let tries = |line: &Line| match known.1.get(&line.id()) {
            Some(state) if matches!(state.phase, Phase::Fresh | Phase::Failed { .. }) => {
                state.starts.saturating_add(1)
            }
            Some(_) => 0,
            None => 1,
        };
        let key = |line: &Line| (tries(line), Reverse(line.weight()));
        todo.sort_by_cached_key(|index| self.line(*index).map(key));
        todo
    }

    /// Works on models, while those that wait for the disk are brought to their end by one thread.
    fn work(&self, todo: &[usize]) {
        let batch = Batch::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _closing = Closing(&batch);
                while let Some(models) = batch.take() {
                    self.commit(models);
                }
            });
            // However this ends, the other thread ends too.
            let _closing = Closing(&batch);
            let todo = self.tell_done(todo);
            self.workers(&todo, &batch);
        });
    }

    /// Tells of what was done before, in the order of the plan, and gives back the rest. Where
    /// originals are to go, there is more to do than to tell.
    fn tell_done(&self, todo: &[usize]) -> Vec<usize> {
        if self.request.delete_originals {
            return todo.to_vec();
        }
        let (mut done, mut rest): (Vec<usize>, Vec<usize>) =
            todo.iter().partition(|index| self.done_before(**index));
        done.sort_unstable();
        let found = parallel(self.jobs, done.len(), |_, at| {
            let line = self.line(*done.get(at)?)?;
            self.steps.already(line).ok().flatten()
        });
        for (index, found) in done.into_iter().zip(found) {
            let head = self.plan.lines.get(index).map(|(number, line)| Head {
                index,
                number: *number,
                line,
            });
            match head.zip(found) {
                Some((head, verified)) => self.ended(head, Ok((verified, false))),
                // Its outputs are gone, or something is wrong with them.
                None => rest.push(index),
            }
        }
        rest
    }

    fn workers<'b>(&'b self, todo: &[usize], batch: &Batch<Waiting<'b>>) {
        let session = &self.steps.session;
        let budget = Budget::new(threads(session.threads), session.memory, self.jobs);
        let mut todo = todo.to_vec();
        loop {
            let ended = parallel(self.jobs, todo.len(), |worker, at| {
                let index = *todo.get(at)?;
                if session.cancel.check().is_err() {
                    return None;
                }
                let share = budget.take(todo.len() - at);
                self.one(index, worker, &share, batch).then_some(index)
            });
            // Models that other runs have in work: when they are through, or dead, we see.
            todo = ended.into_iter().flatten().collect();
            if todo.is_empty() || session.cancel.check().is_err() {
                return;
            }
            std::thread::sleep(PATIENCE);
        }
    }

    /// Takes one line; `true` where another run has it.
    fn one<'b>(
        &'b self,
        index: usize,
        worker: usize,
        share: &Share<'_>,
        batch: &Batch<Waiting<'b>>,
    ) -> bool {
        let Some((number, line)) = self.plan.lines.get(index) else {
            return false;
        };
        let observer = &self.steps.observer;
        observer.started(worker, &line.model, line.bytes_out);
        let taken = self.steps.take(line, worker, share);
        observer.idle(worker);
        let head = Head {
            index,
            number: *number,
            line,
        };
        match taken {
            Ok(Outcome::Busy) => {
                observer.waiting(&line.model);
                return true;
            }
            Ok(Outcome::Already(verified)) => self.ended(head, Ok((verified, false))),
            Err(error) => self.ended(head, Err(error)),
            // A storage answers each by itself, and many at a time.
            Ok(Outcome::Staged(staged)) if !staged.base.is_local() => {
                self.commit(vec![(head, staged)]);
            }
            Ok(Outcome::Staged(staged)) => {
                let bytes = staged.verified.files.iter().map(|file| file.bytes).sum();
                drop(batch.add((head, staged), bytes));
            }
        }
        false
    }

    /// Brings models to their end.
    fn commit(&self, models: Vec<Waiting<'_>>) {
        // What the user has stopped is begun anew another time.
        if self.steps.session.cancel.check().is_err() {
            return;
        }
        let heads: Vec<Head<'_>> = models.iter().map(|(head, _)| *head).collect();
        let staged = models
            .into_iter()
            .map(|(head, staged)| (head.line, *staged));
        for (head, done) in heads.into_iter().zip(self.steps.commit(staged.collect())) {
            self.ended(head, done.map(|verified| (verified, true)));
        }
    }

    /// What became of a line: done, now or before, or not.
    fn ended(&self, one: Head<'_>, done: Result<(Verified, bool)>) {
        let (line, observer) = (one.line, &self.steps.observer);
        // What was done under another line stays done.
        let edited = |error: &Error| matches!(error.downcast_ref(), Some(MigrateError::Edited));
        let failed = match done {
            Ok((verified, now)) => self.done(one.index, line, &verified, now).err(),
            Err(error) if error.class() == Class::Interrupted => return,
            Err(error) => {
                if !edited(&error) {
                    self.note(one.number, line, &error);
                }
                Some(error)
            }
        };
        match failed {
            None => observer.finished(&line.model, None),
            Some(error) if error.class() == Class::Interrupted => {}
            Some(error) => {
                observer.finished(&line.model, Some(&advice::tell(&error)));
                self.fail(one.number, line, &error);
            }
        }
    }

    fn done(&self, index: usize, line: &Line, verified: &Verified, now: bool) -> Result<()> {
        self.needs.done(index);
        {
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            if now {
                report.done += 1;
                report.bytes_in += verified.sources.iter().map(|file| file.bytes).sum::<u64>();
                report.bytes_out += verified.files.iter().map(|file| file.bytes).sum::<u64>();
            } else {
                report.already += 1;
            }
        }
        if self.request.delete_originals {
            self.delete(line, verified, !now)?;
        }
        Ok(())
    }

    fn delete(&self, line: &Line, verified: &Verified, look: bool) -> Result<()> {
        // A line that cannot be followed may be about the same inputs: `sweep` tells.
        if line.dest.is_some() || !self.plan.bad.is_empty() {
            return Ok(());
        }
        let Steps {
            journal, session, ..
        } = &self.steps;
        let freed = remove::originals(line, verified, &self.needs, journal, look, session)?;
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes_removed += freed;
        Ok(())
    }

    /// Originals that waited for a line of another run.
    fn sweep(&self) -> Result<()> {
        let states = self.steps.journal.states()?;
        for (index, (_, line)) in self.plan.lines.iter().enumerate() {
            if is_done(&states, line) {
                self.needs.done(index);
            }
        }
        for (index, (number, line)) in self.plan.lines.iter().enumerate() {
            let Some(state) = states
                .get(&line.id())
                .filter(|_| self.mine.get(index) == Some(&true))
            else {
                continue;
            };
            let done = matches!(state.phase, Phase::Done(_));
            if done && line.dest.is_none() && !self.plan.bad.is_empty() {
                let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
                report.kept += 1;
                continue;
            }
            if let (Phase::Done(verified), true) = (&state.phase, state.line == line.fingerprint())
                && let Err(error) = self.delete(line, verified, true)
            {
                let told = |report: &RunReport| {
                    report.failed.iter().any(|failure| failure.line == *number)
                };
                if !told(&self.report.lock().unwrap_or_else(PoisonError::into_inner)) {
                    self.fail(*number, line, &error);
                }
            }
        }
        Ok(())
    }

    /// Tells the journal what failed. One that cannot be written, on a full disk, must not hide it.
    fn note(&self, number: usize, line: &Line, error: &Error) {
        let Failure {
            class,
            message,
            help,
            ..
        } = Failure::of(number, &line.model, error);
        let event = Event::Failed {
            class,
            message,
            help,
        };
        let _ = self
            .steps
            .journal
            .add(&line.id(), &line.fingerprint(), event, false);
    }

    fn fail(&self, number: usize, line: &Line, error: &Error) {
        let failure = Failure::of(number, &line.model, error);
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed
            .push(failure);
    }
}

/// A line, where it stands in the plan.
#[derive(Clone, Copy)]
struct Head<'a> {
    index: usize,
    number: usize,
    line: &'a Line,
}

/// A model that waits for the disk.
type Waiting<'a> = (Head<'a>, Box<Staged>);

/// Ends the wait for more when it is dropped.
struct Closing<'a, 'b>(&'a Batch<Waiting<'b>>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn is_done(states: &States, line: &Line) -> bool {
    let state = states.get(&line.id());
    state.is_some_and(|state| {
        matches!(state.phase, Phase::Done(_)) && state.line == line.fingerprint()
    })
}

/// Models at a time when nothing is said: what one reads overlaps with what another computes.
const MIN_JOBS: usize = 4;
const MAX_JOBS: usize = 16;
/// Beyond this a worker more only costs its start.
const JOBS_CAP: usize = 256;

/// Threads asked for, or one a core.
pub(crate) fn threads(asked: usize) -> usize {
    if asked > 0 {
        return asked.min(JOBS_CAP);
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for every index below `count` with so many workers, indices in order; the answers
/// are in order too.
pub(crate) fn parallel<T: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize, usize) -> Option<T> + Sync,
) -> Vec<Option<T>> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<(usize, Option<T>)>> = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for worker in 0..workers.min(count) {
            let (next, answers, work) = (&next, &answers, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let answer = work(worker, index);
                    answers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((index, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
