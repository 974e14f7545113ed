//! Giving compared outputs their names, in an order that a loader can meet half-way: what an index
//! points to before the index.

use crate::journal::Made;
use crate::place::{self, Place};
use crate::stage::Stage;
use crate::{MigrateError, digest};
use ir::{Cancel, Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Gives each file its name. A name that is taken is no harm where the file there is the same, byte
/// for byte: an earlier run got that far. Otherwise what was named is taken back. `false` where
/// neither the stage nor the destination has a file, so that the model is to be made anew.
pub(crate) fn publish(
    files: &[Made],
    stage: &Stage,
    base: &Place,
    cancel: &Cancel,
) -> Result<bool> {
    let out = stage.out();
    if !files
        .iter()
        .all(|file| is_whole(&out.join(&file.path), file) || is_whole(&base.at(&file.path), file))
    {
        return Ok(false);
    }
    let mut named = Vec::new();
    for file in files {
        match name(file, &out, base, cancel) {
            Ok(true) => named.push(file),
            Ok(false) => {}
            Err(error) => {
                for file in named {
                    let _ = fs::remove_file(base.at(&file.path));
                }
                return Err(error);
            }
        }
    }
    sync_folders(files, base)?;
    Ok(true)
}

fn is_whole(path: &Path, file: &Made) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes)
}

/// Names one file; `false` where it is there already.
fn name(file: &Made, out: &Path, base: &Place, cancel: &Cancel) -> Result<bool> {
    let (from, to) = (out.join(&file.path), base.at(&file.path));
    let staged = is_whole(&from, file);
    if staged {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)
                .map_err(|source| Error::io("create the folder", folder, source))?;
        }
        match native::rename_new(&from, &to) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("name the output", to, source)),
        }
    }
    if is_whole(&to, file) && digest::of_file(&to, cancel)? == file.sha256 {
        return Ok(false);
    }
    Err(MigrateError::Taken {
        path: file.path.clone(),
    }
    .into())
}

/// Makes the names last: those of the files, and those of folders that may be new.
fn sync_folders(files: &[Made], base: &Place) -> Result<()> {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let mut folder = place::parent(&file.path);
        while folders.insert(folder) && !folder.is_empty() {
            folder = place::parent(folder);
        }
    }
    for folder in folders.into_iter().rev() {
        let path = base.at(folder);
        native::sync_folder(&path).map_err(|source| Error::io("sync the folder", path, source))?;
    }
    Ok(())
}
