//! Casts between the plain float types, bytes to bytes.
//!
//! Values are little-endian and may lie at any address. Rounding is to nearest, ties to even, and
//! equals PyTorch's `.to()` for every finite value, including its detour: `F64` reaches `F16` and
//! `BF16` through `F32` (measured with torch 2.15, vector and scalar path alike), so a value a
//! hair above a half-precision tie rounds as the tie does. NaN stays NaN, infinity stays infinity.
//!
//! | from | to |
//! |---|---|
//! | F64, F32, F16, BF16 | F64, F32, F16, BF16 |
//! | F8_E4M3, F8_E5M2, F8_E4M3FNUZ, F8_E5M2FNUZ, F8_E8M0 | the same |
//! | F4 (two a byte, low nibble first), F6_E2M3, F6_E3M2 (four in three bytes, lowest bits first) | the same |
//!
//! A cast from a type to itself copies the bytes, NaN patterns and all.

use std::fmt;

use ir::DType;
use pulp::{Simd, WithSimd};

use crate::dispatch::Level;
use crate::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, minifloat};

/// What a cast did to the values; each call adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CastStats {
    /// Finite values that became infinite.
    pub overflowed: u64,
    /// Values other than zero that became zero.
    pub underflowed: u64,
    /// Values that were, and stay, NaN. Not counted where bytes are only copied.
    pub nans: u64,
}

impl CastStats {
    /// Adds the counts of another part of the same tensor.
    pub fn merge(&mut self, other: Self) {
        self.overflowed += other.overflowed;
        self.underflowed += other.underflowed;
        self.nans += other.nans;
    }
}

/// Why a cast was refused. Nothing has been written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CastError {
    /// No cast leads from one type to the other; see [`can_cast`].
    Unsupported {
        /// Type of the source.
        from: DType,
        /// Type asked for.
        to: DType,
    },
    /// The slices do not hold the same whole number of elements.
    Length {
        /// Type of the source.
        from: DType,
        /// Type asked for.
        to: DType,
        /// Bytes given.
        src_len: usize,
        /// Bytes of room.
        dst_len: usize,
    },
}

impl fmt::Display for CastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { from, to } => write!(f, "no cast from {from} to {to}"),
            Self::Length {
                from,
                to,
                src_len,
                dst_len,
            } => write!(
                f,
                "{src_len} bytes of {from} and {dst_len} bytes of {to} do not hold the same \
                 number of elements"
            ),
        }
    }
}

impl std::error::Error for CastError {}

