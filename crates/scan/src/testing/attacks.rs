//! The families of attacks on pickle loaders, a few of each.

use super::Builder;
use ir::{CallKind, Object, ObjectId, PatchKind};

#[track_caller]
pub(super) fn assert_dangerous(b: &Builder, what: &str) {
    let findings = crate::judge_objects(&b.objects, "p");
    let worst = findings.iter().map(|f| f.severity).max();
    assert_eq!(
        worst,
        Some(crate::Severity::Dangerous),
        "{what}: {findings:#?}"
    );
}

#[test]
fn direct_calls_in_every_form() {
    let forms = [
        CallKind::Reduce,
        CallKind::New,
        CallKind::NewEx(ObjectId::default()),
        CallKind::Inst,
        CallKind::Obj,
    ];
    let targets = [
        ("os", "system", "process"),
        ("posix", "system", "process"),
        ("nt", "system", "process"),
        ("os", "remove", "file-access"),
        ("subprocess", "Popen", "process"),
        ("pty", "spawn", "process"),
        ("builtins", "exec", "code-execution"),
        ("builtins", "eval", "code-execution"),
        ("__builtin__", "eval", "code-execution"),
        ("builtins", "compile", "code-execution"),
        ("builtins", "open", "file-access"),
        ("io", "open", "file-access"),
        ("builtins", "__import__", "import-resolution"),
        ("socket", "create_connection", "network"),
        ("builtins", "print", "standard-library"),
    ];
    for kind in forms {
        for (module, name, rule) in targets {
            let mut b = Builder::new();
            let text = b.str("id");
            b.call(kind, module, name, &[text]);
            assert_eq!(b.only(), format!("{rule} {module}.{name}"), "{kind:?}");
        }
    }
}

#[test]
fn the_code_is_shown() {
    let mut b = Builder::new();
    let code = b.str("print('hello')");
    b.reduce("builtins", "exec", &[code]);
    let findings = crate::judge_objects(&b.objects, "archive/data.pkl");
    assert_eq!(findings[0].where_, "archive/data.pkl, byte 40");
    assert_eq!(
        findings[0].detail,
        "runs code that the file brings along: builtins.exec(\"print('hello')\")"
    );

    // The two attacks of the articles: a thread that kills the parent, a replaced all_reduce.
    let mut b = Builder::new();
    let code = b.str(
        "import os, threading\ndef kill():\n\tos.kill(os.getppid(), 9)\u{1b}[0m\n\
         threading.Thread(target=kill).start()\n",
    );
    b.reduce("builtins", "exec", &[code]);
    let code = b.str("import torch\ntorch.distributed.all_reduce = lambda *a, **k: None\n");
    b.reduce("builtins", "exec", &[code]);
    let findings = crate::judge_objects(&b.objects, "data.pkl");
    assert_eq!(findings.len(), 2);
    let shown = &findings[0].detail;
    assert!(
        shown.contains("\n    |     os.kill(os.getppid(), 9)\\u{1b}[0m\n"),
        "{shown}"
    );
    assert!(
        findings[1]
            .detail
            .contains("\n    | torch.distributed.all_reduce = lambda")
    );
}

#[test]
fn a_name_only_imported_is_dangerous_and_says_so() {
    let mut b = Builder::new();
    b.global("os", "system");
    let findings = crate::judge_objects(&b.objects, "p");
    assert_eq!(findings[0].rule, "process");
    assert!(findings[0].detail.contains("imported, not called"));
}

#[test]
fn paths_out_of_innocent_modules() {
    for (module, name) in [
        ("torch.serialization", "os.system"),
        ("collections", "_sys.modules"),
        ("torch", "storage.os.system"),
        ("numpy", "core.multiarray.os.system"),
        ("torch.nn.modules.linear", "Linear.__init__.__globals__"),
        ("my.project", "helpers.run"),
        ("my.project", "Model.__class__"),
        ("collections", "OrderedDict.fromkeys"),
    ] {
        let mut b = Builder::new();
        let text = b.str("id");
        b.reduce(module, name, &[text]);
        assert_eq!(b.only(), format!("module-attribute-path {module}.{name}"));
    }
    let mut b = Builder::new();
    b.global("torch.serialization", "os");
    assert_dangerous(&b, "a module as an attribute");
}

