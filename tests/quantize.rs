//! Quantizing whole files: several types in one pass, and inputs that are no GGUF.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use convert::recipe::{FileType, QuantizeOptions};
use ir::{DType, ModelBuilder, Output, ReadOptions, WriteOptions, Writer};
use std::fs;
use std::path::{Path, PathBuf};
use weightbridge::{Intent, Names, QuantizeRequest, QuantizedFile, Session};
use weightbridge_tests::{folder, left_in};

/// Numbers in a range that suits every type.
fn numbers(n: u64, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed | 1;
    (0..n).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from_bits(0x3f80_0000 | (state >> 41) as u32) - 1.5
    })
}

/// A small llama: several shapes, rows longer than a step of the pump, two files if split.
fn model(path: &Path, split: Option<u64>) {
    let mut model = ModelBuilder::new().metadata(
        ir::ns::GGUF,
        "general.architecture",
        ir::MetaValue::text("llama"),
    );
    let mut add = |name: &str, shape: &[u64]| {
        let values = numbers(shape.iter().product(), name.len() as u64);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        let taken = std::mem::take(&mut model);
        model = taken.tensor(name, DType::F32, shape.to_vec(), bytes);
    };
    add("token_embd.weight", &[300, 512]);
    add("output.weight", &[300, 512]);
    add("output_norm.weight", &[512]);
    for layer in 0..3 {
        let name = |rest: &str| format!("blk.{layer}.{rest}.weight");
        add(&name("attn_norm"), &[512]);
        add(&name("attn_v"), &[128, 512]);
        add(&name("ffn_down"), &[2, 66_048]);
        add(&name("ffn_up"), &[40, 96]);
        add(&name("ffn_up_exps"), &[3, 20, 512]);
    }
    let cx = ir::Context {
        write: WriteOptions {
            shard_tensors: split,
            ..WriteOptions::default()
        },
        ..ir::Context::default()
    };
    let mut out = Output::new(path, false);
    let model = model.build().unwrap();
    gguf::GgufWriter.write(&model, &mut out, &cx).unwrap();
    out.commit().unwrap();
}

fn types(names: &str) -> Vec<FileType> {
    names.split(',').map(|name| name.parse().unwrap()).collect()
}

fn quantize(request: &QuantizeRequest) -> Vec<QuantizedFile> {
    weightbridge::quantize(request, &Session::default()).unwrap()
}

/// The files written, by name, with their bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> = left_in(folder);
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .collect()
}

/// Each type alone and all in one pass: the same files.
fn one_pass_is_as_good(input: &Path, names: &str, options: &QuantizeOptions) {
    let (together, apart) = (folder(), folder());
    let request = |output: &Path, types| QuantizeRequest {
        output: output.to_owned(),
        types,
        options: options.clone(),
        ..QuantizeRequest::new(input, output, FileType::F16)
    };
    let done = quantize(&request(together.path(), types(names)));
    for file_type in types(names) {
        let alone = quantize(&request(apart.path(), vec![file_type]));
        let same = done
            .iter()
            .find(|file| file.file_type == file_type)
            .unwrap();
        assert_eq!(alone[0].report.file_bytes, same.report.file_bytes);
        assert_eq!(alone[0].report.records, same.report.records);
        let errors = |file: &QuantizedFile| -> Vec<_> {
            let errors = file.lines.iter().map(convert::Line::error);
            errors.map(|e| e.map(|e| (e.elements, e.max))).collect()
        };
        assert_eq!(errors(&alone[0]), errors(same));
    }
    let (together, apart) = (contents(together.path()), contents(apart.path()));
    assert!(together.len() >= types(names).len());
    for (a, b) in together.iter().zip(&apart) {
        assert!(a == b, "{} and {} differ", a.0, b.0);
    }
    assert_eq!(together.len(), apart.len());
}

#[test]
fn several_types_in_one_pass_are_those_of_single_runs() {
    let dir = folder();
    let input = dir.path().join("m.gguf");
    model(&input, None);
    let options = QuantizeOptions {
        stats: true,
        ..QuantizeOptions::default()
    };
    one_pass_is_as_good(&input, "Q4_K_M,Q6_K,Q8_0,F16,COPY", &options);
    let nan = QuantizeOptions {
        allow_nan: true,
        ..QuantizeOptions::default()
    };
    one_pass_is_as_good(&input, "Q4_0,BF16", &nan);
    // Blocks are dequantized once for all.
    let blocks = dir.path().join("blocks.gguf");
    quantize(&QuantizeRequest::new(&input, &blocks, FileType::Q8_0));
    let again = QuantizeOptions {
        allow_requantize: true,
        ..QuantizeOptions::default()
    };
    one_pass_is_as_good(&blocks, "Q8_0,Q4_K_M,IQ4_XS,F32", &again);
}

