//! The command line.

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use convert::recipe::{FileType, Override, TypeRule, parse_type};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;
use weightbridge::Policy;

mod migrate;
pub(crate) use self::migrate::{MigrateCommand, MigrateDType, MigratePlanArgs, MigrateRunArgs};

/// Converts ML model files, safely and at the speed of a file copy.
///
/// Reads PyTorch checkpoints without Python and without running anything in them.
#[derive(Debug, Parser)]
#[command(
    name = "weightbridge",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Worker threads (0: one a core)
    #[arg(
        long,
        global = true,
        default_value_t = 0,
        value_name = "N",
        hide_default_value = true
    )]
    pub(crate) threads: usize,
    /// Upper bound of all buffers, e.g. 512MiB
    #[arg(long, global = true, default_value = "256MiB", value_name = "SIZE")]
    pub(crate) memory: Size,
    /// Raise or lower a cap on what an input may ask for, e.g. objects=5000000 (repeatable; names:
    /// header-bytes, tensors, name-bytes, depth, objects, steps, held-bytes, entries, expansion, rank)
    #[arg(long, global = true, value_name = "NAME=N")]
    pub(crate) limit: Vec<LimitArg>,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but errors and the answer
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// When to use colours
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: When,
    /// Draw no progress bar
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Keep all rights of this process: on Linux it gives up what it does not need first
    #[arg(long, global = true)]
    pub(crate) no_sandbox: bool,
}

impl Common {
    /// The limits asked for.
    pub(crate) fn limits(&self) -> ir::Limits {
        let mut limits = ir::Limits::default();
        for LimitArg { name, value } in &self.limit {
            limits.set(name, *value);
        }
        limits
    }
}

/// A limit and its new value.
#[derive(Clone, Debug)]
pub(crate) struct LimitArg {
    name: String,
    value: u64,
}

