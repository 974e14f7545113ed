//! bitsandbytes in four bits: codes into a table of sixteen values, a magnitude for each block.
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `weight` | bytes of any type | two codes a byte, the first in the high nibble |
//! | `weight.quant_map` | `[16]` | the values of the codes: NF4 or FP4 |
//! | `weight.absmax` | `[blocks]` | F32, or codes of eight bits where it is quantized again |
//! | `weight.nested_quant_map` | `[256]` | the values of those |
//! | `weight.nested_absmax` | `[blocks / nested_blocksize]` | their magnitudes |
//! | `weight.quant_state.bitsandbytes__nf4` | bytes | JSON: shape, type, block sizes, `nested_offset` |
//!
//! A weight is `quant_map[code] * absmax` in F32, rounded to the type the JSON names; a magnitude
//! that is quantized again is `nested_quant_map[code] * nested_absmax + nested_offset`.

use crate::UnpackError;
use crate::read::{expect, floats, misfit, size};
use crate::rows::{Rows, decoded};
use ir::{DType, Limits, Result, Tensor, TensorSpec, View};
use serde_json::Value;
use std::ops::Range;

/// Longest JSON that is read; real ones have 200 bytes.
const STATE_MAX: u64 = 64 << 10;

pub(crate) struct Parts<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) map: &'a Tensor,
    pub(crate) absmax: &'a Tensor,
    pub(crate) state: &'a Tensor,
    /// The magnitudes' own table and magnitudes.
    pub(crate) nested: Option<[&'a Tensor; 2]>,
}

/// How the magnitudes themselves are packed.
struct Nested {
    map: Vec<f32>,
    absmax: Tensor,
    block: u64,
    offset: f32,
}

struct Bnb {
    /// Codes, magnitudes, and the magnitudes of magnitudes.
    inputs: Vec<Tensor>,
    codes: Tensor,
    absmax: Tensor,
    map: Vec<f32>,
    nested: Option<Nested>,
    block: u64,
    columns: u64,
    elements: u64,
}

pub(crate) fn bnb(parts: &Parts<'_>) -> Result<Tensor> {
    let state = State::of(parts.state)?;
    let elements = state
        .shape
        .iter()
        .try_fold(1u64, |n, dim| n.checked_mul(*dim));
    let Some(elements) = elements else {
        return Err(state.wrong("shape", "sizes"));
    };
    let codes = as_bytes(parts.weight)?;
    if codes.spec.elements() != Some(elements.div_ceil(2)) {
        let wanted = format!("two codes a byte for a weight of shape {:?}", state.shape);
        return Err(misfit(parts.weight, wanted));
    }
    let blocks = elements.div_ceil(state.block);
    expect(parts.map, &[DType::F32], &[16])?;
    let nested = match parts.nested {
        None => {
            expect(
                parts.absmax,
                &[DType::F32, DType::F16, DType::BF16],
                &[blocks],
            )?;
            None
        }
        Some([map, absmax]) => {
            let block = state.number("nested_blocksize")?;
            expect(parts.absmax, &[DType::U8], &[blocks])?;
            expect(map, &[DType::F32], &[256])?;
            expect(absmax, &[DType::F32], &[blocks.div_ceil(block)])?;
            let offset = state.json.get("nested_offset").and_then(Value::as_f64);
            let Some(offset) = offset else {
                return Err(state.wrong("nested_offset", "a number"));
            };
            #[allow(clippy::cast_possible_truncation)] // it was an F32 before it was text
            let offset = offset as f32;
            Some(Nested {
                map: floats(map, 0..256)?,
                absmax: absmax.clone(),
                block,
                offset,
            })
        }
    };
    let mut inputs = vec![codes.clone(), parts.absmax.clone()];
    inputs.extend(nested.as_ref().map(|nested| nested.absmax.clone()));
    let rows = Bnb {
        inputs,
        codes,
        absmax: parts.absmax.clone(),
        map: floats(parts.map, 0..16)?,
        nested,
        block: state.block,
        columns: state.shape.last().copied().unwrap_or(1),
        elements,
    };
    decoded(parts.weight.name.clone(), state.dtype, state.shape, rows)
}

/// What the JSON beside a weight says.
struct State<'a> {
    tensor: &'a Tensor,
    json: Value,
    shape: Vec<u64>,
    dtype: DType,
    block: u64,
}

