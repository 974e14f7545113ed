//! What real checkpoints hold: none of it is dangerous, and what is curated is not even suspicious.

use super::Builder;
use ir::{CallKind, Object, ObjectId};

const NOTHING: &[&str] = &[];

fn storage(b: &mut Builder) -> ObjectId {
    let class = b.global("torch", "FloatStorage");
    let parts = [b.str("storage"), class, b.str("0"), b.str("cpu"), b.int(4)];
    let pid = b.tuple(&parts);
    b.push(Object::Persistent(pid))
}

fn tensor(b: &mut Builder) -> ObjectId {
    let storage = storage(b);
    let zero = b.int(0);
    let shape = b.tuple(&[zero]);
    let grad = b.push(Object::Bool(false));
    let hooks = b.reduce("collections", "OrderedDict", &[]);
    b.reduce(
        "torch._utils",
        "_rebuild_tensor_v2",
        &[storage, zero, shape, shape, grad, hooks],
    )
}

#[test]
fn a_state_dict() {
    let mut b = Builder::new();
    let weight = tensor(&mut b);
    let parameter = b.reduce("torch._utils", "_rebuild_parameter", &[weight]);
    let dict = b.reduce("collections", "OrderedDict", &[]);
    let key = b.str("weight");
    if let Some(Object::Call(call)) = b.objects.get_mut(dict) {
        call.changes().pairs.push((key, parameter));
    }
    let version = b.int(1);
    let metadata = b.dict(&[("version", version)]);
    let state = b.dict(&[("_metadata", metadata)]);
    b.build(dict, state);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn fairseq_and_its_namespace() {
    let mut b = Builder::new();
    let dictionary = b.new_object("fairseq.data.dictionary", "Dictionary");
    let one = b.int(1);
    let state = b.dict(&[("nspecial", one)]);
    b.build(dictionary, state);
    let args = b.new_object("argparse", "Namespace");
    b.build(args, state);
    tensor(&mut b);
    assert_eq!(b.findings(), NOTHING);
    assert_eq!(
        crate::outside_weights_only(&b.objects, &[]),
        ["argparse.Namespace", "fairseq.data.dictionary.Dictionary"]
    );
}

#[test]
fn numpy_scalars_arrays_and_random_states() {
    for core in ["numpy.core", "numpy._core"] {
        let mut b = Builder::new();
        let parts = [
            b.str("f8"),
            b.push(Object::Bool(false)),
            b.push(Object::Bool(true)),
        ];
        let dtype = b.reduce("numpy", "dtype", &parts);
        let state = b.tuple(&parts);
        b.build(dtype, state);
        let text = [b.str("\u{0}\u{ff}"), b.str("latin1")];
        let bytes = b.reduce("_codecs", "encode", &text);
        b.reduce(&format!("{core}.multiarray"), "scalar", &[dtype, bytes]);
        let ndarray = b.global("numpy", "ndarray");
        let array = b.reduce(&format!("{core}.multiarray"), "_reconstruct", &[ndarray]);
        b.build(array, state);
        b.reduce(&format!("{core}.numeric"), "_frombuffer", &[bytes, dtype]);
        let name = b.str("MT19937");
        b.reduce("numpy.random._pickle", "__randomstate_ctor", &[name]);
        b.reduce("numpy.random._pickle", "__bit_generator_ctor", &[name]);
        assert_eq!(b.findings(), NOTHING, "{core}");
    }
}

#[test]
fn whole_modules() {
    let mut b = Builder::new();
    for (module, name) in [
        ("torch.nn.modules.linear", "Linear"),
        ("torch.nn.modules.container", "Sequential"),
        ("torch.nn.modules.activation", "ReLU"),
        ("torch.optim.adam", "Adam"),
        ("torchvision.models.resnet", "BasicBlock"),
        ("ultralytics.nn.tasks", "DetectionModel"),
        ("models.yolo", "Model"),
        ("transformers.models.bert.modeling_bert", "BertModel"),
        ("timm.models.vision_transformer", "VisionTransformer"),
    ] {
        let module = b.new_object(module, name);
        let parameters = b.reduce("collections", "OrderedDict", &[]);
        let activation = b.global("torch.nn.functional", "relu");
        let state = b.dict(&[("_parameters", parameters), ("activation", activation)]);
        b.build(module, state);
    }
    let norm = b.global("torch.nn.modules.normalization", "LayerNorm");
    let partial = b.reduce("functools", "partial", &[norm]);
    let nothing = b.tuple(&[]);
    let none = b.none();
    let eps = b.push(Object::Float(1e-6));
    let keywords = b.dict(&[("eps", eps)]);
    let state = b.tuple(&[norm, nothing, keywords, none]);
    b.build(partial, state);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn modules_of_old_files_are_persistent_ids() {
    let mut b = Builder::new();
    let class = b.global("torch.nn.modules.linear", "Linear");
    let parts = [
        b.str("module"),
        class,
        b.str("/usr/lib/python3/torch/nn/modules/linear.py"),
        b.str("class Linear(Module):\n    def forward(self): exec('x')\n"),
    ];
    let pid = b.tuple(&parts);
    let class = b.push(Object::Persistent(pid));
    b.call_of(CallKind::New, class, &[]);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn trainers_and_configurations() {
    let mut b = Builder::new();
    for (module, name) in [
        ("omegaconf.dictconfig", "DictConfig"),
        ("omegaconf.listconfig", "ListConfig"),
        ("omegaconf.base", "ContainerMetadata"),
        ("omegaconf.nodes", "AnyNode"),
        ("pytorch_lightning.utilities.parsing", "AttributeDict"),
        ("lightning.fabric.utilities.data", "AttributeDict"),
        (
            "pytorch_lightning.callbacks.model_checkpoint",
            "ModelCheckpoint",
        ),
        (
            "lightning.pytorch.callbacks.early_stopping",
            "EarlyStopping",
        ),
        ("transformers.training_args", "TrainingArguments"),
        ("mmengine.logging.history_buffer", "HistoryBuffer"),
        ("easydict", "EasyDict"),
        (
            "transformers.tokenization_utils_tokenizers",
            "TokenizersBackend",
        ),
        ("types", "SimpleNamespace"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("collections", "Counter"),
        ("tokenizers", "Tokenizer"),
        ("random", "Random"),
    ] {
        let object = b.new_object(module, name);
        let one = b.int(1);
        let state = b.dict(&[("key", one)]);
        b.build(object, state);
    }
    for (module, name, value) in [
        ("transformers.trainer_utils", "IntervalStrategy", "steps"),
        (
            "transformers.training_args",
            "OptimizerNames",
            "adamw_torch",
        ),
        ("accelerate.utils.dataclasses", "DistributedType", "NO"),
        ("peft.utils.peft_types", "PeftType", "LORA"),
        ("pathlib", "PosixPath", "/home/x/run 1"),
        ("torch", "device", "cuda:0"),
        ("torch.torch_version", "TorchVersion", "2.9.0+cu128"),
        ("logging", "getLogger", "lightning"),
        ("decimal", "Decimal", "0.1"),
        ("re", "_compile", "^a.*$"),
        ("datetime", "timedelta", "x"),
    ] {
        let value = b.str(value);
        b.reduce(module, name, &[value]);
    }
    let dictionary = b.global("builtins", "dict");
    let any = b.global("typing", "Any");
    let none = b.none();
    let nothing = b.reduce("builtins", "type", &[none]);
    let arguments = b.tuple(&[dictionary, nothing]);
    let union = b.global("typing", "Union");
    b.reduce("_operator", "getitem", &[union, arguments]);
    b.reduce("collections", "defaultdict", &[dictionary]);
    let base = b.global("builtins", "object");
    let class = b.global("argparse", "Namespace");
    b.reduce("copyreg", "_reconstructor", &[class, base, none]);
    b.reduce("copyreg", "__newobj__", &[class]);
    let state = b.dict(&[("ref_type", any)]);
    let instance = b.new_object("argparse", "Namespace");
    b.build(instance, state);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn enums_and_nested_classes_through_getattr() {
    let mut b = Builder::new();
    let class = b.global("transformers.trainer_utils", "SchedulerType");
    let member = b.str("LINEAR");
    b.reduce("builtins", "getattr", &[class, member]);
    let class = b.global("omegaconf.base", "SCMode");
    let member = b.str("DICT");
    b.reduce("builtins", "getattr", &[class, member]);
    assert_eq!(b.findings(), NOTHING);

    // A nested class of somebody's own module, made by protocol 2.
    let outer = b.global("my.project", "Outer");
    let name = b.str("Inner");
    let inner = b.reduce("builtins", "getattr", &[outer, name]);
    b.call_of(CallKind::New, inner, &[]);
    assert_eq!(
        b.findings(),
        [
            "unknown-global my.project.Outer",
            "unknown-global my.project.Outer.Inner"
        ]
    );

    // Methods kept as values, as mmengine's history buffers do.
    let mut b = Builder::new();
    let class = b.global("mmengine.logging.history_buffer", "HistoryBuffer");
    let name = b.str("mean");
    b.reduce("builtins", "getattr", &[class, name]);
    let model = b.new_object("my.project", "Model");
    let name = b.str("activate");
    b.reduce("builtins", "getattr", &[model, name]);
    assert_eq!(
        b.findings(),
        [
            "attribute-lookup mmengine.logging.history_buffer.HistoryBuffer.mean",
            "unknown-global my.project.Model",
            "attribute-lookup builtins.getattr",
        ]
    );
}

/// yacs keeps sets under names of its own that look like Python's.
#[test]
fn names_with_underscores_that_are_only_data() {
    let mut b = Builder::new();
    let config = b.new_object("yacs.config", "CfgNode");
    let nothing = b.push(Object::List(ir::Ids::new()));
    let keys = b.reduce("builtins", "set", &[nothing]);
    let state = b.dict(&[("__deprecated_keys__", keys), ("__dict__", keys)]);
    b.build(config, state);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn plainly_pickled_tensors() {
    let mut b = Builder::new();
    let archive = b.bytes(b"PK\x03\x04");
    b.reduce("torch.storage", "_load_from_bytes", &[archive]);
    let parts = [b.str("PK"), b.str("latin1")];
    let archive = b.reduce("_codecs", "encode", &parts);
    b.reduce("torch.storage", "_load_from_bytes", &[archive]);
    let rebuild = b.global("torch._utils", "_rebuild_tensor_v2");
    let class = b.global("torch", "Tensor");
    let args = b.tuple(&[]);
    let state = b.dict(&[]);
    b.reduce(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[rebuild, class, args, state],
    );
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn compiled_models() {
    let mut b = Builder::new();
    let model = b.new_object(
        "__torch__.torch.nn.modules.container.___torch_mangle_3",
        "Sequential",
    );
    let one = b.int(1);
    let list = b.push(Object::List(vec![one].into()));
    let list = b.reduce("torch.jit._pickle", "build_intlist", &[list]);
    let state = b.dict(&[("strides", list)]);
    b.build(model, state);
    assert_eq!(b.findings(), NOTHING);
}

#[test]
fn people_s_own_classes_are_suspicious_and_no_more() {
    let mut b = Builder::new();
    let word = b.str("a");
    let model = b.new_object("__main__", "Net");
    let state = b.dict(&[("name", word), ("__class__", word), ("__dict__", model)]);
    b.build(model, state);
    b.reduce("project.config", "Mode", &[word]);
    b.reduce(
        "transformers.models.bert.tokenization_bert",
        "BertTokenizer",
        &[word, word],
    );
    let found = crate::judge_objects(&b.objects, "p");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|f| f.severity == crate::Severity::Suspicious),
        "{found:#?}"
    );
}
