//! The statement of a conversion: what was made of what.

use crate::describe::value_json;
use crate::{ConvertRequest, Edit, Intent, Names, Policy, Session};
use convert::{DTypeChoice, Shared};
use ir::{Context, Error, Fault, Input, Model, Output, Places, Result};
use serde_json::{Map, Value};
use sign::{Artifact, PrivateKey, Provenance, Span};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A statement to write beside a conversion's output.
#[derive(Clone, Debug)]
pub struct Attest {
    /// Where to.
    pub file: PathBuf,
    /// The key to sign it with; none leaves it unsigned.
    pub key: Option<Arc<PrivateKey>>,
}

impl Attest {
    /// Refuses early what would be refused late, and a statement where an output itself goes.
    pub(crate) fn refuse(
        &self,
        outputs: &[PathBuf],
        overwrite: bool,
        places: &Places,
    ) -> Result<()> {
        places.refuse_spared(&self.file)?;
        if outputs.iter().any(|file| ir::same_file(file, &self.file)) {
            let what = "the statement cannot have the output's name".to_owned();
            return Err(Error::from(Fault::Usage { what }).in_file(&self.file));
        }
        if !overwrite && self.file.exists() {
            return Err(Error::from(Fault::OutputExists).in_file(&self.file));
        }
        Ok(())
    }
}

