//! The keys a command line names.

use crate::args::Command;
use ir::Result;
use std::sync::Arc;
use weightbridge::{PrivateKey, PublicKey};

/// What was read of them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) private: Option<Arc<PrivateKey>>,
    pub(crate) public: Option<PublicKey>,
}

impl Keys {
    pub(crate) fn read(command: &Command) -> Result<Self> {
        let mut keys = Self::default();
        match command {
            Command::Sign(args) => keys.private = Some(PrivateKey::read(&args.key)?.into()),
            Command::Convert(args) => {
                if let Some(file) = &args.attest_key {
                    keys.private = Some(PrivateKey::read(file)?.into());
                }
            }
            Command::Verify(args) => {
                if let Some(file) = &args.key {
                    keys.public = Some(PublicKey::read(file)?);
                }
            }
            _ => {}
        }
        Ok(keys)
    }
}
