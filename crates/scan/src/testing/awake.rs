//! Objects that something goes through while the pickle is loaded, and what is kept to be called.

use super::Builder;
use ir::{CallKind, Object, ObjectId};

/// An object whose class calls what its state names when somebody goes through it.
fn awake(b: &mut Builder) -> ObjectId {
    let object = b.new_object("torch.utils.data.dataloader", "DataLoader");
    let one = b.int(1);
    let data = b.tuple(&[one]);
    let state = b.dict(&[("dataset", data)]);
    b.build(object, state);
    object
}

#[test]
fn objects_that_something_goes_through() {
    for (module, name) in [
        ("builtins", "dict"),
        ("builtins", "list"),
        ("collections", "OrderedDict"),
        ("torch", "Size"),
        ("torch._utils", "_rebuild_sparse_tensor"),
    ] {
        let mut b = Builder::new();
        let object = awake(&mut b);
        b.reduce(module, name, &[object]);
        assert!(b.only().starts_with("indirection"), "{module}.{name}");
    }
    // One after the other, as the items of what is gone through.
    let mut b = Builder::new();
    let object = awake(&mut b);
    let list = b.tuple(&[object]);
    b.reduce("builtins", "dict", &[list]);
    assert!(b.only().starts_with("indirection"));
    // `copyreg._reconstructor(class, dict, object)` makes a dictionary of it, and a module takes
    // over a state that is one.
    let mut b = Builder::new();
    let class = b.global("torch.nn.modules.linear", "Linear");
    let base = b.global("builtins", "dict");
    let object = awake(&mut b);
    b.reduce("copyreg", "_reconstructor", &[class, base, object]);
    assert!(b.only().starts_with("indirection"));
    let mut b = Builder::new();
    let linear = b.new_object("torch.nn.modules.linear", "Linear");
    let object = awake(&mut b);
    b.build(linear, object);
    assert!(b.only().starts_with("indirection"));
    let mut b = Builder::new();
    let builder = b.global("torch._utils", "_rebuild_sparse_tensor");
    let tensor = b.global("torch", "Tensor");
    let object = awake(&mut b);
    let args = b.tuple(&[object]);
    b.reduce(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[builder, tensor, args],
    );
    assert!(b.only().starts_with("indirection"));
    // … of a storage that is pickled as a checkpoint in bytes, as all are outside of `torch.save`.
    let mut b = Builder::new();
    let builder = b.global("torch._utils", "_rebuild_tensor_v2");
    let tensor = b.global("torch", "Tensor");
    let bytes = b.bytes(b"\x80\x02N.");
    let storage = b.reduce("torch.storage", "_load_from_bytes", &[bytes]);
    let (zero, none) = (b.int(0), b.none());
    let args = b.tuple(&[storage, zero]);
    let name = "_rebuild_from_type_v2";
    b.reduce("torch._tensor", name, &[builder, tensor, args, none]);
    assert_eq!(b.findings(), [""; 0]);
    // What only keeps it is another matter.
    for (module, name) in [("builtins", "set"), ("collections", "deque")] {
        let mut b = Builder::new();
        let object = awake(&mut b);
        let list = b.tuple(&[object]);
        b.reduce(module, name, &[list]);
        assert_eq!(b.findings(), [""; 0], "{module}.{name}");
    }
    let mut b = Builder::new();
    let object = awake(&mut b);
    let key = b.str("layer");
    let pair = b.tuple(&[key, object]);
    let pairs = b.tuple(&[pair]);
    b.reduce("collections", "OrderedDict", &[pairs]);
    assert_eq!(b.findings(), [""; 0]);
}

