//! Giving compared outputs their names, in an order that a loader can meet half-way: what an index
//! points to before the index.

use crate::MigrateError;
use crate::journal::Made;
use crate::place::Place;
use crate::stage::Stage;
use ir::{Cancel, Error, Fault, Result};
use std::fs;
use std::io;

/// Whether every file is there, with or without its name: if not, the model is to be made anew.
pub(crate) fn is_there(files: &[Made], stage: &Stage, base: &Place) -> Result<bool> {
    let out = stage.out();
    for file in files {
        if !is_whole(&out, file)? && !is_whole(base, file)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives each file its name. A name that is taken is no harm where the file there is the same, byte
/// for byte: an earlier run got that far. Otherwise what was named is taken back.
pub(crate) fn publish(files: &[Made], stage: &Stage, base: &Place, cancel: &Cancel) -> Result<()> {
    let out = stage.out();
    let mut named = Vec::new();
    for file in files {
        match name(file, &out, base, cancel) {
            Ok(true) => named.push(file),
            Ok(false) => {}
            Err(error) => {
                for file in named {
                    let path = base.at(&file.path);
                    let _ = match base.remote() {
                        Some(remote) => remote.remove(&path),
                        None => fs::remove_file(&path).map_err(|e| Error::io("remove", path, e)),
                    };
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn is_whole(place: &Place, file: &Made) -> Result<bool> {
    Ok(place.len_of(&file.path)? == Some(file.bytes))
}

/// Names one file; `false` where it is there already.
fn name(file: &Made, out: &Place, base: &Place, cancel: &Cancel) -> Result<bool> {
    if is_whole(out, file)? && give(file, out, base)? {
        return Ok(true);
    }
    if is_whole(base, file)? && base.digest(&file.path, cancel)? == file.sha256 {
        return Ok(false);
    }
    Err(MigrateError::Taken {
        path: file.path.clone(),
    }
    .into())
}

/// Gives a staged file its name; `false` where something has it.
fn give(file: &Made, out: &Place, base: &Place) -> Result<bool> {
    let (from, to) = (out.at(&file.path), base.at(&file.path));
    if let Some(remote) = base.remote() {
        // The staged one stays until all have their names.
        return match remote.copy_new(&from, &to) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.downcast_ref(), Some(Fault::OutputExists)) => Ok(false),
            Err(error) => Err(error),
        };
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| Error::io("create the folder", folder, source))?;
    }
    match native::rename_new(&from, &to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::io("name the output", to, source)),
    }
}