#[test]
fn extension_codes() {
    let mut b = Builder::new();
    let extension = b.push(Object::Extension(240));
    let text = b.str("id");
    b.call_of(CallKind::Reduce, extension, &[text]);
    assert_eq!(
        b.findings(),
        [
            "extension-registry extension 240",
            "extension-registry call of extension(240)"
        ]
    );
    let mut b = Builder::new();
    let parts = [b.str("os"), b.str("system"), b.int(240)];
    b.reduce("copyreg", "add_extension", &parts);
    assert_eq!(b.only(), "extension-registry copyreg.add_extension");
    let mut b = Builder::new();
    let registry = b.global("copyreg", "_inverted_registry");
    let values = [b.int(240), b.none()];
    b.push(Object::patch(
        registry,
        PatchKind::SetItems,
        values.to_vec(),
    ));
    assert_eq!(
        b.findings(),
        [
            "extension-registry copyreg._inverted_registry",
            "state-poisoning copyreg._inverted_registry"
        ]
    );
}

#[test]
fn persistent_ids() {
    let mut b = Builder::new();
    let text = b.str("id");
    let system = b.global("os", "system");
    let kind = b.str("storage");
    let pid = b.tuple(&[kind, system, text, text, text]);
    b.push(Object::Persistent(pid));
    assert_eq!(
        b.findings(),
        ["process os.system", "persistent-callable os.system"]
    );

    let mut b = Builder::new();
    let class = b.global("torch", "FloatStorage");
    let kind = b.str("storage");
    let one = b.int(1);
    let call = b.reduce("my.project", "key", &[one]);
    let pid = b.tuple(&[kind, class, call, kind, one]);
    let storage = b.push(Object::Persistent(pid));
    b.call_of(CallKind::Reduce, storage, &[one]);
    let found = b.findings();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[1].starts_with("persistent-callable my.project.key"),
        "{found:?}"
    );
    assert!(
        found[2].starts_with("persistent-callable call of persistent("),
        "{found:?}"
    );

    let mut b = Builder::new();
    let pid = b.str("weights");
    b.push(Object::Persistent(pid));
    assert_eq!(b.only(), "odd-persistent-id persistent id");
}

#[test]
fn pickles_inside_pickles() {
    for (module, name) in [
        ("pickle", "loads"),
        ("_pickle", "loads"),
        ("cPickle", "loads"),
        ("torch", "load"),
        ("numpy", "load"),
        ("marshal", "loads"),
        ("multiprocessing.reduction", "ForkingPickler.loads"),
        ("joblib", "load"),
        ("dill", "loads"),
        ("cloudpickle", "loads"),
        ("ray.cloudpickle", "loads"),
        ("joblib.externals.cloudpickle", "loads"),
        ("pandas", "read_pickle"),
    ] {
        let mut b = Builder::new();
        let bytes = b.bytes(b"\x80\x04.");
        b.reduce(module, name, &[bytes]);
        assert_eq!(b.only(), format!("nested-pickle {module}.{name}"));
    }
    // A nested checkpoint is read and judged by itself; one made at load time cannot be.
    let mut b = Builder::new();
    let text = b.str("x");
    let made = b.reduce("my.project", "Blob", &[text]);
    b.reduce("torch.storage", "_load_from_bytes", &[made]);
    assert_eq!(
        b.findings(),
        [
            "unknown-global my.project.Blob",
            "nested-pickle torch.storage._load_from_bytes"
        ]
    );
}

#[test]
fn names_built_or_fetched_at_load_time() {
    let mut b = Builder::new();
    let os = b.global("my.project", "things");
    let name = b.str("system");
    let function = b.reduce("builtins", "getattr", &[os, name]);
    let command = b.str("id");
    b.call_of(CallKind::Reduce, function, &[command]);
    let found = b.findings();
    assert!(
        found.contains(&"module-attribute-path my.project.things.system".to_owned()),
        "{found:?}"
    );

    for (module, name) in [
        ("functools", "reduce"),
        ("itertools", "starmap"),
        ("builtins", "map"),
        ("operator", "attrgetter"),
        ("_operator", "itemgetter"),
        ("copy", "deepcopy"),
        ("torch.utils._pytree", "tree_map"),
        ("numpy", "apply_along_axis"),
        ("types", "MethodType"),
    ] {
        let mut b = Builder::new();
        let zero = b.int(0);
        b.reduce(module, name, &[zero]);
        assert_eq!(b.only(), format!("indirection {module}.{name}"));
    }

    // A class made on the spot, whose `__del__` runs when it is thrown away.
    let mut b = Builder::new();
    let name = b.str("T");
    let bases = b.tuple(&[]);
    let print = b.global("my.project", "clean");
    let methods = b.dict(&[("__del__", print)]);
    let class = b.reduce("builtins", "type", &[name, bases, methods]);
    b.call_of(CallKind::Reduce, class, &[]);
    let found = b.findings();
    assert!(
        found.contains(&"indirection builtins.type".to_owned()),
        "{found:?}"
    );
    assert!(
        found.iter().any(|f| f.starts_with("indirection call of ")),
        "{found:?}"
    );

    // `getattr` itself handed to something that calls it.
    let mut b = Builder::new();
    let getattr = b.global("builtins", "getattr");
    let tensor = b.global("torch", "Tensor");
    let args = b.tuple(&[tensor, tensor]);
    let none = b.none();
    b.reduce(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[getattr, tensor, args, none],
    );
    assert_eq!(
        b.findings(),
        [
            "indirection builtins.getattr",
            "indirection torch._tensor._rebuild_from_type_v2"
        ]
    );

    // rot13 and its kind hide names in what looks like bytes.
    let mut b = Builder::new();
    let parts = [b.str("bf"), b.str("rot13")];
    b.reduce("_codecs", "encode", &parts);
    assert_eq!(b.only(), "indirection _codecs.encode");
}

