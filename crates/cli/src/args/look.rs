//! The arguments of the commands that look and change nothing: `inspect`, `scan`, `diff`, `report`.

use super::{DTypeArg, NamesArg, Part};
use clap::Args;
use std::path::PathBuf;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, a sharded set, a model folder, a URL (s3, gs, az, https) of one, or -
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) part: Part,
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
    /// Replace a FILE that is no SARIF log; an earlier log is replaced without
    #[arg(long, requires = "sarif")]
    pub(crate) overwrite: bool,
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
    #[command(flatten)]
    pub(crate) part: Part,
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
