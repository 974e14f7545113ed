//! `quantize`: another type for every tensor the recipe names, in `llama-quantize`'s order.

use crate::recipe::{
    CheckedCompute, Choice, DequantizeCompute, FileType, Imatrix, Importance, ModelFacts,
    QuantizeCompute, QuantizeOptions, RecipeError, ShareCompute, SharedError, TensorError,
    TensorFacts, choose, rewrite_metadata,
};
use ir::{DType, Model, Record, Result, Shape, Tensor, TensorSpec, TensorTable};
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// A model whose tensors become what the recipe says when they are pulled.
#[derive(Debug)]
pub struct Quantized {
    /// What the writer gets: tensors in output order, metadata rewritten.
    pub model: Model,
    /// What was done, the reader's own records first.
    pub records: Vec<Record>,
    /// A line for each tensor, in output order.
    pub lines: Vec<Line>,
    /// How many tensors each shard of the input holds, for an output split alike; empty unless
    /// `--keep-split` was given.
    pub shards: Vec<usize>,
}

/// What becomes of one tensor: a line of `--dry-run` and `--stats`.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its types, and why.
    pub choice: Choice,
    /// Its shape, outermost dimension first.
    pub shape: Shape,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// Filled while it is pulled, if that was asked for.
    error: Option<SharedError>,
}

impl Line {
    /// The error it got, once it was pulled; `None` where it was not measured.
    pub fn error(&self) -> Option<TensorError> {
        let error = self.error.as_ref()?;
        Some(*error.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Quantized {
    /// Bytes of all tensors before and after.
    pub fn bytes(&self) -> (u64, u64) {
        self.lines.iter().fold((0, 0), |(before, after), line| {
            (
                before.saturating_add(line.bytes_before),
                after.saturating_add(line.bytes_after),
            )
        })
    }
}

/// A tensor with the shard it is in.
struct Placed<'a> {
    tensor: &'a Tensor,
    shard: usize,
}

impl TensorFacts for Placed<'_> {
    fn name(&self) -> &str {
        &self.tensor.name
    }

    fn shape(&self) -> &[u64] {
        &self.tensor.spec.shape
    }

    fn dtype(&self) -> DType {
        self.tensor.spec.dtype
    }

    fn shard(&self) -> usize {
        self.shard
    }
}

/// The tensors with their shards: the reader's files, in its order.
fn placed(model: &Model) -> Vec<Placed<'_>> {
    let files: Vec<&Path> = model
        .provenance
        .files
        .iter()
        .map(|f| f.0.as_path())
        .collect();
    let shard = |tensor: &Tensor| {
        let path = tensor.view().and_then(|view| view.region.path());
        let found = files.iter().position(|file| Some(*file) == path);
        found.unwrap_or(0)
    };
    let tensors = model.tensors.iter();
    tensors
        .map(|tensor| Placed {
            tensor,
            shard: shard(tensor),
        })
        .collect()
}

/// Plans the quantization of a model to `file_type`.
///
/// Nothing is computed here: the tensors of the answer are computed when they are pulled. What
/// can be told from specs is told now: a type that needs an importance matrix, blocks that would
/// be quantized again, rows that hold no blocks.
pub fn quantize(
    model: Model,
    file_type: FileType,
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
) -> Result<Quantized> {
    to_type(model, file_type, options, imatrix, &[])
}

/// Plans the quantization of one model to several types, whose tensors share their sources: when
/// those of one name are pulled side by side, the source is read, and its blocks are dequantized,
/// once. Each answer pulls the bytes that [`quantize`] to its type alone would.
pub fn quantize_each(
    model: &Model,
    file_types: &[FileType],
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
) -> Result<Vec<Quantized>> {
    let sources: Vec<Source> = if file_types.len() > 1 {
        let tensors = model.tensors.iter();
        tensors
            .map(|tensor| Source::of(tensor, !options.allow_nan))
            .collect()
    } else {
        Vec::new()
    };
    let types = file_types.iter();
    types
        .map(|&file_type| to_type(model.clone(), file_type, options, imatrix, &sources))
        .collect()
}

/// A tensor that several outputs are made of.
struct Source {
    /// Its bytes.
    raw: Tensor,
    /// Its numbers: the same, but for blocks.
    numbers: Tensor,
}

impl Source {
    fn of(tensor: &Tensor, finite: bool) -> Self {
        let tensor = folded(tensor);
        let raw = ShareCompute::tensor(tensor.clone());
        let numbers = match tensor.dtype() {
            DType::Block(format) if quant::can_dequantize(format) => {
                let name = tensor.name.clone();
                let numbers = DequantizeCompute::new(tensor, DType::F32, finite);
                ShareCompute::tensor(Tensor::computed(name, Arc::new(numbers)))
            }
            _ => raw.clone(),
        };
        Self { raw, numbers }
    }
}

