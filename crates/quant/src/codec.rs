//! One contract for all block formats: rows of numbers to blocks of bytes and back.

use std::fmt;

use ir::{BlockFormat, DType};

use crate::cast::{CastStats, cast_at};
use crate::dispatch::Level;
use crate::scalar::{self, decode_blocks, encode_rows};

/// Why blocks were not made or read. Nothing useful has been written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuantError {
    /// The format can be read but not written here; see [`can_quantize`].
    Unsupported {
        /// The format asked for.
        format: BlockFormat,
    },
    /// The source type is not one numbers can be quantized from.
    Source {
        /// The type given.
        dtype: DType,
    },
    /// The format is only defined with an importance matrix; see [`requires_importance`].
    NeedsImportance {
        /// The format asked for.
        format: BlockFormat,
    },
    /// A row does not hold whole blocks.
    RowLength {
        /// The format asked for.
        format: BlockFormat,
        /// Elements a row.
        row_len: usize,
    },
    /// The importance matrix does not have one weight a column.
    ImportanceLength {
        /// Weights given.
        found: usize,
        /// Elements a row.
        row_len: usize,
    },
    /// Source and destination do not belong to the same whole number of rows or blocks.
    Length {
        /// The format asked for.
        format: BlockFormat,
        /// Elements on the number side.
        elements: usize,
        /// Bytes on the block side.
        bytes: usize,
    },
}

impl fmt::Display for QuantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { format } => write!(f, "quantizing to {format} is not supported"),
            Self::Source { dtype } => write!(f, "cannot quantize from {dtype}"),
            Self::NeedsImportance { format } => {
                write!(f, "{format} needs an importance matrix")
            }
            Self::RowLength { format, row_len } => write!(
                f,
                "a row of {row_len} elements does not hold whole {format} blocks of {}",
                format.elements()
            ),
            Self::ImportanceLength { found, row_len } => {
                write!(
                    f,
                    "{found} importance weights for rows of {row_len} elements"
                )
            }
            Self::Length {
                format,
                elements,
                bytes,
            } => write!(
                f,
                "{elements} elements and {bytes} bytes of {format} blocks do not belong together"
            ),
        }
    }
}

impl std::error::Error for QuantError {}

/// Which kernels run. The answer is the same bytes; only tests and benches choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The plain reference.
    Scalar,
    /// The lane kernels, compiled for this level, where a format has them.
    Lanes(Level),
}

impl Kernels {
    /// What the public functions use.
    pub fn best() -> Self {
        Self::Lanes(Level::detect())
    }

    const fn level(self) -> Option<Level> {
        match self {
            Self::Scalar => None,
            Self::Lanes(level) => Some(level),
        }
    }
}

/// Encodes whole blocks. The importance weights are one row long and divide the source evenly.
type Encode = fn(&[f32], Option<&[f32]>, &mut [u8]);
type Decode = fn(&[u8], &mut [f32]);

/// The kernels of one format.
struct Codec {
    encode: Option<Encode>,
    decode: Decode,
}

macro_rules! codec {
    ($module:ident, $encode:ident, $decode:ident) => {
        Codec {
            encode: Some(|x, importance, out| {
                encode_rows(x, importance, out, scalar::$module::$encode);
            }),
            decode: |blocks, y| decode_blocks(blocks, y, scalar::$module::$decode),
        }
    };
    ($module:ident, $decode:ident) => {
        Codec {
            encode: None,
            decode: |blocks, y| decode_blocks(blocks, y, scalar::$module::$decode),
        }
    };
}

const fn codec(format: BlockFormat) -> Option<Codec> {
    Some(match format {
        BlockFormat::Q4_0 => codec!(legacy, encode_q4_0, decode_q4_0),
        BlockFormat::Q4_1 => codec!(legacy, encode_q4_1, decode_q4_1),
        BlockFormat::Q5_0 => codec!(legacy, encode_q5_0, decode_q5_0),
        BlockFormat::Q5_1 => codec!(legacy, encode_q5_1, decode_q5_1),
        BlockFormat::Q8_0 => codec!(legacy, encode_q8_0, decode_q8_0),
        BlockFormat::Q8_1 => codec!(legacy, decode_q8_1),
        BlockFormat::Q2_K => codec!(kquants, encode_q2_k, decode_q2_k),
        BlockFormat::Q3_K => codec!(kquants, encode_q3_k, decode_q3_k),
        BlockFormat::Q4_K => codec!(kquants, encode_q4_k, decode_q4_k),
        BlockFormat::Q5_K => codec!(kquants, encode_q5_k, decode_q5_k),
        BlockFormat::Q6_K => codec!(kquants, encode_q6_k, decode_q6_k),
        BlockFormat::Q8_K => codec!(kquants, decode_q8_k),
        BlockFormat::IQ4_NL => codec!(iq4, encode_iq4_nl, decode_iq4_nl),
        BlockFormat::IQ4_XS => codec!(iq4, encode_iq4_xs, decode_iq4_xs),
        BlockFormat::TQ1_0 => codec!(ternary, encode_tq1_0, decode_tq1_0),
        BlockFormat::TQ2_0 => codec!(ternary, encode_tq2_0, decode_tq2_0),
        BlockFormat::MXFP4 => codec!(fp4, encode_mxfp4, decode_mxfp4),
        BlockFormat::NVFP4 => codec!(fp4, encode_nvfp4, decode_nvfp4),
        BlockFormat::Q1_0 => codec!(ternary, encode_q1_0, decode_q1_0),
        BlockFormat::Q2_0 => codec!(ternary, encode_q2_0, decode_q2_0),
        BlockFormat::IQ2_XXS => codec!(iq2, encode_iq2_xxs, decode_iq2_xxs),
        BlockFormat::IQ2_XS => codec!(iq2, encode_iq2_xs, decode_iq2_xs),
        BlockFormat::IQ2_S => codec!(iq2, encode_iq2_s, decode_iq2_s),
        BlockFormat::IQ3_XXS => codec!(iq3, encode_iq3_xxs, decode_iq3_xxs),
        BlockFormat::IQ3_S => codec!(iq3, encode_iq3_s, decode_iq3_s),
        BlockFormat::IQ1_S => codec!(iq1, encode_iq1_s, decode_iq1_s),
        BlockFormat::IQ1_M => codec!(iq1, encode_iq1_m, decode_iq1_m),
        _ => return None,
    })
}

