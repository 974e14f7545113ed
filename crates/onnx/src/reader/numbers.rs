//! The typed fields of numbers: `float_data` and its kind.
//!
//! Packed floats are the tensor's very bytes and stay in the file. Packed integers are varints of
//! any length: a short list is unpacked when the model is opened, a long one is counted then and
//! unpacked chunk by chunk when the tensor is read.

use super::source::{Content, Field, Source, Span};
use super::state::State;
use super::tensor::mismatch;
use crate::OnnxError;
use ir::{Compute, DType, Payload, Region, Result, Tensor, TensorSpec, View};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of varints that are unpacked at once when a model is opened.
const SHORT: u64 = 64 << 10;
/// Numbers between two places of a long list that are remembered.
const STRIDE: u64 = 16 << 10;

/// The content of a typed field, as often as it stands in a tensor.
#[derive(Default)]
pub(super) struct Numbers {
    packed: Vec<Span>,
    /// Numbers sent one by one, as bits; only in files of very old or odd writers.
    single: Vec<u64>,
}

impl Numbers {
    pub(super) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.packed.iter().all(|span| span.len() == 0)
    }

    pub(super) fn add(&mut self, field: Field, state: &mut State<'_>) -> Result<()> {
        state.hold(8)?;
        match field.content {
            Content::Span(span) => self.packed.push(span),
            Content::Varint(bits) | Content::Fixed64(bits) => self.single.push(bits),
            Content::Fixed32(bits) => self.single.push(bits.into()),
        }
        Ok(())
    }
}

/// How many bytes a number of a field makes, and how many elements; `None` if the field is not
/// where the type's data belongs.
fn unit(field: &str, dtype: DType) -> Option<(usize, u64)> {
    Some(match (field, dtype) {
        ("float_data", DType::F32 | DType::C64)
        | ("int32_data", DType::I32)
        | ("uint64_data", DType::U32) => (4, 1),
        ("double_data", DType::F64 | DType::C128)
        | ("int64_data", DType::I64)
        | ("uint64_data", DType::U64) => (8, 1),
        ("int32_data", DType::I16 | DType::U16 | DType::F16 | DType::BF16) => (2, 1),
        (
            "int32_data",
            DType::I8
            | DType::U8
            | DType::Bool
            | DType::F8E4M3
            | DType::F8E4M3Fnuz
            | DType::F8E5M2
            | DType::F8E5M2Fnuz
            | DType::F8E8M0
            | DType::F6E2M3
            | DType::F6E3M2,
        ) => (1, 1),
        // A number is a byte, as many elements as are packed into it.
        ("int32_data", DType::I4 | DType::U4 | DType::F4E2M1) => (1, 2),
        ("int32_data", DType::I2 | DType::U2) => (1, 4),
        _ => return None,
    })
}

