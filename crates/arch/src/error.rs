//! What can be wrong with a model, its config or a table.

use ir::{Class, DType, Diagnose, Shape};

/// Why a repository cannot become a GGUF model, or the other way round.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// No table fits.
    #[error("no known architecture fits {what}; the nearest are {}", list(nearest))]
    Unknown {
        /// The class, model type or GGUF architecture that was looked for.
        what: String,
        /// Names of the nearest tables, best first.
        nearest: Vec<String>,
    },
    /// `--arch` names no table.
    #[error("there is no architecture {name:?}; the nearest are {}", list(nearest))]
    NoSuch {
        /// The name that was given.
        name: String,
        /// Names that look like it.
        nearest: Vec<String>,
    },
    /// A table is not what it should be: a bug in ours, or a mistake in a user's own map.
    #[error("architecture map {table:?}: {why}")]
    Table {
        /// Its name.
        table: String,
        /// What is wrong.
        why: String,
    },
    /// The config lacks a key the architecture needs.
    #[error("config.json lacks what {gguf_key:?} needs: one of {}", list(keys))]
    MissingKey {
        /// The GGUF key.
        gguf_key: String,
        /// The config keys that would have done.
        keys: Vec<String>,
    },
    /// Keys that the config lacks, and what the defaults of its class come to.
    #[error("config.json lacks the {} {}: with what transformers takes instead, {why}",
        if keys.len() == 1 { "key" } else { "keys" }, keys.join(" and "))]
    Lacks {
        /// What the class calls them, in quotation marks, and what the tensors say of them.
        keys: Vec<String>,
        /// What does not work out.
        why: String,
    },
    /// A value of the config cannot be used.
    #[error("config.json: the value for {what:?} does not work out: {why}")]
    BadValue {
        /// The key or verb.
        what: String,
        /// Why not.
        why: String,
    },
    /// Tensors no row of the table knows.
    #[error(
        "architecture {table:?} has no place for {}: {}",
        tensors(*count), list(names)
    )]
    Leftover {
        /// The table.
        table: String,
        /// How many.
        count: usize,
        /// The first few.
        names: Vec<String>,
    },
    /// A kind of model that the architecture has, and its runtimes have not.
    #[error("architecture {table:?}: {why}, so that no runtime would load the file")]
    Cannot {
        /// The table.
        table: String,
        /// What it is.
        why: String,
    },
    /// Parts of a fused or stacked tensor are missing.
    #[error("{target:?} needs tensors that are not there: {}", list(missing))]
    MissingParts {
        /// The tensor that would be made.
        target: String,
        /// What it lacks, the first few.
        missing: Vec<String>,
    },
    /// Tensors that the architecture needs are not there.
    #[error(
        "architecture {table:?} needs {} that {} not there: {}",
        tensors(*count), if *count == 1 { "is" } else { "are" }, missing.join("; ")
    )]
    MissingTensors {
        /// The table.
        table: String,
        /// How many.
        count: usize,
        /// Their names in the source, the first few, and the blocks that have them.
        missing: Vec<String>,
        /// The keys of the config by which there are such tensors.
        keys: Vec<String>,
    },
    /// Blocks of which no tensor is there.
    #[error("config.json: num_hidden_layers is {count}, and no tensor of layer {missing} is there")]
    MissingBlocks {
        /// How many there are to be, those that predict further tokens among them.
        count: u64,
        /// Which are missing, the first few.
        missing: String,
    },
    /// A tensor's shape or type is not what a verb works with.
    #[error("tensor {tensor:?} of type {dtype} and shape {shape} does not fit: {wanted}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// What the verb wanted.
        wanted: String,
    },
    /// A tensor of an adapter that is no factor.
    #[error("tensor {tensor:?} is nothing a GGUF adapter can hold: {why}")]
    NotLora {
        /// The tensor.
        tensor: String,
        /// What it is instead.
        why: String,
    },
    /// A factor without the other.
    #[error("tensor {tensor:?} has no {missing} beside it")]
    Unpaired {
        /// The tensor.
        tensor: String,
        /// The other factor.
        missing: &'static str,
    },
    /// Factors that are not of one rank.
    #[error(
        "the factors of {matrix:?} do not go together: A is {} {}, B is {} {}",
        a.dtype, a.shape, b.dtype, b.shape
    )]
    Ranks {
        /// The matrix they change.
        matrix: String,
        /// What A is.
        a: ir::TensorSpec,
        /// What B is.
        b: ir::TensorSpec,
    },
    /// A matrix whose change cannot go the way of the matrix.
    #[error("the adapter of {tensor:?} has no place: {why}")]
    NotForLora {
        /// The tensor.
        tensor: String,
        /// Why not.
        why: String,
    },
    /// A kind of adapter that is not LoRA.
    #[error("GGUF holds plain LoRA adapters only: {what}")]
    AdapterKind {
        /// What it is.
        what: String,
    },
    /// A value of an adapter's configuration that cannot be used.
    #[error("the adapter's {what:?} does not work out: {why}")]
    AdapterValue {
        /// The key.
        what: String,
        /// Why not.
        why: String,
    },
    /// Rows cannot be moved back without the base model's configuration.
    #[error("the rows of {tensor:?} cannot be put back without the base model's config.json")]
    NeedsBase {
        /// The tensor.
        tensor: String,
        /// The architecture.
        arch: String,
    },
    /// There is nothing to convert.
    #[error("{what}")]
    Nothing {
        /// What is missing.
        what: String,
    },
}

