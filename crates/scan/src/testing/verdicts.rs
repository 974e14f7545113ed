//! Names whose verdict a review found wrong, one way or the other.

use super::Builder;
use crate::Severity;
use ir::{CallKind, Object};

fn severity(b: &Builder) -> Option<Severity> {
    let found = crate::judge_objects(&b.objects, "p");
    found.into_iter().map(|finding| finding.severity).max()
}

#[test]
fn constructors_that_open_or_fetch_what_they_are_named() {
    for (module, name) in [
        ("tokenizers.models", "WordPiece"),
        ("tokenizers.models", "BPE"),
        ("tokenizers.models", "WordLevel"),
        ("tokenizers.implementations", "ByteLevelBPETokenizer"),
        ("sentencepiece", "SentencePieceProcessor"),
        ("sentence_transformers", "SentenceTransformer"),
        ("sentence_transformers.cross_encoder", "CrossEncoder"),
        ("ultralytics.nn.autobackend", "AutoBackend"),
        ("models.yolo", "Model"),
        ("torchtext.vocab.vectors", "GloVe"),
        ("torchtext.vocab.vectors", "FastText"),
        ("pyannote.audio", "Inference"),
        ("TTS.api", "TTS"),
        ("lightning.pytorch.cli", "LightningCLI"),
        ("lightning.pytorch.loggers", "WandbLogger"),
        ("mmengine.config.lazy", "LazyObject"),
        ("debugpy", "listen"),
        ("delegator", "run"),
        ("llama_cpp", "Llama"),
        ("onnxruntime", "InferenceSession"),
        ("lmdb", "Environment"),
    ] {
        for kind in [CallKind::Reduce, CallKind::Inst, CallKind::Obj] {
            let mut b = Builder::new();
            let word = b.str("evil");
            b.call(kind, module, name, &[word]);
            assert_eq!(severity(&b), Some(Severity::Dangerous), "{module}.{name}");
        }
    }
    let mut b = Builder::new();
    b.reduce("lightning.pytorch.cli", "LightningCLI", &[]);
    assert_eq!(severity(&b), Some(Severity::Dangerous));
}

#[test]
fn one_word_is_an_argument_unless_the_class_is_a_listed_enum() {
    let mut b = Builder::new();
    let word = b.str("evil");
    b.reduce("kornia.feature", "HardNet", &[word]);
    assert_eq!(b.only(), "class-arguments kornia.feature.HardNet");
    let mut b = Builder::new();
    let word = b.str("evil");
    b.call(CallKind::New, "kornia.feature", "HardNet", &[word]);
    assert_eq!(b.only(), "class-arguments kornia.feature.HardNet");
    let mut b = Builder::new();
    let word = b.str("NHWC");
    b.reduce("timm.layers.format", "Format", &[word]);
    let number = b.int(1);
    b.reduce("pyannote.audio.core.task", "Problem", &[number]);
    assert_eq!(b.findings(), [""; 0]);
}

#[test]
fn configurations_of_mmengine_open_a_third_argument() {
    for (module, flagged) in [
        ("mmengine.config.config", true),
        ("mmcv.utils.config", true),
    ] {
        let mut b = Builder::new();
        let settings = b.dict(&[]);
        let none = b.none();
        let file = b.str("/etc/passwd");
        b.reduce(module, "Config", &[settings, none, file]);
        assert_eq!(severity(&b).is_some(), flagged);
        let mut b = Builder::new();
        let settings = b.dict(&[]);
        let text = b.str("a = 1");
        b.reduce(module, "Config", &[settings, text]);
        let made = b.new_object(module, "Config");
        let state = b.tuple(&[settings, text]);
        b.build(made, state);
        assert_eq!(b.findings(), [""; 0]);
    }
}

#[test]
fn models_of_tokenizers_as_they_pickle_themselves() {
    for name in ["BPE", "Unigram", "WordLevel", "WordPiece"] {
        let mut b = Builder::new();
        let model = b.new_object("tokenizers.models", name);
        let state = b.bytes(b"{\"type\":\"BPE\"}");
        b.build(model, state);
        assert_eq!(b.findings(), [""; 0], "{name}");
    }
}

