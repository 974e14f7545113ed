//! What can be wrong with a tokenizer.

use ir::{Class, Diagnose};

/// Why a tokenizer cannot be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocabError {
    /// A file the method needs is not there.
    #[error("the repository has no {}", names.join(" or "))]
    Missing {
        /// The names that would have done.
        names: Vec<&'static str>,
    },
    /// A file does not read.
    #[error("{why}")]
    Malformed {
        /// What was found and what was expected.
        why: String,
        /// Where in the file.
        place: Option<String>,
        /// Whether the file is all there, and not what it should be.
        whole: bool,
    },
    /// Tokens beyond the embedding's rows.
    #[error(
        "the vocabulary is larger than the model: {} tokens with {token:?} of id {id}, but \
         {rows_from} gives it {rows} rows", id.saturating_add(1)
    )]
    TooLarge {
        /// The token of the highest id.
        token: String,
        /// Its id.
        id: u64,
        /// Rows that the model has for tokens.
        rows: u64,
        /// Where that number is from.
        rows_from: &'static str,
    },
    /// Added tokens beyond the model's rows, which can be left out.
    #[error(
        "{count} of the added tokens are beyond the model's {rows} rows: {token:?} of id {id}{}",
        if *count > 1 { " and others" } else { "" }
    )]
    Beyond {
        /// How many there are.
        count: usize,
        /// The first of them.
        token: String,
        /// Its id.
        id: u64,
        /// Rows that the model has for tokens.
        rows: u64,
    },
    /// A special token that is no token.
    #[error("{what} is {found}, which is no token id")]
    BadId {
        /// The key.
        what: String,
        /// Its value.
        found: String,
    },
    /// The pre-tokenizer is not one that llama.cpp knows.
    #[error(
        "no known pre-tokenizer has the fingerprint {hash}; {}",
        nearest_words(nearest)
    )]
    UnknownPre {
        /// SHA-256 of the ids of the check text.
        hash: String,
        /// Names whose regex is nearest, and how near in percent.
        nearest: Vec<(String, u32)>,
    },
    /// `--pre` names one that llama.cpp does not have.
    #[error("no pre-tokenizer is called {name:?}")]
    NoSuchPre {
        /// The name that was given.
        name: String,
    },
    /// A tokenizer of a kind that the model's method does not take.
    #[error("{what}")]
    Unsupported {
        /// What it is and what would do.
        what: String,
    },
}

fn nearest_words(nearest: &[(String, u32)]) -> String {
    if nearest.is_empty() {
        return "it has no regex to compare by".to_owned();
    }
    let list: Vec<String> = nearest
        .iter()
        .map(|(name, percent)| format!("{name:?} ({percent} %)"))
        .collect();
    format!("by its regex the nearest are {}", list.join(", "))
}

impl VocabError {
    /// A file that is all there and lacks something.
    pub(crate) fn lacks(field: &str) -> Self {
        Self::Malformed {
            why: format!("it has no {field:?}"),
            place: None,
            whole: true,
        }
    }

    /// A file that does not read.
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed {
            why: why.into(),
            place: None,
            whole: false,
        }
    }
}

impl Diagnose for VocabError {
    fn class(&self) -> Class {
        match self {
            Self::UnknownPre { .. } | Self::Unsupported { .. } => Class::Unsupported,
            Self::NoSuchPre { .. } => Class::Usage,
            _ => Class::Malformed,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::Malformed { place, .. } => place.clone(),
            _ => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Missing { .. } => {
                "Fetch the tokenizer files into the folder, or carry the tensors without a \
                 tokenizer with --as container"
            }
            Self::Malformed { whole: true, .. } => {
                "The file is there whole: take the one that the model was published with, or write it \
                 anew with the library that made it"
            }
            Self::Malformed { .. } => "The download may be cut short: fetch the file again",
            Self::TooLarge { .. } => {
                "The tokenizer may be of another model; or added tokens were never given rows: \
                 resize the embedding, or take them out of added_tokens. --as container carries the \
                 tensors without a tokenizer"
            }
            Self::Beyond { .. } => {
                "They were never given rows: resize the embedding, or take them out of added_tokens. \
                 --partial leaves them out, as llama.cpp's converter does; --as container carries the \
                 tensors without a tokenizer"
            }
            Self::BadId { .. } => "Correct the id in the file",
            Self::UnknownPre { .. } => {
                "If it splits text as one of these does, name it with --pre NAME; a wrong name \
                 gives a model that reads its prompts badly"
            }
            Self::NoSuchPre { .. } => {
                "Leave --pre out and see what the fingerprint says; docs/tokenizers.md tells of the \
                 names"
            }
            Self::Unsupported { .. } => "docs/tokenizers.md lists the kinds that are read",
        };
        Some(text.to_owned())
    }
}