/// Whether [`quantize_rows`] can write the format. Q8_1 and Q8_K are formats of running models
/// and are only read.
pub fn can_quantize(format: BlockFormat) -> bool {
    codec(format).is_some_and(|codec| codec.encode.is_some())
}

/// Whether [`dequantize`] can read the format.
pub fn can_dequantize(format: BlockFormat) -> bool {
    codec(format).is_some()
}

/// Whether the format is only defined with an importance matrix (`ggml_quantize_requires_imatrix`).
pub const fn requires_importance(format: BlockFormat) -> bool {
    matches!(
        format,
        BlockFormat::IQ2_XXS | BlockFormat::IQ2_XS | BlockFormat::IQ1_S
    )
}

/// Formats of 32 elements whose importance-weighted search looks at the whole row.
const fn sees_row(format: BlockFormat) -> bool {
    matches!(
        format,
        BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q5_0 | BlockFormat::Q5_1
    )
}

/// Checks that everything fits together.
fn check(
    format: BlockFormat,
    elements: usize,
    row_len: usize,
    importance: Option<&[f32]>,
    out: &[u8],
) -> Result<Encode, QuantError> {
    let Some(encode) = codec(format).and_then(|codec| codec.encode) else {
        return Err(QuantError::Unsupported { format });
    };
    let per_block = format.elements() as usize;
    if row_len == 0 || !row_len.is_multiple_of(per_block) {
        return Err(QuantError::RowLength { format, row_len });
    }
    if !elements.is_multiple_of(row_len)
        || Some(out.len()) != (elements / per_block).checked_mul(format.bytes() as usize)
    {
        return Err(QuantError::Length {
            format,
            elements,
            bytes: out.len(),
        });
    }
    match importance {
        None if requires_importance(format) => Err(QuantError::NeedsImportance { format }),
        Some(weights) if weights.len() != row_len => Err(QuantError::ImportanceLength {
            found: weights.len(),
            row_len,
        }),
        _ => Ok(encode),
    }
}

/// Quantizes whole rows, byte for byte as ggml does (`ggml_quantize_chunk`).
///
/// `importance` has one weight a column and serves every row. Rows are independent: any cut of a
/// tensor into rows gives the same bytes.
///
/// ```
/// use ir::BlockFormat;
/// use weightbridge_quant::{dequantize, quantize_rows};
///
/// let row: Vec<f32> = (0..32).map(|i| i as f32 - 16.0).collect();
/// let mut blocks = [0_u8; 34];
/// quantize_rows(BlockFormat::Q8_0, &row, 32, None, &mut blocks)?;
/// let mut back = [0.0; 32];
/// dequantize(BlockFormat::Q8_0, &blocks, &mut back)?;
/// assert!(back.iter().zip(&row).all(|(a, b)| (a - b).abs() < 0.07));
/// # Ok::<(), weightbridge_quant::QuantError>(())
/// ```
pub fn quantize_rows(
    format: BlockFormat,
    src: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    quantize_rows_with(Kernels::best(), format, src, row_len, importance, out)
}

/// As [`quantize_rows`], with the kernels chosen by the caller.
pub fn quantize_rows_with(
    kernels: Kernels,
    format: BlockFormat,
    src: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let encode = check(format, src.len(), row_len, importance, out)?;
    if let Some(level) = kernels.level()
        && crate::fast::encode(level, format, src, importance, out)
    {
        return Ok(());
    }
    encode(src, importance, out);
    Ok(())
}

/// Elements converted at a time on the way from another type: they stay in the first cache.
const CHUNK: usize = 4096;