#[test]
fn sets_are_kept_for_every_type() {
    let dir = folder();
    model(&dir.path().join("m.gguf"), Some(7));
    let input = dir.path().join("m-00002-of-00003.gguf");
    let options = QuantizeOptions {
        keep_split: true,
        ..QuantizeOptions::default()
    };
    one_pass_is_as_good(&input, "Q4_K_M,Q5_0", &options);
    let output = folder();
    let done = quantize(&QuantizeRequest {
        options: options.clone(),
        ..QuantizeRequest::new(&input, output.path(), FileType::Q8_0)
    });
    let first = output.path().join("m-Q8_0-00001-of-00003.gguf");
    assert_eq!(done[0].files[0].0, first);
    one_pass_is_as_good(&input, "Q4_K_M,Q5_0", &QuantizeOptions::default());
}

#[test]
fn an_importance_matrix_serves_all_types() {
    let dir = folder();
    let input = dir.path().join("m.gguf");
    model(&input, None);
    // The older form: count, then name, calls, and sums.
    let names = [
        "blk.0.attn_v.weight",
        "blk.1.attn_v.weight",
        "blk.2.ffn_down.weight",
    ];
    let mut bytes = 3i32.to_le_bytes().to_vec();
    for (name, columns) in names.iter().zip([512u64, 512, 66_048]) {
        bytes.extend(i32::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1i32.to_le_bytes());
        bytes.extend((columns as i32).to_le_bytes());
        bytes.extend(numbers(columns, 9).flat_map(|v| (v + 1.0).to_le_bytes()));
    }
    let matrix = dir.path().join("matrix.dat");
    fs::write(&matrix, bytes).unwrap();
    let (together, apart) = (folder(), folder());
    for (output, lists) in [
        (&together, vec!["Q4_0,Q4_K_M,F16"]),
        (&apart, vec!["Q4_0", "Q4_K_M", "F16"]),
    ] {
        for list in lists {
            quantize(&QuantizeRequest {
                types: types(list),
                imatrix: Some(matrix.clone()),
                ..QuantizeRequest::new(&input, output.path(), FileType::F16)
            });
        }
    }
    assert!(contents(together.path()) == contents(apart.path()));
}

#[test]
fn nothing_is_left_where_a_value_is_nan() {
    let dir = folder();
    let input = dir.path().join("m.gguf");
    model(&input, None);
    let opened = weightbridge::open(&input, None, ReadOptions::default(), &Session::default());
    let tensor = opened
        .unwrap()
        .model
        .tensors
        .by_name("blk.2.attn_v.weight")
        .cloned();
    let at = tensor.unwrap().view().unwrap().region.start();
    let mut bytes = fs::read(&input).unwrap();
    let at = at as usize + 4 * 700;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&input, bytes).unwrap();
    let output = dir.path().join("out");
    let mut request = QuantizeRequest {
        types: types("Q8_0,Q4_0"),
        ..QuantizeRequest::new(&input, &output, FileType::Q8_0)
    };
    let error = weightbridge::quantize(&request, &Session::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("blk.2.attn_v.weight") && text.contains("element 700"),
        "{text}"
    );
    assert!(!output.exists());
    request.options.allow_nan = true;
    assert_eq!(quantize(&request).len(), 2);
}

#[test]
fn other_formats_are_quantized_when_that_is_asked_for() {
    let dir = folder();
    let (input, plain) = (dir.path().join("m.gguf"), dir.path().join("m.safetensors"));
    model(&input, None);
    let request = weightbridge::ConvertRequest::new(&input, &plain);
    weightbridge::convert(&request, &Session::default()).unwrap();
    let output = dir.path().join("q.gguf");
    let mut request = QuantizeRequest::new(&plain, &output, FileType::Q4_K_M);
    let error = weightbridge::quantize(&request, &Session::default()).unwrap_err();
    assert_eq!(error.class(), ir::Class::Unsupported);
    assert!(error.help().unwrap().contains("--as container"));
    request.intent = Some(Intent::Container);
    quantize(&request);
    let direct = dir.path().join("direct.gguf");
    quantize(&QuantizeRequest::new(&input, &direct, FileType::Q4_K_M));
    let same = weightbridge::diff(
        &output,
        &direct,
        Names::Raw,
        convert::DiffOptions::default(),
        &Session::default(),
    );
    assert!(same.unwrap().same());
}

/// Across types blocks are dequantized first: figures for each tensor, and none that is missing.
#[test]
fn a_quantized_model_is_compared_with_its_source() {
    let dir = folder();
    let (input, output) = (dir.path().join("m.gguf"), dir.path().join("q.gguf"));
    model(&input, None);
    quantize(&QuantizeRequest::new(&input, &output, FileType::Q4_K_M));
    let session = Session::default();
    let report = weightbridge::diff(
        &input,
        &output,
        Names::Raw,
        convert::DiffOptions::default(),
        &session,
    );
    let report = report.unwrap();
    assert!(report.only_in_a.is_empty() && report.only_in_b.is_empty());
    // All but the norms.
    assert_eq!(report.differ.len(), report.compared as usize - 4);
    for line in &report.differ {
        let (max, rmse) = (line.max_abs.unwrap(), line.rmse.unwrap());
        assert!(
            max > 0.0 && max < 0.1 && rmse > 0.0 && rmse < max,
            "{line:?}"
        );
    }
    let near = convert::DiffOptions {
        tolerance: Some(0.1),
        ..convert::DiffOptions::default()
    };
    assert!(
        weightbridge::diff(&input, &output, Names::Raw, near, &session)
            .unwrap()
            .same()
    );
}