/// The files a conversion reads: those its reader opened, those that travel along, and those named
/// by options.
pub(crate) fn inputs(
    request: &ConvertRequest,
    input: &Input,
    model: &Model,
) -> Vec<(String, Span)> {
    let mut found: Vec<(String, Span)> = Vec::new();
    let folder = folder_of(&request.input);
    let mut add = |name: String, span: Span| {
        if !found.iter().any(|(there, _)| *there == name) {
            found.push((name, span));
        }
    };
    if let Some(region) = input.region() {
        add(inside(&folder, input.path()), Span::region(region.clone()));
    }
    for (path, len) in &model.provenance.files {
        if path.is_file() {
            add(inside(&folder, path), Span::file(path, 0..*len));
        }
    }
    for asset in &model.assets {
        add(asset.name.clone(), Span::region(asset.bytes.clone()));
    }
    let llm = &request.llm;
    let config = llm.base.as_ref().map(|base| {
        if base.is_dir() {
            base.join("config.json")
        } else {
            base.clone()
        }
    });
    let options = [&request.imatrix, &llm.arch_map, &config];
    for path in options.into_iter().flatten() {
        if let Ok(meta) = std::fs::metadata(path) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Another name than a file of the input has.
            add(format!("option/{name}"), Span::file(path, 0..meta.len()));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// Adds the statement to the last of the outputs, so that it gets its name after all others. The
/// outputs are read back here, still without names; the inputs a second time, since copies inside
/// the kernel show their bytes to nobody.
pub(crate) fn add(
    attest: &Attest,
    request: &ConvertRequest,
    inputs: Vec<(String, Span)>,
    outs: &mut [Output],
    session: &Session,
    cx: &Context,
) -> Result<()> {
    let mut spans: Vec<Span> = Vec::new();
    let mut names = Vec::new();
    let folder = if request.output.is_dir() || ends_as_folder(&request.output) {
        request.output.clone()
    } else {
        request.output.parent().unwrap_or(Path::new("")).to_owned()
    };
    for out in outs.iter() {
        for file in out.files() {
            names.push(inside(&folder, file.path()));
            spans.push(Span::region(file.region()?));
        }
    }
    let n_outputs = spans.len();
    for (name, span) in inputs {
        names.push(name);
        spans.push(span);
    }
    let digests = sign::digests(&spans, session.threads, cx)?;
    let artifacts = names.into_iter().zip(digests);
    let mut outputs: Vec<Artifact> = artifacts
        .map(|(name, digest)| Artifact { name, digest })
        .collect();
    let inputs = outputs.split_off(n_outputs.min(outputs.len()));
    let statement = Provenance {
        outputs,
        inputs,
        options: options(request),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
    .statement();
    let text = match &attest.key {
        Some(key) => sign::seal(&statement, key),
        None => format!("{statement:#}\n"),
    };
    if let Some(out) = outs.last_mut() {
        let number = out.file(&attest.file)?;
        out.get(number)?.write_at(0, text.as_bytes())?;
    }
    Ok(())
}

fn ends_as_folder(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(['/', '\\'])
}

fn folder_of(input: &Path) -> PathBuf {
    if input.is_dir() {
        input.to_owned()
    } else {
        input.parent().unwrap_or(Path::new("")).to_owned()
    }
}

/// A path as it is called inside a folder; elsewhere only its last name: where somebody keeps
/// models is nobody's business.
fn inside(folder: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(folder).ok();
    let plain = inside.filter(|path| {
        let mut steps = path.components();
        steps.all(|step| matches!(step, std::path::Component::Normal(_)))
    });
    let name = plain.unwrap_or_else(|| Path::new(path.file_name().unwrap_or_default()));
    name.to_string_lossy().replace('\\', "/")
}

/// The options that are not the defaults, by their names on the command line.
fn options(request: &ConvertRequest) -> Map<String, Value> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    let flag = |on: bool| on.then_some(Value::Bool(true));
    let list = |list: &[String]| (!list.is_empty()).then(|| Value::from(list.to_vec()));
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let file = |path: &Option<PathBuf>| {
        let name = path.as_ref()?.file_name()?;
        Some(Value::from(name.to_string_lossy().into_owned()))
    };
    set("from", text(&request.from));
    set("to", text(&request.to));
    set("verify", flag(request.verify));
    set("strict", flag(request.strict));
    set(
        "dtype",
        match request.dtype {
            DTypeChoice::To(dtype) => Some(Value::from(dtype.name().to_lowercase())),
            DTypeChoice::Keep => None,
        },
    );
    set("key", text(&request.read.key));
    set("all", flag(request.read.all));
    set("partial", flag(request.read.partial));
    let policy = (request.policy != Policy::Default).then(|| request.policy.name().into());
    set("policy", policy);
    set("allow-global", list(&request.allow_globals));
    set("include", list(&request.include));
    set("drop", list(&request.drop));
    set("rename", list(&request.rename));
    set(
        "shared",
        (request.shared == Shared::Copy).then(|| "copy".into()),
    );
    set("shard-size", request.shard_size.map(Value::from));
    set("shard-tensors", request.shard_tensors.map(Value::from));
    set("external-data", flag(request.external_data));
    set("external-into", flag(request.external_into));
    set("keep-graph", flag(request.keep_graph));
    let carry = [
        (request.carry.metadata, "metadata"),
        (request.carry.graph, "graph"),
    ];
    let carry = carry
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name));
    let carry = carry.collect::<Vec<_>>().join(",");
    set("carry", (!carry.is_empty()).then(|| carry.into()));
    set(
        "as",
        request.intent.map(|intent| match intent {
            Intent::Llm => "llm".into(),
            Intent::Container => "container".into(),
        }),
    );
    set(
        "names",
        request.names.map(|names| match names {
            Names::Raw => "raw".into(),
            Names::Hf => "hf".into(),
            Names::Gguf => "gguf".into(),
        }),
    );
    set("raw-names", flag(request.raw_names));
    set("keep-blocks", flag(request.keep_blocks));
    let types = request.quantize.iter().map(|kind| kind.name().to_owned());
    set("quantize", list(&types.collect::<Vec<_>>()));
    set("imatrix", file(&request.imatrix));
    let llm = &request.llm;
    set("arch", text(&llm.arch));
    set("arch-map", file(&llm.arch_map));
    set("base", file(&llm.base));
    set("pre", text(&llm.pre));
    set("modelfile", flag(llm.modelfile));
    let edits = request.edits.iter();
    let values = edits.clone().filter_map(|edit| match edit {
        Edit::Set(key, value) => Some((key.clone(), value_json(value))),
        Edit::Unset(_) => None,
    });
    let values: Map<String, Value> = values.collect();
    set("set", (!values.is_empty()).then(|| Value::from(values)));
    let unset = edits.filter_map(|edit| match edit {
        Edit::Unset(key) => Some(key.clone()),
        Edit::Set(..) => None,
    });
    set("unset", list(&unset.collect::<Vec<_>>()));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_nothing_of_the_place() {
        let name = |path: &str| inside(Path::new("here/model"), Path::new(path));
        assert_eq!(name("here/model/sub/config.json"), "sub/config.json");
        assert_eq!(name("/home/somebody/blobs/abc"), "abc");
        assert_eq!(name("here/model/../secret/x"), "x");
    }

    #[test]
    fn only_what_was_asked_for_is_told() {
        let mut request = ConvertRequest::new("a", "b");
        assert!(options(&request).is_empty());
        request.strict = true;
        request.keep_graph = true;
        request.carry = "metadata,graph".parse().unwrap();
        request.drop = vec!["x".to_owned()];
        request.edits = vec![Edit::Unset("k".to_owned())];
        let text = Value::from(options(&request)).to_string();
        assert_eq!(
            text,
            r#"{"strict":true,"drop":["x"],"keep-graph":true,"carry":"metadata,graph","unset":["k"]}"#
        );
    }
}
