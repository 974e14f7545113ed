//! From compared outputs to models that are done, for several at a time: each disk is waited for
//! twice, however many models came together.

use crate::Line;
use crate::journal::{Event, Verified};
use crate::publish;
use crate::steps::{Staged, Steps, forget_absence};
use ir::{Error, Result};

/// A model on its way.
struct Under<'a> {
    line: &'a Line,
    staged: Staged,
    failed: Option<Error>,
}

impl Under<'_> {
    /// Does a step, unless an earlier one failed.
    fn step(&mut self, step: impl FnOnce(&Line, &mut Staged) -> Result<()>) {
        if self.failed.is_none() {
            self.failed = step(self.line, &mut self.staged).err();
        }
    }
}

impl Steps {
    /// Gives staged models their names. Each is recorded as verified when its bytes outlive a power
    /// cut, and as done when its names do. Answers in the order of the models.
    pub(crate) fn commit(&self, models: Vec<(&Line, Staged)>) -> Vec<Result<Verified>> {
        let under = |(line, staged)| Under {
            line,
            staged,
            failed: None,
        };
        let mut models: Vec<Under<'_>> = models.into_iter().map(under).collect();
        let mut disks = self.disks.round();
        for model in &mut models {
            // What lies in a storage has arrived there when its writer is through.
            model.step(|_, staged| {
                if staged.known || !staged.base.is_local() {
                    return Ok(());
                }
                disks.sync_below(staged.stage.lock_folder())
            });
        }
        for model in &mut models {
            model.step(|line, staged| {
                if staged.known {
                    return Ok(());
                }
                let event = Event::Verified(staged.verified.clone());
                self.journal
                    .add(&line.id(), &line.fingerprint(), event, false)
            });
        }
        if let Err(error) = self.journal.sync() {
            let text = error.to_string();
            for model in &mut models {
                model.step(|_, _| {
                    Err(crate::MigrateError::JournalLost { what: text.clone() }.into())
                });
            }
        }
        for model in &mut models {
            model.step(|_, staged| {
                let files = &staged.verified.files;
                staged.stage.used(files);
                publish::publish(files, &staged.stage, &staged.base, &self.session.cancel)
            });
        }
        let mut disks = self.disks.round();
        for model in &mut models {
            model.step(|line, staged| {
                if staged.base.is_local() {
                    disks.sync_names(&staged.verified.files, &staged.base)?;
                }
                staged.stage.clear_storage()?;
                forget_absence(line, &staged.base);
                let seconds = staged.start.elapsed().as_secs_f64();
                // Need not be durable: without it the next run finds every file under its name.
                let event = Event::Done { seconds };
                self.journal
                    .add(&line.id(), &line.fingerprint(), event, false)
            });
        }
        let ended = models.into_iter().map(|model| match model.failed {
            None => Ok(model.staged.verified),
            Some(error) => Err(error),
        });
        ended.collect()
    }
}
