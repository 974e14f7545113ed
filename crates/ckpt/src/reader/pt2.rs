//! The archive of `torch.export.save`: weights beside a JSON that names them.
//!
//! | entry | holds |
//! |---|---|
//! | `archive_format` | `pt2` |
//! | `data/weights/model_weights_config.json` | per weight: entry, type code, sizes, strides, offset |
//! | `data/weights/weight_N` | the bytes of a weight |
//! | `data/constants/model_constants_config.json`, `tensor_N` | the same for constants of the graph |
//! | `models/model.json` | the graph, which is not read |
//!
//! Names and codes are those of `torch/export/pt2_archive` and `torch/_export/serde/schema.py`.

use super::lower::{Place, Storage, view};
use crate::container::{inflate::Pool, zip};
use crate::error::CkptError;
use crate::wire::{self, StorageClass, TorchType};
use ir::{ByteOrder, Context, Input, Limits, Model, Provenance, Record, Region, Result, Tensor};
use serde_json::Value;

const WEIGHTS: &str = "data/weights/";
const CONSTANTS: &str = "data/constants/";

/// The element type of a code.
fn scalar_type(code: u64) -> Option<TorchType> {
    let name = match code {
        1 => "uint8",
        2 => "int8",
        3 => "int16",
        4 => "int32",
        5 => "int64",
        6 => "float16",
        7 => "float32",
        8 => "float64",
        9 => "complex32",
        10 => "complex64",
        11 => "complex128",
        12 => "bool",
        13 => "bfloat16",
        28 => "uint16",
        29 => "float8_e4m3fn",
        30 => "float8_e5m2",
        31 => "float8_e4m3fnuz",
        32 => "float8_e5m2fnuz",
        33 => "float8_e8m0fnu",
        34 => "uint32",
        35 => "uint64",
        _ => return None,
    };
    wire::dtype(name)
}

/// An archive of this kind, and its top folder.
pub(super) fn recognise(region: &Region, limits: &Limits) -> Option<(zip::Archive, String)> {
    let head = region.bytes(0, 4).ok()?;
    if head != b"PK\x03\x04"[..] {
        return None;
    }
    let archive = zip::Archive::read(region, limits).ok()?;
    let config = format!("/{WEIGHTS}model_weights_config.json");
    let entry = (0..archive.len()).find(|&entry| {
        let name = archive.raw_name(entry);
        name.ends_with(config.as_bytes()) || name == &config.as_bytes()[1..]
    })?;
    let name = archive.name(entry);
    let top = name.strip_suffix(&config[1..])?.to_owned();
    let object = format!("{top}data.pkl");
    (archive.named(object.as_bytes()).is_empty()).then_some((archive, top))
}

/// Opens the archive.
pub(super) fn open(
    archive: &zip::Archive,
    top: &str,
    input: &Input,
    cx: &Context,
) -> Result<Model> {
    archive.check_honest()?;
    let mut reader = Pt2 {
        archive,
        top,
        limits: &cx.limits,
        pool: Pool::new(cx.scratch.clone(), &cx.limits),
        model: Model {
            provenance: Provenance {
                format: "ckpt",
                version: "zip, PT2 archive of torch.export".to_owned(),
                ..Provenance::default()
            },
            ..Model::default()
        },
    };
    let weights = reader.config(&format!("{WEIGHTS}model_weights_config.json"))?;
    let n = reader.tensors(&weights, WEIGHTS)?;
    let why = format!("the weights of an exported program; {n} tensors");
    reader.record(Record::carried("chosen", "top level", why));
    let constants = format!("{CONSTANTS}model_constants_config.json");
    if !archive
        .named(format!("{top}{constants}").as_bytes())
        .is_empty()
    {
        let constants = reader.config(&constants)?;
        let n = constants.as_object().map_or(0, serde_json::Map::len);
        if cx.read.all {
            reader.tensors(&constants, CONSTANTS)?;
        } else if n > 0 {
            let why = format!("{n} constants of the exported graph");
            reader.record(Record::dropped("left-out", "constants", why).flag("--all"));
        }
    }
    let why = "the exported graph: only the weights are kept";
    reader.record(Record::dropped("left-out", "models/model.json", why));
    let mut model = reader.model;
    if cx.read.key.is_some() {
        return Err(CkptError::NoSuchKey {
            key: cx.read.key.clone().unwrap_or_default(),
            available: "no subtrees: it is a flat list of weights".to_owned(),
        }
        .into());
    }
    model.provenance.files = vec![(input.path().to_owned(), input.file()?.len())];
    model.validate(&cx.limits)?;
    Ok(model)
}

