//! Keys of a file and namespaces of metadata, one to one.
//!
//! | namespace | key in the file |
//! |---|---|
//! | `gguf` | the key itself |
//! | `safetensors` | `safetensors.` and the key |
//! | `ckpt` | `ckpt.` and the key |
//! | `onnx` | `onnx.` and the key |
//! | `weightbridge`, notes | `weightbridge.` and the key |
//!
//! A file without `general.architecture` is a container: no runtime takes it for a model that it
//! could run. None is made up here; it comes from a GGUF, or from whoever knows the architecture.

use ir::ns;

const PREFIXES: &[(&str, &str)] = &[
    (ns::NOTE, "weightbridge."),
    (ns::SAFETENSORS, "safetensors."),
    (ns::CKPT, "ckpt."),
    (ns::ONNX, "onnx."),
];

/// The namespace and key of a file's key.
pub(crate) fn of_file_key(key: &str) -> (&'static str, &str) {
    for (namespace, prefix) in PREFIXES {
        if let Some(rest) = key.strip_prefix(prefix) {
            return (namespace, rest);
        }
    }
    (ns::GGUF, key)
}

/// The file's key of a namespace and key.
pub(crate) fn file_key(namespace: &str, key: &str) -> String {
    if namespace == ns::GGUF {
        return key.to_owned();
    }
    match PREFIXES.iter().find(|row| row.0 == namespace) {
        Some((_, prefix)) => format!("{prefix}{key}"),
        None => format!("{namespace}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_both_ways() {
        for key in [
            "general.name",
            "weightbridge.dtype.a",
            "safetensors.",
            "safetensors.format",
            "ckpt.epoch",
            "onnx.author",
            "onnxruntime.x",
        ] {
            let (namespace, rest) = of_file_key(key);
            assert_eq!(file_key(namespace, rest), key);
        }
        assert_eq!(of_file_key("ckpt.epoch"), (ns::CKPT, "epoch"));
        assert_eq!(of_file_key("onnxruntime.x").0, ns::GGUF);
    }
}
