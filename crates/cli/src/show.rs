//! Text for people: sizes, counts, colours, and nothing a hostile name could do to a terminal.

use crate::args::{Common, When};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
pub(crate) use wording::printable;

/// The first error of a line that could not be printed.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a JSON document and a newline.
pub(crate) fn document(value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    line(&text);
}

/// Prints a line on stdout.
pub(crate) fn line(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// Prints text as it is on stdout. What goes wrong is told by [`printed`] at the end.
pub(crate) fn raw(text: &[u8]) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        *failed = io::stdout().lock().write_all(text).err();
    }
}

/// Prints a line on stderr. When nobody reads it, nobody can be told.
pub(crate) fn note(text: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes());
}

/// Whether all that was to be printed was taken. A reader that has seen enough is no error.
pub(crate) fn printed() -> ir::Result<()> {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    let flushed = || io::stdout().lock().flush().err();
    match failed.take().or_else(flushed) {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ir::Error::io("write", "standard output", error))
        }
        _ => Ok(()),
    }
}

/// `13.5 GB`.
pub(crate) fn bytes(n: u64) -> String {
    wording::bytes(n, ' ')
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn count(n: u64, thing: &str) -> String {
    wording::count(n, thing, ' ')
}

/// `1 234 567`.
pub(crate) fn thousands(n: u64) -> String {
    wording::thousands(n, ' ')
}

/// A colour of the terminal.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    /// Red.
    Bad,
    /// Yellow.
    Odd,
    /// Green.
    Good,
    /// Faint.
    Dim,
    /// Bold.
    Strong,
}

/// Colours text where that is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For text on stderr, or on stdout.
    pub(crate) fn new(common: &Common, stdout: bool) -> Self {
        Self(match common.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let terminal = if stdout {
                    io::stdout().is_terminal()
                } else {
                    io::stderr().is_terminal()
                };
                terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        })
    }

    /// The text in a tone.
    pub(crate) fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Bad => "31;1",
            Tone::Odd => "33;1",
            Tone::Good => "32;1",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(13_500_000_000), "13.5 GB");
        assert_eq!(count(1_234_567, "tensor"), "1 234 567 tensors");
        assert_eq!(printable("a\x1b[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
    }
}
