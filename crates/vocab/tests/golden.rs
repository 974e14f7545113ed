//! Small tokenizers of every kind give the reference converter's keys, and come back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

mod support;

use bytes::Bytes;
use ir::{Class, Limits, MetaValue, Metadata, ns};
use support::{Case, cases, told};
use weightbridge_vocab::{VocabError, from_gguf};

#[test]
fn keys_types_values_and_order_are_the_reference_s() {
    for case in cases() {
        let made = case
            .run(case.pre.as_deref())
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let ours = told(&made.pairs);
        for (own, other) in ours.iter().zip(&case.expected) {
            assert_eq!(own, other, "{}", case.name);
        }
        assert_eq!(ours.len(), case.expected.len(), "{}", case.name);
    }
}

#[test]
fn an_added_token_without_a_row_is_left_out_only_where_that_is_asked_for() {
    let all = cases();
    let case = all.iter().find(|case| case.name == "spm-llama").unwrap();
    let error = case.run_as(&case.files, None, false).unwrap_err();
    assert_eq!(error.class(), Class::Malformed);
    let text = error.to_string();
    for word in ["tokenizer_config.json", "<far>", "--partial"] {
        assert!(text.contains(word), "{text}");
    }
    let made = case.run_as(&case.files, None, true).unwrap();
    let lost = made.records.iter().filter(|record| record.loss);
    let lost: Vec<&str> = lost.map(|record| record.what.as_str()).collect();
    assert_eq!(lost, ["added token \"<far>\"", "pad_token_id"]);
}

#[test]
fn the_fingerprint_is_the_reference_s() {
    let mut n = 0;
    for case in cases() {
        let Some(fingerprint) = &case.fingerprint else {
            continue;
        };
        let error = case.run(None).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported, "{}: {error}", case.name);
        let Some(VocabError::UnknownPre { hash, nearest }) = error.downcast_ref() else {
            panic!("{}: {error}", case.name);
        };
        assert_eq!(hash, fingerprint, "{}", case.name);
        if case.class == "Qwen2ForCausalLM" {
            assert_eq!(nearest.first().unwrap(), &("qwen2".to_owned(), 100));
            assert!(error.to_string().contains("--pre NAME"), "{error}");
        }
        n += 1;
    }
    assert!(n > 8, "{n} fingerprints");
}

fn back(case: &Case) -> Vec<(String, Bytes)> {
    let made = case.run(case.pre.as_deref()).unwrap();
    let files = from_gguf(
        &Metadata::from_pairs(ns::GGUF, made.pairs),
        serde_json::Map::new(),
        &Limits::default(),
    );
    let files = files.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    files
        .into_iter()
        .map(|(name, bytes)| (name, bytes.into()))
        .collect()
}

/// Forward again, the files of the way back give the same tokens, types, scores and merges.
#[test]
fn what_comes_back_goes_forward_to_the_same() {
    for case in cases() {
        let files = back(&case);
        let again = case
            .run_files(&files, case.pre.as_deref())
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let again = told(&again.pairs);
        for key in [
            "model",
            "pre",
            "tokens",
            "scores",
            "token_type",
            "merges",
            "eos_token_id",
            "bos_token_id",
            "add_bos_token",
            "add_eos_token",
            "add_sep_token",
            "remove_extra_whitespaces",
            "add_space_prefix",
        ] {
            let key_of = |row: &serde_json::Value| row[0] == *format!("tokenizer.ggml.{key}");
            if key.starts_with("add_") && !case.expected.iter().any(key_of) {
                continue; // the form of tokenizer.json always tells
            }
            if key == "token_type" && case.name == "unigram-xlm-spm" {
                continue; // a Unigram tokenizer.json has no unused rows
            }
            if key.ends_with("_id") && case.name == "wordpiece-txt" {
                continue; // the source had no tokenizer.json to say so
            }
            let key = format!("tokenizer.ggml.{key}");
            let find = |list: &[serde_json::Value]| list.iter().find(|row| row[0] == *key).cloned();
            assert_eq!(find(&again), find(&case.expected), "{} {key}", case.name);
        }
    }
}

#[test]
fn templates_come_back() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "bpe-qwen2")
        .unwrap();
    let files = back(&case);
    let has = |name: &str| files.iter().any(|(own, _)| own == name);
    assert!(has("chat_template.jinja") && has("additional_chat_templates/tool_use.jinja"));
    let again = case.run_files(&files, case.pre.as_deref()).unwrap();
    let again = told(&again.pairs);
    for row in case
        .expected
        .iter()
        .filter(|row| row[0].as_str().unwrap().contains("chat_template"))
    {
        assert!(again.contains(row), "{row}");
    }
}

#[test]
fn no_tokenizer_no_files() {
    let none = Metadata::from_pairs(
        ns::GGUF,
        [("tokenizer.ggml.model".to_owned(), MetaValue::text("none"))],
    );
    assert!(
        from_gguf(&none, serde_json::Map::new(), &Limits::default())
            .unwrap()
            .is_empty()
    );
    assert!(
        from_gguf(&Metadata::new(), serde_json::Map::new(), &Limits::default())
            .unwrap()
            .is_empty()
    );
}
