//! The progress bar, on stderr and only on a terminal.

use crate::args::Common;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ir::{Progress, Silent};
use std::io::IsTerminal;
use std::sync::Arc;

/// A bar of bytes with rate and time left.
struct Bar(ProgressBar);

/// The progress that fits the terminal and the flags.
pub(crate) fn for_terminal(common: &Common) -> Arc<dyn Progress> {
    if common.quiet || common.no_progress || !std::io::stderr().is_terminal() {
        return Arc::new(Silent);
    }
    Arc::new(Bar(ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::hidden(),
    )))
}

impl Progress for Bar {
    fn begin(&self, what: &str, bytes: u64) {
        let style = ProgressStyle::with_template(
            "{msg} {bar:28} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        );
        if let Ok(style) = style {
            self.0.set_style(style.progress_chars("━╸─"));
        }
        self.0.reset();
        self.0.set_length(bytes);
        self.0.set_message(what.to_owned());
        self.0
            .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn end(&self) {
        self.0.finish_and_clear();
        self.0.set_draw_target(ProgressDrawTarget::hidden());
    }
}
