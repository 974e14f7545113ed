//! The JSON header, parsed entry by entry: order kept, duplicates seen, caps held while parsing.

use super::Oddity;
use crate::StError;
use crate::wire::{LENGTH_LEN, METADATA_KEY, dtype_of_name};
use ir::{Error, Limits, Result, Shape, TensorSpec};
use safetensors::Dtype;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// Bytes a metadata pair takes in memory beside its text, so that millions of empty ones count.
const PAIR_COST: usize = 64;

/// What a header says, in its order.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// The tensors.
    pub(crate) tensors: Vec<Entry>,
    /// The pairs of `__metadata__`.
    pub(crate) metadata: Vec<(String, String)>,
}

/// A tensor of a header.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// Its type in the reference library.
    pub(crate) wire: Dtype,
    /// Its type and shape.
    pub(crate) spec: TensorSpec,
    /// First byte, counted from the start of the buffer.
    pub(crate) begin: u64,
    /// One past its last byte.
    pub(crate) end: u64,
}

/// Parses the bytes of a header.
pub(crate) fn parse(bytes: &[u8], limits: &Limits, odd: &mut Vec<Oddity>) -> Result<Header> {
    let text = std::str::from_utf8(bytes).map_err(|error| StError::HeaderText {
        at: LENGTH_LEN + error.valid_up_to() as u64,
    })?;
    let object = text.trim_ascii_start();
    let start = text.len() - object.len();
    if !object.starts_with('{') {
        let found = object.chars().next();
        return Err(StError::HeaderJson {
            why: found.map_or_else(
                || "it is empty".to_owned(),
                |c| format!("it begins with {c:?}, not with '{{'"),
            ),
            at: Some(LENGTH_LEN + start as u64),
        }
        .into());
    }
    if start > 0 {
        odd.push(Oddity {
            place: format!("byte {LENGTH_LEN}"),
            what: format!("{start} spaces or line ends stand before the header's '{{'"),
        });
    }
    let state = State {
        limits,
        fault: RefCell::default(),
        tensor: RefCell::default(),
        odd: RefCell::default(),
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = HeaderSeed(&state)
        .deserialize(&mut json)
        .and_then(|header| json.end().map(|()| header));
    odd.append(&mut state.odd.borrow_mut());
    match parsed {
        Ok(header) => Ok(header),
        Err(error) => Err(state.explain(&error, text)),
    }
}

/// What the visitors share. `serde` errors carry text only, so the house's errors go around it.
struct State<'a> {
    limits: &'a Limits,
    fault: RefCell<Option<Error>>,
    tensor: RefCell<Option<String>>,
    odd: RefCell<Vec<Oddity>>,
}

impl State<'_> {
    /// Ends the parse with `error`.
    fn fail<E: de::Error>(&self, error: impl Into<Error>) -> E {
        self.fault.borrow_mut().get_or_insert(error.into());
        E::custom("see fault")
    }

    fn check<E: de::Error>(&self, what: &'static str, found: usize, limit: u64) -> Result<(), E> {
        Limits::check(what, found as u64, limit).map_err(|error| self.fail(error))
    }

    fn explain(self, error: &serde_json::Error, text: &str) -> Error {
        if let Some(fault) = self.fault.into_inner() {
            return fault;
        }
        let line_start = text
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum::<usize>();
        let offset = line_start + error.column().saturating_sub(1);
        let words = error.to_string();
        let why = words.split(" at line ").next().unwrap_or_default();
        let why = match self.tensor.into_inner() {
            Some(name) => format!("tensor {name:?}: {why}"),
            None => why.to_owned(),
        };
        StError::HeaderJson {
            why,
            at: Some(LENGTH_LEN + offset as u64),
        }
        .into()
    }
}

struct HeaderSeed<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Header, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let state = self.0;
        let mut header = Header::default();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                let pairs = map.next_value_seed(MetadataSeed(state))?;
                if metadata.replace(pairs).is_some() {
                    return Err(state.fail(StError::DuplicateKey { key: name }));
                }
                continue;
            }
            state.check("bytes of a name", name.len(), state.limits.name_bytes)?;
            let n = header.tensors.len() + 1;
            state.check("tensors", n, state.limits.tensors)?;
            match map.next_value_seed(EntrySeed { state, name: &name }) {
                Ok((wire, spec, (begin, end))) => header.tensors.push(Entry {
                    name,
                    wire,
                    spec,
                    begin,
                    end,
                }),
                Err(error) => {
                    state.tensor.replace(Some(name));
                    return Err(error);
                }
            }
        }
        header.metadata = metadata.unwrap_or_default();
        Ok(header)
    }
}

/// `__metadata__`: an object of strings, or `null`, which the reference library takes for none.
struct MetadataSeed<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("__metadata__ to be an object of strings")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut held = 0usize;
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            held = held.saturating_add(PAIR_COST + key.len() + value.len());
            self.0
                .check("bytes of metadata", held, self.0.limits.held_bytes)?;
            pairs.push((key, value));
        }
        let mut seen = HashSet::new();
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            return Err(self.0.fail(StError::DuplicateKey { key: key.clone() }));
        }
        Ok(pairs)
    }
}

/// One tensor: `dtype`, `shape`, `data_offsets`. Other fields are ignored, as by the reference.
struct EntrySeed<'a> {
    state: &'a State<'a>,
    name: &'a str,
}

type Facts = (Dtype, TensorSpec, (u64, u64));

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = Facts;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Facts, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = Facts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Facts, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let again = match field.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_some(),
                "shape" => shape
                    .replace(map.next_value_seed(ShapeSeed(self.state))?)
                    .is_some(),
                "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_some(),
                _ => {
                    map.next_value::<Anything>()?;
                    self.unknown_field(&field);
                    false
                }
            };
            if again {
                return Err(de::Error::custom(format_args!(
                    "field {field:?} is there twice"
                )));
            }
        }
        let missing = de::Error::missing_field;
        let dtype = dtype.ok_or_else(|| missing("dtype"))?;
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let offsets = offsets.ok_or_else(|| missing("data_offsets"))?;
        let (wire, dtype) = dtype_of_name(&dtype).ok_or_else(|| {
            self.state.fail(StError::UnknownDtype {
                name: self.name.to_owned(),
                found: dtype,
            })
        })?;
        Ok((wire, TensorSpec::new(dtype, shape), offsets))
    }
}

impl EntrySeed<'_> {
    fn unknown_field(&self, field: &str) {
        // A few tell enough.
        const ENOUGH: usize = 16;
        let mut odd = self.state.odd.borrow_mut();
        if odd.len() < ENOUGH {
            odd.push(Oddity {
                place: format!("tensor {:?}", self.name),
                what: format!("it has a field {field:?} that the format does not know"),
            });
        }
    }
}

struct ShapeSeed<'a>(&'a State<'a>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Shape, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut dims: Vec<u64> = Vec::new();
        while let Some(dim) = list.next_element()? {
            let n = dims.len() + 1;
            self.0.check("dimensions", n, self.0.limits.rank)?;
            dims.push(dim);
        }
        Ok(Shape::new(dims))
    }
}

/// Any value, looked at and forgotten. Unlike serde's own `IgnoredAny` it keeps to the parser's
/// limit of 128 levels, as the reference does for the fields it ignores.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
