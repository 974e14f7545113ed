//! Where a result goes.

use crate::{FacadeError, by_id, by_output};
use ir::{Error, Format, Model, Result};
use std::path::{Path, PathBuf};

/// Where the weights go, and whether a whole repository is asked for.
pub(crate) struct Target {
    pub(crate) format: &'static Format,
    pub(crate) file: PathBuf,
    pub(crate) repository: bool,
}

impl Target {
    /// What the output's path, and the format where one was named, ask for.
    pub(crate) fn of(output: &Path, to: Option<&str>) -> Result<Self> {
        let text = output.as_os_str().to_string_lossy();
        let repository = text.ends_with(['/', '\\']) || output.is_dir();
        let format = match (to, repository) {
            (Some(name), _) => by_id(name)?,
            (None, true) => &st::FORMAT,
            (None, false) => by_output(output)?,
        };
        let file = if repository {
            // The names that loaders of a model folder look for.
            let name = if format.id == ckpt::FORMAT.id {
                "pytorch_model.bin"
            } else {
                "model.safetensors"
            };
            output.join(name)
        } else {
            output.to_owned()
        };
        Ok(Self {
            format,
            file,
            repository,
        })
    }
}

/// Refuses an output that is a file of the input: were the result not what its user wanted, there
/// would be nothing to go back to.
pub(crate) fn refuse_input(file: &Path, input: &Model) -> Result<()> {
    let files = &input.provenance.files;
    if files.iter().any(|(path, _)| same(path, file)) {
        return Err(Error::from(FacadeError::SameFile).in_file(file));
    }
    Ok(())
}

/// Whether two paths lead to one file that is there.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
