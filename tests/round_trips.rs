//! A to B to A, for every pair of the registry: A's tensors bit for bit and in order, and what B was
//! asked to carry.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use ir::{Entry, Format, MetaValue, Model, Payload, ReadOptions, ns};
use std::path::{Path, PathBuf};
use weightbridge::{Carry, ConvertRequest, Edit, Intent, LlmOptions, Session, registry};
use weightbridge_tests::{expected, folder, samples, short};

fn writers() -> impl Iterator<Item = &'static Format> {
    registry()
        .iter()
        .copied()
        .filter(|format| format.writer.is_some())
}

fn open(path: &Path) -> Model {
    let opened = weightbridge::open(path, None, ReadOptions::default(), &Session::default());
    opened.unwrap_or_else(|e| panic!("{e}")).model
}

/// Name, type, shape and bytes of each tensor.
fn tensors(model: &Model) -> Vec<(String, String, Vec<u8>)> {
    let bytes = |tensor: &ir::Tensor| match &tensor.payload {
        Payload::Strings(list) => list.iter().flat_map(|s| [b"|", &s[..]].concat()).collect(),
        _ => tensor.read_all().unwrap(),
    };
    let row = |t: &ir::Tensor| {
        (
            t.name.clone(),
            format!("{} {}", t.dtype(), t.spec.shape),
            bytes(t),
        )
    };
    model.tensors.iter().map(row).collect()
}

/// Metadata but for what says only that tensors are PyTorch's, which is written by itself.
fn metadata(model: &Model) -> Vec<Entry> {
    let implied = |entry: &&Entry| entry.namespace == ns::SAFETENSORS && entry.key == "format";
    let bits = |entry: &Entry| {
        let text = ir::typed_text::render(&entry.value);
        Entry {
            value: MetaValue::text(text),
            ..entry.clone()
        }
    };
    let mut found: Vec<Entry> = model
        .metadata
        .iter()
        .filter(|entry| !implied(entry))
        .map(bits)
        .collect();
    // Those of safetensors are a mapping without an order, which its writers sort.
    if model.provenance.format == ns::SAFETENSORS {
        found.sort_by(|a, b| (a.namespace, &a.key).cmp(&(b.namespace, &b.key)));
    }
    found
}

/// The first place where two lists part.
fn parts<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> String {
    let at = a
        .iter()
        .zip(b)
        .position(|(a, b)| a != b)
        .unwrap_or(a.len().min(b.len()));
    let show = |list: &[T]| {
        format!("{:?}", list.get(at))
            .chars()
            .take(300)
            .collect::<String>()
    };
    format!(
        "{} and {} rows, row {at}: {} / {}",
        a.len(),
        b.len(),
        show(a),
        show(b)
    )
}

/// What is wrong with the way by `target`, if anything.
fn way(start: &Path, format: &Format, target: &Format, dir: &Path) -> Option<String> {
    let there = dir.join(format!("there.{}", target.extensions[0]));
    let back = dir.join(format!("back.{}", format.extensions[0]));
    for (from, to) in [(start, &there), (&there, &back)] {
        let request = ConvertRequest {
            overwrite: true,
            intent: Some(Intent::Container),
            keep_blocks: true,
            carry: Carry {
                metadata: true,
                graph: true,
            },
            ..ConvertRequest::new(from, to)
        };
        if let Err(error) = weightbridge::convert(&request, &Session::default()) {
            return Some(error.to_string());
        }
    }
    let (a, b) = (open(start), open(&back));
    let (left, right) = (tensors(&a), tensors(&b));
    if left != right {
        return Some(format!("tensors: {}", parts(&left, &right)));
    }
    let (left, right) = (metadata(&a), metadata(&b));
    if left != right {
        return Some(format!("metadata: {}", parts(&left, &right)));
    }
    a.graph.as_ref()?;
    // The graph is what comes of the model alone, read and written.
    let direct = dir.join("direct.onnx");
    let request = ConvertRequest {
        overwrite: true,
        ..ConvertRequest::new(start, &direct)
    };
    weightbridge::convert(&request, &Session::default()).unwrap();
    let same = std::fs::read(&direct).unwrap() == std::fs::read(&back).unwrap();
    (!same).then(|| "another graph".to_owned())
}

