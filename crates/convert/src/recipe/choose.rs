//! From tensors and a file type to a type for each tensor.

use super::category::{PER_LAYER_EMBEDDING, never_quantized};
use super::mixture::{Mixture, Subject};
use super::order::Pruning;
use super::{Category, FileType, ModelFacts, QuantizeOptions, RecipeError, compare_names};
use ir::{BlockFormat, DType};
use std::borrow::Cow;

/// What the recipe wants to know of a tensor.
pub trait TensorFacts {
    /// Its GGUF name.
    fn name(&self) -> &str;
    /// Its dimensions, outermost first.
    fn shape(&self) -> &[u64];
    /// The type it has.
    fn dtype(&self) -> DType;
    /// The shard it is in, counted from 0.
    fn shard(&self) -> usize {
        0
    }
}

impl TensorFacts for ir::Tensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> &[u64] {
        &self.spec.shape
    }

    fn dtype(&self) -> DType {
        self.spec.dtype
    }
}

/// What becomes of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which tensor of the list it is about.
    pub index: usize,
    /// The name it gets: another one only where layers are pruned.
    pub name: String,
    /// The name under which an importance matrix knows it.
    pub imatrix_name: String,
    /// The type it has.
    pub from: DType,
    /// The type it gets.
    pub to: DType,
    /// The rule that says so.
    pub why: Cow<'static, str>,
    /// The type it would have got, had its rows held whole blocks of it.
    pub fallback_from: Option<DType>,
    /// Whether it may not be written without weights of importance.
    pub needs_importance: bool,
}

impl Choice {
    /// Whether its data is carried as it is.
    pub fn kept(&self) -> bool {
        self.from == self.to
    }
}

/// What becomes of all tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The tensors of the output, in its order.
    pub choices: Vec<Choice>,
    /// How many layers are left, where some were pruned.
    pub block_count: Option<u64>,
}

impl Recipe {
    /// Tensors that got another type because of their row length.
    pub fn fallbacks(&self) -> impl Iterator<Item = &Choice> {
        self.choices
            .iter()
            .filter(|choice| choice.fallback_from.is_some())
    }
}

/// Chooses a type for every tensor, as `llama-quantize` does, in the order it writes them.
///
/// `has_imatrix` tells whether there is an importance matrix of at least one entry. Where a type
/// needs one and there is none, that is an error, except in a dry run.
pub fn choose<T: TensorFacts>(
    tensors: &[T],
    facts: &ModelFacts,
    file_type: FileType,
    options: &QuantizeOptions,
    has_imatrix: bool,
) -> Result<Recipe, RecipeError> {
    let mut order: Vec<(usize, &T)> = tensors.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| compare_names(a.name(), b.name()));
    let mut pruning = Pruning::new(&options.prune_layers);
    let mut kept: Vec<(usize, &T, String)> = Vec::with_capacity(order.len());
    for (index, tensor) in order {
        if let Some(name) = pruning.rename(tensor.name()) {
            kept.push((index, tensor, name));
        }
    }
    if options.keep_split {
        kept.sort_by_key(|(index, tensor, _)| (tensor.shard(), *index));
    }
    let categories: Vec<Category> = kept.iter().map(|(_, _, n)| Category::of(n)).collect();
    let mut mixture = Mixture {
        facts,
        file_type,
        has_imatrix,
        tied: !categories.contains(&Category::Output),
        output_type: options.output_type,
        n_value: categories.iter().filter(|c| c.is_value()).count() as u64,
        i_value: 0,
        i_down: 0,
        i_up: 0,
        i_gate: 0,
    };
    let mut choices = Vec::with_capacity(kept.len());
    for ((index, tensor, name), category) in kept.into_iter().zip(categories) {
        let named = Named {
            name: name.as_str(),
            tensor,
        };
        let (to, why, fallback_from) = match untouched(&named, facts, file_type, options) {
            Some(why) => (tensor.dtype(), why.into(), None),
            None => pick(&named, category, &mut mixture, options)?,
        };
        let choice = Choice {
            index,
            imatrix_name: tensor.name().to_owned(),
            from: tensor.dtype(),
            to,
            why,
            fallback_from,
            needs_importance: needs_importance(&name, to, file_type),
            name: name.clone(),
        };
        check(&choice, &named, has_imatrix, options)?;
        choices.push(choice);
    }
    Ok(Recipe {
        choices,
        block_count: pruning.block_count(),
    })
}

/// A tensor under the name it gets.
struct Named<'a, T> {
    name: &'a str,
    tensor: &'a T,
}

impl<T: TensorFacts> TensorFacts for Named<'_, T> {
    fn name(&self) -> &str {
        self.name
    }

    fn shape(&self) -> &[u64] {
        self.tensor.shape()
    }

    fn dtype(&self) -> DType {
        self.tensor.dtype()
    }
}

/// Why a tensor keeps its type, or `None` if it may get another.
fn untouched(
    tensor: &impl TensorFacts,
    facts: &ModelFacts,
    file_type: FileType,
    options: &QuantizeOptions,
) -> Option<&'static str> {
    if file_type == FileType::Copy {
        return Some("COPY");
    }
    if options.leave_output && tensor.name() == "output.weight" {
        return Some("--leave-output-tensor");
    }
    never_quantized(tensor, &facts.architecture).or_else(|| {
        // `llama-quantize` stops at such a tensor.
        let numbers = tensor.dtype().is_float() || matches!(tensor.dtype(), DType::Block(_));
        (!numbers).then_some("no floating-point numbers")
    })
}

