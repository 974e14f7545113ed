//! Casts against the `half` crate, and against facts of the formats.
#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use half::{bf16, f16};
use ir::DType;
use weightbridge_quant::{CastStats, Level, can_cast, cast, cast_at};

fn bytes<const N: usize, T: Copy>(values: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| to(v)).collect()
}

/// Casts at every level, checks that they agree, and returns the result.
fn all_levels(from: DType, to: DType, src: &[u8]) -> (Vec<u8>, CastStats) {
    let elements = src.len() / from.block().1 as usize * from.block().0 as usize;
    let len = elements * to.element_bytes().unwrap() as usize;
    let mut first: Option<(Vec<u8>, CastStats)> = None;
    for level in Level::available() {
        // One byte in: nothing may depend on alignment.
        let mut shifted = vec![0_u8];
        shifted.extend_from_slice(src);
        let mut dst = vec![0_u8; len + 1];
        let mut stats = CastStats::default();
        cast_at(level, from, to, &shifted[1..], &mut dst[1..], &mut stats).unwrap();
        let got = (dst.split_off(1), stats);
        assert_eq!(
            *first.get_or_insert_with(|| got.clone()),
            got,
            "{from} to {to} at {level:?}"
        );
    }
    first.unwrap()
}

/// Bit patterns around every half-precision boundary, plus a scatter over all of `u32`.
fn f32_patterns() -> Vec<f32> {
    let mut out = Vec::new();
    for top in 0..=u16::MAX {
        for low in [
            0_u32, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xefff, 0xffff,
        ] {
            out.push(f32::from_bits(u32::from(top) << 16 | low));
        }
    }
    let mut state = 1_u32;
    for _ in 0..200_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.push(f32::from_bits(state ^ (state >> 15)));
    }
    out
}

fn check_half<const M: usize>(
    from: DType,
    to: DType,
    src: &[u8],
    values: &[f32],
    expect: impl Fn(f32) -> u16,
    decode: impl Fn(u16) -> f32,
) {
    let (got, stats) = all_levels(from, to, src);
    let mut want = CastStats::default();
    for (value, out) in values.iter().zip(got.as_chunks::<2>().0) {
        let out = u16::from_le_bytes(*out);
        if value.is_nan() {
            assert!(decode(out).is_nan(), "{:08x}", value.to_bits());
            assert_eq!(decode(out).is_sign_negative(), value.is_sign_negative());
            want.nans += 1;
            continue;
        }
        assert_eq!(out, expect(*value), "{:08x}", value.to_bits());
        want.overflowed += u64::from(value.is_finite() && decode(out).is_infinite());
        want.underflowed += u64::from(*value != 0.0 && decode(out) == 0.0);
    }
    assert_eq!(stats, want);
}

#[test]
fn f32_to_the_halves() {
    let values = f32_patterns();
    let src = bytes(&values, f32::to_le_bytes);
    check_half::<2>(
        DType::F32,
        DType::F16,
        &src,
        &values,
        |v| f16::from_f32_const(v).to_bits(),
        |b| f16::from_bits(b).to_f32_const(),
    );
    check_half::<2>(
        DType::F32,
        DType::BF16,
        &src,
        &values,
        |v| bf16::from_f32(v).to_bits(),
        |b| bf16::from_bits(b).to_f32(),
    );
}

#[test]
fn f64_goes_through_f32() {
    let mut doubles: Vec<f64> = f32_patterns()
        .iter()
        .flat_map(|&v| {
            let v = f64::from(v);
            [v, v * (1.0 + 2e-12), v * (1.0 - 2e-12)]
        })
        .collect();
    doubles.extend([
        f64::MAX,
        f64::MIN_POSITIVE,
        -5e-324,
        1e-40,
        65_519.999_999,
        65520.0,
        -1e300,
    ]);
    let src = bytes(&doubles, f64::to_le_bytes);
    #[allow(clippy::cast_possible_truncation)]
    let singles: Vec<f32> = doubles.iter().map(|&v| v as f32).collect();
    let single_bytes = bytes(&singles, f32::to_le_bytes);
    let (f32s, stats) = all_levels(DType::F64, DType::F32, &src);
    for ((out, want), value) in f32s.as_chunks::<4>().0.iter().zip(&singles).zip(&doubles) {
        let out = f32::from_le_bytes(*out);
        assert!(out.to_bits() == want.to_bits() || value.is_nan() && out.is_nan());
    }
    assert!(stats.overflowed >= 2 && stats.underflowed >= 2 && stats.nans > 0);
    for to in [DType::F16, DType::BF16] {
        let (direct, direct_stats) = all_levels(DType::F64, to, &src);
        let (twice, _) = all_levels(DType::F32, to, &single_bytes);
        assert!(direct == twice, "{to}");
        let infinite = doubles.iter().filter(|v| v.is_infinite()).count() as u64;
        let out_infinite = direct
            .as_chunks::<2>()
            .0
            .iter()
            .filter(|b| {
                let bits = u16::from_le_bytes(**b) & 0x7fff;
                bits == if to == DType::F16 { 0x7c00 } else { 0x7f80 }
            })
            .count() as u64;
        assert_eq!(direct_stats.overflowed, out_infinite - infinite);
    }
}

