//! Every lane kernel against the scalar reference, on values ggml itself was not asked about:
//! NaN, infinities, random bit patterns, rows of any number of blocks, every source type.
#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use ir::{BlockFormat, DType};
use weightbridge_quant::{
    CastStats, Kernels, Level, can_dequantize, can_quantize, cast, dequantize_with,
    quantize_rows_from, quantize_rows_with, requires_importance,
};

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let [_, _, a, b, c, d, _, _] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 16_777_216.0
    }

    /// Roughly normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() - 3.0
    }
}

/// Rows of many kinds; `wild` adds values that are not finite.
fn row(kind: u32, len: usize, random: &mut Random) -> Vec<f32> {
    (0..len)
        .map(|i| match kind % 14 {
            0 => random.normal(),
            1 => (random.normal() * 8.0).round() / 8.0,
            2 => 0.0,
            3 => -0.0,
            4 => f32::from_bits(random.bits()),
            5 if random.bits().is_multiple_of(61) => f32::NAN,
            6 if random.bits().is_multiple_of(53) => f32::INFINITY,
            7 if random.bits().is_multiple_of(47) => f32::NEG_INFINITY,
            8 => random.normal() * 1e-41,
            9 => random.normal() * 1e37,
            10 if i / 16 % 3 == 0 => 0.0,
            11 => 0.75,
            12 if random.bits().is_multiple_of(200) => 1e4,
            13 => f32::from_bits(random.bits() & 0xbfff_ffff),
            _ => random.normal() * 0.02,
        })
        .collect()
}

fn quantizable() -> impl Iterator<Item = BlockFormat> {
    BlockFormat::all().filter(|format| can_quantize(*format))
}

/// ggml itself stops on values that are not finite in these; so do they not count here.
fn small(format: BlockFormat) -> bool {
    format.name().starts_with("IQ") && !format.name().starts_with("IQ4")
}

/// The first block in which two quantizations differ. A scale that is NaN has no defined sign (the
/// language leaves it to the optimizer, and it was seen to change with its level); such blocks are
/// refused by whoever writes files, and here count as equal if every value of both is NaN.
fn first_difference(format: BlockFormat, want: &[u8], got: &[u8]) -> Option<usize> {
    let bytes = format.bytes() as usize;
    let all_nan = |block: &[u8]| {
        let mut values = vec![0.0; format.elements() as usize];
        dequantize_with(Kernels::Scalar, format, block, &mut values).unwrap();
        values.iter().all(|value| value.is_nan())
    };
    (want.chunks(bytes).zip(got.chunks(bytes)))
        .position(|(a, b)| a != b && !(all_nan(a) && all_nan(b)))
}

#[test]
fn lanes_equal_scalar() {
    let mut random = Random(42);
    for format in quantizable() {
        let per_block = format.elements() as usize;
        let kinds = if small(format) { 4 } else { 42 };
        for kind in 0..kinds {
            let blocks = 1 + random.bits() as usize % if small(format) { 2 } else { 11 };
            let row_len = blocks * per_block;
            let rows = 1 + random.bits() as usize % 3;
            let src: Vec<f32> = (0..rows)
                .flat_map(|r| row(kind + 5 * u32::from(r > 0), row_len, &mut random))
                .collect();
            let src: Vec<f32> = if small(format) {
                src.iter().map(|v| v.clamp(-1e4, 1e4)).collect()
            } else {
                src
            };
            let weights: Vec<f32> = (0..row_len).map(|_| random.unit()).collect();
            for weights in [None, Some(weights.as_slice())] {
                if weights.is_none() && requires_importance(format) {
                    continue;
                }
                let len = rows * blocks * format.bytes() as usize;
                let mut want = vec![0; len];
                quantize_rows_with(Kernels::Scalar, format, &src, row_len, weights, &mut want)
                    .unwrap();
                for level in Level::available() {
                    let mut got = vec![0xff; len];
                    let lanes = Kernels::Lanes(level);
                    quantize_rows_with(lanes, format, &src, row_len, weights, &mut got).unwrap();
                    assert_eq!(
                        first_difference(format, &want, &got),
                        None,
                        "{format} {level:?} kind {kind} weights {}",
                        weights.is_some()
                    );
                }
            }
        }
    }
}

