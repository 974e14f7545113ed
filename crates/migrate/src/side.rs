//! Files that are copied along.

use crate::journal::Made;
use crate::place::{self, Place};
use crate::{Line, MigrateError, digest};
use ir::{Cancel, Error, Result};
use std::fs::{self, File};
use std::path::Path;

/// Largest `config.json` that is looked into.
const CONFIG_MAX: u64 = 16 << 20;

/// Copies a line's side files below `out`, synced and compared.
pub(crate) fn copy(line: &Line, root: &Place, out: &Path, cancel: &Cancel) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for path in &line.side {
        cancel.check()?;
        made.push(copy_one(line, path, root, out, cancel)?);
    }
    Ok(made)
}

fn copy_one(line: &Line, path: &str, root: &Place, out: &Path, cancel: &Cancel) -> Result<Made> {
    let (from, to) = (root.at(path), out.join(path));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| Error::io("create the folder", folder, source))?;
    }
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::NotFound && !from.exists() {
            Error::from(MigrateError::Vanished {
                path: path.to_owned(),
            })
        } else {
            Error::io("copy", &from, source)
        }
    };
    if let Some(text) = patched_config(line, path, &from)? {
        fs::write(&to, text).map_err(failed)?;
        return finish(path, &to, cancel);
    }
    // A link to a link would depend on what it leads to.
    let linked = line.settings.link && fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file());
    if !(linked && fs::hard_link(&from, &to).is_ok()) {
        // Shares extents where the file system can; permissions of a read-only source are not the
        // copy's, which must be removable.
        copy_bytes(&from, &to).map_err(failed)?;
    }
    let made = finish(path, &to, cancel)?;
    if !linked && digest::of_file(&from, cancel)? != made.sha256 {
        let what = format!("{path} is not what was copied");
        return Err(MigrateError::Differs { what }.into());
    }
    Ok(made)
}

fn copy_bytes(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    std::io::copy(&mut source, &mut target)?;
    Ok(())
}

fn finish(path: &str, to: &Path, cancel: &Cancel) -> Result<Made> {
    let file = File::open(to).and_then(|file| file.sync_all().map(|()| file));
    let file = file.map_err(|source| Error::io("sync", to, source))?;
    let bytes = file
        .metadata()
        .map_err(|source| Error::io("look at", to, source))?
        .len();
    let sha256 = digest::of_file(to, cancel)?;
    Ok(Made {
        path: path.to_owned(),
        bytes,
        sha256,
    })
}

/// A `config.json` beside weights that were cast says their new type, for loaders that ask it which
/// to load them in; none where nothing is to be changed.
fn patched_config(line: &Line, path: &str, from: &Path) -> Result<Option<String>> {
    let beside = place::parent(path) == place::parent(&line.output);
    let name = match line.settings.dtype() {
        Ok(Some(ir::DType::F32)) => "float32",
        Ok(Some(ir::DType::F16)) => "float16",
        Ok(Some(ir::DType::BF16)) => "bfloat16",
        _ => return Ok(None),
    };
    let small = fs::metadata(from).is_ok_and(|meta| meta.len() <= CONFIG_MAX);
    if place::name(path) != "config.json" || !beside || !small {
        return Ok(None);
    }
    let text = fs::read_to_string(from).map_err(|source| Error::io("read", from, source))?;
    let Ok(serde_json::Value::Object(mut config)) = serde_json::from_str(&text) else {
        return Ok(None);
    };
    let mut changed = false;
    for key in ["torch_dtype", "dtype"] {
        if let Some(value) = config.get_mut(key).filter(|value| value.is_string()) {
            changed |= *value != name;
            *value = name.into();
        }
    }
    let text = serde_json::to_string_pretty(&config).unwrap_or(text);
    Ok(changed.then(|| text + "\n"))
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
        let root = Place::parse(dir.path().to_str().unwrap()).unwrap();
        let config = "{\"a\": 1,  \"torch_dtype\": \"float32\", \"z\": [1.50]}";
        for folder in ["m", "m/sub"] {
            fs::create_dir_all(root.at(folder)).unwrap();
            fs::write(root.at(folder).join("config.json"), config).unwrap();
        }
        for (number, dtype) in [None, Some("f32"), Some("bf16")].into_iter().enumerate() {
            let out = dir.path().join(format!("out{number}"));
            let made = copy(&line(dtype), &root, &out, &Cancel::default()).unwrap();
            assert_eq!(made.len(), 2);
            let text = fs::read_to_string(out.join("m/config.json")).unwrap();
            assert_eq!(text == config, dtype != Some("bf16"));
            assert_eq!(text.contains("bfloat16"), dtype == Some("bf16"));
            assert_eq!(
                fs::read_to_string(out.join("m/sub/config.json")).unwrap(),
                config
            );
        }
    }
}