/// Every way from these files of one format, by every other; how many there were.
fn all_ways(format: &Format, starts: &[PathBuf]) -> usize {
    let dir = folder();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for start in starts {
        for target in writers().filter(|target| target.id != format.id) {
            tried += 1;
            let found = way(start, format, target, dir.path());
            wrong.extend(found.map(|why| format!("{} by {}: {why}", short(start), target.id)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {tried} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    tried
}

#[test]
fn everything_comes_back() {
    let dir = folder();
    for format in writers() {
        let start = dir
            .path()
            .join(format!("{}.{}", format.id, format.extensions[0]));
        let model = samples::everything(format);
        assert!(model.tensors.len() > 30, "{}", format.id);
        samples::write(&model, format, &start);
        // What the file says is what went in: the ways start from the whole.
        assert_eq!(
            tensors(&open(&start)).len(),
            model.tensors.len(),
            "{}",
            format.id
        );
        assert_eq!(all_ways(format, &[start]), 3);
    }
}

/// A noted graph that is none, or of other tensors, is an error that says what is left to do.
#[test]
fn graphs_that_do_not_fit_are_refused() {
    let dir = folder();
    let st = writers().find(|format| format.id == "safetensors").unwrap();
    // A graph with one initializer "w" of one float, and without its data.
    let graph = "CAo6HRIBZyoYCAEQAUIBd2oNCghsb2NhdGlvbhIBd3ABQgIQFQ==";
    for note in ["!", "AAAA", "", graph] {
        let (input, output) = (dir.path().join("a.safetensors"), dir.path().join("a.onnx"));
        let mut model = samples::everything(st);
        model.metadata.set(ns::NOTE, "graph", MetaValue::text(note));
        samples::write(&model, st, &input);
        let request = ConvertRequest::new(&input, &output);
        let error = weightbridge::convert(&request, &Session::default()).unwrap_err();
        assert_eq!(error.class(), ir::Class::Malformed, "{error}");
        assert!(error.to_string().contains("does not fit"), "{error}");
        let request = ConvertRequest {
            intent: Some(Intent::Container),
            overwrite: true,
            ..request
        };
        let done = weightbridge::convert(&request, &Session::default()).unwrap();
        let dropped = done
            .report
            .losses()
            .filter(|record| record.kind == "graph")
            .count();
        assert_eq!(dropped, 1);
        std::fs::remove_file(output).unwrap();
    }
}

/// The files that other programs wrote.
#[test]
fn test_files_come_back() {
    for format in writers() {
        let id = if format.id == "ckpt" {
            "ckpt"
        } else {
            format.id
        };
        let mut starts = Vec::new();
        for (path, truth) in expected(&format!("{id}/good")) {
            if truth["frozen"] == true {
                continue;
            }
            let opened =
                weightbridge::open(&path, None, ReadOptions::default(), &Session::default());
            if opened.is_ok_and(|opened| !opened.model.tensors.is_empty()) {
                starts.push(path);
            }
        }
        assert!(starts.len() > 5, "{}: {}", format.id, starts.len());
        all_ways(format, &starts);
    }
}

/// Of a language model: keys of a GGUF file that become a card, settings, or stay metadata.
#[test]
fn what_describes_a_model_comes_back() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let session = Session::default();
    let llm = |input: &Path, output: &Path, to: &str, keys: &[&str]| {
        let request = ConvertRequest {
            to: Some(to.to_owned()),
            strict: true,
            edits: keys.iter().map(|key| Edit::set(key).unwrap()).collect(),
            llm: LlmOptions {
                pre: Some("llama-bpe".to_owned()),
                ..LlmOptions::default()
            },
            ..ConvertRequest::new(input, output)
        };
        weightbridge::convert(&request, &session).unwrap_or_else(|e| panic!("{to}: {e}"));
    };
    let original = path("original");
    let st = writers().find(|format| format.id == "safetensors").unwrap();
    samples::repository(&original, st);
    std::fs::remove_file(original.join("README.md")).unwrap();
    let plain = path("plain.gguf");
    let request = ConvertRequest {
        llm: LlmOptions {
            pre: Some("llama-bpe".to_owned()),
            ..LlmOptions::default()
        },
        ..ConvertRequest::new(&original, &plain)
    };
    weightbridge::convert(&request, &session).unwrap();
    let keys = [
        "general.name=str:A: \"name\"",
        "general.license=str:mit",
        "general.license.link=str:https://example.org/#mit",
        "general.description=str:two\nlines",
        "general.quantized_by=str:somebody",
        "general.base_model.count=u32:1",
        "general.base_model.0.name=str:Base",
        "general.base_model.0.url=str:https://example.org",
        "general.tags=[str]:[\"a\",\"no\"]",
        "general.languages=[str]:[\"en\",\"no\"]",
        "general.sampling.temp=f32:0.6",
        "general.sampling.top_k=i32:20",
        "general.sampling.mirostat_tau=f32:5",
        "llama.newer.key=u16:7",
        "tokenizer.ggml.fim_pre_token_id=u32:3",
        "quantize.imatrix.file=str:x.dat",
        "somebody.list=[u64]:[1,2]",
        "somebody.wide=f64:0.1",
    ];
    let first = path("first.gguf");
    llm(&plain, &first, "gguf", &keys);
    let described = |path: &Path| -> Vec<String> {
        let model = open(path);
        let entries = model
            .metadata
            .iter()
            .filter(|entry| entry.namespace != ns::NOTE);
        let line = |e: &Entry| {
            format!(
                "{} {} {}",
                e.namespace,
                e.key,
                ir::typed_text::render(&e.value)
            )
        };
        let mut lines: Vec<String> = entries.map(line).collect();
        lines.sort();
        lines
    };
    for format in writers().filter(|format| format.id != "gguf") {
        let (there, back) = (
            path(&format!("to-{}/", format.id)),
            path(&format!("{}.gguf", format.id)),
        );
        llm(&first, &there, format.id, &[]);
        llm(&there, &back, "gguf", &[]);
        let (a, b) = (described(&first), described(&back));
        assert!(a == b, "{}: {}", format.id, parts(&a, &b));
    }
}

/// A graph goes along where there is nothing else to carry.
#[test]
fn a_graph_without_tensors_comes_back() {
    let dir = folder();
    let start = weightbridge_tests::testdata().join("onnx/good/no_tensors.onnx");
    let nodes = |path: &Path| open(path).graph.unwrap().body.nodes.len();
    for format in writers().filter(|format| format.id != "onnx") {
        let there = dir.path().join(format!("there.{}", format.extensions[0]));
        let back = dir.path().join(format!("{}.onnx", format.id));
        for (from, to) in [(&start, &there), (&there, &back)] {
            let request = ConvertRequest {
                intent: (from == &start).then_some(Intent::Container),
                carry: "graph".parse().unwrap(),
                ..ConvertRequest::new(from, to)
            };
            let done = weightbridge::convert(&request, &Session::default());
            done.unwrap_or_else(|e| panic!("{}: {e}", format.id));
        }
        assert_eq!(nodes(&back), nodes(&start), "{}", format.id);
    }
}
