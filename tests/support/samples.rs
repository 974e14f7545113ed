//! Models with everything in them that a format can hold.

use ir::{
    Array, Context, DType, Format, MetaValue, MetadataKinds, Model, Output, Payload, Region,
    Tensor, TensorSpec, View, ns,
};
use std::path::Path;
use std::sync::Arc;

/// Names that formats have trouble with.
const NAMES: [&str; 7] = [
    "z.weight",
    "",
    "weightbridge.dtype.z.weight",
    "ünï cödé\n.weight",
    "a-name-of-more-than-sixty-three-bytes.which-is-more-than-ggml-can-hold.in_proj.weight",
    "a-name-of-more-than-sixty-three-bytes.which-is-more-than-ggml-can-hold.out_proj.weight",
    "A",
];

const SHAPES: [&[u64]; 7] = [
    &[2, 4],
    &[],
    &[0, 3],
    &[3],
    &[5, 1],
    &[2, 1, 2, 1, 2, 8],
    &[256],
];

/// Every type that a format has, in every shape that the type can have there, odd names, a tie, and
/// metadata of every kind; in an order that no format would choose by itself.
pub fn everything(format: &Format) -> Model {
    let capabilities = format.writer.expect("a writer").capabilities();
    let mut model = Model::default();
    let mut push = |tensor: Tensor| {
        model.tensors.push(tensor).expect("a new name");
    };
    for dtype in DType::all().collect::<Vec<_>>().into_iter().rev() {
        if !(capabilities.dtype)(dtype) {
            continue;
        }
        for (i, shape) in SHAPES.iter().enumerate() {
            let spec = TensorSpec::new(dtype, shape.to_vec());
            let name = format!("{i}.{dtype}");
            if dtype == DType::Str {
                push(strings(name, spec));
            } else if capabilities.packing.allows(&spec) && whole_blocks(&spec) {
                push(filled(name, spec));
            }
        }
    }
    for name in NAMES {
        push(filled(name.to_owned(), TensorSpec::new(DType::F32, [3, 2])));
    }
    let shared = View::contiguous(Region::memory(vec![7; 16]));
    for name in ["tied.one", "a.tied.two"] {
        let spec = TensorSpec::new(DType::F32, [4]);
        push(Tensor::stored(name, spec, shared.clone()));
    }
    metadata(&mut model, format, capabilities.metadata);
    model
}

fn whole_blocks(spec: &TensorSpec) -> bool {
    match spec.dtype {
        DType::Block(format) => {
            let row = spec.shape.last().copied().unwrap_or(1);
            !spec.shape.is_empty() && row.is_multiple_of(u64::from(format.elements()))
        }
        _ => spec.byte_len().is_some(),
    }
}