#[test]
fn halves_are_read_in_place() {
    let mut random = Random(7);
    for format in quantizable() {
        // Longer than one conversion piece, and rows that do not divide it.
        let row_len = if small(format) { 512 } else { 4096 + 768 };
        let wide: Vec<f32> = (0..2 * row_len).map(|_| random.normal()).collect();
        let weights: Vec<f32> = (0..row_len).map(|_| random.unit()).collect();
        let bytes: Vec<u8> = wide.iter().flat_map(|v| v.to_le_bytes()).collect();
        for dtype in [DType::F16, DType::BF16, DType::F8E4M3, DType::F64] {
            let mut half = vec![0; wide.len() * dtype.block().1 as usize];
            if dtype == DType::F8E4M3 {
                half.fill_with(|| random.bits().to_le_bytes()[1] & 0xbf);
            } else {
                cast(
                    DType::F32,
                    dtype,
                    &bytes,
                    &mut half,
                    &mut CastStats::default(),
                )
                .unwrap();
            }
            let mut back = vec![0; wide.len() * 4];
            cast(
                dtype,
                DType::F32,
                &half,
                &mut back,
                &mut CastStats::default(),
            )
            .unwrap();
            let back: Vec<f32> = back
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            for weights in [None, Some(weights.as_slice())] {
                if weights.is_none() && requires_importance(format) {
                    continue;
                }
                let len = back.len() / format.elements() as usize * format.bytes() as usize;
                let (mut want, mut got) = (vec![0; len], vec![1; len]);
                quantize_rows_with(Kernels::Scalar, format, &back, row_len, weights, &mut want)
                    .unwrap();
                quantize_rows_from(dtype, format, &half, row_len, weights, &mut got).unwrap();
                assert!(
                    want == got,
                    "{format} from {dtype}, weights {}",
                    weights.is_some()
                );
            }
        }
    }
}

#[test]
fn decoding_lanes_equal_scalar() {
    let mut random = Random(3);
    for format in BlockFormat::all().filter(|format| can_dequantize(*format)) {
        for blocks in [1, 2, 7, 16, 33] {
            let bytes: Vec<u8> = (0..blocks * format.bytes())
                .map(|_| random.bits().to_le_bytes()[0])
                .collect();
            let mut want = vec![0.0_f32; (blocks * format.elements()) as usize];
            dequantize_with(Kernels::Scalar, format, &bytes, &mut want).unwrap();
            for level in Level::available() {
                let mut got = vec![1.0_f32; want.len()];
                dequantize_with(Kernels::Lanes(level), format, &bytes, &mut got).unwrap();
                let same = want
                    .iter()
                    .zip(&got)
                    .all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                assert!(same, "{format} {level:?}");
            }
        }
    }
}

#[test]
fn refusals_say_why() {
    let error = |row_len, elements: usize, weights: Option<&[f32]>, len| {
        let src = vec![0.0; elements];
        let mut out = vec![0; len];
        let format = BlockFormat::Q4_K;
        quantize_rows_with(Kernels::best(), format, &src, row_len, weights, &mut out)
            .unwrap_err()
            .to_string()
    };
    assert!(error(100, 200, None, 0).contains("row of 100 elements"));
    assert!(error(0, 0, None, 0).contains("row of 0 elements"));
    assert!(error(256, 300, None, 144).contains("do not belong together"));
    assert!(error(256, 256, None, 100).contains("100 bytes"));
    assert!(error(256, 256, Some(&[1.0; 4]), 144).contains("4 importance weights"));
    let mut out = [0.0; 256];
    assert!(dequantize_with(Kernels::best(), BlockFormat::Q4_K, &[0; 143], &mut out).is_err());
    let mut none = [];
    quantize_rows_from(DType::F16, BlockFormat::Q4_K, &[], 256, None, &mut none).unwrap();
    assert!(quantize_rows_from(DType::I8, BlockFormat::Q4_K, &[], 256, None, &mut none).is_err());
}
