//! From the model a reader gave to the model a writer gets.

use crate::ConvertError;
use crate::passes::{self, CastCounts, DTypeChoice, NameFilter, Rename};
use crate::recipe;
use ir::{Capabilities, DType, Limits, MetadataKinds, Model, Record, Result, Tensor, ns};

/// What becomes of tensors that share their bytes, where the target cannot share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shared {
    /// One is kept, the other names are noted.
    #[default]
    KeepOne,
    /// Each is written out.
    Copy,
}

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Which tensors.
    pub names: NameFilter,
    /// Under which names.
    pub rename: Vec<Rename>,
    /// In which type.
    pub dtype: DTypeChoice,
    /// What of shared ones.
    pub shared: Shared,
    /// Blocks go as bytes with a note to targets that have no blocks, instead of as numbers.
    pub keep_blocks: bool,
    /// The order of tensors is noted where the target has its own.
    pub keep_order: bool,
    /// Metadata is noted with its types where the target has text alone.
    pub keep_metadata: bool,
}

/// A model that fits its target.
#[derive(Debug)]
pub struct Planned {
    /// What the writer gets.
    pub model: Model,
    /// What was done to it, the reader's own records first.
    pub records: Vec<Record>,
    /// Filled while the data is pulled.
    pub casts: CastCounts,
}

/// Undoes what notes in the metadata tell: stand-in types, second names, order. Every reader's model
/// goes through this first.
pub fn restore(model: &mut Model) -> Result<()> {
    passes::restore_metadata(model);
    passes::restore_types(model)?;
    passes::restore_ties(model)?;
    passes::restore_order(model)
}

/// Takes the tensors that are wanted, under the names that are wanted: the first step of
/// [`plan`], for those who have work to do between the two.
pub fn select(model: &mut Model, names: &NameFilter, rename: &[Rename]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    passes::filter(model, names, &mut records)?;
    passes::rename(model, rename, &mut records)?;
    Ok(records)
}

/// Plans the way of `model` into the format `target` with these capabilities.
pub fn plan(
    mut model: Model,
    target: &'static str,
    capabilities: &Capabilities,
    options: &PlanOptions,
    limits: &Limits,
) -> Result<Planned> {
    let mut records = std::mem::take(&mut model.provenance.records);
    let casts = CastCounts::default();
    if capabilities.graph && model.graph.is_some() {
        return with_graph(model, records, options, limits);
    }
    passes::filter(&mut model, &options.names, &mut records)?;
    passes::rename(&mut model, &options.rename, &mut records)?;
    // Where there are graphs, some blocks have a form that gives their very values.
    let blockwise = capabilities.graph
        && options.dtype == DTypeChoice::Keep
        && model.tensors.id_of("").is_none();
    if blockwise {
        // No blocks, no numbers of them: runtimes differ in what they make of that.
        recipe::dequantize(&mut model, DTypeChoice::To(DType::F32), &mut records, |t| {
            t.spec.elements() == Some(0)
        })?;
    }
    let stays = |dtype| (capabilities.dtype)(dtype) || blockwise && passes::blockwise_type(dtype);
    let numbers = match options.dtype {
        // A target without blocks gets the exact numbers, unless the bytes are asked for.
        DTypeChoice::Keep if !options.keep_blocks && !holds_blocks(&model, stays) => {
            DTypeChoice::To(DType::F32)
        }
        choice => choice,
    };
    recipe::dequantize(&mut model, numbers, &mut records, |tensor| {
        !(blockwise && passes::blockwise_type(tensor.dtype()))
    })?;
    passes::cast(&mut model, options.dtype, &casts, &mut records)?;
    if capabilities.metadata == MetadataKinds::Strings {
        if options.keep_metadata {
            passes::note_metadata(&mut model);
        } else {
            records.extend(passes::as_text(&model));
        }
    }
    let order = passes::order_of(&model);
    passes::resolve_ties(
        &mut model,
        capabilities.aliasing,
        options.shared,
        &mut records,
    )?;
    let kept = capabilities.ordered && order.len() == model.tensors.len();
    if options.keep_order && !kept && order.len() > 1 {
        passes::note_order(&mut model, &order);
    }
    recipe::keep_blocks(&mut model, target, capabilities, stays, &mut records)?;
    passes::fit(&mut model, target, capabilities, stays, &mut records)?;
    note_views(&model, &mut records);
    fit_rest(&mut model, target, capabilities, &mut records);
    if blockwise {
        passes::blockwise(&mut model)?;
        records.append(&mut model.provenance.records);
    }
    model.validate(limits)?;
    Ok(Planned {
        model,
        records,
        casts,
    })
}

