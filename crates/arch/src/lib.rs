//! Architectures as data: what turns a model repository into a GGUF model that llama.cpp runs,
//! and back.
//!
//! Each architecture is one TOML file in `tables/`: which HF classes it is for, which tensor is
//! called what on each side and what happens to it on the way (`verb` has the closed list),
//! which GGUF key comes from which config key. Code knows no architecture. A user's own file
//! (`--arch-map`) is read the same way: [`Table::parse`].
//!
//! * [`hf_to_gguf`] takes a repository's tensors and `config.json` and gives tensors in the order
//!   and with the types and names of the reference converter, and the architecture's keys.
//! * [`gguf_to_hf`] goes the other way.
//! * [`configuration`] answers which table fits and what the config says, for those who make
//!   something else of it.
//! * [`adapter_to_gguf`] and [`gguf_to_adapter`] do the same for a LoRA adapter, whose factors go
//!   through the same tables.
//! * [`general()`] guesses the `general.*` keys from names and the model card; [`describe()`] makes
//!   the card of them.
//!
//! Nothing is read or computed here: tensors become stacks of [`ir::Compute`]s, and the type each
//! shall have is told beside it. Casting and quantizing are the work of `convert`.
#![forbid(unsafe_code)]

mod choose;
mod compute;
mod configuration;
mod diffusion;
mod error;
mod expr;
mod facts;
mod fixed;
mod general;
mod generate;
mod hparams;
mod keys;
mod lora;
mod lower;
mod need;
mod raise;
mod table;
mod tables;
mod target;
mod template;
mod verb;

pub use configuration::{Configuration, configuration};
pub use diffusion::{diffusion_families, diffusion_family};
pub use error::ArchError;
pub use general::{
    Described, GeneralInput, NameParts, describe, front_matter, general, name_parts, size_label,
    title,
};
pub use lora::{
    AdapterConfig, LoweredAdapter, RaisedAdapter, adapter_to_gguf, base_model, gguf_to_adapter,
    is_adapter, is_lora,
};
pub use lower::{LowerOptions, Lowered, ParameterCounts, Planned, RepoFacts, hf_to_gguf};
pub use raise::{RaiseOptions, Raised, gguf_to_hf};
pub use table::Table;
pub use tables::{table, tables};
pub use target::OutType;
