//! Choosing an instruction set at run time, in safe code.
//!
//! A kernel is a struct that implements [`pulp::WithSimd`]; its body is plain Rust, every helper
//! of it `#[inline(always)]`, and pulp compiles that body once for each instruction set. The
//! compiler then vectorises the loops. No fused multiply-add can appear: rustc contracts nothing
//! by itself, which is what keeps the sums equal to the scalar reference.

use pulp::{Simd, WithSimd};

/// The instruction sets kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2 (with the rest of x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL.
    Avx512,
}

impl Level {
    /// The best level this machine has. Detection is cached by the standard library.
    pub fn detect() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            if pulp::x86::V4::try_new().is_some() {
                return Self::Avx512;
            }
            if pulp::x86::V3::try_new().is_some() {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }

    /// Every level this machine can run, lowest first: what tests walk.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = Self::detect();
        [Self::Baseline, Self::Avx2, Self::Avx512]
            .into_iter()
            .filter(move |level| *level <= best)
    }

    /// Runs `kernel` compiled for this level, or for the best lower one the machine has.
    #[inline]
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            if self == Self::Avx512
                && let Some(token) = pulp::x86::V4::try_new()
            {
                return Simd::vectorize(token, kernel);
            }
            if self >= Self::Avx2
                && let Some(token) = pulp::x86::V3::try_new()
            {
                return Simd::vectorize(token, kernel);
            }
        }
        Simd::vectorize(pulp::Scalar::new(), kernel)
    }
}
