//! `tekken.json`: the tokens of Mistral's own byte-level BPE.
//!
//! ```text
//! {"config": {"version": "v3", "default_vocab_size": N, "default_num_special_tokens": S, ...},
//!  "vocab": [{"rank": 0, "token_bytes": BASE64, ...}, ...],
//!  "special_tokens": [{"rank": 0, "token_str": "<unk>", ...}, ...]}
//! ```
//!
//! Ids 0 to S are special tokens, the ranks follow; of the ranks the file may list more than the
//! model takes. There are no merges: a token is made of any two lower ones that give its bytes.
//! As `mistral-common` 1.13 reads it, and llama.cpp's converter through that.

use crate::error::VocabError;
use crate::files::{json, utf8};
use crate::pairs::kind;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ir::{Error, Limits, Result};
use serde::Deserialize;
use std::collections::HashMap;

/// The name of the file.
pub(crate) const TEKKEN_JSON: &str = "tekken.json";

/// Special tokens of files that list none, which are those up to version 7.
const UNLISTED: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];
/// The last version that may list none.
const UNLISTED_UNTIL: u32 = 7;

/// Bytes of one token. It is split in all places and both parts are looked up, so that the work
/// grows with the square: a file of long tokens alone must not take minutes.
const TOKEN_MAX: u64 = 1024;

#[derive(Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Ranked>,
    special_tokens: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Config {
    version: String,
    default_vocab_size: u64,
    default_num_special_tokens: u64,
}

#[derive(Deserialize)]
struct Ranked {
    rank: u64,
    token_bytes: String,
}

#[derive(Deserialize)]
struct Listed {
    rank: u64,
    token_str: String,
}

/// A tokenizer as the file has it.
#[derive(Debug)]
pub(crate) struct Tekken {
    /// `v3`.
    pub(crate) version: String,
    /// Special tokens by id.
    special: Vec<String>,
    /// The others by rank.
    ranks: Vec<Vec<u8>>,
}

impl Tekken {
    /// Reads the file.
    pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let file: File = json(utf8(bytes, TEKKEN_JSON)?, TEKKEN_JSON)?;
        Self::build(file, limits).map_err(|error| error.in_file(TEKKEN_JSON))
    }

    fn build(file: File, limits: &Limits) -> Result<Self> {
        let Config {
            version,
            default_vocab_size: size,
            default_num_special_tokens: n_special,
        } = file.config;
        Limits::check("tokens", size, limits.entries)?;
        let listed = file.vocab.len() as u64;
        let n_ranks = size.checked_sub(n_special).filter(|n| *n <= listed);
        let Some(n_ranks) = n_ranks.and_then(|n| usize::try_from(n).ok()) else {
            return Err(malformed(format!(
                "its config tells of {size} tokens with {n_special} special ones, and it lists \
                 {listed} others"
            )));
        };
        let special = specials(file.special_tokens, n_special, &version)?;
        let mut ranks = Vec::with_capacity(n_ranks);
        for (rank, token) in file.vocab.iter().take(n_ranks).enumerate() {
            let bytes = BASE64
                .decode(&token.token_bytes)
                .map_err(|_| malformed(format!("the bytes of token {rank} are not base64")))?;
            Limits::check("bytes of a token", bytes.len() as u64, TOKEN_MAX)?;
            // The first are the single bytes, in their order: the converter builds on that.
            let single = u8::try_from(rank).ok();
            if token.rank != rank as u64 || single.is_some_and(|byte| bytes != [byte]) {
                return Err(malformed(format!(
                    "token {rank} is not in its place: ranks are counted, and the first 256 are \
                     the bytes"
                )));
            }
            ranks.push(bytes);
        }
        Ok(Self {
            version,
            special,
            ranks,
        })
    }

    /// Text and kind of each token, in the order of the ids.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (String, i32)> {
        let special = self.special.iter();
        let special = special.map(|text| (text.clone(), kind::CONTROL));
        let ranks = self
            .ranks
            .iter()
            .map(|bytes| (visible(bytes), kind::NORMAL));
        special.chain(ranks)
    }

    /// The id of a special token.
    pub(crate) fn special(&self, text: &str) -> Result<u32> {
        let at = self.special.iter().position(|own| own == text);
        at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| {
            let why = format!("it has no special token {text:?}");
            malformed(why).in_file(TEKKEN_JSON)
        })
    }

    /// All ways to make a token of two others, as merges: by token, then by the parts' ranks.
    pub(crate) fn merges(&self, limits: &Limits) -> Result<Vec<String>> {
        self.splits(limits)
            .map_err(|error| error.in_file(TEKKEN_JSON))
    }

    fn splits(&self, limits: &Limits) -> Result<Vec<String>> {
        let all = self.ranks.iter().enumerate();
        let ranks: HashMap<&[u8], usize> = all.map(|(n, bytes)| (bytes.as_slice(), n)).collect();
        if ranks.len() != self.ranks.len() {
            return Err(malformed("it lists a token twice".to_owned()));
        }
        let texts: Vec<String> = self.ranks.iter().map(|bytes| visible(bytes)).collect();
        let mut merges = Vec::new();
        let mut parts = Vec::new();
        for (rank, bytes) in self.ranks.iter().enumerate().skip(256) {
            let splits = (1..bytes.len()).filter_map(|at| {
                let (left, right) = bytes.split_at(at);
                Some((*ranks.get(left)?, *ranks.get(right)?))
            });
            parts.clear();
            parts.extend(splits);
            if parts.is_empty() {
                return Err(malformed(format!(
                    "no two tokens make token {rank}, {:?}",
                    String::from_utf8_lossy(bytes)
                )));
            }
            parts.sort_unstable();
            let n = (merges.len() + parts.len()) as u64;
            Limits::check("merges", n, limits.entries.saturating_mul(4))?;
            merges.extend(parts.iter().filter_map(|(left, right)| {
                Some(format!("{} {}", texts.get(*left)?, texts.get(*right)?))
            }));
        }
        Ok(merges)
    }
}

