//! The keys a command line names.

use crate::args::Command;
use ir::{Fault, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weightbridge::{PrivateKey, PublicKey};

/// What was read of them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) private: Option<Arc<PrivateKey>>,
    pub(crate) public: Option<PublicKey>,
}

impl Keys {
    /// Reads them; `stop` is the flag that signals set.
    pub(crate) fn read(command: &Command, stop: &AtomicBool) -> Result<Self> {
        let mut keys = Self::default();
        match command {
            Command::Sign(args) => {
                keys.private = Some(waiting(stop, || PrivateKey::read(&args.key))?.into());
            }
            Command::Convert(args) => {
                if let Some(file) = &args.attest_key {
                    keys.private = Some(waiting(stop, || PrivateKey::read(file))?.into());
                }
            }
            Command::Verify(args) => {
                if let Some(file) = &args.key {
                    keys.public = Some(waiting(stop, || PublicKey::read(file))?);
                }
            }
            _ => {}
        }
        Ok(keys)
    }
}

/// Reads what somebody may yet have to type. Nothing was begun: a signal ends the process at once,
/// as each does while the flag is set, since the read would wait on.
fn waiting<T>(stop: &AtomicBool, read: impl FnOnce() -> Result<T>) -> Result<T> {
    if stop.swap(true, Ordering::SeqCst) {
        return Err(Fault::Interrupted.into());
    }
    let read = read();
    stop.store(false, Ordering::SeqCst);
    read
}
