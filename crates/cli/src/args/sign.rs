//! The arguments of `sign` and `verify`.

use super::Size;
use clap::Args;
use std::path::PathBuf;

/// Which files of a model a signature is about.
#[derive(Debug, Args)]
pub(crate) struct CoverageArgs {
    /// Leave out a path inside the model's folder, as seen from here or from that folder (repeatable)
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