/// The same for one of several types; without `sources` each tensor is read by itself.
fn to_type(
    mut model: Model,
    file_type: FileType,
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
    sources: &[Source],
) -> Result<Quantized> {
    let mut records = std::mem::take(&mut model.provenance.records);
    let imatrix = imatrix.filter(|matrix| !matrix.is_empty());
    let placed = placed(&model);
    let facts = ModelFacts::of(&model.metadata, &options.overrides, &placed);
    let recipe = choose(&placed, &facts, file_type, options, imatrix.is_some())?;
    let mut shards = Vec::new();
    if options.keep_split {
        let last = placed.iter().map(|tensor| tensor.shard).max();
        shards = vec![0; last.map_or(0, |last| last + 1)];
        for choice in &recipe.choices {
            let shard = placed.get(choice.index).map_or(0, |tensor| tensor.shard);
            if let Some(count) = shards.get_mut(shard) {
                *count += 1;
            }
        }
        // Shards whose layers are all pruned are not there any more, if they are the last.
        while shards.last() == Some(&0) {
            shards.pop();
        }
    }
    let mut table = TensorTable::new();
    let mut lines = Vec::with_capacity(recipe.choices.len());
    for choice in recipe.choices {
        let Some(Placed { tensor, .. }) = placed.get(choice.index) else {
            continue;
        };
        let error = (options.stats && !choice.kept()).then(SharedError::default);
        let source = sources.get(choice.index);
        let importance = if choice.kept() {
            None
        } else {
            importance(tensor, &choice, imatrix, &mut records)?
        };
        if options.dry_run && importance.is_none() && !choice.kept() {
            remark(&choice, options, &mut records);
        }
        let given = Given {
            source,
            importance,
            matrix: imatrix.is_some(),
        };
        let made = apply(tensor, &choice, given, options, error.clone())?;
        lines.push(Line {
            bytes_before: tensor.byte_len(),
            bytes_after: made.byte_len(),
            shape: tensor.spec.shape.clone(),
            choice,
            error,
        });
        table.push(made)?;
    }
    record(&model, &lines, options, &mut records);
    rewrite_metadata(&mut model, file_type, options, imatrix, recipe.block_count);
    model.tensors = table;
    // Their ids named tensors of the old table.
    if model.graph.take().is_some() {
        records.push(Record::dropped(
            "graph",
            "the graph",
            "GGUF holds tensors only",
        ));
    }
    model.objects = None;
    Ok(Quantized {
        model,
        records,
        lines,
        shards,
    })
}

/// What is at hand to make a tensor.
struct Given<'a> {
    /// What it shares with other outputs.
    source: Option<&'a Source>,
    importance: Option<Importance>,
    /// Whether there is an importance matrix at all.
    matrix: bool,
}

/// The tensor a choice makes of another.
/// What a plan cannot be carried out without.
fn remark(choice: &Choice, options: &QuantizeOptions, records: &mut Vec<Record>) {
    let format_needs = match choice.to {
        DType::Block(format) => quant::requires_importance(format),
        _ => false,
    };
    if choice.needs_importance || format_needs {
        let why = format!("{} needs an importance matrix", choice.to);
        records.push(Record::changed("imatrix-needed", &choice.name, why).flag("--imatrix"));
    }
    if matches!(choice.from, DType::Block(_)) && !options.allow_requantize {
        let why = format!("it is quantized already, as {}", choice.from);
        let record = Record::changed("requantized", &choice.name, why);
        records.push(record.flag("--allow-requantize"));
    }
}

fn apply(
    tensor: &Tensor,
    choice: &Choice,
    given: Given<'_>,
    options: &QuantizeOptions,
    error: Option<SharedError>,
) -> Result<Tensor> {
    let finite = !options.allow_nan;
    let renamed = |mut tensor: Tensor| {
        tensor.name.clone_from(&choice.name);
        tensor
    };
    let name = choice.name.clone();
    if choice.kept() {
        let plain = folded(tensor);
        if !finite || plain.byte_len() == 0 {
            return Ok(renamed(plain));
        }
        let input = renamed(given.source.map_or(plain, |source| source.raw.clone()));
        return Ok(Tensor::computed(name, Arc::new(CheckedCompute::new(input))));
    }
    let importance = given.importance;
    let missing = |given| RecipeError::NeedsImportance {
        tensor: choice.name.clone(),
        dtype: choice.to,
        given,
    };
    if importance.is_none() && !options.dry_run {
        if choice.needs_importance {
            return Err(missing(given.matrix).into());
        }
        if let DType::Block(format) = choice.to
            && quant::requires_importance(format)
        {
            return Err(missing(given.matrix).into());
        }
    }
    let unwritable = |dtype: DType, can: fn(ir::BlockFormat) -> bool| match dtype {
        DType::Block(format) => !can(format),
        _ => false,
    };
    if unwritable(choice.to, quant::can_quantize) && !options.dry_run
        || unwritable(choice.from, quant::can_dequantize)
    {
        return Err(RecipeError::NoKernel {
            tensor: choice.name.clone(),
            from: choice.from,
            to: choice.to,
        }
        .into());
    }
    let input = given.source.map(|source| source.numbers.clone());
    let input = renamed(input.unwrap_or_else(|| folded(tensor)));
    let compute = QuantizeCompute::new(input, choice.to, importance, finite, error);
    Ok(Tensor::computed(name, Arc::new(compute)))
}

