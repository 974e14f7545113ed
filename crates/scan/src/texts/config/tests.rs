//! Settings that say nothing, and settings that import, fetch or run.

use super::super::json;
use super::*;
use crate::testing::noted;

fn findings(text: &str) -> Vec<(&'static str, String)> {
    let value = json::parse(text).unwrap();
    noted("config.json", |ledger| judge(&value, false, ledger))
}

#[test]
fn honest_configurations_say_nothing() {
    for text in [
        r#"{"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "rope": {"f": 1e400}}"#
            .replace("1e400", "1.5").as_str(),
        r#"{"tokenizer_file": "/home/user/.cache/tokenizer.json", "chat_template": "{{ messages }}"}"#,
        r#"[{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]"#,
        r#"{"_class_name": "U", "_diffusers_version": "0", "up_block_types": ["UpBlock2D", "UpBlock2D"]}"#,
        r#"{"auto_mapping": {"parent_library": "transformers.models.llama.modeling_llama"}}"#,
        r#"{"_target_": "torch.nn.Linear", "weight_map": {"a": "model-1.safetensors"}}"#,
        r#"{"activation_fn": "torch.nn.modules.activation.Sigmoid", "activation_function": "gelu_new"}"#,
        r#"{"_target_": "Compose", "cost": "$5", "path": "$@root", "sub": "$x + 1"}"#,
        r#"{"_target_": "mine.os_tools.System", "activation_fn": "torch.nn.functional.gelu"}"#,
        r#"{"merges": ["$ foo(", "$__import__( x"], "cells": [{"cell_type": "markdown", "source": "exec(x)"}]}"#,
        r#"{"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": {
           "x": {"__class__": "PCA", "__module__": "sklearn.decomposition._pca", "__loader__": "ObjectNode"}}}"#,
        r#"{"target": "es2020", "a": {"target": "code.py"}, "targets": ["os.system"]}"#,
        r#"{"price": ["$5 (net)", "$os.system(", "$eval()", "$exec", "$import"], "x": "$foo(1)"}"#,
        r#"{"target": "ldm.models.diffusion.ddpm.LatentDiffusion"}"#,
        r#"{"auto_map": null, "trust_remote_code": false, "attn_implementation": "sdpa"}"#,
    ] {
        assert_eq!(findings(text), [], "{text}");
    }
}

