//! Peak memory does not depend on the size of the model.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use convert::DTypeChoice;
use ir::{Context, DType, ModelBuilder, Output, PatternCompute};
use peak_alloc::PeakAlloc;
use weightbridge::{ConvertRequest, Session};
use weightbridge_tests::folder;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const MIB: f32 = 1.0;

/// 512 MiB in tensors of 64 MiB, written, read back and cast, in 24 MiB of heap.
#[test]
fn a_large_model_passes_through_small_buffers() {
    let dir = folder();
    let big = dir.path().join("big.safetensors");
    let model = (0..8)
        .fold(ModelBuilder::new(), |b, i| {
            b.push(PatternCompute::tensor(
                &format!("t{i}"),
                DType::F16,
                [4096, 8192],
            ))
        })
        .build()
        .unwrap();
    let session = Session {
        threads: 2,
        memory: 16 << 20,
        ..Session::default()
    };
    let before = PEAK.current_usage_as_mb();
    PEAK.reset_peak_usage();
    let pump = convert::ParallelPump::new(2, 16 << 20).unwrap();
    let cx = Context {
        pump: std::sync::Arc::new(pump),
        ..Context::default()
    };
    let mut out = Output::new(&big, false);
    st::FORMAT
        .writer
        .unwrap()
        .write(&model, &mut out, &cx)
        .unwrap();
    out.commit().unwrap();
    for (name, dtype) in [
        ("copy.pt", DTypeChoice::Keep),
        ("cast.safetensors", DTypeChoice::To(DType::BF16)),
    ] {
        let to = dir.path().join(name);
        let request = ConvertRequest {
            dtype,
            ..ConvertRequest::new(&big, &to)
        };
        weightbridge::convert(&request, &session).unwrap();
        std::fs::remove_file(&to).unwrap();
    }
    let peak = PEAK.peak_usage_as_mb() - before;
    assert!(peak < 24.0 * MIB, "peak of {peak} MiB");
}
