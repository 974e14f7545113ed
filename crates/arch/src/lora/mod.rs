//! LoRA adapters: PEFT's folder to a GGUF adapter that llama.cpp loads, and back.
//!
//! An adapter holds two factors for each matrix it changes. They take the way of that matrix: the
//! same rows of the same tables name them, the same verbs move their rows and columns
//! (`verb::Pair`). Reference: llama.cpp's `convert_lora_to_gguf.py`.

mod config;
mod lower;
mod names;
mod peft;
mod raise;

pub use config::AdapterConfig;
pub use lower::{LoweredAdapter, adapter_to_gguf};
pub use names::is_lora;
pub use peft::base_model;
pub use raise::{RaisedAdapter, gguf_to_adapter, is_adapter};

/// What stands behind a matrix' name in a GGUF adapter.
const SUFFIX: [&str; 2] = [".lora_a", ".lora_b"];

/// Runtimes look rows of the first factor of this matrix up: it is stored turned.
fn looked_up(name: &str) -> bool {
    name.contains("token_embd.weight")
}