const MAX_DEPTH: u64 = 2048;

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("want NAME=N")?;
        if !ir::Limits::NAMES.contains(&name) {
            let names = ir::Limits::NAMES.join(", ");
            return Err(format!("{name:?} is no limit; there are {names}"));
        }
        let value = value
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{value:?} is no whole number"))?;
        // What nests is followed by recursion in places: the stack has an end.
        if name == "depth" && value > MAX_DEPTH {
            return Err(format!("depth can be at most {MAX_DEPTH}"));
        }
        let name = name.to_owned();
        Ok(Self { name, value })
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a model from any format to any format
    Convert(Box<ConvertArgs>),
    /// Quantize a GGUF file, as llama-quantize does
    Quantize(QuantizeArgs),
    /// Show what is inside: format, metadata, tensors, graph, object tree
    Inspect(InspectArgs),
    /// Tell what files would do to the person who loads them elsewhere
    Scan(ScanArgs),
    /// Compare two models, tensor by tensor, across formats
    Diff(DiffArgs),
    /// Write one self-contained HTML page about a model
    Report(ReportArgs),
    /// Sign a model, in the OpenSSF Model Signing format
    Sign(SignArgs),
    /// Hold a model against its signature, or a conversion's outputs against its statement
    Verify(VerifyArgs),
    /// Migrate whole trees of models: plan, run, status
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What a change in place cannot do besides.
const IN_PLACE_ALONE: [&str; 33] = [
    "output",
    "from",
    "to",
    "overwrite",
    "verify",
    "dtype",
    "key",
    "all",
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
    /// The input's format, instead of telling it from the content
    #[arg(long, value_name = "FORMAT")]
    pub(crate) from: Option<String>,
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
    /// Dotted path to the part of a checkpoint to take, e.g. state_dict
    #[arg(long, value_name = "PATH", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Take every tensor of a checkpoint, under its full path
    #[arg(long)]
    pub(crate) all: bool,
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

/// `--tensor-type` and `--tensor-type-file` in the order they are given: the first rule that
/// matches counts, wherever it comes from.
#[derive(Debug, Default)]
pub(crate) struct RuleSources(pub(crate) Vec<RuleSource>);

/// Where rules come from.
#[derive(Debug)]
pub(crate) enum RuleSource {
    /// The command line.
    Rule(TypeRule),
    /// A file.
    File(PathBuf),
}

/// The two flags as clap sees them.
#[derive(Args)]
struct RuleFlags {
    /// Type of tensors whose names match (repeatable; the first that matches counts)
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<TypeRule>,
    /// A file of such rules (repeatable)
    #[arg(long, value_name = "FILE")]
    tensor_type_file: Vec<PathBuf>,
}

impl Args for RuleSources {
    fn augment_args(command: clap::Command) -> clap::Command {
        RuleFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        RuleFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for RuleSources {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let places = |id: &str| {
            matches
                .indices_of(id)
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let order = [places("tensor_type"), places("tensor_type_file")];
        let flags = RuleFlags::from_arg_matches(matches)?;
        let [rules, files] = order;
        let rules = rules
            .into_iter()
            .zip(flags.tensor_type.into_iter().map(RuleSource::Rule));
        let sources = flags.tensor_type_file.into_iter().map(RuleSource::File);
        let mut all: Vec<(usize, RuleSource)> =
            rules.chain(files.into_iter().zip(sources)).collect();
        all.sort_by_key(|(place, _)| *place);
        Ok(Self(all.into_iter().map(|(_, source)| source).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What to quantize, and how. The flags are llama-quantize's.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = QUANTIZE_HELP.as_str(),
    override_usage = "weightbridge quantize [OPTIONS] INPUT [OUTPUT] TYPE [THREADS]"
)]
pub(crate) struct QuantizeArgs {
    /// A GGUF file, or any shard of a set; any other model with --as container
    pub(crate) input: PathBuf,
    /// The file to write (a folder gets a file a type; without one the file is
    /// ggml-model-TYPE.gguf beside the input), the file type, e.g. Q4_K_M, or several with commas,
    /// and the number of threads
    #[arg(value_name = "[OUTPUT] TYPE [THREADS]", num_args = 1..=3, required = true)]
    pub(crate) rest: Vec<OsString>,
    /// What the result shall be, where the input is no GGUF
    #[arg(long = "as", value_name = "INTENT")]
    pub(crate) intent: Option<IntentArg>,
    /// An importance matrix: GGUF or the older .dat
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Use the importance of these tensors only (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with = "exclude_weights")]
    pub(crate) include_weights: Vec<String>,
    /// Do not use the importance of these tensors (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_weights: Vec<String>,
    /// One type for all tensors, no mixture
    #[arg(long)]
    pub(crate) pure: bool,
    /// Leave output.weight as it is
    #[arg(long)]
    pub(crate) leave_output_tensor: bool,
    /// Type of the output tensor
    #[arg(long, value_name = "TYPE", value_parser = parse_type)]
    pub(crate) output_tensor_type: Option<ir::DType>,
    /// Type of the token embeddings
    #[arg(long, value_name = "TYPE", value_parser = parse_type)]
    pub(crate) token_embedding_type: Option<ir::DType>,
    #[command(flatten)]
    pub(crate) rules: RuleSources,
    /// Leave out these layers, e.g. 3,7 (repeatable)
    #[arg(long, value_name = "LIST")]
    pub(crate) prune_layers: Vec<String>,
    /// Set a metadata key in the output (repeatable)
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    pub(crate) override_kv: Vec<Override>,
    /// Write as many files as the input has
    #[arg(long)]
    pub(crate) keep_split: bool,
    /// Most memory for buffers, in MiB: llama-quantize's name for --memory
    #[arg(long, value_name = "MiB")]
    pub(crate) max_buffer_size: Option<std::num::NonZeroU32>,
    /// Quantize tensors that are quantized already; quality suffers
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    /// Go on where values are not finite
    #[arg(long)]
    pub(crate) allow_nan: bool,
    /// Show the whole plan and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Show the error that each tensor got
    #[arg(long)]
    pub(crate) stats: bool,
    /// Replace an output that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// One file type, or several with commas.
#[derive(Clone, Debug)]
pub(crate) struct FileTypes(pub(crate) Vec<FileType>);

impl FromStr for FileTypes {
    type Err = convert::recipe::RecipeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// What stands behind the input of `quantize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuantizeWhat {
    /// Where to, if that is said.
    pub(crate) output: Option<PathBuf>,
    /// As it is spelled.
    pub(crate) types: String,
    /// How many threads, if that is said.
    pub(crate) threads: Option<usize>,
}

impl QuantizeArgs {
    /// Reads `[OUTPUT] TYPE [THREADS]` as llama-quantize does: what is a type is no output.
    pub(crate) fn what(&self) -> Result<QuantizeWhat, String> {
        let is_type = |text: &OsString| {
            text.to_str()
                .is_some_and(|t| t.parse::<FileTypes>().is_ok())
        };
        let (output, rest) = match self.rest.as_slice() {
            [output, rest @ ..] if !is_type(output) => (Some(PathBuf::from(output)), rest),
            rest => (None, rest),
        };
        let [types, threads @ ..] = rest else {
            let known = "a type is missing, or this is none".to_owned();
            return Err(match self.rest.first() {
                Some(word) => format!("{}: {known}; see --help for the types", word.display()),
                None => known,
            });
        };
        let threads = match threads {
            [] => None,
            [n] => Some(
                n.to_str()
                    .and_then(|n| n.parse().ok())
                    .ok_or_else(|| format!("{} is no number of threads", n.display()))?,
            ),
            _ => return Err("there is more than [OUTPUT] TYPE [THREADS]".to_owned()),
        };
        Ok(QuantizeWhat {
            output,
            types: types.to_string_lossy().into_owned(),
            threads,
        })
    }
}

/// The file types, for the end of the help.
static QUANTIZE_HELP: LazyLock<String> = LazyLock::new(|| {
    FileType::all().fold("File types:".to_owned(), |text, file_type| {
        text + &format!("\n  {:10} {}", file_type.name(), file_type.about())
    })
});

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, a sharded set, a model folder, a URL (s3, gs, az, https) of one, or -
    pub(crate) input: PathBuf,
    /// The input's format, instead of telling it from the content
    #[arg(long, value_name = "FORMAT")]
    pub(crate) from: Option<String>,
    /// Dotted path to the part of a checkpoint to show
    #[arg(long, value_name = "PATH", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Show every tensor of a checkpoint, under its full path
    #[arg(long)]
    pub(crate) all: bool,
    /// Show the Python object tree of a checkpoint
    #[arg(long)]
    pub(crate) tree: bool,
    /// Show the graph of an ONNX model, a line a node
    #[arg(long)]
    pub(crate) graph: bool,
}

/// What to scan.
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Files, folders, URLs of them, or -
    #[arg(required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Write the findings as SARIF 2.1.0 to FILE, for code hosts; - for stdout instead of the report
    #[arg(long, value_name = "FILE")]
    pub(crate) sarif: Option<PathBuf>,
}

/// Which files of a model a signature is about.
#[derive(Debug, Args)]
pub(crate) struct CoverageArgs {
    /// Leave out a path inside the model's folder (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) ignore: Vec<PathBuf>,
    /// Cover .git, .github, .gitignore and .gitattributes too
    #[arg(long)]
    pub(crate) with_git: bool,
    /// Let a symbolic link count as the file it leads to
    #[arg(long)]
    pub(crate) allow_symlinks: bool,
}

/// What to sign.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// A model's folder, or one file
    pub(crate) model: PathBuf,
    /// The private key: PEM, ECDSA on P-256, P-384 or P-521 (- for standard input)
    #[arg(long, value_name = "KEY.pem")]
    pub(crate) key: PathBuf,
    /// Where the signature goes (default: model.sig in the folder, NAME.sig beside a file)
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) coverage: CoverageArgs,
    /// A digest for each so many bytes of a file, e.g. 1GB, not for each file
    #[arg(long, value_name = "SIZE")]
    pub(crate) shard_size: Option<Size>,
    /// Replace a signature that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A model's folder, or one file; with --statement the folder of the outputs
    #[arg(required_unless_present = "statement")]
    pub(crate) model: Option<PathBuf>,
    /// The public key of who signed, PEM (- for standard input)
    #[arg(long, value_name = "PUB.pem", required_unless_present = "statement")]
    pub(crate) key: Option<PathBuf>,
    /// The signature (default: model.sig in the folder, NAME.sig beside a file)
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    pub(crate) signature: Option<PathBuf>,
    /// A statement that convert --attest wrote, instead of a model's signature
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ignore", "with_git", "allow_symlinks"])]
    pub(crate) statement: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) coverage: CoverageArgs,
    /// Files that were not signed make no difference
    #[arg(long, conflicts_with = "statement")]
    pub(crate) ignore_unsigned: bool,
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// One model
    pub(crate) a: PathBuf,
    /// The other
    pub(crate) b: PathBuf,
    /// Values at most this far apart count as the same
    #[arg(long, value_name = "X")]
    pub(crate) tolerance: Option<f64>,
    /// Round both to this type before comparing
    #[arg(long, value_name = "TYPE")]
    pub(crate) as_dtype: Option<DTypeArg>,
    /// Compare under these names: as they are, those of transformers, those of llama.cpp
    #[arg(long, value_name = "WHOSE", default_value = "raw")]
    pub(crate) names: NamesArg,
}

