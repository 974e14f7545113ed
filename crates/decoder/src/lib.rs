//! The decoder graph of a language model, built over the weights of its repository.
//!
//! A repository has weights and a configuration; what is computed with them stands in no file of
//! it. For the families in `family` (data: names, norms, how queries are made, which layers have a
//! window) this crate writes it down as an [`ir::Graph`] of standard ONNX operators, so that any
//! writer of graphs can take it.
//!
//! ```text
//! input_ids, position_ids, attention_mask, past_key_values.N.key/value
//!   embed ─► ( norm ─► q k v ─► rope ─► attention ─► o  +  norm ─► mlp  + ) × layers ─► norm ─► head
//! logits, present.N.key/value
//! ```
//!
//! * **Weights stay as they are.** A linear layer is `Gemm` with `transB = 1` over the stored
//!   `[out, in]` matrix: no transpose, so a writer copies file to file. That is also the fastest of
//!   the three ways to write it in onnxruntime (`docs/adr/0008-decoder-graphs.md`).
//! * **Stored type and computed type are two things.** Where they differ a `Cast` stands behind the
//!   weight, which runtimes fold when they load.
//! * **Nothing is left out unsaid.** A tensor of the decoder that the graph has no place for is an
//!   error, never a model that computes something else.
//!
//! No tensor's bytes are read here, but for a head that is said to be the embedding and is stored
//! beside it: whether it is.

#![forbid(unsafe_code)]

mod attention;
mod build;
mod emit;
mod error;
mod family;
mod layers;
mod mask;
mod rope;
mod settings;
mod weights;

pub use build::{Decoder, Request, decoder};
pub use error::DecoderError;
pub use family::{Family, families, family};