/// The payload of a typed field.
pub(super) fn payload(
    state: &mut State<'_>,
    numbers: &Numbers,
    field: &'static str,
    spec: TensorSpec,
) -> Result<(TensorSpec, Payload)> {
    let (width, per) = unit(field, spec.dtype).ok_or_else(|| OnnxError::Contradiction {
        what: format!("it is of {} and has {field}", spec.dtype),
    })?;
    let parts = spec.dtype.complex_part().map_or(1, |_| 2);
    let elements = spec.elements().unwrap_or(0).checked_mul(parts);
    let expected = elements.ok_or(OnnxError::NoSize {
        dtype: spec.dtype,
        shape: spec.shape.clone(),
    })?;
    let expected = expected.div_ceil(per);
    let float = field == "float_data" || field == "double_data";
    if let ([span], [], true) = (&numbers.packed[..], &numbers.single[..], float) {
        let (len, wanted) = (span.len(), expected.saturating_mul(width as u64));
        if len != wanted {
            return Err(mismatch(spec, wanted, "bytes", field, len));
        }
        let view = View::contiguous(state.source.region(*span)?);
        return Ok((spec, Payload::Stored(view)));
    }
    let six = matches!(spec.dtype, DType::F6E2M3 | DType::F6E3M2);
    if let ([span], [], false) = (&numbers.packed[..], &numbers.single[..], six)
        && span.len() > SHORT
    {
        let region = state.source.region(*span)?;
        let list = Varints::index(region, width, per, spec.clone(), field, expected)?;
        return Ok((spec, Payload::Computed(Arc::new(list))));
    }
    let mut bytes = Vec::new();
    let mut found = 0u64;
    for bits in &numbers.single {
        fits(*bits, field, found, spec.dtype)?;
        push(&mut bytes, *bits, width, spec.dtype);
        found += 1;
    }
    for span in &numbers.packed {
        state.hold(span.len().saturating_mul(width as u64))?;
        if float {
            bytes.extend(state.source.bytes(*span)?);
            found = (bytes.len() / width) as u64;
        } else {
            let mut span = *span;
            while span.at < span.end {
                let bits = state.source.varint(&mut span)?;
                fits(bits, field, found, spec.dtype)?;
                push(&mut bytes, bits, width, spec.dtype);
                found += 1;
            }
        }
    }
    if found != expected || bytes.len() as u64 != expected.saturating_mul(width as u64) {
        return Err(mismatch(spec, expected, "numbers", field, found));
    }
    if six {
        bytes = pack_six(&bytes);
    }
    let view = View::contiguous(Region::memory(bytes));
    Ok((spec, Payload::Stored(view)))
}

/// The numbers that a type's elements have in a field that holds wider ones. Types smaller than a
/// byte are packed into bytes, which some writers take for signed ones.
fn range(field: &str, dtype: DType) -> Option<(i64, i64)> {
    Some(match (field, dtype) {
        ("uint64_data", DType::U32) => (0, u32::MAX.into()),
        ("int32_data", DType::I32) => return None,
        ("int32_data", DType::I16) => (i16::MIN.into(), i16::MAX.into()),
        ("int32_data", DType::U16 | DType::F16 | DType::BF16) => (0, u16::MAX.into()),
        ("int32_data", DType::I8) => (i8::MIN.into(), i8::MAX.into()),
        ("int32_data", DType::Bool) => (0, 1),
        ("int32_data", DType::F6E2M3 | DType::F6E3M2) => (0, 63),
        ("int32_data", DType::I4 | DType::U4 | DType::F4E2M1 | DType::I2 | DType::U2) => {
            (i8::MIN.into(), u8::MAX.into())
        }
        ("int32_data", _) => (0, u8::MAX.into()),
        _ => return None,
    })
}

/// Whether a number is one that an element can be: runtimes would cut it, each in its own way.
fn fits(bits: u64, field: &'static str, at: u64, dtype: DType) -> Result<()> {
    let Some((least, most)) = range(field, dtype) else {
        return Ok(());
    };
    let found = match field {
        // Protobuf takes the low half of what is longer.
        "int32_data" => {
            let [a, b, c, d, ..] = bits.to_le_bytes();
            i64::from(i32::from_le_bytes([a, b, c, d]))
        }
        _ => i64::try_from(bits).unwrap_or(i64::MAX),
    };
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(OnnxError::OutOfRange {
        dtype,
        field,
        at,
        found,
        least,
        most,
    }
    .into())
}

fn push(out: &mut Vec<u8>, bits: u64, width: usize, dtype: DType) {
    let bits = if dtype == DType::Bool {
        u64::from(bits != 0)
    } else {
        bits
    };
    let bytes = bits.to_le_bytes();
    out.extend(bytes.get(..width).unwrap_or(&bytes));
}