/// The tensor without outer dimensions of 1, which ggml does not write (`ggml_n_dims`).
fn folded(tensor: &Tensor) -> Tensor {
    let shape = &tensor.spec.shape;
    let ones = shape.iter().take_while(|&&dim| dim == 1).count();
    let rest = shape.get(ones.min(shape.len().saturating_sub(1))..);
    let shape = match rest.unwrap_or_default() {
        [] => Shape::from([1]),
        rest => Shape::new(rest),
    };
    if shape == tensor.spec.shape {
        return tensor.clone();
    }
    let dtype = tensor.dtype();
    super::retype(tensor, TensorSpec { dtype, shape })
}

/// The weights an importance matrix has for a tensor.
fn importance(
    tensor: &Tensor,
    choice: &Choice,
    imatrix: Option<&Imatrix>,
    records: &mut Vec<Record>,
) -> Result<Option<Importance>> {
    let Some(matrix) = imatrix else {
        return Ok(None);
    };
    let Some(weights) = matrix.get(&choice.imatrix_name) else {
        let why = "the importance matrix has no weights for it";
        records.push(Record::carried("no-importance", &choice.name, why).flag("--imatrix"));
        return Ok(None);
    };
    let shape = &tensor.spec.shape;
    let experts = shape.iter().rev().nth(2).copied().unwrap_or(1);
    let expected = shape.row_len().saturating_mul(experts);
    if weights.len() as u64 != expected {
        // Embeddings are looked up, not multiplied, so no matrix has their columns.
        if let "token_embd.weight" | "per_layer_token_embd.weight" = choice.name.as_str() {
            return Ok(None);
        }
        return Err(RecipeError::ImportanceSize {
            tensor: choice.name.clone(),
            found: weights.len(),
            expected,
        }
        .into());
    }
    Ok(Some(Importance {
        weights: Arc::clone(weights),
    }))
}

