//! Every kernel against what ggml's own library gave (`testdata/make/quant.py`).
#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::path::PathBuf;

use ir::{BlockFormat, DType};
use weightbridge_quant::{
    Kernels, Level, can_dequantize, can_quantize, dequantize_with, quantize_rows_from_with,
    quantize_rows_with,
};

const WIDTH: usize = 512;

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/quant")
        .join(name);
    std::fs::read(path).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn generated(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn kernels() -> impl Iterator<Item = Kernels> {
    std::iter::once(Kernels::Scalar).chain(Level::available().map(Kernels::Lanes))
}

#[test]
fn bytes_equal_ggml() {
    let mut bytes = data("rows-0.f32");
    bytes.extend(data("rows-1.f32"));
    let rows = floats(&bytes);
    let importance = floats(&data("importance.f32"));
    let expected = String::from_utf8(data("expected.txt")).unwrap();
    let mut proved = 0;
    for line in expected.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let mode = words.next().unwrap();
        // A dash: ggml aborts on that row.
        let hashes: Vec<Option<u64>> = words
            .map(|w| (w != "-").then(|| u64::from_str_radix(w, 16).unwrap()))
            .collect();
        let DType::Block(format) = name.parse().unwrap() else {
            unreachable!()
        };
        if mode == "decode" {
            check_decode(format, hashes[0].unwrap(), &mut proved);
            continue;
        }
        if !can_quantize(format) {
            continue;
        }
        let weights = (mode == "weighted").then_some(importance.as_slice());
        let per_row = WIDTH / format.elements() as usize * format.bytes() as usize;
        for kernels in kernels() {
            let mut out = vec![0xa5_u8; per_row * hashes.len()];
            quantize_rows_with(kernels, format, &rows, WIDTH, weights, &mut out).unwrap();
            for (i, (row, hash)) in out.chunks_exact(per_row).zip(&hashes).enumerate() {
                let Some(hash) = hash else { continue };
                assert_eq!(
                    fnv(row.iter().copied()),
                    *hash,
                    "{name} {mode} {kernels:?} row {i}"
                );
            }
            let mut again = vec![0x5a_u8; out.len()];
            quantize_rows_from_with(
                kernels,
                DType::F32,
                format,
                &bytes,
                WIDTH,
                weights,
                &mut again,
            )
            .unwrap();
            assert!(out == again, "{name} {mode} {kernels:?} from bytes");
        }
        proved += 1;
    }
    assert!(proved >= 72, "{proved}");
}

fn check_decode(format: BlockFormat, hash: u64, proved: &mut u32) {
    if !can_dequantize(format) {
        return;
    }
    let size = format.bytes() as usize;
    let blocks = generated(65536 / size * size);
    for kernels in kernels() {
        let mut out = vec![1.0_f32; blocks.len() / size * format.elements() as usize];
        dequantize_with(kernels, format, &blocks, &mut out).unwrap();
        let bits = out
            .iter()
            .map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() });
        assert_eq!(
            fnv(bits.flat_map(u32::to_le_bytes)),
            hash,
            "{format} decode {kernels:?}"
        );
    }
    *proved += 1;
}
