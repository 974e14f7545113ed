//! Opening an input, whatever it is.

use crate::{Detected, Session, by_id, detect};
use ir::{Context, Error, Format, Input, Model, Open, Places, ReadOptions, Region, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model and the format it came in.
#[derive(Debug)]
pub struct Opened {
    /// The model, notes restored.
    pub model: Model,
    /// Its format.
    pub format: &'static Format,
}

/// Opens shards of a set by what they hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByContent;

impl Open for ByContent {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        read(input, detect(input)?.format, cx)
    }
}

/// The input of a path; `-` is standard input, spooled to a file without a name, since every
/// format but a bare pickle is read from its end or by position.
pub fn open_input(path: &Path, places: &Places) -> Result<Input> {
    if path.as_os_str() != "-" {
        return places.open(path);
    }
    let name = PathBuf::from("standard input");
    let spool = || -> io::Result<std::fs::File> {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        Ok(file)
    };
    let file = spool().map_err(|source| Error::io("spool", &name, source))?;
    let source = ir::FileSource::from_file(file, name.clone())?;
    Ok(Input::from_region(name, Region::new(Arc::new(source))))
}

/// Opens a path: headers only.
pub fn open(
    path: &Path,
    from: Option<&str>,
    read: ReadOptions,
    session: &Session,
) -> Result<Opened> {
    let input = open_input(path, &session.places)?;
    open_with(&input, from, &session.reading(read))
}

pub(crate) fn open_with(input: &Input, from: Option<&str>, cx: &Context) -> Result<Opened> {
    let format = format_of(input, from)?;
    let mut model = read(input, format, cx)?;
    convert::restore(&mut model)?;
    unpack::restore_container(&mut model).map_err(|error| error.in_file(input.path()))?;
    Ok(Opened { model, format })
}

/// Opens without undoing what notes tell of carried types.
pub(crate) fn open_as_written(input: &Input, cx: &Context) -> Result<Model> {
    read(input, format_of(input, None)?, cx)
}

pub(crate) fn format_of(input: &Input, from: Option<&str>) -> Result<&'static Format> {
    match from {
        Some(name) => by_id(name),
        // One shard stands for its whole set; --from takes it by itself.
        None if repo::belongs_to_set(input.path()) => Ok(&repo::FORMAT),
        None => detect(input).map(|Detected { format, .. }| format),
    }
}

fn read(input: &Input, format: &Format, cx: &Context) -> Result<Model> {
    let named = |error: Error| error.in_file(input.path());
    let reader = format.reader.ok_or_else(|| {
        named(
            crate::FacadeError::OneWay {
                format: format.id,
                verb: "read",
            }
            .into(),
        )
    })?;
    let model = reader.open(input, cx).map_err(named)?;
    model.validate(&cx.limits).map_err(named)?;
    Ok(model)
}
