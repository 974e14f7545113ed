//! Values that flags of several commands take.

use clap::{Args, ValueEnum};
use convert::recipe::FileType;
use std::str::FromStr;

/// Which part of an input to look at, and as what.
#[derive(Debug, Args)]
pub(crate) struct Part {
    /// The input's format, instead of telling it from the content
    #[arg(long, value_name = "FORMAT")]
    pub(crate) from: Option<String>,
    /// Dotted path to the part of a checkpoint to take, e.g. state_dict
    #[arg(long, value_name = "PATH", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Take every tensor of a checkpoint, under its full path
    #[arg(long)]
    pub(crate) all: bool,
}

/// A limit and its new value.
#[derive(Clone, Debug)]
pub(crate) struct LimitArg {
    pub(super) name: String,
    pub(super) value: u64,
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