/// Whether [`cast`] leads from one type to the other.
pub fn can_cast(from: DType, to: DType) -> bool {
    from.is_float() && matches!(to, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
        || from == to && from.is_float()
}

/// Casts `src` into `dst`, adding to `stats`.
///
/// ```
/// use ir::DType;
/// use weightbridge_quant::{CastStats, cast};
///
/// let src: Vec<u8> = [1.0_f32, 1e9, 1e-9].iter().flat_map(|v| v.to_le_bytes()).collect();
/// let mut dst = [0_u8; 6];
/// let mut stats = CastStats::default();
/// cast(DType::F32, DType::F16, &src, &mut dst, &mut stats)?;
/// assert_eq!(dst, [0x00, 0x3c, 0x00, 0x7c, 0x00, 0x00]);
/// assert_eq!((stats.overflowed, stats.underflowed), (1, 1));
/// # Ok::<(), weightbridge_quant::CastError>(())
/// ```
pub fn cast(
    from: DType,
    to: DType,
    src: &[u8],
    dst: &mut [u8],
    stats: &mut CastStats,
) -> Result<(), CastError> {
    cast_at(Level::detect(), from, to, src, dst, stats)
}

/// As [`cast`], with the instruction set chosen by the caller: for tests and benches.
pub fn cast_at(
    level: Level,
    from: DType,
    to: DType,
    src: &[u8],
    dst: &mut [u8],
    stats: &mut CastStats,
) -> Result<(), CastError> {
    use DType::{BF16, F16, F32, F64};
    if !can_cast(from, to) {
        return Err(CastError::Unsupported { from, to });
    }
    let elements = |dtype: DType, len: usize| {
        let (per, bytes) = dtype.block();
        let (per, bytes) = (per as usize, bytes as usize);
        len.is_multiple_of(bytes).then(|| len / bytes * per)
    };
    // A packed type's last byte may hold an element the other side has no room for: the count
    // must agree exactly, so odd tails are the caller's to pad.
    if elements(from, src.len()).is_none() || elements(from, src.len()) != elements(to, dst.len()) {
        return Err(CastError::Length {
            from,
            to,
            src_len: src.len(),
            dst_len: dst.len(),
        });
    }
    match (from, to) {
        (a, b) if a == b => dst.copy_from_slice(src),
        (F64, F32) => run(level, src, dst, stats, f64_f32),
        (F64, F16) => run(level, src, dst, stats, f64_f16),
        (F64, BF16) => run(level, src, dst, stats, f64_bf16),
        (F32, F64) => run(level, src, dst, stats, f32_f64),
        (F32, F16) => run(level, src, dst, stats, f32_f16),
        (F32, BF16) => run(level, src, dst, stats, f32_bf16),
        (F16, F64) => run(level, src, dst, stats, f16_f64),
        (F16, F32) => run(level, src, dst, stats, f16_f32),
        (F16, BF16) => run(level, src, dst, stats, f16_bf16),
        (BF16, F64) => run(level, src, dst, stats, bf16_f64),
        (BF16, F32) => run(level, src, dst, stats, bf16_f32),
        (BF16, F16) => run(level, src, dst, stats, bf16_f16),
        (DType::F8E4M3, F64) => run(level, src, dst, stats, |b| f32_f64(e4m3(b))),
        (DType::F8E4M3, F32) => run(level, src, dst, stats, |b| f32_f32(e4m3(b))),
        (DType::F8E4M3, F16) => run(level, src, dst, stats, |b| f32_f16(e4m3(b))),
        (DType::F8E4M3, BF16) => run(level, src, dst, stats, |b| f32_bf16(e4m3(b))),
        (DType::F8E5M2, F64) => run(level, src, dst, stats, |b| f32_f64(e5m2(b))),
        (DType::F8E5M2, F32) => run(level, src, dst, stats, |b| f32_f32(e5m2(b))),
        (DType::F8E5M2, F16) => run(level, src, dst, stats, |b| f32_f16(e5m2(b))),
        (DType::F8E5M2, BF16) => run(level, src, dst, stats, |b| f32_bf16(e5m2(b))),
        _ => small(from, to, src, dst, stats),
    }
    Ok(())
}

/// One element's result and what happened to it, each count 0 or 1.
type Step<const M: usize> = ([u8; M], Counts);

#[derive(Clone, Copy, Default)]
struct Counts {
    overflowed: u32,
    underflowed: u32,
    nans: u32,
}

/// Elements between two additions to the 64 bit totals: the lane counters are 32 bits wide.
const SPAN: usize = 1 << 14;

struct Job<'a, const N: usize, const M: usize, F> {
    src: &'a [[u8; N]],
    dst: &'a mut [[u8; M]],
    step: F,
}

impl<const N: usize, const M: usize, F: Fn([u8; N]) -> Step<M>> WithSimd for Job<'_, N, M, F> {
    type Output = Counts;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Counts {
        let mut total = Counts::default();
        for (out, input) in self.dst.iter_mut().zip(self.src) {
            let (bytes, counts) = (self.step)(*input);
            *out = bytes;
            total.overflowed += counts.overflowed;
            total.underflowed += counts.underflowed;
            total.nans += counts.nans;
        }
        total
    }
}