#[test]
fn the_halves_to_everything() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let src = bytes(&all, u16::to_le_bytes);
    for from in [DType::F16, DType::BF16] {
        let wide = |bits: u16| {
            if from == DType::F16 {
                f16::from_bits(bits).to_f32_const()
            } else {
                bf16::from_bits(bits).to_f32()
            }
        };
        let (f32s, _) = all_levels(from, DType::F32, &src);
        let (f64s, stats) = all_levels(from, DType::F64, &src);
        for (&bits, (single, double)) in all
            .iter()
            .zip(f32s.as_chunks::<4>().0.iter().zip(f64s.as_chunks::<8>().0))
        {
            let (single, double) = (f32::from_le_bytes(*single), f64::from_le_bytes(*double));
            let want = wide(bits);
            if want.is_nan() {
                assert!(single.is_nan() && double.is_nan());
            } else {
                assert_eq!(single.to_bits(), want.to_bits());
                assert_eq!(double.to_bits(), f64::from(want).to_bits());
            }
        }
        assert_eq!(
            stats.nans,
            all.iter().filter(|b| wide(**b).is_nan()).count() as u64
        );
    }
    let singles: Vec<f32> = all
        .iter()
        .map(|b| f16::from_bits(*b).to_f32_const())
        .collect();
    check_half::<2>(
        DType::F16,
        DType::BF16,
        &src,
        &singles,
        |v| bf16::from_f32(v).to_bits(),
        |b| bf16::from_bits(b).to_f32(),
    );
    let singles: Vec<f32> = all.iter().map(|b| bf16::from_bits(*b).to_f32()).collect();
    check_half::<2>(
        DType::BF16,
        DType::F16,
        &src,
        &singles,
        |v| f16::from_f32_const(v).to_bits(),
        |b| f16::from_bits(b).to_f32_const(),
    );
}

#[test]
fn small_floats_have_their_known_values() {
    let all: Vec<u8> = (0..=255).collect();
    let f32s = |from| {
        let (out, _) = all_levels(from, DType::F32, &all);
        out.as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect::<Vec<_>>()
    };
    let e4m3 = f32s(DType::F8E4M3);
    assert_eq!(
        (e4m3[1], e4m3[0x7e], e4m3[0x38], e4m3[0xb8]),
        (0.001_953_125, 448.0, 1.0, -1.0)
    );
    assert!(e4m3[0x7f].is_nan() && e4m3[0xff].is_nan() && e4m3[0x80].is_sign_negative());
    let e5m2 = f32s(DType::F8E5M2);
    assert_eq!(
        (e5m2[1], e5m2[0x7b], e5m2[0xfc]),
        (2_f32.powi(-16), 57344.0, f32::NEG_INFINITY)
    );
    assert!(e5m2[0x7d].is_nan() && e5m2[0xff].is_nan());
    let fnuz = f32s(DType::F8E4M3Fnuz);
    assert_eq!((fnuz[1], fnuz[0x7f]), (2_f32.powi(-10), 240.0));
    assert!(fnuz[0x80].is_nan());
    let fnuz = f32s(DType::F8E5M2Fnuz);
    assert_eq!((fnuz[1], fnuz[0x7f]), (2_f32.powi(-17), 57344.0));
    assert!(fnuz[0x80].is_nan());
    let e8m0 = f32s(DType::F8E8M0);
    assert_eq!(
        (e8m0[0], e8m0[127], e8m0[254]),
        (2_f32.powi(-127), 1.0, 2_f32.powi(127))
    );
    assert!(e8m0[255].is_nan());
    let (_, stats) = all_levels(DType::F8E8M0, DType::F16, &all);
    assert_eq!(
        (stats.overflowed, stats.underflowed, stats.nans),
        (112, 103, 1)
    );
    let f4 = all_levels(DType::F4E2M1, DType::F32, &[0x10, 0x32, 0x54, 0x76, 0x98]).0;
    let f4: Vec<f32> = f4
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(f4, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5]);
    let f6 = all_levels(DType::F6E2M3, DType::F32, &[0x41, 0xf2, 0xfd]).0;
    let f6: Vec<f32> = f6
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(f6, [0.125, 1.125, 7.5, -7.5]);
    let f6 = all_levels(DType::F6E3M2, DType::F32, &[0x41, 0xf3, 0xfd]).0;
    let f6: Vec<f32> = f6
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(f6, [0.0625, 1.25, 28.0, -28.0]);
}

#[test]
fn refusals() {
    let mut stats = CastStats::default();
    assert!(!can_cast(DType::F32, DType::I8) && !can_cast(DType::I8, DType::F32));
    assert!(cast(DType::I8, DType::F32, &[0], &mut [0; 4], &mut stats).is_err());
    let error = cast(DType::F32, DType::F16, &[0; 8], &mut [0; 2], &mut stats).unwrap_err();
    assert!(error.to_string().contains("8 bytes of F32"), "{error}");
    assert!(cast(DType::F32, DType::F16, &[0; 7], &mut [0; 2], &mut stats).is_err());
    let nan = 0xffc1_2345_u32.to_le_bytes();
    let mut same = [0; 4];
    cast(DType::F32, DType::F32, &nan, &mut same, &mut stats).unwrap();
    assert_eq!(same, nan);
}
