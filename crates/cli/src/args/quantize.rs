//! The arguments of `quantize`.

use super::{FileTypes, IntentArg};
use clap::{ArgMatches, Args, FromArgMatches};
use convert::recipe::{FileType, Override, TypeRule, parse_type};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

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
}