/// What the page shall tell.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A file, a sharded set, a model folder, or -
    pub(crate) input: PathBuf,
    /// The page to write (without it: standard output)
    #[arg(short, long, value_name = "FILE.html")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a page that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The input's format, instead of telling it from the content
    #[arg(long, value_name = "FORMAT")]
    pub(crate) from: Option<String>,
    /// Dotted path to the part of a checkpoint to show
    #[arg(long, value_name = "PATH", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Show every tensor of a checkpoint, under its full path
    #[arg(long)]
    pub(crate) all: bool,
    /// Read no values: no distributions, and done at once
    #[arg(long)]
    pub(crate) no_values: bool,
    /// Read every value, not a sample of large tensors
    #[arg(long, conflicts_with = "no_values")]
    pub(crate) all_values: bool,
    /// The model that this one was made of: tells the error of each tensor
    #[arg(long, value_name = "PATH")]
    pub(crate) against: Option<PathBuf>,
    /// Compare under these names (default: their own where they share any, else those of llama.cpp)
    #[arg(long, value_name = "WHOSE", requires = "against")]
    pub(crate) names: Option<NamesArg>,
    /// What `convert --json` or `quantize --json` printed when it made the model
    #[arg(long, value_name = "FILE")]
    pub(crate) conversion: Option<PathBuf>,
}

