//! The formats there are, and which one a file is.

use crate::FacadeError;
use ir::{Error, Fault, Format, Input, Result};
use std::path::Path;

/// All formats, in the order probes are asked.
pub fn registry() -> &'static [&'static Format] {
    static ALL: [&Format; 5] = [
        &repo::FORMAT,
        &st::FORMAT,
        &gguf::FORMAT,
        &ckpt::FORMAT,
        &onnx::FORMAT,
    ];
    &ALL
}

/// The format of a name as `--from` and `--to` take it.
pub fn by_id(name: &str) -> Result<&'static Format> {
    let fits = |format: &Format| {
        format.id.eq_ignore_ascii_case(name)
            || format
                .names
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name))
    };
    registry()
        .iter()
        .copied()
        .find(|format| fits(format))
        .ok_or_else(|| {
            let known = registry()
                .iter()
                .map(|format| format.id)
                .collect::<Vec<_>>()
                .join(", ");
            FacadeError::NoSuchFormat {
                name: name.to_owned(),
                known,
            }
            .into()
        })
}

/// The format that an output's extension names.
pub fn by_output(path: &Path) -> Result<&'static Format> {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    registry()
        .iter()
        .copied()
        .find(|f| f.writer.is_some() && f.extensions.contains(&extension.as_str()))
        .ok_or_else(|| Error::from(FacadeError::NoOutputFormat).in_file(path))
}

/// A format and why an input is taken for it.
#[derive(Clone, Copy, Debug)]
pub struct Detected {
    /// The format.
    pub format: &'static Format,
    /// How sure, of 100.
    pub points: u8,
}

/// Tells a format from content. An extension alone is not enough.
pub fn detect(input: &Input) -> Result<Detected> {
    let peek = input.peek()?;
    let mut best: Option<Detected> = None;
    for format in registry() {
        let points = (format.probe)(&peek).points;
        if points > best.map_or(0, |best| best.points) {
            best = Some(Detected { format, points });
        }
    }
    // What only an extension says is worth 10 at most.
    best.filter(|best| best.points > 10).ok_or_else(|| {
        let why = match ir::sniff(&peek.head) {
            Some(it) => format!("this is {}, not a model this version reads", it.what),
            None if input.region().is_none() => "no model files in this folder".to_owned(),
            None if peek.len == 0 => {
                "the file is empty: its download was cut short, so get it again".to_owned()
            }
            None => format!("no known model format in these {} bytes", peek.len),
        };
        Error::from(Fault::UnknownFormat { why }).in_file(input.path())
    })
}
