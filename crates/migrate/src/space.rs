//! Whether there is room, before anything is written.

use crate::place::Place;
use crate::{Line, MigrateError};
use ir::{Error, Places, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Holds what lines will write against what their destinations have; a storage has no end. Where
/// originals go as soon as their model is verified, only the models in work need room besides, the
/// largest at worst.
pub(crate) fn check<'a>(
    lines: impl Iterator<Item = &'a Line>,
    jobs: usize,
    deleting: bool,
    places: &Places,
) -> Result<()> {
    let mut needs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in lines {
        needs.entry(line.base()).or_default().push(line.bytes_out);
    }
    for (base, mut sizes) in needs {
        if deleting {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            // Those in work, and those that wait together for the disk.
            sizes.truncate(jobs + crate::batch::MODELS_MAX);
        }
        let needed = sizes.into_iter().fold(0, u64::saturating_add);
        let base = Place::parse(base, places)?;
        if !base.is_local() {
            continue;
        }
        let there = base
            .path()
            .ancestors()
            .find(|folder| folder.exists())
            .unwrap_or(Path::new("/"));
        let free =
            fs4::available_space(there).map_err(|e| Error::io("ask for free space", there, e))?;
        if needed > free {
            return Err(Error::from(MigrateError::NoRoom { needed, free }).in_file(base.path()));
        }
    }
    Ok(())
}
