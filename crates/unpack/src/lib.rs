//! Checkpoints whose weights were quantized for another runtime, as the floats they stand for.
//!
//! Such a repository says in `quantization_config` (of `config.json`) by which method its weights
//! were packed, and spreads each over several tensors. [`unpack`] replaces them by one tensor with
//! the name the layer would have without quantization, computed when it is pulled:
//!
//! | `quant_method` | tensors of a layer | what a weight is | in |
//! |---|---|---|---|
//! | `fp8`, `fbgemm_fp8`, `modelopt` | `weight`, `weight_scale_inv` or `weight_scale` | `weight * scale`, a scale for all, a row or a block | `scaled` |
//! | `compressed-tensors`, `*-quantized` | `weight`, `weight_scale`, `weight_zero_point` | `(weight - zero) * scale` | `scaled` |
//! | `compressed-tensors`, `pack-quantized` | `weight_packed`, `weight_shape`, `weight_scale`, `weight_zero_point`, `weight_g_idx` | `(code - zero) * scale` | `packed` |
//! | `compressed-tensors`, `nvfp4-pack-quantized` | `weight_packed`, `weight_scale`, `weight_global_scale` | `fp4 * scale / global` | `nvfp4` |
//! | `gptq` | `qweight`, `qzeros`, `scales`, `g_idx` | `(code - zero) * scale` | `gptq` |
//! | `awq` | `qweight`, `qzeros`, `scales` | `(code - zero) * scale` | `awq` |
//! | `bitsandbytes`, 4 bit | `weight`, `weight.absmax`, `weight.quant_map`, `weight.quant_state.*` | `map[code] * absmax` | `bnb` |
//! | `bitsandbytes`, 8 bit | `weight`, `SCB` | `weight * SCB / 127` | `scaled` |
//! | `bitnet` | `weight`, `weight_scale` | `(code - 1) / scale` | `bitnet` |
//!
//! Every value is computed in F32, where each of these products is exact or rounded once, like
//! the reference converter (`dequant_model` of llama.cpp's `conversion/base.py`) and the methods'
//! own libraries do. A result is F32, except for bitsandbytes in 4 bits, which states its type.
//!
//! Operator graphs have a way of their own: [`unpack_graph`] finds constants that are quantized
//! weights by the operators that take them.
//!
//! `mxfp4` is left alone: its tensors fit ggml's blocks without a number computed, which is the
//! work of `arch`.
#![forbid(unsafe_code)]

mod awq;
mod bitnet;
mod bits;
mod bnb;
mod error;
mod gptq;
mod graph;
mod layers;
mod nvfp4;
mod packed;
mod read;
mod rows;
mod scaled;
mod settings;
#[cfg(test)]
mod testing;

pub use error::UnpackError;
pub use graph::{
    QuantizedWeight, quantized_weights, rejoin_blocks, restore_container, unpack_graph,
};
pub use layers::unpack;
