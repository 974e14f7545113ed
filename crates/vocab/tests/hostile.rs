//! Files that lie, break off or ask for too much: an error that names the file, never a panic.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod support;

use bytes::Bytes;
use ir::{Class, Limits, Result};
use serde_json::{Value, json};
use support::cases;
use weightbridge_vocab::{Request, VocabError, Vocabulary, to_gguf};

fn run(class: &str, config: &Value, files: &[(&str, Value)]) -> Result<Vocabulary> {
    let files: Vec<(String, Bytes)> = files
        .iter()
        .map(|(name, value)| {
            (
                (*name).to_owned(),
                serde_json::to_vec(value).unwrap().into(),
            )
        })
        .collect();
    let limits = Limits::default();
    let request = Request {
        hf_class: class,
        config,
        vocab_size: None,
        embedding_rows: None,
        partial: false,
        pre: None,
        method: None,
        limits: &limits,
    };
    to_gguf(&files.as_slice(), &request)
}

fn bpe(normalizer: &Value, pre_tokenizer: &Value) -> Value {
    json!({
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    })
}

#[test]
fn cut_files_are_errors() {
    for case in cases() {
        for at in 0..case.files.len() {
            let mut files = case.files.clone();
            let whole = files[at].1.clone();
            for cut in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
                files[at].1 = whole.slice(..cut);
                // A text file may be cut anywhere and still read; nothing may panic.
                if let Err(error) = case.run_files(&files, case.pre.as_deref()) {
                    assert!(error.help().is_some(), "{}: {error}", case.name);
                }
            }
        }
    }
}

#[test]
fn flipped_bytes_do_not_panic() {
    for case in cases() {
        for at in 0..case.files.len() {
            let mut files = case.files.clone();
            let whole = files[at].1.to_vec();
            for step in 0..40 {
                let mut bytes = whole.clone();
                let place = (step * 7919) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (step % 8);
                }
                files[at].1 = bytes.into();
                let _ = case.run_files(&files, None);
            }
        }
    }
}

#[test]
fn a_vocabulary_larger_than_the_model_is_named() {
    let files = [("tokenizer.json", bpe(&Value::Null, &Value::Null))];
    let error = run("GPT2LMHeadModel", &json!({"vocab_size": 2}), &files).unwrap_err();
    assert_eq!(error.class(), Class::Malformed);
    assert!(matches!(
        error.downcast_ref(),
        Some(VocabError::TooLarge { id: 2, rows: 2, .. })
    ));
    let text = error.to_string();
    for part in ["tokenizer.json", "\"ab\"", "vocab_size of config.json"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn rows_and_ids_have_limits() {
    let files = [("tokenizer.json", bpe(&Value::Null, &Value::Null))];
    let config = json!({"vocab_size": 4_000_000_000_u64});
    let error = run("GPT2LMHeadModel", &config, &files).unwrap_err();
    assert_eq!(error.class(), Class::Limit, "{error}");
    let config = json!({"vocab_size": 3, "eos_token_id": -1});
    let error = run("BertModel", &config, &[("vocab.txt", json!("x"))]).unwrap_err();
    assert!(error.help().is_some(), "{error}");
}

#[test]
fn what_the_library_is_given_is_bounded() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let many = json!({"type": "Sequence", "pretokenizers": vec![byte_level; 40]});
    let long = json!({"type": "Split", "pattern": {"Regex": "a".repeat(10_000)}, "behavior": "Isolated", "invert": false});
    let large = json!({"type": "Split", "pattern": {"Regex": "((a{100}){100}){100}"}, "behavior": "Isolated", "invert": false});
    let broken = json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false});
    let odd = json!({"type": "NoSuchThing"});
    for (name, pre) in [
        ("many", many),
        ("long", long),
        ("large", large),
        ("broken", broken),
        ("odd", odd),
    ] {
        let files = [("tokenizer.json", bpe(&Value::Null, &pre))];
        let error = run("GPT2LMHeadModel", &json!({"vocab_size": 3}), &files).unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{name}: {error}");
        assert!(
            error
                .to_string()
                .starts_with("tokenizer.json: the tokenizer cannot be built"),
            "{error}"
        );
    }
    // Each step makes each letter many: without a look after each the text would be terabytes.
    let grow = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "x".repeat(200)});
    let bomb = json!({"type": "Sequence", "normalizers": vec![grow; 8]});
    let files = [("tokenizer.json", bpe(&bomb, &Value::Null))];
    let error = run("GPT2LMHeadModel", &json!({"vocab_size": 3}), &files).unwrap_err();
    assert!(error.to_string().contains("blows the text up"), "{error}");
}

#[test]
fn a_missing_tokenizer_names_what_would_do() {
    let error = run("LlamaForCausalLM", &json!({"vocab_size": 3}), &[]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("tokenizer.json or vocab.json or vocab.txt"),
        "{text}"
    );
    assert!(text.contains("--as container"), "{text}");
}
