//! The arguments of `migrate`.

use super::{FileTypes, Size};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use weightbridge::Policy;

/// The steps of a migration.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Look at a tree and write a plan of it, one JSON line a model; nothing is changed
    Plan(Box<MigratePlanArgs>),
    /// Do what a plan says, or what is left of it
    Run(MigrateRunArgs),
    /// Tell how far a plan is
    Status {
        /// The plan
        plan: PathBuf,
    },
}

/// What to plan.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["dest", "in_place"])))]
pub(crate) struct MigratePlanArgs {
    /// The tree: a folder of repositories, a cache of the hub, or a single repository
    pub(crate) root: String,
    /// What models become: safetensors or gguf
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: String,
    /// The plan to write
    #[arg(short, long, value_name = "PLAN")]
    pub(crate) output: PathBuf,
    /// Build a parallel tree here, with side files
    #[arg(long, value_name = "DIR")]
    pub(crate) dest: Option<String>,
    /// Write beside the originals
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Take only models whose path from ROOT, or a folder above them, matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leave out models and side files that match (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Quantize to these file types of GGUF, a line of the plan each
    #[arg(long, value_name = "TYPE[,TYPE...]")]
    pub(crate) quantize: Option<FileTypes>,
    /// Element type of float tensors in the output
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<MigrateDType>,
    /// Spread outputs over files of at most this many bytes of tensors; sets keep their cut otherwise
    #[arg(long, value_name = "SIZE")]
    pub(crate) shard_size: Option<Size>,
    /// How strict to be with pickles: default, strict or extract
    #[arg(long, default_value = "default", value_name = "POLICY")]
    pub(crate) policy: Policy,
    /// Hard-link side files into the parallel tree instead of copying them
    #[arg(long, conflicts_with = "in_place")]
    pub(crate) link: bool,
    /// Digest every input, so that a run notices any change; reads all of the tree
    #[arg(long)]
    pub(crate) digests: bool,
    /// Replace a plan that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// An element type that a migration casts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MigrateDType {
    /// As it is
    Keep,
    /// 32 bit float
    F32,
    /// IEEE half
    F16,
    /// bfloat16
    Bf16,
}

impl MigrateDType {
    /// Its name in a plan; none to keep.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Keep => None,
            Self::F32 => Some("f32"),
            Self::F16 => Some("f16"),
            Self::Bf16 => Some("bf16"),
        }
    }
}

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct MigrateRunArgs {
    /// The plan
    pub(crate) plan: PathBuf,
    /// Models at a time (0: what suits the machine)
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true)]
    pub(crate) jobs: usize,
    /// Remove originals once their model is verified; of plans made with --in-place
    #[arg(long)]
    pub(crate) delete_originals: bool,
    /// Do only part I of N of the plan, counted from 0: for several machines
    #[arg(long, value_name = "I/N")]
    pub(crate) task: Option<::migrate::Task>,
}