/// Plans a model whose graph goes along: the tensors are the graph's, under its names and in its
/// types, so nothing may be done to them.
fn with_graph(
    model: Model,
    records: Vec<Record>,
    options: &PlanOptions,
    limits: &Limits,
) -> Result<Planned> {
    let asked = [
        (!options.names.is_empty(), "--include and --drop"),
        (!options.rename.is_empty(), "--rename"),
        (options.dtype != DTypeChoice::Keep, "--dtype"),
    ];
    if let Some((_, flag)) = asked.iter().find(|(asked, _)| *asked) {
        return Err(ConvertError::GraphHeld { flag }.into());
    }
    model.validate(limits)?;
    Ok(Planned {
        model,
        records,
        casts: CastCounts::default(),
    })
}

/// Whether the target has every type of blocks that the model has.
fn holds_blocks(model: &Model, holds: impl Fn(DType) -> bool) -> bool {
    let blocks = model
        .tensors
        .iter()
        .map(Tensor::dtype)
        .filter(|d| matches!(d, DType::Block(_)));
    blocks.into_iter().all(holds)
}

/// One record for all views that a writer will write out contiguous.
fn note_views(model: &Model, records: &mut Vec<Record>) {
    let strided = model.tensors.iter().filter(|tensor| {
        let strides = tensor.view().and_then(|view| view.strides.as_ref());
        strides.is_some_and(|strides| !strides.is_row_major(&tensor.spec.shape))
    });
    let names: Vec<&str> = strided.map(|tensor| tensor.name.as_str()).collect();
    if let Some(first) = names.first() {
        let what = match names.len() {
            1 => (*first).to_owned(),
            n => format!("{first} and {} more", n - 1),
        };
        let why = "transposed or sliced views, written contiguous with the same values";
        records.push(Record::carried("made-contiguous", what, why));
    }
}

/// Graph, objects and metadata that the target has no place for.
fn fit_rest(
    model: &mut Model,
    target: &'static str,
    capabilities: &Capabilities,
    records: &mut Vec<Record>,
) {
    if !capabilities.graph
        && let Some(graph) = model.graph.take()
    {
        let what = format!("the graph of {} nodes", graph.body.nodes.len());
        records.push(Record::dropped(
            "graph",
            what,
            format!("{target} holds tensors only"),
        ));
    }
    if !capabilities.objects {
        // What the tree held beside the tensors is in the reader's records already.
        model.objects = None;
    }
    if capabilities.metadata == MetadataKinds::None {
        // Scalars of a checkpoint stay in its object tree; `format` only tells loaders the library.
        let tree = model.objects.is_some();
        let lost = model.metadata.iter().filter(|entry| {
            let implied = entry.namespace == ns::SAFETENSORS && entry.key == "format";
            !(implied || tree && entry.namespace == ns::CKPT)
        });
        let keys: Vec<&str> = lost.map(|entry| entry.key.as_str()).collect();
        if !keys.is_empty() {
            let shown = keys.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let more = if keys.len() > 8 { ", …" } else { "" };
            let what = format!("{} metadata keys: {shown}{more}", keys.len());
            records.push(Record::dropped(
                "metadata",
                what,
                format!("{target} has no place for it"),
            ));
        }
        model.metadata.retain(|_| false);
    }
}