/// The special tokens, with `<SPECIAL_n>` for those that have no text.
fn specials(listed: Option<Vec<Listed>>, count: u64, version: &str) -> Result<Vec<String>> {
    let number = version
        .strip_prefix('v')
        .and_then(|v| v.parse::<u32>().ok());
    let mut texts: Vec<String> = match listed {
        Some(listed) => {
            if let Some((id, wrong)) = (0..).zip(&listed).find(|(id, token)| token.rank != *id) {
                let (text, rank) = (&wrong.token_str, wrong.rank);
                let why = format!("special token {text:?} of rank {rank} stands in place {id}");
                return Err(malformed(why));
            }
            listed.into_iter().map(|token| token.token_str).collect()
        }
        None if number.is_some_and(|number| number <= UNLISTED_UNTIL) => {
            UNLISTED.map(str::to_owned).to_vec()
        }
        None => {
            let why = format!("version {version:?} needs special_tokens, which are not there");
            return Err(malformed(why));
        }
    };
    if texts.len() as u64 > count {
        let why = format!(
            "there are {} special tokens, for {count} places",
            texts.len()
        );
        return Err(malformed(why));
    }
    let fill = texts.len() as u64..count;
    texts.extend(fill.map(|id| format!("<SPECIAL_{id}>")));
    Ok(texts)
}

fn malformed(why: String) -> Error {
    VocabError::malformed(why).into()
}

/// Bytes as the letters that GPT-2 has for them: printable Latin 1 is itself, the others follow
/// from U+0100.
fn visible(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| letter(*byte)).collect()
}

fn letter(byte: u8) -> char {
    let beyond = |n: u8| char::from_u32(0x100 + u32::from(n)).unwrap_or(' ');
    match byte {
        0..=0x20 => beyond(byte),
        0x7f..=0xa0 => beyond(byte - 0x7f + 0x21),
        0xad => beyond(0x43),
        _ => char::from(byte),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use serde_json::{Value, json};

    /// All bytes and these tokens.
    pub(crate) fn file(version: &str, words: &[&str]) -> Value {
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        let vocab: Vec<Value> = bytes
            .chain(words)
            .enumerate()
            .map(|(rank, token)| json!({"rank": rank, "token_bytes": BASE64.encode(&token), "token_str": null}))
            .collect();
        let (n, special) = (vocab.len(), 22);
        json!({
            "config": {"pattern": "", "version": version, "default_vocab_size": n + special,
                       "default_num_special_tokens": special, "num_vocab_tokens": n},
            "vocab": vocab,
        })
    }

    fn read(value: &Value) -> Result<Tekken> {
        Tekken::read(value.to_string().as_bytes(), &Limits::default())
    }

    fn words(value: &Value) -> String {
        read(value)
            .and_then(|tekken| tekken.merges(&Limits::default()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn special_tokens_come_first_and_merges_from_all_splits() {
        let tekken = read(&file("v3", &["th", "he", "the", " the"])).unwrap();
        let tokens: Vec<(String, i32)> = tekken.tokens().collect();
        assert_eq!(tokens.len(), 22 + 256 + 4);
        assert_eq!(tokens[1], ("<s>".to_owned(), kind::CONTROL));
        assert_eq!(tokens[21], ("<SPECIAL_21>".to_owned(), kind::CONTROL));
        assert_eq!(tokens[22], ("\u{100}".to_owned(), kind::NORMAL));
        assert_eq!(tokens.last().unwrap().0, "Ġthe");
        assert_eq!(tekken.special("<pad>").unwrap(), 11);
        let merges = tekken.merges(&Limits::default()).unwrap();
        assert_eq!(merges, ["t h", "h e", "t he", "th e", "Ġ the"]);
    }

    #[test]
    fn each_byte_has_a_letter_of_its_own() {
        let all: std::collections::HashSet<char> = (0..=255).map(letter).collect();
        assert_eq!(all.len(), 256);
        assert_eq!(visible(b" a\n\x7f\xa0\xad\xff"), "ĠaĊġłŃÿ");
    }

    #[test]
    fn what_is_out_of_place_is_named() {
        let good = file("v3", &["th"]);
        let mut bad = good.clone();
        bad["vocab"][7]["rank"] = json!(8);
        assert!(words(&bad).contains("token 7 is not in its place"));
        let mut bad = good.clone();
        bad["vocab"][256]["token_bytes"] = json!("d*");
        assert!(words(&bad).contains("token 256 are not base64"));
        let mut bad = good.clone();
        bad["config"]["default_vocab_size"] = json!(9000);
        assert!(words(&bad).contains("9000 tokens"));
        bad["config"]["default_vocab_size"] = json!(1);
        assert!(words(&bad).contains("22 special"));
        bad["config"]["default_vocab_size"] = json!(u64::MAX);
        assert!(words(&bad).contains("limit"), "{}", words(&bad));
        assert!(words(&file("v13", &[])).contains("special_tokens"));
        assert!(words(&file("v3", &["the"])).contains("token 256, \"the\""));
        assert!(words(&file("v3", &["th", "th"])).contains("twice"));
        let mut bad = good;
        bad["special_tokens"] = json!([{"rank": 4, "token_str": "<s>"}]);
        assert!(words(&bad).contains("rank 4 stands in place 0"));
        assert!(words(&json!({"vocab": []})).contains("config"));
    }
}
