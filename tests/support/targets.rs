//! Every reader behind one signature: bytes of a stranger in, no answer wanted but that there is
//! one. `fuzz/`, the mutation tests and the memory test all call these.

use crate::folder;
use bytes::Bytes;
use ir::{Class, Context, Error, Input, Limits, Model, Open, ReadOptions, Reader, Region, Result};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use vocab::Method;
use weightbridge::{ConvertRequest, Intent, Session};

/// Takes bytes; a panic, a hang or memory without bound is a bug.
pub type Target = fn(&[u8]);

/// All targets by the names they have below `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ckpt_zip", ckpt),
    ("ckpt_stream", ckpt),
    ("pickle", ckpt),
    ("pickle_ops", ckpt),
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("gguf_fields", gguf),
    ("onnx", onnx),
    ("index", index),
    ("config", config),
    ("vocab", tokenizer),
    ("probe", probe),
    ("scan", scanned),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(own, _)| *own == name);
    found.map(|(_, target)| *target)
}

/// Shards by what they hold, as the registry opens them.
struct ByContent;

impl Open for ByContent {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        let format = weightbridge::detect(input)?.format;
        format.reader.map_or_else(
            || unreachable!("every format is read"),
            |reader| reader.open(input, cx),
        )
    }
}

fn context(all: bool) -> Context {
    Context {
        read: ReadOptions {
            all,
            ..ReadOptions::default()
        },
        open: Some(Arc::new(ByContent)),
        ..Context::default()
    }
}

/// Input under a name.
fn input(name: &str, bytes: &[u8]) -> Input {
    Input::from_region(name, Region::memory(Bytes::copy_from_slice(bytes)))
}

/// An error that a stranger's file can cause, in words.
fn right(error: &Error) {
    let class = error.class();
    let theirs = [
        Class::Malformed,
        Class::Unsupported,
        Class::Limit,
        Class::Refused,
    ];
    assert!(theirs.contains(&class), "{error:?}");
    assert!(error.message().len() > 10, "{error:?}");
}

/// What came out, where something did.
fn sound<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(right).ok()
}

/// Opens with a reader, does what follows every open, and reads what tensors there are.
fn read(reader: &dyn Reader, input: &Input, cx: &Context) -> Option<Model> {
    let mut model = sound(reader.open(input, cx))?;
    sound(model.validate(&cx.limits))?;
    sound(convert::restore(&mut model))?;
    let mut left = 1u64 << 20;
    for tensor in &model.tensors {
        // A tensor may be a view of one number a million times over; that is no fault of it.
        let Some(rest) = left.checked_sub(tensor.byte_len()) else {
            continue;
        };
        left = rest;
        sound(tensor.read_all());
    }
    let _ = weightbridge::describe(&model);
    Some(model)
}

fn judged(reader: &dyn Reader, input: &Input, cx: &Context) {
    let _ = scan::judge(&reader.survey(input, cx));
}

/// Checkpoints of every wrapping, and bare pickles.
pub fn ckpt(bytes: &[u8]) {
    let input = input("model.pt", bytes);
    for all in [false, true] {
        read(&ckpt::CkptReader, &input, &context(all));
    }
    judged(&ckpt::CkptReader, &input, &context(true));
}

/// safetensors.
pub fn safetensors(bytes: &[u8]) {
    let input = input("model.safetensors", bytes);
    if let Some(reader) = st::FORMAT.reader {
        read(reader, &input, &context(false));
        judged(reader, &input, &context(false));
    }
}

/// GGUF, and the tokenizer that its keys hold.
pub fn gguf(bytes: &[u8]) {
    let input = input("model.gguf", bytes);
    if let Some(reader) = gguf::FORMAT.reader {
        if let Some(model) = read(reader, &input, &context(false)) {
            let _ = vocab::from_gguf(
                &model.metadata,
                serde_json::Map::default(),
                &Limits::default(),
            );
        }
        judged(reader, &input, &context(false));
    }
}

/// ONNX.
pub fn onnx(bytes: &[u8]) {
    let input = input("nowhere/model.onnx", bytes);
    if let Some(reader) = onnx::FORMAT.reader {
        if let Some(model) = read(reader, &input, &context(false)) {
            let _ = weightbridge::graph_text(&model);
        }
        judged(reader, &input, &context(false));
    }
}

/// The index of a sharded set, beside two shards that are sound.
pub fn index(bytes: &[u8]) {
    thread_local! {
        static HOME: tempfile::TempDir = {
            let home = folder();
            for (n, name) in ["a", "b"].iter().enumerate() {
                let header = json!({ *name: {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} });
                let header = format!("{:<56}", header.to_string());
                let mut shard = (header.len() as u64).to_le_bytes().to_vec();
                shard.extend_from_slice(header.as_bytes());
                shard.extend_from_slice(&[7; 8]);
                let file = format!("model-0000{}-of-00002.safetensors", n + 1);
                std::fs::write(home.path().join(file), shard).expect("a shard");
            }
            home
        };
    }
    HOME.with(|home| {
        let path = home.path().join("model.safetensors.index.json");
        let input = Input::from_region(path, Region::memory(Bytes::copy_from_slice(bytes)));
        // A shard that is not there is the machine's no.
        let _ = repo::RepoReader.open(&input, &context(false));
        judged(&repo::RepoReader, &input, &context(false));
    });
}

