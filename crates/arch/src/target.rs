//! Which element type each tensor gets: the rules all architectures share.

use crate::table::Table;
use ir::{BlockFormat, DType, Model, Tensor};

/// What `--outtype` of the reference converter says: the type of the large tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutType {
    /// All F32.
    F32,
    /// F16.
    F16,
    /// BF16.
    BF16,
    /// Q8_0, and F16 where a row does not hold whole blocks.
    Q8_0,
    /// The type of the first large tensor that is F16 or BF16, else F16.
    #[default]
    Auto,
}

impl OutType {
    /// `Auto` decided for `model`.
    #[must_use]
    pub(crate) fn decided(self, model: &Model) -> Self {
        if self != Self::Auto {
            return self;
        }
        let large = model
            .tensors
            .iter()
            .filter(|tensor| tensor.spec.shape.len() >= 2);
        let mut halves = large.filter_map(|tensor| match tensor.spec.dtype {
            DType::BF16 => Some(Self::BF16),
            DType::F16 => Some(Self::F16),
            _ => None,
        });
        halves.next().unwrap_or(Self::F16)
    }

    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 | Self::Auto => DType::F16,
            Self::BF16 => DType::BF16,
            Self::Q8_0 => DType::Block(BlockFormat::Q8_0),
        }
    }

    /// The number in `general.file_type`: `llama_ftype`.
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 | Self::Auto => 1,
            Self::Q8_0 => 7,
            Self::BF16 => 32,
        }
    }
}

/// Names, between `blk.N.` and `.weight`, that are F32 whatever the type of the rest.
const ALWAYS_F32: &[&str] = &[
    "ffn_gate_inp",
    "ffn_gate_inp_shexp",
    "ssm_conv1d",
    "ssm_conv1d_q",
    "ssm_conv1d_k",
    "ssm_conv1d_v",
    "shortconv.conv",
    "time_mix_first",
    "time_mix_w1",
    "time_mix_w2",
    "time_mix_decay_w1",
    "time_mix_decay_w2",
    "time_mix_lerp_fused",
    "altup_correct_coef",
    "altup_predict_coef",
    "indexer.proj",
];

/// The type of a tensor of this GGUF name in the output.
pub(crate) fn target(table: &Table, tensor: &Tensor, out: OutType) -> DType {
    let name = tensor.name.as_str();
    if matches!(tensor.spec.dtype, DType::Block(_)) {
        return tensor.spec.dtype;
    }
    let stem = name.strip_suffix(".weight");
    let in_block = stem.and_then(|stem| stem.strip_prefix("blk."));
    let in_block = in_block
        .and_then(|rest| rest.split_once('.'))
        .map(|(_, rest)| rest);
    let single = tensor.spec.shape.len() <= 1
        || name.ends_with("_norm.weight")
        || stem.is_none()
        || in_block.is_some_and(|rest| ALWAYS_F32.contains(&rest))
        || matches!(stem, Some("position_embd" | "token_types"))
        || table.f32.iter().any(|regex| regex.is_match(name));
    if single {
        return DType::F32;
    }
    let wanted = out.dtype();
    let (per, _) = wanted.block();
    if tensor.spec.shape.row_len().is_multiple_of(u64::from(per)) {
        wanted
    } else {
        DType::F16
    }
}
