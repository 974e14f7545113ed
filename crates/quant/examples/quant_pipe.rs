//! Quantizes or dequantizes from standard input to standard output: the bridge by which the
//! interop suite compares these kernels with ggml's.
//!
//! `quant_pipe quantize FORMAT ROW_LEN DTYPE KERNELS IMPORTANCE` reads, with IMPORTANCE 1, ROW_LEN
//! `f32` weights, then rows of DTYPE to the end. `quant_pipe dequantize FORMAT KERNELS` reads
//! blocks and writes `f32`. `quant_pipe bench FORMAT ROW_LEN DTYPE KERNELS IMPORTANCE ROUNDS` reads
//! as `quantize` and writes the best time in seconds; `bench-de` likewise. KERNELS is `scalar`,
//! `baseline`, `avx2`, `avx512` or `best`.
#![allow(clippy::print_stdout)] // data goes there

use std::error::Error;
use std::io::{Read, Write};
use std::time::Instant;

use ir::{BlockFormat, DType};
use weightbridge_quant::{
    CastStats, Kernels, Level, cast, dequantize_with, quantize_rows_from_with, quantize_rows_with,
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str).ok_or("too few arguments");
    let format = match arg(1)?.parse()? {
        DType::Block(format) => Some(format),
        _ => None,
    };
    let mut input = Vec::new();
    std::io::stdin().lock().read_to_end(&mut input)?;
    let mode = arg(0)?;
    let bench = mode.starts_with("bench");
    let output = if mode.ends_with("quantize") && mode.starts_with("de") || mode == "bench-de" {
        let format = format.ok_or("not a block format")?;
        let rounds = if bench { arg(3)?.parse()? } else { 1 };
        decode(format, kernels(arg(2)?)?, &input, rounds)?
    } else {
        let row_len: usize = arg(2)?.parse()?;
        let dtype: DType = arg(3)?.parse()?;
        let kernels = kernels(arg(4)?)?;
        let rounds = if bench { arg(6)?.parse()? } else { 1 };
        let weights_len = if arg(5)? == "1" { row_len * 4 } else { 0 };
        let (weights, rows) = input
            .split_at_checked(weights_len)
            .ok_or("input too short")?;
        let weights: Vec<f32> = floats(weights);
        let weights = (weights_len > 0).then_some(weights.as_slice());
        let Some(format) = format else {
            let to: DType = arg(1)?.parse()?;
            let elements = rows.len() / dtype.block().1 as usize;
            let mut out = vec![0; elements * to.block().1 as usize];
            cast(dtype, to, rows, &mut out, &mut CastStats::default())?;
            std::io::stdout().lock().write_all(&out)?;
            return Ok(());
        };
        encode(format, kernels, dtype, rows, row_len, weights, rounds)?
    };
    match output {
        Done::Bytes(bytes) if !bench => std::io::stdout().lock().write_all(&bytes)?,
        Done::Bytes(_) => {}
        Done::Seconds(best) => println!("{best:e}"),
    }
    Ok(())
}

enum Done {
    Bytes(Vec<u8>),
    Seconds(f64),
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

fn kernels(name: &str) -> Result<Kernels, String> {
    Ok(match name {
        "scalar" => Kernels::Scalar,
        "baseline" => Kernels::Lanes(Level::Baseline),
        "avx2" => Kernels::Lanes(Level::Avx2),
        "avx512" => Kernels::Lanes(Level::Avx512),
        "best" => Kernels::best(),
        _ => return Err(format!("no kernels {name:?}")),
    })
}

fn timed(
    rounds: u32,
    mut job: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        job()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn encode(
    format: BlockFormat,
    kernels: Kernels,
    dtype: DType,
    rows: &[u8],
    row_len: usize,
    weights: Option<&[f32]>,
    rounds: u32,
) -> Result<Done, Box<dyn Error>> {
    let elements = rows.len() / dtype.block().1 as usize;
    let mut out = vec![0; elements / format.elements() as usize * format.bytes() as usize];
    let best = if dtype == DType::F32 {
        let src = floats(rows);
        timed(rounds, || {
            Ok(quantize_rows_with(
                kernels, format, &src, row_len, weights, &mut out,
            )?)
        })?
    } else {
        timed(rounds, || {
            let done =
                quantize_rows_from_with(kernels, dtype, format, rows, row_len, weights, &mut out);
            Ok(done?)
        })?
    };
    Ok(if rounds > 1 {
        Done::Seconds(best)
    } else {
        Done::Bytes(out)
    })
}

fn decode(
    format: BlockFormat,
    kernels: Kernels,
    blocks: &[u8],
    rounds: u32,
) -> Result<Done, Box<dyn Error>> {
    let mut out =
        vec![0.0_f32; blocks.len() / format.bytes() as usize * format.elements() as usize];
    let best = timed(rounds, || {
        Ok(dequantize_with(kernels, format, blocks, &mut out)?)
    })?;
    Ok(if rounds > 1 {
        Done::Seconds(best)
    } else {
        Done::Bytes(out.iter().flat_map(|v| v.to_le_bytes()).collect())
    })
}