#[test]
fn what_imports_and_fetches_is_told() {
    for (text, rule) in [
        (
            r#"{"auto_map": {"AutoModel": "modeling.M"}}"#,
            "remote-code",
        ),
        (
            r#"{"text_config": {"auto_map": {"AutoConfig": "a--b.C"}}}"#,
            "remote-code",
        ),
        (r#"{"auto_map": "modeling.X"}"#, "remote-code"),
        (
            r#"{"sentence_transformers": {"activation_fn": "torch.serialization.os.abort"}}"#,
            "config-callable",
        ),
        (r#"{"activation_function": "os.abort"}"#, "config-callable"),
        (
            r#"{"_target_": "torch.serialization.os.system"}"#,
            "config-callable",
        ),
        (r#"{"activation_fn": "mine.layers.my_act"}"#, "remote-code"),
        (
            r#"{"a": {"_target_": "Foo"}, "x": "$__import__('os').system('id')"}"#,
            "python-danger",
        ),
        (
            r#"{"content": {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}}"#,
            "config-callable",
        ),
        (
            r#"{"run": "$__import__('os').system('id')"}"#,
            "python-danger",
        ),
        (
            r#"{"run": ["$import subprocess", "$subprocess.run('id')"]}"#,
            "python-danger",
        ),
        (r#"{"imports": ["$import subprocess"]}"#, "python-danger"),
        (
            r#"{"imports": ["$import glob"], "a": {"_target_": "Foo"}}"#,
            "remote-code",
        ),
        (
            r#"{"attn_implementation": "someone/kernel"}"#,
            "remote-code",
        ),
        (
            r#"{"auto_mapping": {"parent_library": "os"}}"#,
            "config-callable",
        ),
        (
            r#"{"_target_": "os.system", "command": "id"}"#,
            "config-callable",
        ),
        (r#"{"_target_": "${oc.env:X}"}"#, "remote-code"),
        (
            r#"[{"path": "", "type": "subprocess.Popen"}]"#,
            "config-callable",
        ),
        (r#"[{"path": "", "type": "custom.Layer"}]"#, "remote-code"),
        (
            r#"{"chat_template": "{{ x.__class__ }}"}"#,
            "template-escape",
        ),
        (
            r#"{"chat_template": [{"name": "d", "template": "{{ x.__class__ }}"}]}"#,
            "template-escape",
        ),
        (r#"{"weight_map": {"a": "../../secret"}}"#, "external-path"),
        (r#"{"vocab_file": "../../../etc/passwd"}"#, "external-path"),
    ] {
        assert_eq!(findings(text).first().map(|f| f.0), Some(rule), "{text}");
    }
}

#[test]
fn cells_of_notebooks_are_python() {
    for (text, danger) in [
        (
            r#"{"cells": [{"cell_type": "code", "source": ["import os\n", "os.system(1)"]}]}"#,
            true,
        ),
        (
            r#"{"worksheets": [{"cells": [{"cell_type": "code", "input": "os.system(1)"}]}], "nbformat": 3}"#,
            true,
        ),
        (
            r#"{"cells": [{"cell_type": "code", "source": "print(1)"}], "nbformat": 4}"#,
            false,
        ),
    ] {
        let found = findings(text);
        assert_eq!(found.first().map(|f| f.0), Some("python-code"), "{text}");
        let told = found.iter().any(|f| f.0 == "python-danger");
        assert_eq!(told, danger, "{text}");
    }
}

#[test]
fn parts_of_a_pipeline() {
    let found = |text: &str| {
        let value = json::parse(text).unwrap();
        noted("model_index.json", |ledger| judge(&value, true, ledger))
    };
    let part = |library: &str| format!(r#"{{"_class_name": "P", "x": ["{library}", "Made"]}}"#);
    for library in ["diffusers", "transformers", "audioldm2", "stable_diffusion"] {
        assert_eq!(found(&part(library)), []);
    }
    let evil = ("config-callable", "subprocess".to_owned());
    let hint = r#"{"t": [null, null, {"type_hint": ["subprocess", "Popen"]}]}"#;
    assert_eq!(found(hint), std::slice::from_ref(&evil));
    assert_eq!(found(&part("subprocess")), [evil]);
    assert_eq!(
        found(&part("evil.module")),
        [("remote-code", "evil.module".to_owned())]
    );
    // Of modular pipelines a part has a third item.
    let modular = r#"{"unet": ["evil", "U", {"repo": "someone/x"}], "_class_name": "P"}"#;
    assert_eq!(found(modular), [("remote-code", "evil".to_owned())]);
}

#[test]
fn kernels_of_others_are_told() {
    for (text, told) in [
        (
            r#"{"use_kernels": true, "kernel_config": {"RMSNorm": "evil/kernels:RMSNorm"}}"#,
            true,
        ),
        (
            r#"{"kernel_config": {"RMSNorm": {"cuda": "evil/kernels:RMSNorm"}}}"#,
            true,
        ),
        (
            r#"{"kernel_config": {"block": "m16", "sizes": [1, 2]}, "x": "a/b"}"#,
            false,
        ),
    ] {
        let found = findings(text);
        assert_eq!(found.iter().any(|f| f.0 == "remote-code"), told, "{text}");
    }
}

#[test]
fn a_target_that_is_put_together() {
    let found = findings(r#"{"_target_": "${a.y}", "a": {"y": "os.system"}}"#);
    assert!(
        found.contains(&("config-callable", "os.system".to_owned())),
        "{found:?}"
    );
}
