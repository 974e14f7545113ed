//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

mod convert;
mod look;
mod migrate;
mod quantize;
mod sign;
mod values;

pub(crate) use self::convert::ConvertArgs;
pub(crate) use self::look::{DiffArgs, InspectArgs, ReportArgs, ScanArgs};
pub(crate) use self::migrate::{MigrateCommand, MigrateDType, MigratePlanArgs, MigrateRunArgs};
pub(crate) use self::quantize::{QuantizeArgs, QuantizeWhat, RuleSource};
pub(crate) use self::sign::{CoverageArgs, SignArgs, VerifyArgs};
pub(crate) use self::values::{
    DTypeArg, FileTypes, IntentArg, LimitArg, NamesArg, Part, SharedArg, Size,
};

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
#[command(next_help_heading = "Options of every command")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