#[test]
fn objects_within_what_is_gone_through() {
    let found = |make: &dyn Fn(&mut Builder, ObjectId)| {
        let mut b = Builder::new();
        let object = awake(&mut b);
        make(&mut b, object);
        assert!(
            b.findings().iter().any(|f| f.starts_with("indirection")),
            "{:?}",
            b.findings()
        );
    };
    // A list by a call, and then a dictionary of it.
    found(&|b, object| {
        let items = b.tuple(&[object]);
        let list = b.reduce("builtins", "list", &[items]);
        b.reduce("builtins", "dict", &[list]);
    });
    found(&|b, object| {
        let zero = b.int(0);
        let pair = b.tuple(&[zero, zero]);
        let mut all = vec![pair; 1000];
        all.push(object);
        let items = b.tuple(&all);
        b.reduce("builtins", "dict", &[items]);
    });
    found(&|b, object| {
        let class = b.global("builtins", "tuple");
        b.reduce("copyreg", "__newobj__", &[class, object]);
    });
    found(&|b, object| {
        let list = b.global("builtins", "list");
        b.reduce("functools", "partial", &[list, object]);
    });
    found(&|b, object| {
        let state = b.dict(&[("data", object)]);
        let held = b.new_object("collections", "UserDict");
        b.build(held, state);
        b.reduce("builtins", "list", &[held]);
    });
    // `__setstate__` of optimizers goes through this one.
    found(&|b, object| {
        let adam = b.new_object("torch.optim.adam", "Adam");
        let state = b.dict(&[("param_groups", object)]);
        b.build(adam, state);
    });
    // Arguments that a call made are not the tuple that a program writes.
    found(&|b, object| {
        let items = b.tuple(&[object]);
        let args = b.reduce("builtins", "tuple", &[items]);
        let list = b.global("builtins", "list");
        b.push(Object::call(CallKind::Reduce, list, args));
    });
    // A parameter calls `detach` of what it is made of.
    found(&|b, object| {
        let yes = b.push(Object::Bool(true));
        b.reduce("torch._utils", "_rebuild_parameter", &[object, yes]);
    });
    // What is in a checkpoint in bytes was judged there, where nothing goes through it.
    found(&|b, _| {
        let bytes = b.bytes(b"\x80\x02N.");
        let held = b.reduce("torch.storage", "_load_from_bytes", &[bytes]);
        b.reduce("builtins", "list", &[held]);
    });
    for (module, name) in [("builtins", "ValueError"), ("builtins", "slice")] {
        let mut b = Builder::new();
        let object = awake(&mut b);
        b.reduce(module, name, &[object]);
        assert_eq!(b.findings(), [""; 0], "{name}");
    }
}

#[test]
fn arrays_of_pandas_are_gone_through_and_what_they_hold() {
    let found = |inside: bool, behind: bool| {
        let mut b = Builder::new();
        let class = b.global("pandas.core.indexes.base", "Index");
        let array = b.new_object("pandas.core.arrays.categorical", "Categorical");
        let value = if inside { awake(&mut b) } else { b.int(1) };
        let state = b.dict(&[("_ndarray", value)]);
        b.build(array, state);
        let name = if behind { awake(&mut b) } else { b.none() };
        let named = b.dict(&[("data", array), ("name", name)]);
        b.reduce("pandas.core.indexes.base", "_new_Index", &[class, named]);
        b.findings()
    };
    assert_eq!(found(false, false), [""; 0]);
    for (inside, behind) in [(true, false), (false, true)] {
        assert!(found(inside, behind)[0].starts_with("indirection"));
    }
}

#[test]
fn groups_that_many_optimizers_share_are_looked_through_once() {
    let mut b = Builder::new();
    let held = b.new_object("argparse", "Namespace");
    let groups = b.tuple(&vec![held; 20_000]);
    for _ in 0..20_000 {
        let adam = b.new_object("torch.optim.adam", "Adam");
        let state = b.dict(&[("param_groups", groups)]);
        b.build(adam, state);
    }
    assert_eq!(b.findings(), [""; 0]);
}

