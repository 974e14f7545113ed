//! TQ1_0, TQ2_0 and Q2_0: products lie within one of zero, so rounding is two comparisons.
//!
//! A block whose largest magnitude is not finite, or so small that its inverse is not, goes to
//! the scalar reference.

use pulp::{Simd, WithSimd};

use crate::scalar::ternary::{TQ1_PARTS, encode_q2_0, encode_tq1_0, encode_tq2_0};
use crate::scalar::{inverse, put_f16};

macro_rules! job {
    ($name:ident, $elements:literal, $bytes:literal, $put:ident, $scalar:ident) => {
        pub(crate) struct $name<'a> {
            pub(crate) src: &'a [f32],
            pub(crate) out: &'a mut [u8],
        }

        impl WithSimd for $name<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _simd: S) {
                let blocks = self.src.as_chunks::<$elements>().0.iter();
                for (x, out) in blocks.zip(self.out.as_chunks_mut::<$bytes>().0) {
                    match digits(x) {
                        Some((d, codes)) => $put(d, &codes, out),
                        None => $scalar(x, None, out),
                    }
                }
            }
        }
    };
}

job!(Tq1, 256, 54, put_tq1, encode_tq1_0);
job!(Tq2, 256, 66, put_tq2, encode_tq2_0);
job!(Q2, 64, 18, put_q2, encode_q2_0);

/// Scale and digits 0, 1, 2 of a block.
#[inline(always)]
fn digits<const E: usize>(x: &[f32; E]) -> Option<(f32, [u8; E])> {
    let mut top = 0_u32;
    for v in x {
        let bits = v.to_bits() & 0x7fff_ffff;
        top = if bits > top { bits } else { top };
    }
    let d = f32::from_bits(top);
    let id = inverse(d);
    if top >= 0x7f80_0000 || id.is_infinite() {
        return None;
    }
    let mut codes = [0_u8; E];
    for i in 0..E {
        let v = x[i] * id;
        codes[i] = (1 + u32::from(v >= 0.5) - u32::from(v <= -0.5)) as u8;
    }
    Some((d, codes))
}

#[inline(always)]
fn put_tq1(d: f32, codes: &[u8; 256], out: &mut [u8; 54]) {
    for (first, stride, at, digits) in TQ1_PARTS {
        for m in 0..stride {
            let mut q = 0_u32;
            for n in 0..5 {
                q = q * 3
                    + if n < digits {
                        u32::from(codes[first + m + n * stride])
                    } else {
                        0
                    };
            }
            out[at + m] = (q * 256).div_ceil(243) as u8;
        }
    }
    put_f16(&mut out[52..], d);
}

#[inline(always)]
fn put_tq2(d: f32, codes: &[u8; 256], out: &mut [u8; 66]) {
    crate::scalar::kquants::put_two_bits(&mut out[..64], codes);
    put_f16(&mut out[64..], d);
}

#[inline(always)]
fn put_q2(d: f32, codes: &[u8; 64], out: &mut [u8; 18]) {
    put_f16(&mut out[..2], d);
    for (byte, codes) in out[2..].iter_mut().zip(codes.as_chunks::<4>().0) {
        *byte = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6;
    }
}
