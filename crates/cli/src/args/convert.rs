//! The arguments of `convert`.

use super::{DTypeArg, FileTypes, IntentArg, NamesArg, Part, SharedArg, Size};
use clap::Args;
use std::path::PathBuf;
use weightbridge::Policy;

/// What a change in place cannot do besides.
const IN_PLACE_ALONE: [&str; 34] = [
    "output",
    "from",
    "to",
    "overwrite",
    "verify",
    "dtype",
    "key",
    "all",
    "partial",
    "policy",
    "allow_global",
    "include",
    "drop",
    "rename",
    "shared",
    "intent",
    "names",
    "raw_names",
    "quantize",
    "imatrix",
    "arch",
    "arch_map",
    "pre",
    "modelfile",
    "external_data",
    "attest",
    "attest_key",
    "external_into",
    "keep_graph",
    "carry",
    "keep_blocks",
    "shard_tensors",
    "shard_size",
    "strict",
];

/// What to convert, and how.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A file, a sharded set (its index or any shard), a model folder, a URL (s3, gs, az, https) of
    /// one, or - for standard input
    pub(crate) input: PathBuf,
    /// The file to write; a folder (or a name ending in /) gets a model repository
    #[arg(required_unless_present = "in_place")]
    pub(crate) output: Option<PathBuf>,
    /// Change the keys of a GGUF file where it stands: --set, --unset and --chat-template
    #[arg(long, conflicts_with_all = IN_PLACE_ALONE)]
    pub(crate) in_place: bool,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Take what is there of a sharded set with missing files or tensors, and of a tokenizer with
    /// tokens that the model has no row for; what is left out is a loss
    #[arg(long)]
    pub(crate) partial: bool,
    /// The output's format, instead of telling it from the extension
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<String>,
    /// Replace an output that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Show the whole plan and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Compare the tensors' bytes with the checksums in the file first
    #[arg(long)]
    pub(crate) verify: bool,
    /// Treat any loss as an error
    #[arg(long)]
    pub(crate) strict: bool,
    /// Element type of float tensors in the output
    #[arg(long, default_value = "keep", value_name = "TYPE")]
    pub(crate) dtype: DTypeArg,
    /// How strict to be with pickles: default, strict or extract
    #[arg(long, default_value = "default", value_name = "POLICY")]
    pub(crate) policy: Policy,
    /// A global that --policy strict shall admit (repeatable)
    #[arg(long, value_name = "MODULE.NAME")]
    pub(crate) allow_global: Vec<String>,
    /// Take only tensors whose names match (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub(crate) include: Vec<String>,
    /// Leave out tensors whose names match (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub(crate) drop: Vec<String>,
    /// Rename tensors; ${1} stands for the pattern's first group (repeatable)
    #[arg(long, value_name = "REGEX=NAME")]
    pub(crate) rename: Vec<String>,
    /// Tensors that share memory: keep one and note the rest, or write each out
    #[arg(long, default_value = "keep-one", value_name = "HOW")]
    pub(crate) shared: SharedArg,
    /// What the result shall be: a model that a runtime loads, or tensors carried
    #[arg(long = "as", value_name = "INTENT")]
    pub(crate) intent: Option<IntentArg>,
    /// Whose names tensors get: as they are, those of transformers, those of llama.cpp
    #[arg(long, value_name = "WHOSE")]
    pub(crate) names: Option<NamesArg>,
    /// Leave an ONNX model's weights as its exporter wrote them: names such as onnx::MatMul_12, and
    /// quantized ones as codes and scales
    #[arg(long)]
    pub(crate) raw_names: bool,
    /// Carry quantized blocks as bytes with a note, where the target has no blocks
    #[arg(long)]
    pub(crate) keep_blocks: bool,
    /// Quantize to this file type of GGUF, e.g. Q4_K_M; several with commas, into a folder
    #[arg(long, value_name = "TYPE[,TYPE...]")]
    pub(crate) quantize: Option<FileTypes>,
    /// An importance matrix for --quantize: GGUF or the older .dat
    #[arg(long, value_name = "FILE", requires = "quantize")]
    pub(crate) imatrix: Option<PathBuf>,
    /// The architecture, instead of telling it from config.json or the GGUF metadata
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// An architecture table of your own
    #[arg(long, value_name = "FILE.toml", conflicts_with = "arch")]
    pub(crate) arch_map: Option<PathBuf>,
    /// The base model of a LoRA adapter: its folder, its config.json or a GGUF file of it
    #[arg(long, value_name = "PATH")]
    pub(crate) base: Option<PathBuf>,
    /// The pre-tokenizer, instead of telling it from what the tokenizer does
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// Write an Ollama Modelfile beside a GGUF output
    #[arg(long)]
    pub(crate) modelfile: bool,
    /// Set a metadata key, e.g. general.name=str:X; lists are written as in JSON (repeatable)
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    pub(crate) set: Vec<String>,
    /// Remove a metadata key (repeatable)
    #[arg(long, value_name = "KEY")]
    pub(crate) unset: Vec<String>,
    /// Put the text of a file in as chat template
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
    /// Spread a GGUF output over files of at most this many tensors
    #[arg(long, value_name = "N")]
    pub(crate) shard_tensors: Option<u64>,
    /// Spread the output over files of at most this many bytes of tensors, e.g. 5GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) shard_size: Option<Size>,
    /// Put the tensors of an ONNX output into a file beside it, as happens over 1.5 GB anyway
    #[arg(long)]
    pub(crate) external_data: bool,
    /// Write a statement of what was converted from what: files, digests, options, version
    #[arg(long, value_name = "FILE.json")]
    pub(crate) attest: Option<PathBuf>,
    /// Sign the statement with this private key, PEM (- for standard input)
    #[arg(long, value_name = "KEY.pem", requires = "attest")]
    pub(crate) attest_key: Option<PathBuf>,
    /// Write no tensor of an ONNX output: point into the input's own files, which lie beside it
    #[arg(long, conflicts_with_all = ["external_data", "shard_size"])]
    pub(crate) external_into: bool,
    /// Write the graph of an ONNX input beside a safetensors output, its data pointing into that
    #[arg(long)]
    pub(crate) keep_graph: bool,
    /// Note for the way back what the target has no place for: metadata (its types), graph
    #[arg(long, value_name = "WHAT[,WHAT]", conflicts_with = "keep_graph")]
    pub(crate) carry: Option<weightbridge::Carry>,
}