fn tensors(count: usize) -> String {
    wording::count(count as u64, "tensor", ' ')
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Diagnose for ArchError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown { .. }
            | Self::Leftover { .. }
            | Self::Cannot { .. }
            | Self::NotLora { .. }
            | Self::NotForLora { .. }
            | Self::AdapterKind { .. }
            | Self::NeedsBase { .. } => Class::Unsupported,
            Self::NoSuch { .. } | Self::Table { .. } => Class::Usage,
            Self::MissingKey { .. }
            | Self::Lacks { .. }
            | Self::BadValue { .. }
            | Self::MissingParts { .. }
            | Self::MissingTensors { .. }
            | Self::MissingBlocks { .. }
            | Self::Shape { .. }
            | Self::Unpaired { .. }
            | Self::Ranks { .. }
            | Self::AdapterValue { .. }
            | Self::Nothing { .. } => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Unknown { .. } => {
                "Name one with --arch NAME if the model is like it, describe it with --arch-map \
                 FILE.toml, or carry the tensors as they are with --as container"
            }
            Self::NoSuch { .. } => "docs/architectures.md lists the names",
            Self::Table { .. } => "docs/architectures.md explains the format of a map",
            Self::MissingKey { .. } => {
                "If the model is of another architecture, name it with --arch NAME; if the key is \
                 only missing, add it to config.json; --as container carries the tensors as they are"
            }
            Self::Leftover { .. } => {
                "Leave them out with --drop REGEX if the model is of use without them, give them the \
                 names that the architecture knows with --rename REGEX=NAME, or carry the tensors \
                 as they are with --as container"
            }
            Self::Lacks { .. } => {
                "Put the model's own values into config.json; if the model is of another \
                 architecture, name it with --arch NAME; --as container carries the tensors as \
                 they are"
            }
            Self::BadValue { .. } => {
                "Put the model's own value into config.json; --as container carries the tensors as \
                 they are"
            }
            Self::Cannot { .. } => "--as container carries the tensors as they are",
            Self::NotLora { .. } | Self::NotForLora { .. } => {
                "Leave it out with --drop REGEX if the adapter is of use without it; a merge into the \
                 base model keeps all of it; --as container carries the tensors as they are"
            }
            Self::AdapterKind { .. } => {
                "Merge it into its base model and convert that; --as container carries the tensors \
                 as they are"
            }
            Self::Unpaired { .. } | Self::Ranks { .. } => {
                "The adapter may be saved in part, or mixed of two: save it again"
            }
            Self::NeedsBase { .. } => "Name the base model's folder with --base",
            Self::MissingBlocks { .. } => {
                "A shard may be missing, or the key another model's: download the weights again, or \
                 put the number of layers there are into config.json; --as container carries the \
                 tensors that are there"
            }
            Self::MissingParts { .. } | Self::MissingTensors { .. } => {
                "A shard may be missing, or cut short: compare with the index or download the weights \
                 again; --as container carries the tensors that are there"
            }
            Self::Shape { .. } => {
                "config.json may be of another model, or lack a key: put the model's own sizes there; \
                 --as container carries the tensors as they are"
            }
            Self::AdapterValue { .. } | Self::Nothing { .. } => return None,
        };
        Some(text.to_owned())
    }
}