fn filled(name: String, spec: TensorSpec) -> Tensor {
    let len = spec.byte_len().expect("a size");
    let seed = name
        .bytes()
        .fold(17u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let bytes = (0..len).map(|i| seed.wrapping_add(u8::try_from(i * 7 % 251).unwrap_or(0)));
    let bytes: Vec<u8> = match spec.dtype {
        DType::Bool => bytes.map(|byte| byte % 2).collect(),
        _ => bytes.collect(),
    };
    Tensor::stored(name, spec, View::contiguous(Region::memory(bytes)))
}

fn strings(name: String, spec: TensorSpec) -> Tensor {
    let count = spec.elements().unwrap_or(0);
    let texts = (0..count).map(|i| "ab\n".repeat(usize::try_from(i % 3).unwrap_or(0)).into());
    Tensor {
        name,
        payload: Payload::Strings(Arc::from(texts.collect::<Vec<_>>())),
        spec,
    }
}

fn metadata(model: &mut Model, format: &Format, kinds: MetadataKinds) {
    let metadata = &mut model.metadata;
    if kinds == MetadataKinds::Strings {
        metadata.set(
            ns::SAFETENSORS,
            "a key",
            MetaValue::text("with\nlines\tand \"quotes\""),
        );
        metadata.set(ns::SAFETENSORS, "format", MetaValue::text("pt"));
        return;
    }
    let strings = vec!["a".into(), "".into(), "b\nc".into()];
    let spaces = [ns::GGUF, ns::CKPT, ns::ONNX].into_iter();
    for namespace in spaces.filter(|space| *space == format.id) {
        if namespace == ns::ONNX {
            metadata.set(namespace, "author", MetaValue::text("somebody"));
            continue;
        }
        metadata.set(namespace, "z.text", MetaValue::text("gguf.format\t="));
        metadata.set(namespace, "format", MetaValue::I64(-3));
        metadata.set(namespace, "a.float", MetaValue::F64(0.1));
        metadata.set(namespace, "flag", MetaValue::Bool(true));
        metadata.set(
            namespace,
            "list",
            MetaValue::Array(Array::Str(strings.clone())),
        );
        if namespace == ns::GGUF {
            metadata.set(namespace, "general.alignment", MetaValue::U32(64));
            metadata.set(
                namespace,
                "small",
                MetaValue::Array(Array::F32(vec![0.1, -0.0])),
            );
            let inner = Array::Array(vec![Array::U8(vec![1]), Array::U8(vec![])]);
            metadata.set(namespace, "nested", MetaValue::Array(inner));
        }
    }
}

/// Writes a model as it is: no pass sees it.
pub fn write(model: &Model, format: &Format, path: &Path) {
    let mut out = Output::new(path, true);
    let writer = format.writer.expect("a writer");
    writer
        .write(model, &mut out, &Context::default())
        .unwrap_or_else(|e| panic!("{}: {e}", format.id));
    out.commit().expect("named");
}

/// The repository of a small llama with its tokenizer, in a folder of that name.
pub fn repository(folder: &Path, st: &Format) {
    let file = crate::testdata().join("vocab/bpe-llama3.json");
    let sample: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).expect("read")).expect("JSON");
    std::fs::create_dir_all(folder).expect("a folder");
    for (name, body) in sample["files"].as_object().expect("files") {
        let text = body["text"].as_str().map(str::to_owned);
        let text = text.unwrap_or_else(|| body["json"].to_string());
        std::fs::write(folder.join(name), text).expect("written");
    }
    let mut config = sample["config"].clone();
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", 96),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("max_position_embeddings", 128),
    ] {
        config[key] = value.into();
    }
    config["rms_norm_eps"] = 1e-5.into();
    config["rope_theta"] = 1e4.into();
    config["tie_word_embeddings"] = false.into();
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    let words = config["vocab_size"].as_u64().expect("a number");
    let mut shapes: Vec<(String, Vec<u64>)> = vec![
        ("lm_head.weight".into(), vec![words, 64]),
        ("model.embed_tokens.weight".into(), vec![words, 64]),
        ("model.norm.weight".into(), vec![64]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![64]),
            ("post_attention_layernorm", vec![64]),
            ("self_attn.q_proj", vec![64, 64]),
            ("self_attn.k_proj", vec![32, 64]),
            ("self_attn.v_proj", vec![32, 64]),
            ("self_attn.o_proj", vec![64, 64]),
            ("mlp.gate_proj", vec![96, 64]),
            ("mlp.up_proj", vec![96, 64]),
            ("mlp.down_proj", vec![64, 96]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let card = "---\nlicense: mit\nbase_model:\n- org/base-7B\ntags:\n- tiny\n---\n";
    std::fs::write(folder.join("README.md"), card).expect("written");
    let mut model = Model::default();
    let metadata = &mut model.metadata;
    metadata.set(ns::SAFETENSORS, "format", MetaValue::text("pt"));
    metadata.set(ns::SAFETENSORS, "mergekit_version", MetaValue::text("0.1"));
    for (seed, (name, shape)) in (1u32..).zip(shapes) {
        let count = u32::try_from(shape.iter().product::<u64>()).expect("small");
        // Halves between 0.0625 and 0.125, of either sign.
        let value =
            |i: u32| 0x2c00 | (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16 & 0x83ff);
        let bytes = (0..count).flat_map(|i| value(i).to_le_bytes().into_iter().take(2));
        let bytes: Vec<u8> = bytes.collect();
        let view = View::contiguous(Region::memory(bytes));
        let spec = TensorSpec::new(DType::F16, shape);
        model
            .tensors
            .push(Tensor::stored(name, spec, view))
            .expect("new");
    }
    write(&model, st, &folder.join("model.safetensors"));
}
