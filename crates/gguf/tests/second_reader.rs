//! gguf-rs, a reader that shares no code with ours, reads what we write.
#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use gguf_rs::get_gguf_container_array_size;
use ir::{BlockFormat, DType, MetaValue, ModelBuilder, PatternCompute, ns};
use std::fs;
use support::{catalogue, open, path_of, testdata, written};

fn theirs(bytes: &[u8]) -> (gguf_rs::GGUFModel, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    let mut container = get_gguf_container_array_size(path.to_str().unwrap(), u64::MAX).unwrap();
    (container.decode().unwrap(), folder)
}

/// gguf-rs 0.1.8 ends at MXFP4.
fn knows(dtype: DType) -> bool {
    use BlockFormat::{NVFP4, Q1_0, Q2_0};
    !matches!(dtype, DType::Block(NVFP4 | Q1_0 | Q2_0))
}

/// Types whose tensors gguf-rs 0.1.8 says to be of another size than ggml does.
const WRONG_SIZES: [DType; 9] = [
    DType::Block(BlockFormat::Q8_1),
    DType::Block(BlockFormat::IQ4_NL),
    DType::Block(BlockFormat::MXFP4),
    DType::BF16,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
];

#[test]
fn it_finds_every_tensor_where_we_put_it() {
    let mut dtypes: Vec<DType> = BlockFormat::all().map(DType::Block).collect();
    dtypes.extend([DType::F32, DType::F16, DType::BF16, DType::F64]);
    dtypes.extend([DType::I8, DType::I16, DType::I32, DType::I64]);
    let mut builder = ModelBuilder::new()
        .metadata(ns::GGUF, "general.architecture", MetaValue::text("test"))
        .metadata(ns::GGUF, "general.alignment", MetaValue::U32(64))
        .metadata(ns::CKPT, "epoch", MetaValue::I64(-3))
        .metadata(ns::SAFETENSORS, "head", MetaValue::text("embed"))
        .metadata(ns::NOTE, "dtype.x", MetaValue::text("U8"));
    for dtype in dtypes.into_iter().filter(|dtype| knows(*dtype)) {
        builder = builder.push(PatternCompute::tensor(dtype.name(), dtype, [3, 2, 256]));
    }
    let model = builder.build().unwrap();
    let bytes = written(&model);
    let (read, _folder) = theirs(&bytes);
    assert_eq!(read.tensors().len(), model.tensors.len());
    let start = usize::try_from(read.data_offset()).unwrap();
    for (ours, theirs) in model.tensors.iter().zip(read.tensors()) {
        assert_eq!(ours.name, theirs.name);
        assert_eq!(theirs.shape, [256, 2, 3]);
        let right = theirs.size == ours.byte_len();
        assert_ne!(right, WRONG_SIZES.contains(&ours.dtype()), "{}", ours.name);
        let at = start + usize::try_from(theirs.offset).unwrap();
        let data = ours.read_all().unwrap();
        assert!(bytes[at..at + data.len()] == data, "{}", ours.name);
    }
    let metadata = read.metadata();
    assert_eq!(metadata["ckpt.epoch"], -3);
    assert_eq!(metadata["safetensors.head"], "embed");
    assert_eq!(metadata["weightbridge.dtype.x"], "U8");
}

#[test]
fn it_reads_our_copies_of_real_files() {
    for fact in catalogue("gguf/good/split/") {
        let model = open(&testdata().join(path_of(&fact))).unwrap();
        let (read, _folder) = theirs(&written(&model));
        let names: Vec<_> = read.tensors().iter().map(|t| t.name.as_str()).collect();
        let ours: Vec<_> = model.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ours);
        let tokens = read.metadata()["tokenizer.ggml.tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), 8);
        assert_eq!(tokens[3], "\u{2581}a");
    }
}