/// What was done, for people: types by number of tensors, fallbacks one by one.
fn record(model: &Model, lines: &[Line], options: &QuantizeOptions, records: &mut Vec<Record>) {
    let mut counts: Vec<(DType, DType, u64)> = Vec::new();
    for Choice { from, to, .. } in lines.iter().map(|line| &line.choice) {
        match counts.iter_mut().find(|row| (row.0, row.1) == (*from, *to)) {
            Some(row) => row.2 += 1,
            None => counts.push((*from, *to, 1)),
        }
    }
    for (from, to, n) in counts.into_iter().filter(|row| row.0 != row.1) {
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let what = format!("{n} {from} {tensors}");
        records.push(Record::changed("quantized", what, format!("to {to}")).wanted());
    }
    for choice in lines.iter().map(|line| &line.choice) {
        if choice.fallback_from.is_some() {
            let why = format!("{}: {} instead", choice.why, choice.to);
            let record = Record::changed("fallback", &choice.name, why);
            records.push(record.flag("--tensor-type").wanted());
        }
    }
    let pruned = model.tensors.len().saturating_sub(lines.len());
    if pruned > 0 {
        let layers: Vec<_> = options.prune_layers.iter().map(u32::to_string).collect();
        let why = format!("{pruned} tensors of layers {}", layers.join(", "));
        let record = Record::dropped("pruned", "layers", why);
        records.push(record.flag("--prune-layers").wanted());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::ModelBuilder;

    fn floats(n: usize) -> Vec<u8> {
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.01;
        (0..n).flat_map(|i| value(i).to_le_bytes()).collect()
    }

    fn model() -> Model {
        ModelBuilder::new()
            .tensor("blk.0.ffn_up.weight", DType::F32, [2, 256], floats(512))
            .tensor("blk.0.ffn_norm.weight", DType::F32, [256], floats(256))
            .tensor("token_embd.weight", DType::F32, [3, 96], floats(288))
            .metadata(ir::ns::GGUF, "general.file_type", ir::MetaValue::U32(0))
            .build()
            .unwrap()
    }

    #[test]
    fn tensors_come_in_order_with_their_types() {
        let options = QuantizeOptions {
            stats: true,
            ..QuantizeOptions::default()
        };
        let done = quantize(model(), FileType::Q4_K_M, &options, None).unwrap();
        let tensors = done.model.tensors.iter();
        let types: Vec<_> = tensors.map(|t| (&t.name[..], t.dtype().name())).collect();
        assert_eq!(
            types,
            [
                ("token_embd.weight", "Q8_0"),
                ("blk.0.ffn_norm.weight", "F32"),
                ("blk.0.ffn_up.weight", "Q4_K"),
            ]
        );
        for tensor in &done.model.tensors {
            assert_eq!(tensor.read_all().unwrap().len() as u64, tensor.byte_len());
        }
        let error = done.lines[2].error().unwrap();
        assert_eq!(error.elements, 512);
        assert!(error.rmse() > 0.0 && error.rmse() < 0.02, "{error:?}");
        assert!(f64::from(error.max) >= error.rmse() && error.relative() < 0.1);
        assert!(done.lines[1].error().is_none());
        assert_eq!(done.bytes(), (4 * (512 + 256 + 288), 288 + 1024 + 306));
        let id = done.model.metadata.get(ir::ns::GGUF, "general.file_type");
        assert_eq!(id, Some(&ir::MetaValue::U32(15)));
    }

    #[test]
    fn what_cannot_be_is_told_before_anything_is_written() {
        let quantize = |file_type, options: &QuantizeOptions| {
            quantize(model(), file_type, options, None).map(drop)
        };
        let plain = QuantizeOptions::default();
        let error = quantize(FileType::IQ2_XXS, &plain).unwrap_err();
        assert!(error.to_string().contains("blk.0.ffn_up.weight"), "{error}");
        let dry = QuantizeOptions {
            dry_run: true,
            ..plain.clone()
        };
        quantize(FileType::IQ2_XXS, &dry).unwrap();
        let pure = QuantizeOptions {
            pure: true,
            ..plain.clone()
        };
        let error = quantize(FileType::Q1_0, &pure).unwrap_err();
        assert!(error.downcast_ref::<RecipeError>().is_some(), "{error}");
        let once = super::quantize(model(), FileType::Q8_0, &plain, None).unwrap();
        let error = super::quantize(once.model, FileType::Q4_0, &plain, None).unwrap_err();
        assert!(error.to_string().contains("--allow-requantize"), "{error}");
    }

    #[test]
    fn values_that_are_not_finite_are_named() {
        for (name, at) in [("blk.0.ffn_up.weight", 300), ("blk.0.ffn_norm.weight", 7)] {
            let mut model = model();
            let mut table = TensorTable::new();
            for tensor in model.tensors.into_tensors() {
                let mut bytes = tensor.read_all().unwrap();
                if tensor.name == name {
                    bytes[at * 4..at * 4 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
                }
                let view = ir::View::contiguous(ir::Region::memory(bytes));
                table
                    .push(Tensor::stored(tensor.name, tensor.spec, view))
                    .unwrap();
            }
            model.tensors = table;
            let mut options = QuantizeOptions::default();
            let read = |options: &QuantizeOptions| {
                let done = quantize(model.clone(), FileType::Q4_K_M, options, None).unwrap();
                done.model
                    .tensors
                    .by_name(name)
                    .unwrap()
                    .read_all()
                    .map(drop)
            };
            let error = read(&options).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains(&format!("element {at}")),
                "{error}"
            );
            options.allow_nan = true;
            read(&options).unwrap();
        }
    }

    #[test]
    fn outer_dimensions_of_one_go() {
        for (before, after) in [
            (vec![1, 1, 4, 2], vec![4, 2]),
            (vec![1, 8], vec![8]),
            (vec![8, 1], vec![8, 1]),
            (vec![1, 1], vec![1]),
            (vec![], vec![1]),
        ] {
            let n: u64 = before.iter().product();
            let model = ModelBuilder::new()
                .tensor("a", DType::F32, before, floats(usize::try_from(n).unwrap()))
                .build()
                .unwrap();
            let done = quantize(model, FileType::Q8_0, &QuantizeOptions::default(), None).unwrap();
            let tensor = done.model.tensors.by_name("a").unwrap();
            assert_eq!(tensor.spec.shape, Shape::new(after));
            assert_eq!(tensor.read_all().unwrap().len() as u64, n * 4);
        }
    }

    #[test]
    fn weights_must_fit_their_tensor() {
        let mut file = 1i32.to_le_bytes().to_vec();
        file.extend(19i32.to_le_bytes());
        file.extend(b"blk.0.ffn_up.weight");
        file.extend(1i32.to_le_bytes());
        file.extend(255i32.to_le_bytes());
        file.extend(floats(255));
        let matrix = Imatrix::from_legacy(Path::new("m"), &file).unwrap();
        let error = quantize(
            model(),
            FileType::Q4_0,
            &QuantizeOptions::default(),
            Some(&matrix),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("255 weights") && error.contains("expected 256"),
            "{error}"
        );
    }
}
