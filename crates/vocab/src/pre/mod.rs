//! Pre-tokenizers: their names in `tokenizer.ggml.pre`, told by fingerprint, and what they do.

mod families;
mod fingerprints;

use crate::bpe::Loaded;
use crate::engine::regexes;
use crate::error::VocabError;
use crate::fingerprint::{candidates, fingerprint};
pub(crate) use families::{FAMILIES, Family, GPT2, Shape, family};
use fingerprints::FINGERPRINTS;
use ir::{Error, Record, Result};

/// The name of a tokenizer's pre-tokenizer, or the one the user gave.
pub(crate) fn name(
    loaded: &Loaded,
    given: Option<&str>,
    records: &mut Vec<Record>,
) -> Result<String> {
    if let Some(given) = given {
        let known = family(given).is_some() || FINGERPRINTS.iter().any(|row| row.1 == given);
        if !known {
            let name = given.to_owned();
            return Err(VocabError::NoSuchPre { name }.into());
        }
        // Told where it departs: text would be split otherwise than the files say.
        let told = candidates(loaded).unwrap_or_default();
        let told = told
            .first()
            .and_then(|ids| of_fingerprint(&fingerprint(ids)));
        if let Some(told) = told.filter(|told| !same(told, given)) {
            let why = format!("{given:?} was asked for; the files' own is {told:?}");
            records.push(
                Record::changed("pre", "tokenizer.ggml.pre", why)
                    .wanted()
                    .flag("--pre"),
            );
        }
        return Ok(given.to_owned());
    }
    let candidates = candidates(loaded)?;
    for (at, ids) in candidates.iter().enumerate() {
        let Some(name) = of_fingerprint(&fingerprint(ids)) else {
            continue;
        };
        if at > 0 {
            let why = format!(
                "{name:?}: told by its ids with other special tokens around the text than the \
                 files ask for"
            );
            records.push(
                Record::changed("lint-pre", "tokenizer.ggml.pre", why)
                    .wanted()
                    .flag("--pre"),
            );
        }
        return Ok(name.to_owned());
    }
    let hash = candidates
        .first()
        .map(|ids| fingerprint(ids))
        .unwrap_or_default();
    let nearest = nearest(&regexes(&loaded.json.pre_tokenizer));
    Err(Error::from(VocabError::UnknownPre { hash, nearest }).in_file(loaded.file))
}

/// Whether two names split text the same way.
fn same(one: &str, other: &str) -> bool {
    one == other || family(one).is_some_and(|family| family.names.contains(&other))
}

/// The name of a fingerprint: the last row's, as in the reference.
fn of_fingerprint(hash: &str) -> Option<&'static str> {
    let row = FINGERPRINTS.iter().rev().find(|(own, _, _)| *own == hash);
    row.map(|(_, name, _)| *name)
}

/// Names whose regexes share the most three-letter pieces with these, and how much in percent.
fn nearest(regexes: &[String]) -> Vec<(String, u32)> {
    let own = grams(&regexes.join("\n"));
    if own.is_empty() {
        return Vec::new();
    }
    let mut list: Vec<(String, u32)> = Vec::new();
    for family in FAMILIES {
        let theirs = grams(&family.regexes.join("\n"));
        let shared = own.iter().filter(|gram| theirs.contains(*gram)).count();
        let all = own.len() + theirs.len() - shared;
        let percent = u32::try_from(shared * 100 / all.max(1)).unwrap_or(0);
        if let Some(name) = family.names.first() {
            list.push(((*name).to_owned(), percent));
        }
    }
    list.sort_by_key(|(_, percent)| std::cmp::Reverse(*percent));
    list.truncate(3);
    list
}

fn grams(text: &str) -> std::collections::HashSet<[char; 3]> {
    let chars: Vec<char> = text.chars().take(16 << 10).collect();
    chars.windows(3).filter_map(|w| w.try_into().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_family() {
        // These are told from their fingerprint, but llama.cpp has no BPE rules of their name.
        let without = ["bert-bge", "bert-bge-large", "ufakzeka"];
        for (hash, name, _) in FINGERPRINTS {
            assert_eq!(hash.len(), 64, "{name}");
            assert!(family(name).is_some() || without.contains(name), "{name}");
        }
    }

    #[test]
    fn an_exact_regex_is_nearest() {
        for name in ["qwen2", "llama-bpe", "gpt-4o", "deepseek-v3"] {
            let regexes: Vec<String> = family(name)
                .unwrap()
                .regexes
                .iter()
                .map(|r| (*r).to_owned())
                .collect();
            let first = nearest(&regexes).into_iter().next().unwrap();
            assert_eq!(first.1, 100, "{name}");
        }
        assert!(nearest(&[]).is_empty());
    }
}
