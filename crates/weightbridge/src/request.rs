//! What a conversion is asked to do.

use crate::session::path;
use crate::{Attest, Carry, Edit, LlmOptions, Policy};
use convert::recipe::FileType;
use convert::{DTypeChoice, Shared};
use ir::ReadOptions;
use std::path::{Path, PathBuf};

/// Everything one conversion is asked to do.
#[derive(Clone, Debug)]
pub struct ConvertRequest {
    /// What to read.
    pub input: PathBuf,
    /// What to write: a file, or a folder for a model repository.
    pub output: PathBuf,
    /// The input's format, where its content shall not decide.
    pub from: Option<String>,
    /// The output's format, where its name shall not decide.
    pub to: Option<String>,
    /// Replace an output that exists.
    pub overwrite: bool,
    /// Plan only.
    pub dry_run: bool,
    /// Wait until the output outlives a power cut; whoever writes many waits once, afterwards.
    pub sync: bool,
    /// Hold tensor bytes against the checksums the input tells, before anything is written.
    pub verify: bool,
    /// Treat a loss as an error.
    pub strict: bool,
    /// The element type floats shall have.
    pub dtype: DTypeChoice,
    /// Which part of a checkpoint.
    pub read: ReadOptions,
    /// How careful with pickles.
    pub policy: Policy,
    /// Globals that `strict` admits besides its own.
    pub allow_globals: Vec<String>,
    /// Only tensors that match one of these.
    pub include: Vec<String>,
    /// No tensor that matches one of these.
    pub drop: Vec<String>,
    /// `REGEX=NAME`, in turn.
    pub rename: Vec<String>,
    /// What becomes of tied tensors.
    pub shared: Shared,
    /// Most bytes of tensors in one file.
    pub shard_size: Option<u64>,
    /// Most tensors in one file of GGUF.
    pub shard_tensors: Option<u64>,
    /// Put tensors into files beside the model, where the format can.
    pub external_data: bool,
    /// Write no tensor of an ONNX output: point into the files that hold them.
    pub external_into: bool,
    /// Write the graph of an ONNX input beside a safetensors output, over its bytes.
    pub keep_graph: bool,
    /// What is noted for the way back.
    pub carry: Carry,
    /// What the result shall be.
    pub intent: Option<Intent>,
    /// Whose names tensors shall have; `None` for those the result needs.
    pub names: Option<Names>,
    /// Leave names of weights as the graph has them.
    pub raw_names: bool,
    /// Carry quantized blocks as bytes where the target has none.
    pub keep_blocks: bool,
    /// Changes to the metadata, in turn.
    pub edits: Vec<Edit>,
    /// The file types of GGUF to make, as `llama-quantize` would of the result; a file each.
    pub quantize: Vec<FileType>,
    /// An importance matrix for them.
    pub imatrix: Option<PathBuf>,
    /// What only matters to language models.
    pub llm: LlmOptions,
    /// A statement of what was made of what, written with the output.
    pub attest: Option<Attest>,
}

impl ConvertRequest {
    /// A conversion with defaults for everything else.
    pub fn new(input: impl AsRef<Path>, output: impl AsRef<Path>) -> Self {
        Self {
            input: path(input),
            output: path(output),
            from: None,
            to: None,
            overwrite: false,
            dry_run: false,
            sync: true,
            verify: false,
            strict: false,
            dtype: DTypeChoice::Keep,
            read: ReadOptions::default(),
            policy: Policy::Default,
            allow_globals: Vec::new(),
            include: Vec::new(),
            drop: Vec::new(),
            rename: Vec::new(),
            shared: Shared::KeepOne,
            shard_size: None,
            shard_tensors: None,
            external_data: false,
            external_into: false,
            keep_graph: false,
            carry: Carry::default(),
            intent: None,
            names: None,
            raw_names: false,
            keep_blocks: false,
            edits: Vec::new(),
            quantize: Vec::new(),
            imatrix: None,
            llm: LlmOptions::default(),
            attest: None,
        }
    }
}

/// Whose names tensors have. A name stands for what it names: rows that a runtime wants in
/// another order, and tensors it splits or stacks, change with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As they are.
    Raw,
    /// Those of transformers.
    Hf,
    /// Those of llama.cpp.
    Gguf,
}

/// What the result of a conversion shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A model that a runtime loads.
    Llm,
    /// Tensors, carried.
    Container,
}
