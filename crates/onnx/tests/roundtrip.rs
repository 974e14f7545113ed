//! Every good file of the repository, read and written: the same model, and the same bytes from
//! then on; and the schema's own types agree with what is written.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use ir::{Context, Input, Model, Output, Reader, WriteOptions, Writer};
use prost::Message;
use std::fs;
use std::path::{Path, PathBuf};
use weightbridge_onnx::wire::{FunctionProto, GraphProto, ModelProto, OperatorSetIdProto};
use weightbridge_onnx::{OnnxReader, OnnxWriter};

fn good() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx/good");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    files.sort();
    files
}

fn open(path: &Path) -> Model {
    let model = OnnxReader.open(&Input::open(path).unwrap(), &Context::default());
    let model = model.unwrap();
    model.validate(&ir::Limits::default()).unwrap();
    model
}

fn write(model: &Model, path: &Path, options: WriteOptions) {
    let cx = Context {
        write: options,
        ..Context::default()
    };
    let mut out = Output::new(path, true);
    OnnxWriter.write(model, &mut out, &cx).unwrap();
    out.commit().unwrap();
}

#[test]
fn written_once_is_written_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.onnx"), dir.path().join("b.onnx"));
    let mut tried = 0;
    for path in good() {
        write(&open(&path), &first, WriteOptions::default());
        write(&open(&first), &second, WriteOptions::default());
        let (bytes, again) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
        assert_eq!(bytes, again, "{}", path.display());
        // What prost makes of it says the same in as many bytes: every field is one it knows.
        let decoded = ModelProto::decode(&bytes[..]).unwrap();
        assert_eq!(decoded.encoded_len(), bytes.len(), "{}", path.display());
        let before = ModelProto::decode(&fs::read(&path).unwrap()[..]).unwrap();
        let (before, after) = (before.graph.unwrap(), decoded.graph.unwrap());
        assert_eq!(before.node.len(), after.node.len());
        assert_eq!(before.input, after.input);
        assert_eq!(before.output, after.output);
        tried += 1;
    }
    assert!(tried >= 11);
}

/// The standard operators have an empty domain, in a function too: what imports them is kept, said
/// or not.
#[test]
fn a_function_keeps_the_operators_it_imports() {
    let opset = |domain: Option<&str>, version| OperatorSetIdProto {
        domain: domain.map(str::to_owned),
        version: Some(version),
    };
    let imports = [
        vec![opset(Some("my"), 1), opset(Some(""), 17)],
        vec![opset(None, 18)],
    ];
    let functions = imports
        .iter()
        .zip(["F", "G"])
        .map(|(imports, name)| FunctionProto {
            name: Some(name.to_owned()),
            domain: Some("my".to_owned()),
            opset_import: imports.clone(),
            ..FunctionProto::default()
        });
    let model = ModelProto {
        ir_version: Some(10),
        graph: Some(GraphProto::default()),
        opset_import: vec![opset(Some(""), 17)],
        functions: functions.collect(),
        ..ModelProto::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.onnx"), dir.path().join("b.onnx"));
    fs::write(&from, model.encode_to_vec()).unwrap();
    write(&open(&from), &to, WriteOptions::default());
    let back = ModelProto::decode(&fs::read(&to).unwrap()[..]).unwrap();
    assert_eq!(back.opset_import, model.opset_import);
    let [first, second] = &back.functions[..] else {
        panic!("{:?}", back.functions);
    };
    assert_eq!(first.opset_import, imports[0]);
    assert_eq!(second.opset_import, [opset(Some(""), 18)]);
}

#[test]
fn data_goes_outside_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = ir::ModelBuilder::new();
    for (n, len) in [3000u64, 10, 2_000_000, 5000].into_iter().enumerate() {
        let name = format!("t{n}");
        builder = builder.push(ir::PatternCompute::tensor(&name, ir::DType::U8, [len]));
    }
    let model = builder.build().unwrap();
    let whole = WriteOptions {
        external_data: true,
        ..WriteOptions::default()
    };
    let cut = WriteOptions {
        shard_size: Some(6000),
        ..WriteOptions::default()
    };
    let listed = WriteOptions {
        repository: true,
        ..cut.clone()
    };
    for (options, files) in [
        (
            listed,
            vec!["m.onnx", "m.onnx_data", "m.onnx_data_1", "m.onnx_data_2"],
        ),
        (whole, vec!["m.onnx", "m.onnx.data"]),
        (
            cut,
            vec![
                "m.onnx",
                "m-00001-of-00003.onnx.data",
                "m-00002-of-00003.onnx.data",
                "m-00003-of-00003.onnx.data",
            ],
        ),
    ] {
        let path = dir.path().join("m.onnx");
        write(&model, &path, options);
        let back = open(&path);
        let names: Vec<_> = back
            .provenance
            .files
            .iter()
            .map(|(path, _)| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, files);
        assert!(back.graph.is_none());
        for (ours, theirs) in model.tensors.iter().zip(&back.tensors) {
            assert_eq!(ours.name, theirs.name);
            assert!(ours.read_all().unwrap() == theirs.read_all().unwrap());
        }
    }
}