/// As [`quantize_rows`], from little-endian bytes of `dtype` at any alignment: `F32`, `F16`,
/// `BF16` or any other type [`cast`](crate::cast()) takes to `F32`. No `f32` copy of the source is
/// made.
pub fn quantize_rows_from(
    dtype: DType,
    format: BlockFormat,
    src: &[u8],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    quantize_rows_from_with(
        Kernels::best(),
        dtype,
        format,
        src,
        row_len,
        importance,
        out,
    )
}

/// As [`quantize_rows_from`], with the kernels chosen by the caller.
pub fn quantize_rows_from_with(
    kernels: Kernels,
    dtype: DType,
    format: BlockFormat,
    src: &[u8],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    if !dtype.is_float() {
        return Err(QuantError::Source { dtype });
    }
    let (per_unit, unit) = dtype.block();
    let (per_unit, unit) = (per_unit as usize, unit as usize);
    let elements = src.len() / unit * per_unit;
    if !src.len().is_multiple_of(unit) {
        return Err(QuantError::Length {
            format,
            elements,
            bytes: out.len(),
        });
    }
    let encode = check(format, elements, row_len, importance, out)?;
    if elements == 0 {
        return Ok(());
    }
    let level = kernels.level().unwrap_or(Level::Baseline);
    let convert = |src: &[u8], x: &mut [f32]| {
        let mut bytes = [[0_u8; 4]; CHUNK];
        for (src, x) in src.chunks(CHUNK / per_unit * unit).zip(x.chunks_mut(CHUNK)) {
            let bytes = &mut bytes[..x.len()];
            // Lengths agree by construction and every float type casts to F32.
            let done = cast_at(
                level,
                dtype,
                DType::F32,
                src,
                bytes.as_flattened_mut(),
                &mut CastStats::default(),
            );
            if done.is_ok() {
                for (x, bytes) in x.iter_mut().zip(bytes.iter()) {
                    *x = f32::from_le_bytes(*bytes);
                }
            }
        }
    };
    let run = |x: &[f32], importance: Option<&[f32]>, out: &mut [u8]| {
        if !kernels
            .level()
            .is_some_and(|l| crate::fast::encode(l, format, x, importance, out))
        {
            encode(x, importance, out);
        }
    };
    let to_bytes =
        |elements: usize| elements / format.elements() as usize * format.bytes() as usize;
    let to_units = |elements: usize| elements / per_unit * unit;
    if importance.is_some() && sees_row(format) {
        // The search needs the row's mean square, so a whole row at a time, and several short ones.
        let rows = (CHUNK / row_len).max(1);
        let mut x = vec![0.0_f32; rows * row_len];
        let pieces = src.chunks(to_units(rows * row_len));
        for (src, out) in pieces.zip(out.chunks_mut(to_bytes(rows * row_len))) {
            let x = &mut x[..src.len() / unit * per_unit];
            convert(src, x);
            run(x, importance, out);
        }
        return Ok(());
    }
    // Without importance rows do not matter; with it, a piece is part of a row or whole rows.
    let piece = match importance {
        Some(_) if row_len <= CHUNK => CHUNK / row_len * row_len,
        _ => CHUNK,
    };
    let mut x = [0.0_f32; CHUNK];
    let rows = if importance.is_some() && row_len > CHUNK {
        row_len
    } else {
        elements.max(1)
    };
    for (src, out) in src
        .chunks(to_units(rows))
        .zip(out.chunks_mut(to_bytes(rows)))
    {
        let pieces = src
            .chunks(to_units(piece))
            .zip(out.chunks_mut(to_bytes(piece)));
        let mut at = 0;
        for (src, out) in pieces {
            let x = &mut x[..src.len() / unit * per_unit];
            convert(src, x);
            let weights = importance.map(|all| {
                if row_len > CHUNK {
                    &all[at..at + x.len()]
                } else {
                    all
                }
            });
            run(x, weights, out);
            at += x.len();
        }
    }
    Ok(())
}

/// Reads blocks into numbers, value for value as ggml does (`dequantize_row_*`).
pub fn dequantize(format: BlockFormat, blocks: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    dequantize_with(Kernels::best(), format, blocks, out)
}

/// As [`dequantize`], with the kernels chosen by the caller.
pub fn dequantize_with(
    kernels: Kernels,
    format: BlockFormat,
    blocks: &[u8],
    out: &mut [f32],
) -> Result<(), QuantError> {
    let Some(codec) = codec(format) else {
        return Err(QuantError::Unsupported { format });
    };
    let (elements, bytes) = (format.elements() as usize, format.bytes() as usize);
    if !blocks.len().is_multiple_of(bytes) || blocks.len() / bytes * elements != out.len() {
        return Err(QuantError::Length {
            format,
            elements: out.len(),
            bytes: blocks.len(),
        });
    }
    if let Some(level) = kernels.level()
        && crate::fast::decode(level, format, blocks, out)
    {
        return Ok(());
    }
    (codec.decode)(blocks, out);
    Ok(())
}