/// `f(object)` gives the object back, and what is set on the result is set on it.
#[test]
fn results_that_may_be_what_was_handed_in() {
    for (module, name) in [
        ("torch.jit._pickle", "restore_type_tag"),
        ("torch.jit._pickle", "build_intlist"),
        ("torch.utils.data._utils.collate", "default_convert"),
        ("torchmetrics.utilities.data", "dim_zero_cat"),
        ("types", "GenericAlias"),
    ] {
        let mut b = Builder::new();
        let object = b.new_object("torch.utils.data.dataloader", "DataLoader");
        let empty = b.tuple(&[]);
        let alias = b.reduce(module, name, &[object, empty]);
        let one = b.int(1);
        let state = b.dict(&[("dataset", one)]);
        b.build(alias, state);
        let found = b.findings();
        assert!(
            found.contains(&format!("indirection {module}.{name}")),
            "{found:?}"
        );
    }
    // Of a name only, and left alone.
    let mut b = Builder::new();
    let list = b.global("builtins", "list");
    let int = b.global("builtins", "int");
    let args = b.tuple(&[int]);
    b.reduce("types", "GenericAlias", &[list, args]);
    assert_eq!(b.findings(), [""; 0]);
}

/// `ChainMap(d)["key"] = value` sets it in `d`, which is another object's state.
#[test]
fn containers_that_are_filled_through_another_object() {
    let found = |shared: bool, class: (&str, &str)| {
        let mut b = Builder::new();
        let held = b.dict(&[]);
        let wrapper = b.new_object(class.0, class.1);
        let state = b.dict(&[("data", held)]);
        b.build(wrapper, state);
        let (key, value) = (b.str("dataset"), b.int(1));
        b.set_pair(wrapper, key, value);
        let loader = b.new_object("torch.utils.data.dataloader", "DataLoader");
        let other = if shared { held } else { b.dict(&[]) };
        b.build(loader, other);
        b.findings()
    };
    for class in [
        ("collections", "UserDict"),
        ("collections", "ChainMap"),
        ("transformers.tokenization_utils_base", "BatchEncoding"),
    ] {
        assert!(
            found(true, class)[0].starts_with("indirection"),
            "{class:?}"
        );
        assert_eq!(found(false, class), [""; 0], "{class:?}");
    }
    assert_eq!(found(true, ("collections", "OrderedDict")), [""; 0]);
    // So does a set whose class is none.
    let mut b = Builder::new();
    let object = b.new_object("torch.nn.modules.container", "ModuleList");
    let item = b.str("/etc/passwd");
    b.append(object, item);
    assert!(b.only().starts_with("indirection"));
    // `__setattr__` of the class sets the slots, behind the dictionary.
    let mut b = Builder::new();
    let object = b.new_object(
        "transformers.tokenization_utils_base",
        "PreTrainedTokenizerBase",
    );
    let held = b.dict(&[]);
    let one = b.int(1);
    let (dict, slots) = (b.dict(&[("map", held)]), b.dict(&[("key", one)]));
    let state = b.tuple(&[dict, slots]);
    b.build(object, state);
    assert!(b.findings().iter().any(|f| f.starts_with("indirection")));
    // Nor has anything two states.
    let mut b = Builder::new();
    let object = b.new_object("argparse", "Namespace");
    for _ in 0..2 {
        let state = b.dict(&[]);
        b.build(object, state);
    }
    assert!(b.only().starts_with("indirection"));
    // What is no list calls its `append`, which may be an attribute of its own.
    let mut b = Builder::new();
    let object = b.new_object("transformers.tokenization_utils_base", "BatchEncoding");
    let item = b.str("id");
    b.append(object, item);
    assert!(b.only().starts_with("indirection"));
}

#[test]
fn dictionaries_that_keep_their_items_in_a_state_as_well() {
    for (module, name) in [
        ("easydict", "EasyDict"),
        ("yacs.config", "CfgNode"),
        ("munch", "Munch"),
        ("transformers.modeling_outputs", "BaseModelOutput"),
    ] {
        let mut b = Builder::new();
        let object = b.new_object(module, name);
        let one = b.int(1);
        let list = b.tuple(&[one]);
        let key = b.str("a");
        let state = b.dict(&[("a", list)]);
        b.build(object, state);
        b.set_pair(object, key, list);
        assert!(
            b.findings().iter().all(|f| !f.starts_with("indirection")),
            "{name}"
        );
    }
}

