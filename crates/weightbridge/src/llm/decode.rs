//! From a repository, or a GGUF model, to the graph of its decoder.

use super::graph::ORDER;
use super::lower::by_name_in_each_file;
use super::raise::{raise, raise_blocks};
use super::{files, own_table};
use crate::{ConvertRequest, FacadeError};
use arch::{ArchError, Configuration, configuration};
use convert::{CastCounts, DTypeChoice, blockwise, blockwise_type, to_types};
use decoder::{DecoderError, Family, Request, decoder, families, family};
use ir::{DType, Error, Fault, Limits, MetaValue, Model, Record, Result, TensorTable, ns};
use serde_json::Value;

/// Makes the model whose graph computes what the repository's code would, with the repository's
/// weights as they are, or in the type that is asked for.
pub(super) fn decode(
    mut model: Model,
    request: &ConvertRequest,
    repository: bool,
    limits: &Limits,
) -> Result<(Model, Vec<CastCounts>)> {
    if request.keep_blocks {
        let what = "a graph computes with numbers: --keep-blocks goes with --as container";
        let what = what.to_owned();
        return Err(Error::from(Fault::Usage { what }));
    }
    let mut counts = Vec::new();
    let raised = model.provenance.format == gguf::FORMAT.id;
    if raised {
        let help = "--as container carries the tensors as they are";
        // A type that is asked for is asked for all weights; else blocks stay that can.
        let raised = if request.dtype == DTypeChoice::Keep && has_blocks(&model) {
            raise_blocks(model, request, limits, blockwise_type)
        } else {
            raise(model, request, limits)
        };
        let (made, casts) = raised.map_err(|e| e.with_help(help))?;
        model = made;
        counts.push(casts);
    }
    let title = onnx::FORMAT.title;
    let Some(mut config) = files::json(&model, "config.json", limits)? else {
        return Err(FacadeError::NoArchitecture { target: title }.into());
    };
    files::whole(&model)?;
    model.tensors = by_name_in_each_file(model.tensors)?;
    if let Some(settings) = files::quantization(&model, &config, limits)? {
        unpack::unpack(&mut model, &settings)?;
        // The weights are floats now, which is all the graph asks.
        if let Some(map) = config.as_object_mut() {
            map.remove("quantization_config");
        }
    }
    let map = own_table(request.llm.arch_map.as_deref())?;
    let arch = request.llm.arch.as_deref();
    // On the way from GGUF the choice is made already, by the table's own class.
    let (arch, map) = if raised { (None, None) } else { (arch, map) };
    let known = configuration(&model, &config, arch, map.as_ref()).map_err(no_graph)?;
    let family = family_of(&known)?;
    let (storage, compute) = types(request.dtype, &model)?;
    let made = decoder(Request {
        family,
        tensors: &model.tensors,
        config: &known.values,
        storage,
        compute,
    })?;
    let order = order(&model, &made.tensors);
    let records = &mut model.provenance.records;
    records.extend(made.records);
    if storage.is_none() {
        records.extend(note_types(&made.tensors, compute));
    }
    if !repository && !model.assets.is_empty() {
        let what = format!("{} side files", model.assets.len());
        let why = "config.json, the tokenizer and others stay where they are: a folder gets them";
        records.push(Record::dropped("side-files", what, why).wanted());
    }
    let casts = CastCounts::default();
    let stored = made.tensors.into_tensors().into_iter().map(|tensor| {
        let to = storage.unwrap_or(tensor.dtype());
        (tensor, to)
    });
    model.tensors = to_types(stored, &casts)?;
    counts.push(casts);
    model.graph = Some(made.graph);
    model.metadata.retain(|entry| entry.namespace != ns::NOTE);
    let name = MetaValue::text(family.name);
    model.metadata.set(ns::NOTE, "decoder", name);
    if let Some(order) = order {
        model.metadata.set(ns::NOTE, ORDER, MetaValue::text(order));
    }
    model.objects = None;
    if request.dtype == DTypeChoice::Keep {
        blockwise(&mut model)?;
    }
    Ok((model, counts))
}

/// The order of the weights that the graph has, where it is not that of their names.
fn order(model: &Model, made: &TensorTable) -> Option<String> {
    let names = model.tensors.iter().map(|tensor| tensor.name.clone());
    let names: Vec<String> = names.filter(|name| made.id_of(name).is_some()).collect();
    (!names.is_sorted()).then(|| convert::order_text(&names))
}

fn has_blocks(model: &Model) -> bool {
    let mut types = model.tensors.iter().map(ir::Tensor::dtype);
    types.any(|dtype| matches!(dtype, DType::Block(_)))
}

/// What weights are stored in, if not as they are, and what is computed with.
///
/// Runtimes have no kernels for bfloat16 on a processor, and its values reach further than F16's:
/// it stays what is stored, and F32 is computed with.
fn types(choice: DTypeChoice, model: &Model) -> Result<(Option<DType>, DType)> {
    let compute = |dtype| match dtype {
        DType::F16 => DType::F16,
        _ => DType::F32,
    };
    match choice {
        // The numbers that blocks stand for.
        DTypeChoice::Keep if has_blocks(model) => Ok((None, DType::F32)),
        DTypeChoice::Keep => {
            let mut matrices = model.tensors.iter().filter(|t| t.spec.shape.len() >= 2);
            let first = matrices.find(|tensor| tensor.dtype().is_float());
            Ok((None, first.map_or(DType::F32, |t| compute(t.dtype()))))
        }
        DTypeChoice::To(to @ (DType::F32 | DType::F16 | DType::BF16)) => {
            Ok((Some(to), compute(to)))
        }
        DTypeChoice::To(other) => {
            let what = format!("--dtype {other} is no type for a decoder graph");
            Err(Error::from(Fault::Usage { what }))
        }
    }
}

/// One record where weights are computed with in another type than they have.
fn note_types(tensors: &TensorTable, compute: DType) -> Option<Record> {
    let others = tensors
        .iter()
        .filter(|t| t.dtype() != compute && t.dtype().is_float());
    let mut types: Vec<DType> = others.clone().map(ir::Tensor::dtype).collect();
    types.dedup();
    let first = types.first()?;
    let what = format!("{} {first} tensors", others.count());
    let why = format!("stored as they are, computed with in {compute}");
    Some(Record::carried("computed-in", what, why).flag("--dtype"))
}

fn no_such(what: String) -> DecoderError {
    let known = families();
    DecoderError::NoGraph { what, known }
}

/// An architecture nobody knows has no graph either; which ones have is what helps here.
fn no_graph(error: Error) -> Error {
    match error.downcast_ref::<ArchError>() {
        Some(ArchError::Unknown { what, .. }) => no_such(what.clone()).into(),
        _ => error,
    }
}

fn family_of(known: &Configuration) -> Result<&'static Family> {
    let kind = known.values.get("model_type").and_then(Value::as_str);
    family(&known.table, kind.unwrap_or_default()).ok_or_else(|| {
        let Configuration { table, class, .. } = known;
        no_such(match class.as_str() {
            "" => format!("architecture {table:?}"),
            class => format!("class {class:?}, architecture {table:?}"),
        })
        .into()
    })
}