#[test]
fn what_only_builds_values() {
    let mut b = Builder::new();
    let rebuild = b.global("torch.nested._internal.nested_tensor", "_rebuild_njt");
    let class = b.global("torch.nested._internal.nested_tensor", "NestedTensor");
    let keywords = b.dict(&[]);
    let args = b.tuple(&[keywords]);
    b.reduce(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[rebuild, class, args, keywords],
    );
    b.reduce("torch.return_types", "max", &[args, keywords]);
    b.reduce("torch.return_types", "linalg_svd", &[args, keywords]);
    let one = b.int(1);
    b.reduce(
        "numpy._core._internal",
        "_convert_to_stringdtype_kwargs",
        &[one],
    );
    b.new_object("numpy", "poly1d");
    b.new_object("numpy", "iinfo");
    b.new_object("numpy.polynomial.chebyshev", "Chebyshev");
    b.new_object("torch.distributed._mesh_layout", "_MeshLayout");
    b.call(
        CallKind::New,
        "torch.distributed.tensor._dtensor_spec",
        "ShardOrderEntry",
        &[one, one],
    );
    let zone = b.global("zoneinfo", "ZoneInfo");
    let unpickle = b.str("_unpickle");
    let unpickle = b.reduce("builtins", "getattr", &[zone, unpickle]);
    let utc = b.str("UTC");
    b.call_of(CallKind::Reduce, unpickle, &[utc, one]);
    assert_eq!(b.findings(), [""; 0]);
    let open = b.str("from_file");
    let open = b.reduce("builtins", "getattr", &[zone, open]);
    b.call_of(CallKind::Reduce, open, &[utc]);
    assert_eq!(severity(&b), Some(Severity::Dangerous));
}

#[test]
fn a_schedule_keeps_its_own_method() {
    for (method, clean) in [("_triangular_scale_fn", true), ("step", false)] {
        let mut b = Builder::new();
        let schedule = b.new_object("torch.optim.lr_scheduler", "CyclicLR");
        let method = b.str(method);
        let kept = b.reduce("builtins", "getattr", &[schedule, method]);
        let state = b.dict(&[("_scale_fn_ref", kept)]);
        b.build(schedule, state);
        assert_eq!(b.findings().is_empty(), clean);
    }
}

#[test]
fn a_lazy_module_hooks_its_own_methods() {
    for (module, class, method, clean) in [
        ("linear", "LazyLinear", "_infer_parameters", true),
        ("conv", "LazyConv2d", "_lazy_load_hook", true),
        ("linear", "LazyLinear", "forward", false),
        ("linear", "LazyLinear", "__class__", false),
        ("linear", "Linear", "_infer_parameters", false),
        ("mine", "LazyLinear", "_infer_parameters", false),
    ] {
        let mut b = Builder::new();
        let lazy = b.new_object(&format!("torch.nn.modules.{module}"), class);
        let method = b.str(method);
        let kept = b.reduce("builtins", "getattr", &[lazy, method]);
        let state = b.dict(&[("_forward_pre_hooks", kept)]);
        b.build(lazy, state);
        assert_eq!(b.findings().is_empty(), clean, "{module}.{class}");
    }
}

#[test]
fn packed_weights_are_known_and_other_objects_of_libraries_are_not() {
    for (class, clean) in [
        (
            "__torch__.torch.classes.quantized.LinearPackedParamsBase",
            true,
        ),
        ("__torch__.torch.classes.mine.Runner", false),
    ] {
        let mut b = Builder::new();
        let packed = b.new_object("torch", "ScriptObject");
        let values = b.push(Object::None);
        let class = b.str(class);
        let state = b.tuple(&[values, class]);
        b.build(packed, state);
        assert_eq!(b.findings().is_empty(), clean);
    }
}