#[test]
fn what_modules_and_optimizers_look_things_up_in() {
    for key in ["_modules", "_parameters", "_buffers"] {
        let mut b = Builder::new();
        let module = b.new_object("torch.nn.modules.linear", "Identity");
        let mapping = b.new_object("transformers.activations", "ClassInstantier");
        let state = b.dict(&[(key, mapping)]);
        b.build(module, state);
        assert!(b.only().starts_with("indirection"), "{key}");
    }
    let mut b = Builder::new();
    let adam = b.new_object("torch.optim.adam", "Adam");
    let object = awake(&mut b);
    let groups = b.tuple(&[object]);
    let state = b.dict(&[("param_groups", groups)]);
    b.build(adam, state);
    assert!(b.only().starts_with("indirection"));
    // A path that is kept to be called with.
    let mut b = Builder::new();
    let class = b.global(
        "transformers.tokenization_utils_tokenizers",
        "TokenizersBackend",
    );
    let file = b.str("/etc/passwd");
    b.reduce("functools", "partial", &[class, file]);
    assert_eq!(b.only(), "class-arguments functools.partial");
}

/// A class that opens what it is named is no builder of tensors.
#[test]
fn classes_that_another_function_calls() {
    let mut b = Builder::new();
    let class = b.global("torch.utils.data.dataloader", "DataLoader");
    let path = b.str("/etc/passwd");
    let args = b.tuple(&[path]);
    let none = b.none();
    b.reduce(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[class, class, args, none],
    );
    assert!(b.findings()[0].starts_with("indirection"));
}

#[test]
fn a_list_that_many_calls_go_through_is_looked_at_once() {
    let mut b = Builder::new();
    let zero = b.int(0);
    let held = b.dict(&[("x", zero)]);
    let object = b.new_object("collections", "OrderedDict");
    b.build(object, held);
    let list = b.tuple(&[object; 256]);
    let args = b.tuple(&[list]);
    let callee = b.global("builtins", "dict");
    for _ in 0..200_000 {
        b.push(Object::call(CallKind::Reduce, callee, args));
    }
    assert_eq!(b.findings(), [""; 0]);
}

#[test]
fn what_is_kept_to_be_called_with_a_text() {
    let mut b = Builder::new();
    let class = b.global("sentencepiece", "SentencePieceProcessor");
    let file = b.str("/etc/passwd");
    b.reduce("functools", "partial", &[class, file]);
    assert_eq!(b.only(), "file-access functools.partial");
    let mut b = Builder::new();
    let class = b.global("torch.nn.modules.activation", "GELU");
    let partial = b.reduce("functools", "partial", &[class]);
    let way = b.str("tanh");
    let named = b.dict(&[("approximate", way)]);
    let none = b.none();
    let class = b.global("torch.nn.modules.activation", "GELU");
    let args = b.tuple(&[]);
    let state = b.tuple(&[class, args, named, none]);
    b.build(partial, state);
    assert_eq!(b.findings(), [""; 0]);
    let mut b = Builder::new();
    let schedule = "_get_linear_schedule_with_warmup_lr_lambda";
    let function = b.global("transformers.optimization", schedule);
    let partial = b.reduce("functools", "partial", &[function]);
    let steps = b.int(10);
    let named = b.dict(&[("num_warmup_steps", steps)]);
    let (args, none) = (b.tuple(&[]), b.none());
    let state = b.tuple(&[function, args, named, none]);
    b.build(partial, state);
    assert_eq!(b.findings(), [""; 0]);
    let mut b = Builder::new();
    let name = b.str("/etc/passwd");
    let class = b.global("sentencepiece", "SentencePieceProcessor");
    b.reduce("numpy.random._pickle", "__generator_ctor", &[name, class]);
    assert_eq!(
        b.only(),
        "indirection numpy.random._pickle.__generator_ctor"
    );
    let mut b = Builder::new();
    let name = b.str("PCG64");
    let made = b.global("numpy.random._pickle", "__bit_generator_ctor");
    b.reduce("numpy.random._pickle", "__generator_ctor", &[name, made]);
    assert_eq!(b.findings(), [""; 0]);
}
