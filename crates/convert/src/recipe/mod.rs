//! The recipe of `quantize`: which tensor gets which type, and what the metadata says of it.
//!
//! A file type such as `Q4_K_M` is a mixture. [`choose`] tells for every tensor the type it gets
//! and the rule that says so, exactly as `llama-quantize` of llama.cpp v0.5.0 does, tensor order
//! and row-length fallbacks included; `tests/interop/recipe` compares the two. It looks at names,
//! shapes and a few hyperparameters ([`ModelFacts`]), never at data.
//!
//! ```
//! use ir::DType;
//! use weightbridge_convert::recipe::{ModelFacts, QuantizeOptions, TensorFacts, choose};
//!
//! struct T(&'static str, [u64; 2]);
//! impl TensorFacts for T {
//!     fn name(&self) -> &str { self.0 }
//!     fn shape(&self) -> &[u64] { &self.1 }
//!     fn dtype(&self) -> DType { DType::F16 }
//! }
//! let tensors = [T("blk.0.ffn_up.weight", [512, 256]), T("token_embd.weight", [1000, 256])];
//! let facts = ModelFacts::of(&ir::Metadata::new(), &[], &tensors);
//! let recipe = choose(&tensors, &facts, "q4_k".parse()?, &QuantizeOptions::default(), false)?;
//! // No output matrix, so the embeddings serve as one; and they come first.
//! assert_eq!(recipe.choices[0].to.name(), "Q6_K");
//! assert_eq!(recipe.choices[1].to.name(), "Q4_K");
//! # Ok::<(), weightbridge_convert::recipe::RecipeError>(())
//! ```
//!
//! Where `llama-quantize` stops for no reason a user could want, this goes on: an architecture it
//! does not know, missing hyperparameters ([`ModelFacts::of`]), a tensor of integers (kept), a
//! name without a layer in a model of experts (counted instead).

mod carry;
mod category;
mod choose;
mod decode;
mod encode;
mod error;
mod facts;
mod file_type;
mod finite;
mod imatrix;
mod metadata;
mod mixture;
mod options;
mod order;
pub(crate) mod scratch;
mod share;
mod stats;

pub(crate) use carry::{dequantize, keep_blocks};
pub use category::Category;
pub use choose::{Choice, Recipe, TensorFacts, choose};
pub(crate) use decode::{CheckedCompute, DequantizeCompute};
pub(crate) use encode::{Importance, QuantizeCompute};
pub use error::RecipeError;
pub use facts::ModelFacts;
pub use file_type::{FileType, file_type_of, parse_type};
pub use imatrix::Imatrix;
pub use metadata::rewrite_metadata;
pub use options::{Override, QuantizeOptions, TypeRule, parse_type_file};
pub use order::{compare_names, parse_layers};
pub(crate) use scratch::STEP;
pub(crate) use share::ShareCompute;
pub(crate) use stats::SharedError;
pub use stats::TensorError;
