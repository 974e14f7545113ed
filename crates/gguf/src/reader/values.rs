//! Key-value pairs.

use super::cursor::Cursor;
use crate::GgufError;
use crate::wire::ValueType;
use bytes::Bytes;
use ir::{Array, ByteOrder, Limits, MetaValue, Result};
use std::collections::HashSet;

/// Most strings and arrays inside arrays that one file may make a reader hold; each takes some 32
/// bytes beside the file's own. Gemma's vocabulary and its merges are 800,000.
const PARTS_MAX: u64 = 2_000_000;
/// Most pairs; each takes some 130 bytes. Real files have below 100, those with a note for each
/// tensor as many as there are tensors.
const PAIRS_MAX: u64 = 262_144;

/// How deep arrays may nest, whatever the limit: reading and dropping them recurses.
const DEPTH_MAX: u64 = 512;

const KEY: &str = "the length of the key";
const VALUE: &str = "the value";
const STRING: &str = "the length of the string";
const COUNT: &str = "the number of elements";

/// A pair as the file has it.
pub(crate) type Pair = (String, MetaValue);

/// Keys with a bool of a byte other than 0 and 1, which the specification does not allow. ggml and
/// gguf-py read it as true.
#[derive(Debug, Clone)]
pub(crate) struct OddBools {
    /// The first such key.
    pub(crate) key: String,
    /// Its byte, the first of a list.
    pub(crate) byte: u8,
    /// How many keys.
    pub(crate) n: u64,
}

/// What the values of one file may still take, and how deep they may nest.
struct Budget {
    parts: u64,
    depth: u64,
    /// The first bool of the value that is neither 0 nor 1.
    odd_bool: Option<u8>,
}