#[test]
fn partial_keeps_only_what_may_be_called() {
    let mut b = Builder::new();
    let system = b.global("os", "system");
    let command = b.str("id");
    let partial = b.reduce("functools", "partial", &[system]);
    let args = b.tuple(&[command]);
    let state = b.tuple(&[system, args]);
    b.build(partial, state);
    assert_eq!(
        b.findings(),
        ["process os.system", "indirection functools.partial"]
    );

    // The state may name another function than the argument.
    let mut b = Builder::new();
    let class = b.global("collections", "OrderedDict");
    let load = b.global("transformers", "pipeline");
    let partial = b.reduce("functools", "partial", &[class]);
    let state = b.tuple(&[load]);
    b.build(partial, state);
    assert!(
        b.findings()
            .contains(&"indirection functools.partial".to_owned())
    );

    // What a constructor that calls its arguments would do with it.
    let mut b = Builder::new();
    let class = b.global("my.project", "Runner");
    let command = b.str("id");
    let partial = b.reduce("functools", "partial", &[class, command]);
    b.reduce(
        "numpy.random._pickle",
        "__randomstate_ctor",
        &[command, partial],
    );
    assert!(
        b.findings()
            .contains(&"indirection functools.partial".to_owned())
    );

    let mut b = Builder::new();
    let class = b.global("collections", "OrderedDict");
    let partial = b.reduce("functools", "partial", &[class]);
    b.call_of(CallKind::Reduce, partial, &[]);
    assert_eq!(
        b.only(),
        "indirection call of functools.partial(collections.OrderedDict)"
    );
}

#[test]
fn poisoned_state() {
    // BUILD on a class or a module's object.
    let mut b = Builder::new();
    let class = b.global("torch.nn.modules.linear", "Linear");
    let value = b.str("x");
    let state = b.dict(&[("forward", value)]);
    b.build(class, state);
    assert_eq!(b.only(), "state-poisoning torch.nn.modules.linear.Linear");

    // A method planted on an instance, in the state or in its slots.
    for slots in [false, true] {
        let mut b = Builder::new();
        let object = b.new_object("my.project", "Model");
        let function = b.global("my.project", "setup");
        let mut state = b.dict(&[("__setstate__", function)]);
        if slots {
            let none = b.none();
            state = b.tuple(&[none, state]);
        }
        b.build(object, state);
        let found = b.findings();
        assert!(
            found.contains(&"state-poisoning __setstate__".to_owned()),
            "{found:?}"
        );
    }

    for (module, name, rule) in [
        ("sys", "modules", "loader-tampering"),
        (
            "torch.serialization",
            "add_safe_globals",
            "loader-tampering",
        ),
        ("torch._utils", "_set_obj_state", "state-poisoning"),
        ("builtins", "setattr", "state-poisoning"),
        ("fickling.hook", "remove_hook", "loader-tampering"),
        ("os", "environ", "state-poisoning"),
    ] {
        let mut b = Builder::new();
        b.global(module, name);
        assert_eq!(b.only(), format!("{rule} {module}.{name}"));
    }

    // A logger is shared by the whole process.
    let mut b = Builder::new();
    let name = b.str("root");
    let logger = b.reduce("logging", "getLogger", &[name]);
    let value = b.str("x");
    let state = b.dict(&[("handle", value)]);
    b.build(logger, state);
    assert_eq!(b.only(), "state-poisoning logging.getLogger");
}