fn run<const N: usize, const M: usize>(
    level: Level,
    src: &[u8],
    dst: &mut [u8],
    stats: &mut CastStats,
    step: impl Fn([u8; N]) -> Step<M> + Copy,
) {
    let (src, _) = src.as_chunks::<N>();
    let (dst, _) = dst.as_chunks_mut::<M>();
    for (src, dst) in src.chunks(SPAN).zip(dst.chunks_mut(SPAN)) {
        stats.add(level.run(Job { src, dst, step }));
    }
}

/// `F16` or `BF16` into `f32`, without counting and without a way round through bytes.
struct Widen<'a> {
    src: &'a [[u8; 2]],
    out: &'a mut [f32],
    brain: bool,
}

impl WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if self.brain {
            for (out, bytes) in self.out.iter_mut().zip(self.src) {
                *out = bf16_to_f32(u16::from_le_bytes(*bytes));
            }
        } else {
            for (out, bytes) in self.out.iter_mut().zip(self.src) {
                *out = f16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
    }
}

/// Numbers of any float type as `f32`, for the quantizers. The lengths belong together.
pub(crate) fn widen(level: Level, dtype: DType, src: &[u8], out: &mut [f32]) {
    if matches!(dtype, DType::F16 | DType::BF16) {
        let src = src.as_chunks::<2>().0;
        level.run(Widen {
            src,
            out,
            brain: dtype == DType::BF16,
        });
        return;
    }
    let mut bytes = [[0_u8; 4]; 256];
    let (per_unit, unit) = dtype.block();
    let piece = 256 / per_unit as usize * unit as usize;
    for (src, out) in src.chunks(piece).zip(out.chunks_mut(256)) {
        let bytes = &mut bytes[..out.len()];
        let mut stats = CastStats::default();
        // Every float type casts to F32, and the lengths agree.
        if cast_at(
            level,
            dtype,
            DType::F32,
            src,
            bytes.as_flattened_mut(),
            &mut stats,
        )
        .is_ok()
        {
            for (out, bytes) in out.iter_mut().zip(bytes.iter()) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

impl CastStats {
    fn add(&mut self, counts: Counts) {
        self.overflowed += u64::from(counts.overflowed);
        self.underflowed += u64::from(counts.underflowed);
        self.nans += u64::from(counts.nans);
    }
}

/// Counts from magnitudes: `before` against the source's infinity, `after` against the result's.
#[inline(always)]
fn judge(before: u32, infinity: u32, after: u32, after_infinity: u32) -> Counts {
    Counts {
        overflowed: u32::from((before < infinity) & (after == after_infinity)),
        underflowed: u32::from((before != 0) & (after == 0)),
        nans: u32::from(before > infinity),
    }
}

const F32_MAGNITUDE: u32 = 0x7fff_ffff;
const F32_INFINITY: u32 = 0x7f80_0000;
const F16_INFINITY: u32 = 0x7c00;
const BF16_INFINITY: u32 = 0x7f80;

#[inline(always)]
fn f32_f16(src: [u8; 4]) -> Step<2> {
    let value = f32::from_le_bytes(src);
    let out = f32_to_f16(value);
    let before = value.to_bits() & F32_MAGNITUDE;
    (
        out.to_le_bytes(),
        judge(before, F32_INFINITY, u32::from(out & 0x7fff), F16_INFINITY),
    )
}

#[inline(always)]
fn f32_bf16(src: [u8; 4]) -> Step<2> {
    let value = f32::from_le_bytes(src);
    let out = f32_to_bf16(value);
    let before = value.to_bits() & F32_MAGNITUDE;
    (
        out.to_le_bytes(),
        judge(before, F32_INFINITY, u32::from(out & 0x7fff), BF16_INFINITY),
    )
}

/// Only NaN can be counted where every value has an exact image.
#[inline(always)]
fn exact(nan: bool) -> Counts {
    Counts {
        nans: u32::from(nan),
        ..Counts::default()
    }
}

#[inline(always)]
fn f16_f32(src: [u8; 2]) -> Step<4> {
    let bits = u16::from_le_bytes(src);
    (
        f16_to_f32(bits).to_le_bytes(),
        exact(bits & 0x7fff > 0x7c00),
    )
}

#[inline(always)]
fn bf16_f32(src: [u8; 2]) -> Step<4> {
    let bits = u16::from_le_bytes(src);
    (
        bf16_to_f32(bits).to_le_bytes(),
        exact(bits & 0x7fff > 0x7f80),
    )
}

#[inline(always)]
fn f16_bf16(src: [u8; 2]) -> Step<2> {
    let bits = u16::from_le_bytes(src);
    // The exponent range of bfloat16 holds that of binary16: nothing over- or underflows.
    (
        f32_to_bf16(f16_to_f32(bits)).to_le_bytes(),
        exact(bits & 0x7fff > 0x7c00),
    )
}

#[inline(always)]
fn bf16_f16(src: [u8; 2]) -> Step<2> {
    let bits = u16::from_le_bytes(src);
    let out = f32_to_f16(bf16_to_f32(bits));
    let before = u32::from(bits & 0x7fff);
    (
        out.to_le_bytes(),
        judge(before, BF16_INFINITY, u32::from(out & 0x7fff), F16_INFINITY),
    )
}

#[inline(always)]
fn f32_f64(src: [u8; 4]) -> Step<8> {
    let value = f32::from_le_bytes(src);
    (
        f64::from(value).to_le_bytes(),
        exact(value.to_bits() & F32_MAGNITUDE > F32_INFINITY),
    )
}

#[inline(always)]
fn f16_f64(src: [u8; 2]) -> Step<8> {
    let bits = u16::from_le_bytes(src);
    (
        f64::from(f16_to_f32(bits)).to_le_bytes(),
        exact(bits & 0x7fff > 0x7c00),
    )
}

#[inline(always)]
fn bf16_f64(src: [u8; 2]) -> Step<8> {
    let bits = u16::from_le_bytes(src);
    (
        f64::from(bf16_to_f32(bits)).to_le_bytes(),
        exact(bits & 0x7fff > 0x7f80),
    )
}

/// Rounds to `f32` and judges a result of `after` magnitude against the `f64` it came from.
#[inline(always)]
fn judge_f64(value: f64, after: u32, after_infinity: u32) -> Counts {
    let before = value.to_bits() & 0x7fff_ffff_ffff_ffff;
    let infinity = 0x7ff0_0000_0000_0000;
    Counts {
        overflowed: u32::from((before < infinity) & (after == after_infinity)),
        underflowed: u32::from((before != 0) & (after == 0)),
        nans: u32::from(before > infinity),
    }
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // rounding is the purpose
fn f64_f32(src: [u8; 8]) -> Step<4> {
    let value = f64::from_le_bytes(src);
    let out = value as f32;
    (
        out.to_le_bytes(),
        judge_f64(value, out.to_bits() & F32_MAGNITUDE, F32_INFINITY),
    )
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // rounding is the purpose
fn f64_f16(src: [u8; 8]) -> Step<2> {
    let value = f64::from_le_bytes(src);
    let out = f32_to_f16(value as f32);
    (
        out.to_le_bytes(),
        judge_f64(value, u32::from(out & 0x7fff), F16_INFINITY),
    )
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // rounding is the purpose
fn f64_bf16(src: [u8; 8]) -> Step<2> {
    let value = f64::from_le_bytes(src);
    let out = f32_to_bf16(value as f32);
    (
        out.to_le_bytes(),
        judge_f64(value, u32::from(out & 0x7fff), BF16_INFINITY),
    )
}

#[inline(always)]
fn f32_f32(src: [u8; 4]) -> Step<4> {
    (
        src,
        exact(u32::from_le_bytes(src) & F32_MAGNITUDE > F32_INFINITY),
    )
}

/// E4M3 as `f32`, little-endian: its fields are a `binary16` of exponent bias 15, 2^8 too small.
#[inline(always)]
fn e4m3(src: [u8; 1]) -> [u8; 4] {
    let code = u16::from(src[0]);
    let value = f16_to_f32((code & 0x7f) << 7) * 256.0;
    let sign = u32::from(code & 0x80) << 24;
    let bits = if code & 0x7f == 0x7f {
        NAN
    } else {
        value.to_bits()
    };
    (bits | sign).to_le_bytes()
}

/// E5M2 as `f32`, little-endian: the upper half of a `binary16`.
#[inline(always)]
fn e5m2(src: [u8; 1]) -> [u8; 4] {
    f16_to_f32(u16::from(src[0]) << 8).to_le_bytes()
}

const NAN: u32 = 0x7fc0_0000;

/// `f32` bits of one code of a small type without a kernel of its own (OCP MX 1.0; the FNUZ types
/// have one NaN, where negative zero would be).
fn small_value(dtype: DType, code: u32) -> u32 {
    match dtype {
        DType::F8E4M3Fnuz | DType::F8E5M2Fnuz if code == 0x80 => NAN,
        DType::F8E4M3Fnuz => minifloat(code, 4, 3, 8),
        DType::F8E5M2Fnuz => minifloat(code, 5, 2, 16),
        DType::F8E8M0 if code == 0xff => NAN,
        DType::F8E8M0 if code == 0 => 0x0040_0000, // 2^-127 is subnormal in f32
        DType::F8E8M0 => code << 23,
        DType::F6E2M3 => minifloat(code, 2, 3, 1),
        DType::F6E3M2 => minifloat(code, 3, 2, 3),
        _ => minifloat(code, 2, 1, 1), // F4E2M1, the last float type
    }
}

/// Types of 8 bits or less go through a table of at most 256 results.
fn small(from: DType, to: DType, src: &[u8], dst: &mut [u8], stats: &mut CastStats) {
    match to {
        DType::F64 => small_into(from, src, dst, stats, f32_f64),
        DType::F32 => small_into(from, src, dst, stats, f32_f32),
        DType::F16 => small_into(from, src, dst, stats, f32_f16),
        _ => small_into(from, src, dst, stats, f32_bf16),
    }
}

fn small_into<const M: usize>(
    from: DType,
    src: &[u8],
    dst: &mut [u8],
    stats: &mut CastStats,
    step: impl Fn([u8; 4]) -> Step<M>,
) {
    let mut table = [([0_u8; M], Counts::default()); 256];
    for (code, entry) in (0_u32..).zip(&mut table) {
        *entry = step(small_value(from, code).to_le_bytes());
    }
    let (dst, _) = dst.as_chunks_mut::<M>();
    let mut seen = [0_u64; 256];
    let mut put = |out: &mut [u8; M], code: u8| {
        *out = table[usize::from(code)].0;
        seen[usize::from(code)] += 1;
    };
    match from {
        DType::F4E2M1 => {
            for (out, byte) in dst.chunks_exact_mut(2).zip(src) {
                for (out, code) in out.iter_mut().zip([byte & 15, byte >> 4]) {
                    put(out, code);
                }
            }
        }
        DType::F6E2M3 | DType::F6E3M2 => {
            for (out, &[a, b, c]) in dst.chunks_exact_mut(4).zip(src.as_chunks::<3>().0) {
                let word = u32::from_le_bytes([a, b, c, 0]);
                for (out, shift) in out.iter_mut().zip([0, 6, 12, 18]) {
                    put(out, ((word >> shift) & 63).to_le_bytes()[0]);
                }
            }
        }
        _ => {
            for (out, &code) in dst.iter_mut().zip(src) {
                put(out, code);
            }
        }
    }
    for (count, (_, flags)) in seen.iter().zip(&table) {
        stats.overflowed += count * u64::from(flags.overflowed);
        stats.underflowed += count * u64::from(flags.underflowed);
        stats.nans += count * u64::from(flags.nans);
    }
}