/// `config.json` of a repository that is to become a GGUF file.
pub fn config(bytes: &[u8]) {
    thread_local! {
        static HOME: tempfile::TempDir = {
            let home = folder();
            let shape = |dims: &[u64], at: u64| {
                let len = dims.iter().product::<u64>();
                json!({"dtype": "U8", "shape": dims, "data_offsets": [at, at + len]})
            };
            let header = json!({
                "model.embed_tokens.weight": shape(&[8, 4], 0),
                "model.layers.0.self_attn.q_proj.weight": shape(&[4, 4], 32),
                "model.norm.weight": shape(&[4], 48),
            });
            let header = format!("{header}      ");
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(header.as_bytes());
            file.extend_from_slice(&[7; 52]);
            std::fs::write(home.path().join("model.safetensors"), file).expect("weights");
            home
        };
    }
    HOME.with(|home| {
        std::fs::write(home.path().join("config.json"), bytes).expect("a config");
        let request = ConvertRequest {
            dry_run: true,
            intent: Some(Intent::Llm),
            ..ConvertRequest::new(home.path(), home.path().join("out.gguf"))
        };
        let session = Session {
            threads: 1,
            ..Session::default()
        };
        let _ = weightbridge::convert(&request, &session);
    });
}

/// The files of a tokenizer, by the numbers [`tokenizer`] knows them by.
pub const TOKENIZER_FILES: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tekken.json",
];

/// The methods, by the numbers [`tokenizer`] knows them by.
const METHODS: [Method; 20] = [
    Method::Gpt2,
    Method::SentencePiece,
    Method::SentencePieceOrGpt2,
    Method::Llama,
    Method::Mistral,
    Method::Gemma,
    Method::Gemma2,
    Method::Gemma3,
    Method::Gemma4,
    Method::Phi3,
    Method::Glm4,
    Method::Glm,
    Method::Bert,
    Method::Roberta,
    Method::XlmRoberta,
    Method::Nomic,
    Method::Jina2,
    Method::ModernBert,
    Method::EuroBert,
    Method::T5,
];

/// Tokenizer files in one: the number of a method, then for each file its number, its length in
/// three bytes (little-endian, cut to what is there) and its bytes.
pub fn tokenizer(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut files: Vec<(String, Bytes)> = Vec::new();
    while let [name, a, b, c, tail @ ..] = rest {
        let len = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let (file, after) = tail.split_at(len.min(tail.len()));
        let name = TOKENIZER_FILES[usize::from(*name) % TOKENIZER_FILES.len()];
        files.push((name.to_owned(), Bytes::copy_from_slice(file)));
        rest = after;
    }
    let limits = Limits::default();
    let config = json!({"vocab_size": 64, "eos_token_id": 2});
    let request = vocab::Request {
        hf_class: "LlamaForCausalLM",
        config: &config,
        vocab_size: None,
        embedding_rows: Some(64),
        pre: (first & 0x80 != 0).then_some("llama-bpe"),
        method: Some(METHODS[usize::from(first & 0x7f) % METHODS.len()]),
        partial: true,
        limits: &limits,
    };
    let _ = vocab::to_gguf(&files.as_slice(), &request);
}

/// The registry: which format bytes are in, and that format's reader.
pub fn probe(bytes: &[u8]) {
    let input = input("nowhere/model", bytes);
    let found = weightbridge::detect(&input).ok();
    if let Some(reader) = found.and_then(|found| found.format.reader) {
        read(reader, &input, &context(false));
    }
    // What a name claims makes no reader trust the bytes.
    let formats = weightbridge::registry().iter();
    for reader in formats.filter_map(|format| format.reader) {
        // A repository is looked for where the file would lie.
        let _ = reader.open(&input, &context(false));
    }
}

/// Names of files that `scan` judges by a reader of their own, and one of none.
const SCANNED: [&str; 9] = [
    "file",
    "chat_template.jinja",
    "config.json",
    "hyperparams.yaml",
    "model_index.json",
    "modeling.py",
    "paths.pth",
    "requirements.txt",
    "state.json",
];

/// `scan`, of a file on disk, whose name goes by its length.
pub fn scanned(bytes: &[u8]) {
    thread_local! {
        static HOME: tempfile::TempDir = folder();
    }
    HOME.with(|home| {
        let name = SCANNED[bytes.len() % SCANNED.len()];
        let path: PathBuf = home.path().join(name);
        std::fs::write(&path, bytes).expect("a file to scan");
        let _ = weightbridge::scan(std::slice::from_ref(&path), &Session::default());
        let _ = std::fs::remove_file(path);
    });
}