/// `keep-one` or `copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SharedArg {
    /// Keep one.
    KeepOne,
    /// Write each out.
    Copy,
}

/// `llm` or `container`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IntentArg {
    /// A model that a runtime loads.
    Llm,
    /// Tensors, carried.
    Container,
}

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamesArg {
    /// As they are
    Raw,
    /// Those of transformers
    Hf,
    /// Those of llama.cpp
    Gguf,
}

impl From<NamesArg> for weightbridge::Names {
    fn from(names: NamesArg) -> Self {
        match names {
            NamesArg::Raw => Self::Raw,
            NamesArg::Hf => Self::Hf,
            NamesArg::Gguf => Self::Gguf,
        }
    }
}

/// An element type to cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DTypeArg {
    /// As it is
    Keep,
    /// 32 bit float
    F32,
    /// IEEE half
    F16,
    /// bfloat16
    Bf16,
    /// The type the model has, of 16 bits where there is a choice
    Auto,
    /// Blocks of 8 bits, for GGUF models
    #[value(name = "q8_0")]
    Q8_0,
}

impl DTypeArg {
    /// The type, or none to keep.
    pub(crate) fn dtype(self) -> Option<ir::DType> {
        match self {
            Self::Keep | Self::Auto => None,
            Self::Q8_0 => Some(ir::DType::Block(ir::BlockFormat::Q8_0)),
            Self::F32 => Some(ir::DType::F32),
            Self::F16 => Some(ir::DType::F16),
            Self::Bf16 => Some(ir::DType::BF16),
        }
    }
}

/// A size in bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    /// `512MiB`, `5GB`, `4G`, `1000`: KB, MB, GB, TB count by 1000, KiB and its kind by 1024.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let scale: f64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1_048_576.0,
            "gib" => 1_073_741_824.0,
            "tib" => 1_099_511_627_776.0,
            other => {
                return Err(format!(
                    "{other:?} is no unit: use KB, MB, GB, KiB, MiB or GiB"
                ));
            }
        };
        let number: f64 = digits
            .parse()
            .map_err(|_| format!("{text:?} is not a size like 5GB"))?;
        let bytes = number * scale;
        if !(1.0..=1e18).contains(&bytes) {
            return Err(format!("{text:?} is out of range"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // range just checked
        Ok(Self(bytes as u64))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_llama_quantize_takes_is_taken() {
        let what = |line: &str| {
            let words = format!("weightbridge quantize in.gguf {line}");
            match Cli::try_parse_from(words.split_whitespace())
                .unwrap()
                .command
            {
                Command::Quantize(args) => args.what().ok(),
                _ => None,
            }
        };
        let is = |output: Option<&str>, types: &str, threads| {
            let output = output.map(PathBuf::from);
            let types = types.to_owned();
            Some(QuantizeWhat {
                output,
                types,
                threads,
            })
        };
        assert_eq!(
            what("out.gguf q4_k_m"),
            is(Some("out.gguf"), "q4_k_m", None)
        );
        assert_eq!(what("out.gguf 15 8"), is(Some("out.gguf"), "15", Some(8)));
        assert_eq!(what("Q4_K_M"), is(None, "Q4_K_M", None));
        assert_eq!(what("Q4_K_M 3"), is(None, "Q4_K_M", Some(3)));
        assert_eq!(what("2 7"), is(None, "2", Some(7)));
        assert_eq!(
            what("out/ Q4_K_M,Q6_K"),
            is(Some("out/"), "Q4_K_M,Q6_K", None)
        );
        // No known type: told when it is read.
        assert_eq!(what("out.gguf Q9"), is(Some("out.gguf"), "Q9", None));
        for bad in ["out.gguf", "Q4_0 x", "Q4_0 2 3", "out.gguf Q4_0 x"] {
            assert_eq!(what(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>().map(|s| s.0);
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("7"), Ok(7));
        assert!(size("0").is_err() && size("5XB").is_err() && size("GB").is_err());
    }
}