impl<'a> State<'a> {
    fn of(tensor: &'a Tensor) -> Result<Self> {
        if tensor.spec.dtype != DType::U8 {
            return Err(misfit(tensor, "bytes of JSON"));
        }
        Limits::check(
            "bytes of a quantization state",
            tensor.byte_len(),
            STATE_MAX,
        )
        .map_err(|error| error.at(format!("tensor {:?}", tensor.name)))?;
        let mut state = Self {
            tensor,
            json: Value::Null,
            shape: Vec::new(),
            dtype: DType::F32,
            block: 0,
        };
        state.json = serde_json::from_slice(&tensor.read_all()?).map_err(|error| {
            let what = format!("not JSON: {error}");
            let tensor = tensor.name.clone();
            UnpackError::Value { tensor, what }
        })?;
        let shape = state.json.get("shape").and_then(Value::as_array);
        let sizes = shape.and_then(|list| list.iter().map(Value::as_u64).collect());
        let Some(sizes) = sizes else {
            return Err(state.wrong("shape", "a list of sizes"));
        };
        state.shape = sizes;
        state.dtype = match state.json.get("dtype").and_then(Value::as_str) {
            Some("float32") => DType::F32,
            Some("float16") => DType::F16,
            Some("bfloat16") => DType::BF16,
            _ => return Err(state.wrong("dtype", "float32, float16 or bfloat16")),
        };
        state.block = state.number("blocksize")?;
        Ok(state)
    }

    fn number(&self, key: &'static str) -> Result<u64> {
        let value = self.json.get(key).and_then(Value::as_u64);
        value
            .filter(|n| *n > 0)
            .ok_or_else(|| self.wrong(key, "a positive number"))
    }

    fn wrong(&self, key: &str, wanted: &str) -> ir::Error {
        let found = self
            .json
            .get(key)
            .map_or("missing".to_owned(), Value::to_string);
        let what = format!("{key:?} is {found}, expected {wanted}");
        let tensor = self.tensor.name.clone();
        UnpackError::Value { tensor, what }.into()
    }
}

/// A tensor's bytes: codes are stored under any type of the right size.
fn as_bytes(tensor: &Tensor) -> Result<Tensor> {
    let Some(region) = tensor.as_plain() else {
        return Err(misfit(tensor, "bytes as they are stored"));
    };
    let spec = TensorSpec::new(DType::U8, [tensor.byte_len()]);
    Ok(Tensor::stored(
        tensor.name.clone(),
        spec,
        View::contiguous(region),
    ))
}

impl Bnb {
    /// The magnitudes of some blocks.
    fn magnitudes(&self, blocks: Range<u64>) -> Result<Vec<f32>> {
        let Some(nested) = &self.nested else {
            return floats(&self.absmax, blocks);
        };
        let mut codes = vec![0; size(blocks.end - blocks.start)];
        self.absmax.read(blocks.clone(), &mut codes)?;
        let first = blocks.start / nested.block;
        let scales = floats(&nested.absmax, first..blocks.end.div_ceil(nested.block))?;
        let value = |(block, code): (u64, u8)| {
            let scale = scales.get(size(block / nested.block - first)).copied();
            let value = nested
                .map
                .get(usize::from(code))
                .copied()
                .unwrap_or(f32::NAN);
            value * scale.unwrap_or(f32::NAN) + nested.offset
        };
        Ok(blocks.zip(codes).map(value).collect())
    }
}

impl Rows for Bnb {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "bitsandbytes"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let elements = rows.start * self.columns..(rows.end * self.columns).min(self.elements);
        let (first, last) = (elements.start / 2, elements.end.div_ceil(2));
        let mut bytes = vec![0; size(last - first)];
        self.codes.read(first..last, &mut bytes)?;
        let block = elements.start / self.block;
        let magnitudes = self.magnitudes(block..elements.end.div_ceil(self.block))?;
        for (element, value) in elements.zip(out) {
            let byte = bytes.get(size(element / 2 - first)).copied().unwrap_or(0);
            let code = if element.is_multiple_of(2) {
                byte >> 4
            } else {
                byte & 15
            };
            let magnitude = magnitudes.get(size(element / self.block - block)).copied();
            let number = self.map.get(usize::from(code)).copied().unwrap_or(f32::NAN);
            *value = number * magnitude.unwrap_or(f32::NAN);
        }
        Ok(())
    }
}
