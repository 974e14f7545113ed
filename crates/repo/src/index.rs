//! The index of a sharded set: which tensor is in which file.
//!
//! ```text
//! {"metadata": {"total_size": BYTES, ...}, "weight_map": {TENSOR: FILE, ...}}
//! ```

use crate::RepoError;
use crate::names::check_name;
use ir::{Error, Limits, Region, Result};
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Bytes of an index. The largest known, of models with hundreds of experts a layer, take 15 MB;
/// the hub's own client stops at 10 MB.
pub(crate) const MAX_LEN: u64 = 64 << 20;
/// Files an index may name.
const MAX_FILES: u64 = 100_000;

/// Bytes a text of the metadata takes in memory beside itself.
const PAIR_COST: usize = 64;

/// What an index says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// The files, sorted by name.
    pub(crate) files: Vec<String>,
    /// Each tensor with the number of its file, in the index's order.
    pub(crate) tensors: Vec<(String, usize)>,
    /// The texts among its metadata: notes on ties, by the hub's library.
    pub(crate) texts: Vec<(String, String)>,
}

/// Reads an index.
pub(crate) fn read(region: &Region, limits: &Limits) -> Result<Index> {
    let cap = MAX_LEN.min(limits.header_bytes);
    Limits::check("bytes of the index", region.len(), cap)?;
    let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
    let bytes = region.bytes(0, len)?;
    if let Some(found) = ir::sniff(&bytes).filter(|found| found.placeholder) {
        let (what, help) = (found.what, found.help);
        return Err(RepoError::Placeholder { what, help }.into());
    }
    parse(&bytes, limits)
}

fn parse(bytes: &[u8], limits: &Limits) -> Result<Index> {
    let state = State {
        limits,
        fault: RefCell::default(),
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = Document(&state)
        .deserialize(&mut json)
        .and_then(|index| json.end().map(|()| index));
    parsed.map_err(|error| match state.fault.into_inner() {
        Some(fault) => fault,
        None => RepoError::Index {
            why: error.to_string(),
        }
        .into(),
    })
}

/// What the visitors share. `serde` errors carry text only, so the house's errors go around it.
struct State<'a> {
    limits: &'a Limits,
    fault: RefCell<Option<Error>>,
}

impl State<'_> {
    fn fail<E: de::Error>(&self, error: impl Into<Error>) -> E {
        self.fault.borrow_mut().get_or_insert(error.into());
        E::custom("see fault")
    }

    fn check<E: de::Error>(&self, what: &'static str, found: usize, limit: u64) -> Result<(), E> {
        Limits::check(what, found as u64, limit).map_err(|error| self.fail(error))
    }
}

struct Document<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Index, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let mut found: Option<Index> = None;
        let mut texts = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "weight_map" => {
                    let index = map.next_value_seed(WeightMap(self.0))?;
                    if found.replace(index).is_some() {
                        return Err(de::Error::duplicate_field("weight_map"));
                    }
                }
                "metadata" => texts = map.next_value_seed(Texts(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let mut index = found.ok_or_else(|| de::Error::missing_field("weight_map"))?;
        index.texts = texts;
        Ok(index)
    }
}

struct WeightMap<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Index, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weight_map to be an object of file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let (state, limits) = (self.0, self.0.limits);
        // Files by their name, each with the order in which it was seen.
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut tensors: Vec<(String, usize)> = Vec::new();
        while let Some((tensor, file)) = map.next_entry::<String, String>()? {
            state.check("bytes of a name", tensor.len(), limits.name_bytes)?;
            state.check("tensors of the index", tensors.len() + 1, limits.tensors)?;
            let number = if let Some(number) = seen.get(&file) {
                *number
            } else {
                check_name(&file).map_err(|error| state.fail(error))?;
                state.check("files of the index", seen.len() + 1, MAX_FILES)?;
                let number = seen.len();
                seen.insert(file, number);
                number
            };
            tensors.push((tensor, number));
        }
        let sorted: HashMap<usize, usize> = seen.values().copied().zip(0..).collect();
        for (_, number) in &mut tensors {
            *number = sorted.get(number).copied().unwrap_or(*number);
        }
        Ok(Index {
            files: seen.into_keys().collect(),
            tensors,
            texts: Vec::new(),
        })
    }
}

/// The entries of `metadata` whose values are texts; the others, sizes and counts, are not needed.
struct Texts<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata to be an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        let mut held = 0usize;
        while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
            let Some(value) = value else { continue };
            held = held.saturating_add(PAIR_COST + key.len() + value.len());
            self.0
                .check("bytes of metadata", held, self.0.limits.held_bytes)?;
            texts.push((key, value));
        }
        Ok(texts)
    }
}

/// A text, or anything else, which is looked at and forgotten.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        parse(text.as_bytes(), &Limits::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn files_are_sorted_and_texts_kept() {
        let text = r#"{"metadata":{"total_size":9,"lm_head":"embed"},"other":[[]],
            "weight_map":{"a":"2.bin","b":"1.bin","c":"2.bin"}}"#;
        let index = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(index.files, ["1.bin", "2.bin"]);
        let tensors: Vec<_> = index
            .tensors
            .iter()
            .map(|(n, f)| (n.as_str(), *f))
            .collect();
        assert_eq!(tensors, [("a", 1), ("b", 0), ("c", 1)]);
        assert_eq!(index.texts, [("lm_head".to_owned(), "embed".to_owned())]);
    }

    #[test]
    fn bad_indexes_are_refused() {
        assert!(words("{}").contains("weight_map"));
        assert!(words(r#"{"weight_map":{"a":1}}"#).contains("expected a string"));
        assert!(words(r#"{"weight_map":{"a":"../x.bin"}}"#).contains("leaves the folder"));
        assert!(words(r#"{"weight_map":{"a":"/etc/passwd"}}"#).contains("plain relative"));
        assert!(words(r#"{"weight_map":{"a":"x.bin"}}, {}"#).contains("trailing"));
        assert!(words(&format!("{{\"metadata\":{}", "[".repeat(500))).contains("not what"));
        assert!(words(&format!("{{\"metadata\":{{\"a\":{}", "[".repeat(500))).contains("EOF"));
        assert!(words(&format!("{{\"x\":{}", "[".repeat(1_000_000))).contains("EOF"));
    }
}
