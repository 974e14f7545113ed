//! Files that are copied along, and small ones that are written.

use crate::journal::Made;
use crate::place::{self, Place};
use crate::{Line, MigrateError, digest};
use ir::{Cancel, Error, Output, Result};
use std::fs::{self, File};
use std::path::Path;

/// Largest `config.json` that is looked into.
const CONFIG_MAX: u64 = 16 << 20;

/// Copies a line's side files below `out`, compared.
pub(crate) fn copy(line: &Line, root: &Place, out: &Place, cancel: &Cancel) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for path in &line.side {
        cancel.check()?;
        made.push(copy_one(line, path, root, out, cancel)?);
    }
    Ok(made)
}

fn copy_one(line: &Line, path: &str, root: &Place, out: &Place, cancel: &Cancel) -> Result<Made> {
    let vanished = |error: Error| {
        if ir::is_missing(&error) && matches!(root.has(path), Ok(false)) {
            let path = path.to_owned();
            return Error::from(MigrateError::Vanished { path });
        }
        error
    };
    if let Some(text) = patched_config(line, path, root).map_err(vanished)? {
        return write(out, path, text.as_bytes(), cancel);
    }
    if !root.is_local() || !out.is_local() {
        let sent = stream(path, root, out, cancel).map_err(vanished)?;
        let made = made(path, out, cancel)?;
        return if sent == made.sha256 {
            Ok(made)
        } else {
            Err(not_the_same(path))
        };
    }
    let (from, to) = (root.at(path), out.at(path));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| Error::io("create the folder", folder, source))?;
    }
    // A link to a link would depend on what it leads to.
    let linked = line.settings.link
        && fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file())
        && fs::hard_link(&from, &to).is_ok();
    if !linked {
        // Shares extents where the file system can; permissions of a read-only source are not
        // the copy's, which must be removable.
        let copied = copy_bytes(&from, &to);
        copied.map_err(|source| vanished(Error::io("copy", &from, source)))?;
    }
    let made = made(path, out, cancel)?;
    if !linked && root.digest(path, cancel)? != made.sha256 {
        return Err(not_the_same(path));
    }
    Ok(made)
}

fn not_the_same(path: &str) -> Error {
    let what = format!("{path} is not what was copied");
    MigrateError::Differs { what }.into()
}

fn copy_bytes(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    std::io::copy(&mut source, &mut target)?;
    Ok(())
}

/// A new file below `out`, which is synced with all others.
fn output(out: &Place, path: &str) -> Output {
    Output::new(&out.at(path), false)
        .within(out.places())
        .unsynced()
}

/// Copies from a storage, or to one; the digest of what was read.
fn stream(path: &str, root: &Place, out: &Place, cancel: &Cancel) -> Result<String> {
    let source = root.region(path)?;
    let mut output = output(out, path);
    let number = output.main_file()?;
    let file = output.get(number)?;
    let mut at = 0;
    let sent = digest::of_pieces(&source, cancel, |bytes| {
        file.write_at(at, bytes)?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    output.commit()?;
    Ok(sent)
}

/// Writes a small file below `out`.
pub(crate) fn write(out: &Place, path: &str, bytes: &[u8], cancel: &Cancel) -> Result<Made> {
    let mut output = output(out, path);
    let number = output.main_file()?;
    output.get(number)?.write_at(0, bytes)?;
    output.commit()?;
    made(path, out, cancel)
}

/// Size and digest of a file below `out`.
pub(crate) fn made(path: &str, out: &Place, cancel: &Cancel) -> Result<Made> {
    let file = out.region(path)?;
    Ok(Made {
        path: path.to_owned(),
        bytes: file.len(),
        sha256: digest::of_region(&file, cancel)?,
    })
}

/// A `config.json` beside weights that were cast says their new type, for loaders that ask it which
/// to load them in; none where nothing is to be changed.
fn patched_config(line: &Line, path: &str, root: &Place) -> Result<Option<String>> {
    let beside = place::parent(path) == place::parent(&line.output);
    let name = match line.settings.dtype() {
        Ok(Some(ir::DType::F32)) => "float32",
        Ok(Some(ir::DType::F16)) => "float16",
        Ok(Some(ir::DType::BF16)) => "bfloat16",
        _ => return Ok(None),
    };
    if place::name(path) != "config.json" || !beside {
        return Ok(None);
    }
    let file = root.region(path)?;
    let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
    if file.len() > CONFIG_MAX {
        return Ok(None);
    }
    let text = file.bytes(0, len)?;
    let Ok(serde_json::Value::Object(mut config)) = serde_json::from_slice(&text) else {
        return Ok(None);
    };
    let mut changed = false;
    for key in ["torch_dtype", "dtype"] {
        if let Some(value) = config.get_mut(key).filter(|value| value.is_string()) {
            changed |= *value != name;
            *value = name.into();
        }
    }
    let text = serde_json::to_string_pretty(&config).ok();
    Ok(text.filter(|_| changed).map(|text| text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(dtype: Option<&str>) -> Line {
        let dtype = dtype.map_or_else(String::new, |name| format!(r#","dtype":"{name}""#));
        let text = format!(
            r#"{{"version":1,"action":"convert","model":"m/a.bin","root":"/r","dest":"/d","output":"m/a.safetensors","side":["m/config.json","m/sub/config.json"],"settings":{{"to":"safetensors"{dtype}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_config_says_the_type_that_weights_have() {
        let dir = tempfile::tempdir().unwrap();
        let root = Place::parse(dir.path().to_str().unwrap(), &ir::Places::default()).unwrap();
        let config = "{\"a\": 1,  \"torch_dtype\": \"float32\", \"z\": [1.50]}";
        for folder in ["m", "m/sub"] {
            fs::create_dir_all(root.at(folder)).unwrap();
            fs::write(root.at(folder).join("config.json"), config).unwrap();
        }
        for (number, dtype) in [None, Some("f32"), Some("bf16")].into_iter().enumerate() {
            let out = root.below(&format!("out{number}"));
            let made = copy(&line(dtype), &root, &out, &Cancel::default()).unwrap();
            assert_eq!(made.len(), 2);
            let text = fs::read_to_string(out.at("m/config.json")).unwrap();
            assert_eq!(text == config, dtype != Some("bf16"));
            assert_eq!(text.contains("bfloat16"), dtype == Some("bf16"));
            assert_eq!(
                fs::read_to_string(out.at("m/sub/config.json")).unwrap(),
                config
            );
        }
    }
}
