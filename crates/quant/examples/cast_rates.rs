//! Input gigabytes a second of each cast, one thread, best of several interleaved rounds:
//! `cargo run --release -p weightbridge-quant --example cast_rates`.
#![allow(clippy::print_stdout)] // the table is the purpose

use std::time::Instant;

use ir::DType;
use weightbridge_quant::{CastError, CastStats, Level, cast_at};

const ELEMENTS: usize = 1 << 16;
const ROUNDS: usize = 40;

fn main() -> Result<(), CastError> {
    let pairs = [
        (DType::F16, DType::BF16),
        (DType::BF16, DType::F16),
        (DType::F32, DType::F16),
        (DType::F32, DType::BF16),
        (DType::F16, DType::F32),
        (DType::BF16, DType::F32),
        (DType::F64, DType::F16),
        (DType::F64, DType::F32),
        (DType::F8E4M3, DType::BF16),
    ];
    let mut seed = 1_u32;
    let mut value = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(seed >> 8) / f64::from(1 << 23) - 1.0
    };
    for (from, to) in pairs {
        let doubles: Vec<u8> = (0..ELEMENTS).flat_map(|_| value().to_le_bytes()).collect();
        let mut src = vec![0_u8; ELEMENTS * from.block().1 as usize];
        let mut stats = CastStats::default();
        if cast_at(
            Level::Baseline,
            DType::F64,
            from,
            &doubles,
            &mut src,
            &mut stats,
        )
        .is_err()
        {
            src.iter_mut()
                .zip(doubles)
                .for_each(|(out, byte)| *out = byte & 0x7e);
        }
        let mut dst = vec![0_u8; ELEMENTS * to.block().1 as usize];
        let mut best = [f64::MAX; 3];
        for _ in 0..ROUNDS {
            for (level, best) in Level::available().zip(&mut best) {
                let start = Instant::now();
                cast_at(level, from, to, &src, &mut dst, &mut stats)?;
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        print!("{from:>8} -> {to:<5}");
        for (level, best) in Level::available().zip(best) {
            print!("  {level:?} {:.1} GB/s", src.len() as f64 / best / 1e9);
        }
        println!();
    }
    Ok(())
}