type Picked = (DType, Cow<'static, str>, Option<DType>);

fn pick(
    tensor: &impl TensorFacts,
    category: Category,
    mixture: &mut Mixture<'_>,
    options: &QuantizeOptions,
) -> Result<Picked, RecipeError> {
    let rule = || {
        let mut rules = options.tensor_types.iter();
        rules.find_map(|rule| Some((rule, rule.of(tensor.name())?)))
    };
    if let (Some(to), Category::TokenEmbedding) = (options.embedding_type, category) {
        // The embeddings of layers are large and another table, so a rule may name them.
        if tensor.name() != PER_LAYER_EMBEDDING || rule().is_none() {
            return Ok((to, "--token-embedding-type".into(), None));
        }
    }
    if let (Some(to), Category::Output) = (options.output_type, category) {
        return Ok((to, "--output-tensor-type".into(), None));
    }
    let base = mixture.file_type.base();
    if !matches!(base, DType::Block(_)) {
        return Ok((base, "base type".into(), None));
    }
    let (to, why): (DType, Cow<'static, str>) = if let Some((rule, to)) = rule() {
        (to, format!("--tensor-type {}", rule.pattern()).into())
    } else if options.pure {
        (base, "--pure".into())
    } else {
        let subject = Subject {
            name: tensor.name(),
            category,
            columns: tensor.shape().last().copied().unwrap_or(1),
            experts: tensor.shape().iter().rev().nth(2).copied().unwrap_or(1),
        };
        let (to, why) = mixture.decide(&subject, base);
        (to, why.into())
    };
    match fall_back(tensor, to)? {
        None => Ok((to, why, None)),
        Some(other) => {
            let columns = tensor.shape().last().copied().unwrap_or(1);
            let why = format!("{why}; {columns} columns do not hold blocks of {to}");
            Ok((other, why.into(), Some(to)))
        }
    }
}

/// Another type for a tensor whose rows do not hold whole blocks of `to`.
fn fall_back(tensor: &impl TensorFacts, to: DType) -> Result<Option<DType>, RecipeError> {
    let columns = tensor.shape().last().copied().unwrap_or(1);
    let divides = |dtype: DType| columns.is_multiple_of(u64::from(dtype.block().0));
    let DType::Block(format) = to else {
        return Ok(None);
    };
    if divides(to) {
        return Ok(None);
    }
    let other = match format {
        BlockFormat::IQ1_S
        | BlockFormat::IQ1_M
        | BlockFormat::IQ2_XXS
        | BlockFormat::IQ2_XS
        | BlockFormat::IQ2_S
        | BlockFormat::IQ3_XXS
        | BlockFormat::IQ3_S
        | BlockFormat::IQ4_XS => BlockFormat::IQ4_NL,
        BlockFormat::Q2_0
        | BlockFormat::Q2_K
        | BlockFormat::Q3_K
        | BlockFormat::TQ1_0
        | BlockFormat::TQ2_0 => BlockFormat::Q4_0,
        BlockFormat::Q4_K => BlockFormat::Q5_0,
        BlockFormat::Q5_K => BlockFormat::Q5_1,
        BlockFormat::Q6_K => BlockFormat::Q8_0,
        small if small.elements() <= 32 => small,
        _ => {
            return Err(RecipeError::NoFallback {
                tensor: tensor.name().to_owned(),
                columns,
                dtype: to,
                block: format.elements(),
            });
        }
    };
    let other = DType::Block(other);
    Ok(Some(if divides(other) { other } else { DType::F16 }))
}

/// Whether a tensor of this type is garbage without weights of importance.
fn needs_importance(name: &str, to: DType, file_type: FileType) -> bool {
    if matches!(
        Category::of(name),
        Category::Output | Category::TokenEmbedding
    ) {
        return false;
    }
    match to {
        DType::Block(
            BlockFormat::IQ3_XXS
            | BlockFormat::IQ2_XXS
            | BlockFormat::IQ2_XS
            | BlockFormat::IQ2_S
            | BlockFormat::IQ1_M
            | BlockFormat::IQ1_S,
        ) => true,
        DType::Block(BlockFormat::Q2_K) => file_type == FileType::Q2_K_S,
        _ => false,
    }
}

/// What must not be written, told before anything is.
fn check(
    choice: &Choice,
    tensor: &impl TensorFacts,
    has_imatrix: bool,
    options: &QuantizeOptions,
) -> Result<(), RecipeError> {
    if choice.kept() {
        // `llama-quantize` wants a matrix even for a tensor that has its type already.
        return Ok(());
    }
    if choice.needs_importance && !has_imatrix && !options.dry_run {
        return Err(RecipeError::NeedsImportance {
            tensor: choice.name.clone(),
            dtype: choice.to,
            given: false,
        });
    }
    if matches!(choice.from, DType::Block(_)) && !options.allow_requantize && !options.dry_run {
        return Err(RecipeError::Requantize {
            tensor: choice.name.clone(),
            from: choice.from,
            to: choice.to,
        });
    }
    let columns = tensor.shape().last().copied().unwrap_or(1);
    let (block, _) = choice.to.block();
    if !columns.is_multiple_of(u64::from(block)) {
        return Err(RecipeError::NoFallback {
            tensor: choice.name.clone(),
            columns,
            dtype: choice.to,
            block,
        });
    }
    Ok(())
}