#[test]
fn vendored_pickles_of_functions() {
    for (module, name) in [
        ("dill._dill", "_create_function"),
        ("dill._dill", "_create_code"),
        ("cloudpickle.cloudpickle", "_make_function"),
        ("cloudpickle.cloudpickle", "subimport"),
        ("ray.cloudpickle.cloudpickle", "_builtin_type"),
        (
            "joblib.externals.cloudpickle.cloudpickle",
            "_make_skel_func",
        ),
        ("some.company.vendored", "_make_skel_func"),
        ("some.company.vendored", "subimport"),
    ] {
        let mut b = Builder::new();
        let text = b.str("os");
        b.reduce(module, name, &[text]);
        assert_dangerous(&b, name);
    }
}

#[test]
fn unknown_things() {
    let mut b = Builder::new();
    let one = b.int(1);
    b.reduce("my.project", "Config", &[one]);
    b.reduce("my.project", "Config", &[one]);
    b.reduce("my.project", "build", &[one]);
    b.global("my.project", "Other");
    assert_eq!(
        b.findings(),
        [
            "unknown-global my.project.Config",
            "unknown-call my.project.build",
            "unknown-global my.project.Other"
        ]
    );
    for text in [
        "import os",
        "touch /tmp/x",
        "https://example.org/x",
        "/etc/passwd",
    ] {
        let mut b = Builder::new();
        let text = b.str(text);
        b.reduce("my.project", "build", &[text]);
        assert_eq!(b.only(), "code-argument my.project.build");
    }
    // A function of a library: dangerous where it is called or handed to a call.
    let mut b = Builder::new();
    let one = b.int(1);
    b.reduce("torch.something", "function", &[one]);
    assert_eq!(b.only(), "library-function torch.something.function");
    let mut b = Builder::new();
    let function = b.global("torch.something", "function");
    b.reduce("collections", "defaultdict", &[function]);
    assert_eq!(b.only(), "library-function torch.something.function");
    let mut b = Builder::new();
    b.global("torch.something", "function");
    assert_eq!(b.only(), "unknown-global torch.something.function");
    // A class of PyTorch that nobody lists: dangerous with text.
    let mut b = Builder::new();
    let inner = b.str("ls");
    let list = b.push(Object::List(vec![inner].into()));
    b.reduce("torch.something", "Runner", &[list]);
    assert_eq!(b.only(), "constructor-arguments torch.something.Runner");
}

/// Small files can share large parts among many calls; judging must not look at them again.
#[test]
fn crowds_of_calls_that_share_large_parts() {
    let mut b = Builder::new();
    let text = b.str(&"x import".repeat(8000));
    let list = b.push(Object::List(vec![text; 10_000].into()));
    let args = b.push(Object::Tuple(vec![list; 10_000].into()));
    let method = b.global("my.project", "method");
    let key = b.str("__call__");
    let dict = b.push(Object::Dict(vec![(key, method); 10_000].into()));
    let long = b.global(&"m".repeat(60_000), &"N".repeat(60_000));
    let attribute = b.str(&"a".repeat(60_000));
    let globals = [
        b.global("my.project", "Class"),
        b.global("my.project", "function"),
        b.global("torch.nn.modules.linear", "Linear"),
        b.global("torch.something", "Class"),
        b.global("pandas.something", "Class"),
        b.global("builtins", "getattr"),
        b.global("builtins", "exec"),
        long,
        b.reduce("builtins", "getattr", &[long, attribute]),
        b.reduce("builtins", "getattr", &[method, attribute]),
        args,
    ];
    let pid = args;
    for n in 0..50_000 {
        let callee = globals[n % globals.len()];
        let call = b.push(Object::call(CallKind::NewEx(dict), callee, args));
        b.build(call, dict);
        b.build(call, args);
        b.push(Object::Persistent(pid));
        b.push(Object::patch(callee, PatchKind::Build, vec![dict]));
        b.build(call, dict);
    }
    let begun = std::time::Instant::now();
    let findings = crate::judge_objects(&b.objects, "p");
    let size: usize = findings.iter().map(|f| f.what.len() + f.detail.len()).sum();
    assert!(
        findings.len() < 1000 && size < 1 << 20,
        "{} {size}",
        findings.len()
    );
    let seconds = begun.elapsed().as_secs();
    assert!(seconds < 20, "{seconds} s, even if this is a slow build");
}