struct Pt2<'a> {
    archive: &'a zip::Archive,
    top: &'a str,
    limits: &'a Limits,
    pool: Pool,
    model: Model,
}

impl Pt2<'_> {
    fn record(&mut self, record: Record) {
        self.model.provenance.records.push(record);
    }

    fn entry(&self, name: &str) -> Result<usize> {
        let name = format!("{}{name}", self.top);
        if zip::Archive::unsafe_name(name.as_bytes()).is_some() {
            return Err(CkptError::container(format!("entry {name}"), "an unsafe name").into());
        }
        let entry = self.archive.find(name.as_bytes())?;
        entry.ok_or_else(|| CkptError::cut(format!("entry {name}"), "it is missing").into())
    }

    /// The `config` object of a JSON entry.
    fn config(&self, name: &str) -> Result<Value> {
        let entry = self.entry(name)?;
        let size = self.archive.size(entry);
        Limits::check("bytes of a configuration", size, self.limits.held_bytes / 4)?;
        let region = self.archive.small(entry, self.limits)?;
        let text = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
        let mut json: Value = serde_json::from_slice(&text).map_err(|error| {
            CkptError::container(self.archive.place(entry), format!("no JSON: {error}"))
        })?;
        Ok(json.get_mut("config").map(Value::take).unwrap_or_default())
    }

    fn tensors(&mut self, config: &Value, folder: &str) -> Result<usize> {
        let rows = config.as_object().cloned().unwrap_or_default();
        Limits::check("tensors", rows.len() as u64, self.limits.tensors)?;
        let mut n = 0;
        for (name, row) in &rows {
            let place = format!("tensor {name:?}");
            let tensor = self.tensor(row, folder).map_err(|error| error.at(place))?;
            if let Some(mut tensor) = tensor {
                tensor.name.clone_from(name);
                self.model.tensors.push(tensor)?;
                n += 1;
            } else {
                let why = "an object pickled beside the weights";
                self.record(Record::dropped("left-out", name.clone(), why));
            }
        }
        Ok(n)
    }

    fn tensor(&mut self, row: &Value, folder: &str) -> Result<Option<Tensor>> {
        let bad = |what: &str| CkptError::tensor(format!("its configuration has no {what}"));
        let meta = &row["tensor_meta"];
        if row["use_pickle"] == true || meta.is_null() {
            return Ok(None);
        }
        let path = row["path_name"].as_str().ok_or_else(|| bad("path_name"))?;
        let code = meta["dtype"].as_u64().ok_or_else(|| bad("dtype"))?;
        let dtype = scalar_type(code).ok_or_else(|| CkptError::Unsupported {
            place: String::new(),
            what: format!("type code {code} of torch.export"),
            help: "Save the state dict with torch.save instead",
        })?;
        let int = |value: &Value| value["as_int"].as_u64().or_else(|| value.as_u64());
        let ints = |key: &str| -> Result<Vec<u64>> {
            let list = meta[key].as_array().ok_or_else(|| bad(key))?;
            let list: Option<Vec<u64>> = list.iter().map(int).collect();
            list.ok_or_else(|| bad(key).into())
        };
        let entry = self.entry(&format!("{folder}{path}"))?;
        let storage = Storage {
            region: self.archive.storage(entry, &mut self.pool)?,
            class: StorageClass::Untyped,
            byte_order: ByteOrder::Little,
        };
        let place = Place {
            offset: int(&meta["storage_offset"]).ok_or_else(|| bad("storage_offset"))?,
            shape: ints("sizes")?,
            strides: ints("strides")?,
        };
        let part = view(&storage, dtype, &place, self.limits, &mut Vec::new())?;
        Ok(Some(Tensor {
            name: String::new(),
            spec: part.spec,
            payload: part.payload,
        }))
    }
}