/// Six bits a number, the first in the lowest bits: four numbers in three bytes.
fn pack_six(codes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity((codes.len() * 6).div_ceil(8));
    let (mut held, mut bits) = (0u32, 0);
    for code in codes {
        held |= u32::from(code & 0x3f) << bits;
        bits += 6;
        while bits >= 8 {
            out.push(held.to_le_bytes()[0]);
            held >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(held.to_le_bytes()[0]);
    }
    out
}

/// A long list of varints in the file.
struct Varints {
    region: Region,
    spec: TensorSpec,
    /// Bytes that a number makes.
    width: usize,
    /// Elements that a number holds.
    per: u64,
    label: &'static str,
    /// Where every [`STRIDE`]th number begins.
    places: Vec<u64>,
}

impl Varints {
    /// Walks the list once, counting.
    fn index(
        region: Region,
        width: usize,
        per: u64,
        spec: TensorSpec,
        label: &'static str,
        expected: u64,
    ) -> Result<Self> {
        const CHUNK: u64 = 256 << 10;
        let mut places = Vec::new();
        let (mut found, mut at, mut fresh) = (0u64, 0u64, true);
        let (mut length, mut bits) = (0u32, 0u64);
        let mut buffer = Vec::new();
        while at < region.len() {
            let n = CHUNK.min(region.len() - at);
            buffer.resize(usize::try_from(n).unwrap_or(0), 0);
            region.read_at(at, &mut buffer)?;
            for byte in &buffer {
                if fresh && found.is_multiple_of(STRIDE) {
                    places.push(at);
                }
                (length, bits) = if fresh { (1, 0) } else { (length + 1, bits) };
                bits |= u64::from(byte & 0x7f)
                    .checked_shl((length - 1) * 7)
                    .unwrap_or(0);
                fresh = byte & 0x80 == 0;
                if fresh {
                    fits(bits, label, found, spec.dtype)?;
                }
                found += u64::from(fresh);
                at += 1;
                if length > 10 {
                    let at = region.start().saturating_add(at);
                    let why = "a number of more than 64 bits".to_owned();
                    return Err(OnnxError::Encoding { at, why }.into());
                }
            }
        }
        if found != expected || !fresh {
            return Err(mismatch(spec, expected, "numbers", label, found));
        }
        Ok(Self {
            region,
            spec,
            width,
            per,
            label,
            places,
        })
    }
}

impl Compute for Varints {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &[]
    }

    fn label(&self) -> &str {
        self.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let first = elements.start / self.per;
        let place = usize::try_from(first / STRIDE).unwrap_or(usize::MAX);
        let start = self.places.get(place).copied().unwrap_or(0);
        let tail = self.region.tail(start)?;
        let mut source = Source::new(tail);
        let mut span = source.whole();
        for _ in 0..first % STRIDE {
            source.varint(&mut span)?;
        }
        let mut bytes = Vec::with_capacity(8);
        for number in out.chunks_mut(self.width) {
            bytes.clear();
            let bits = source.varint(&mut span)?;
            push(&mut bytes, bits, self.width, self.spec.dtype);
            number.copy_from_slice(bytes.get(..number.len()).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_are_packed_from_the_lowest() {
        assert_eq!(pack_six(&[0x3f, 0, 0, 0]), [0x3f, 0, 0]);
        assert_eq!(pack_six(&[0, 0x3f, 0, 0]), [0xc0, 0x0f, 0]);
        assert_eq!(pack_six(&[0, 0, 0, 0x3f]), [0, 0, 0xfc]);
        assert_eq!(pack_six(&[1, 2, 3]), [0x81, 0x30, 0]);
    }

    #[test]
    fn long_lists_are_read_from_anywhere() {
        let count = 100_000u64;
        let value = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 60);
        let mut bytes = Vec::new();
        for n in 0..count {
            let mut rest = value(n);
            while rest >= 0x80 {
                bytes.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            bytes.push(rest.to_le_bytes()[0]);
        }
        let region = Region::memory(bytes);
        let spec = TensorSpec::new(DType::I64, [count]);
        let list = Varints::index(region.clone(), 8, 1, spec.clone(), "int64_data", count).unwrap();
        for start in [0, 1, 16_383, 16_384, 50_001, 99_990] {
            let end = (start + 20_000).min(count);
            let mut out = vec![0; usize::try_from((end - start) * 8).unwrap()];
            list.read(start..end, &mut out).unwrap();
            for (n, found) in (start..end).zip(out.as_chunks::<8>().0) {
                assert_eq!(u64::from_le_bytes(*found), value(n), "{n}");
            }
        }
        assert!(Varints::index(region, 8, 1, spec, "int64_data", count + 1).is_err());
    }
}