/// Reads `n` pairs.
pub(super) fn pairs(
    cursor: &mut Cursor<'_>,
    n: usize,
    limits: &Limits,
) -> Result<(Vec<Pair>, Option<OddBools>)> {
    Limits::check("keys", n as u64, limits.entries.min(PAIRS_MAX))?;
    let mut budget = Budget {
        parts: 0,
        depth: limits.depth.min(DEPTH_MAX),
        odd_bool: None,
    };
    let mut odd: Option<OddBools> = None;
    let mut seen = HashSet::with_capacity(n);
    let mut pairs = Vec::with_capacity(n);
    for number in 0..n {
        let offset = cursor.position();
        let raw = cursor
            .text(KEY, "the key")
            .map_err(|error| error.at(format!("key {number}, byte {offset}")))?;
        if raw.is_empty() {
            return Err(GgufError::EmptyKey { offset }.into());
        }
        let key = String::from_utf8_lossy(&raw).into_owned();
        Limits::check("bytes of a key", key.len() as u64, limits.name_bytes)?;
        if !seen.insert(raw) {
            return Err(GgufError::DuplicateKey { key, offset }.into());
        }
        let value =
            value(cursor, &key, &mut budget).map_err(|error| error.at(format!("key {key:?}")))?;
        if let Some(byte) = budget.odd_bool.take() {
            if let Some(odd) = &mut odd {
                odd.n += 1;
            } else {
                let key = key.clone();
                odd = Some(OddBools { key, byte, n: 1 });
            }
        }
        pairs.push((key, value));
    }
    Ok((pairs, odd))
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType> {
    let offset = cursor.position();
    let found = cursor.u32("the value type")?;
    ValueType::of_id(found).ok_or_else(|| {
        GgufError::BadValueType {
            key: key.to_owned(),
            offset,
            found,
        }
        .into()
    })
}

fn value(cursor: &mut Cursor<'_>, key: &str, budget: &mut Budget) -> Result<MetaValue> {
    Ok(match value_type(cursor, key)? {
        ValueType::U8 => MetaValue::U8(cursor.u8(VALUE)?),
        ValueType::I8 => MetaValue::I8(cursor.i8(VALUE)?),
        ValueType::U16 => MetaValue::U16(cursor.u16(VALUE)?),
        ValueType::I16 => MetaValue::I16(cursor.i16(VALUE)?),
        ValueType::U32 => MetaValue::U32(cursor.u32(VALUE)?),
        ValueType::I32 => MetaValue::I32(cursor.i32(VALUE)?),
        ValueType::U64 => MetaValue::U64(cursor.u64(VALUE)?),
        ValueType::I64 => MetaValue::I64(cursor.i64(VALUE)?),
        ValueType::F32 => MetaValue::F32(f32::from_bits(cursor.u32(VALUE)?)),
        ValueType::F64 => MetaValue::F64(f64::from_bits(cursor.u64(VALUE)?)),
        ValueType::Bool => MetaValue::Bool(budget.bool(cursor.u8(VALUE)?)),
        ValueType::Str => MetaValue::Str(own(cursor.string(STRING)?)),
        ValueType::Array => MetaValue::Array(array(cursor, key, budget, 1)?),
    })
}

/// A lone string: a short one is copied, lest it keep a whole window in memory.
fn own(bytes: Bytes) -> Bytes {
    if bytes.len() < 4096 {
        Bytes::copy_from_slice(&bytes)
    } else {
        bytes
    }
}

/// Reads `n` numbers of a width that is also their least size in the file.
macro_rules! numbers {
    ($cursor:expr, $type:ty) => {{
        const WIDTH: usize = size_of::<$type>();
        let n = $cursor.count(COUNT, WIDTH as u64)?;
        // `count` has held the product against the file's length.
        let raw = $cursor.take(n.saturating_mul(WIDTH), "the array")?;
        let chunks = raw.as_chunks::<WIDTH>().0.iter();
        match $cursor.order {
            ByteOrder::Little => chunks.map(|b| <$type>::from_le_bytes(*b)).collect(),
            ByteOrder::Big => chunks.map(|b| <$type>::from_be_bytes(*b)).collect(),
        }
    }};
}

/// Reads an array, `depth` deep. The recursion is bounded, and its frames are small: what is no
/// array of arrays is read elsewhere.
fn array(cursor: &mut Cursor<'_>, key: &str, budget: &mut Budget, depth: u64) -> Result<Array> {
    Limits::check("nested arrays", depth, budget.depth)?;
    let kind = value_type(cursor, key)?;
    if kind != ValueType::Array {
        return flat(cursor, kind, budget);
    }
    let n = cursor.count(COUNT, if cursor.wide { 12 } else { 8 })?;
    budget.spend(n)?;
    let mut arrays = Vec::with_capacity(n);
    for _ in 0..n {
        arrays.push(array(cursor, key, budget, depth + 1)?);
    }
    Ok(Array::Array(arrays))
}

#[inline(never)]
fn flat(cursor: &mut Cursor<'_>, kind: ValueType, budget: &mut Budget) -> Result<Array> {
    Ok(match kind {
        ValueType::U8 => Array::U8(numbers!(cursor, u8)),
        ValueType::I8 => Array::I8(numbers!(cursor, i8)),
        ValueType::U16 => Array::U16(numbers!(cursor, u16)),
        ValueType::I16 => Array::I16(numbers!(cursor, i16)),
        ValueType::U32 => Array::U32(numbers!(cursor, u32)),
        ValueType::I32 => Array::I32(numbers!(cursor, i32)),
        ValueType::U64 => Array::U64(numbers!(cursor, u64)),
        ValueType::I64 => Array::I64(numbers!(cursor, i64)),
        ValueType::F32 => Array::F32(numbers!(cursor, f32)),
        ValueType::F64 => Array::F64(numbers!(cursor, f64)),
        ValueType::Bool => {
            let n = cursor.count(COUNT, 1)?;
            let raw = cursor.take(n, "the array")?;
            Array::Bool(raw.iter().map(|byte| budget.bool(*byte)).collect())
        }
        ValueType::Str | ValueType::Array => {
            let n = cursor.count(COUNT, if cursor.wide { 8 } else { 4 })?;
            budget.spend(n)?;
            let mut strings = Vec::with_capacity(n);
            for _ in 0..n {
                strings.push(cursor.string(STRING)?);
            }
            Array::Str(strings)
        }
    })
}

impl Budget {
    /// The bool of a byte.
    fn bool(&mut self, byte: u8) -> bool {
        if byte > 1 {
            self.odd_bool.get_or_insert(byte);
        }
        byte != 0
    }

    fn spend(&mut self, n: usize) -> Result<()> {
        self.parts = self.parts.saturating_add(n as u64);
        Limits::check("strings and arrays in arrays", self.parts, PARTS_MAX)
    }
}

/// The least bytes of a pair: a key of one byte, a type, a value of one byte.
pub(super) fn least_len(wide: bool) -> u64 {
    if wide { 14 } else { 10 }
}
