//! What PyTorch's `torch.load(weights_only=True)` allows, for the strict policy.
//!
//! The 144 names that torch 2.15 allows by default, read from the package
//! (`torch/_weights_only_unpickler.py`, `_get_allowed_globals`). It looks a name up by its full
//! path before importing anything, so a name here needs no import to be harmless.

use ir::{Object, Objects};
use std::collections::BTreeSet;

/// Modules that `weights_only` refuses whatever its user allows.
const NEVER: &[&str] = &["nt", "os", "posix", "sys"];

/// Tensor types that exist per element type, in `torch` and `torch.cuda`.
const TENSORS: &[&str] = &[
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
];

/// The same in `torch.sparse` and `torch.cuda.sparse`, where there is no boolean one.
const SPARSE_TENSORS: &[&str] = &[
    "BFloat16Tensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
];

/// Storages that exist in `torch` and `torch.cuda`.
const STORAGES: &[&str] = &[
    "BFloat16Storage",
    "BoolStorage",
    "ByteStorage",
    "CharStorage",
    "ComplexDoubleStorage",
    "ComplexFloatStorage",
    "DoubleStorage",
    "FloatStorage",
    "HalfStorage",
    "IntStorage",
    "LongStorage",
    "ShortStorage",
];

/// Storages of quantized elements, in `torch` only.
const QUANTIZED_STORAGES: &[&str] = &[
    "QInt32Storage",
    "QInt8Storage",
    "QUInt2x4Storage",
    "QUInt4x2Storage",
    "QUInt8Storage",
];

const DTYPES: &[&str] = &[
    "bcomplex32",
    "bfloat16",
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bool",
    "complex128",
    "complex32",
    "complex64",
    "float16",
    "float32",
    "float4_e2m1fn_x2",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int1",
    "int16",
    "int2",
    "int3",
    "int32",
    "int4",
    "int5",
    "int6",
    "int64",
    "int7",
    "int8",
    "qint32",
    "qint8",
    "quint2x4",
    "quint4x2",
    "quint8",
    "uint1",
    "uint16",
    "uint2",
    "uint3",
    "uint32",
    "uint4",
    "uint5",
    "uint6",
    "uint64",
    "uint7",
    "uint8",
];

const TORCH_OBJECTS: &[&str] = &["Size", "Tensor", "device"];

const QUANTIZERS: &[&str] = &[
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_channel_symmetric",
    "per_tensor_affine",
    "per_tensor_symmetric",
];

const REBUILDERS: &[&str] = &[
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_qtensor",
    "_rebuild_sparse_tensor",
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_wrapper_subclass",
];

/// Module by module.
static ALLOWED: &[(&str, &[&[&str]])] = &[
    ("_codecs", &[&["encode"]]),
    ("builtins", &[&["bytearray", "complex", "set"]]),
    ("collections", &[&["Counter", "OrderedDict"]]),
    (
        "torch",
        &[
            TENSORS,
            STORAGES,
            QUANTIZED_STORAGES,
            DTYPES,
            TORCH_OBJECTS,
            QUANTIZERS,
        ],
    ),
    ("torch._tensor", &[&["_rebuild_from_type_v2"]]),
    ("torch._utils", &[REBUILDERS]),
    ("torch.cuda", &[TENSORS, STORAGES]),
    ("torch.cuda.sparse", &[SPARSE_TENSORS]),
    ("torch.nn.parameter", &[&["Parameter"]]),
    ("torch.serialization", &[&["_get_layout"]]),
    ("torch.sparse", &[SPARSE_TENSORS]),
    ("torch.storage", &[&["TypedStorage", "UntypedStorage"]]),
];

/// Whether `weights_only` allows `module.name` by default.
pub(crate) fn allows(module: &str, name: &str) -> bool {
    ALLOWED
        .iter()
        .filter(|(allowed, _)| *allowed == module)
        .any(|(_, groups)| {
            groups
                .iter()
                .any(|names| names.binary_search(&name).is_ok())
        })
}

/// The globals of a pickle that the strict policy refuses: `module.name`, sorted, each once.
///
/// These are the names outside the 144 that PyTorch's `weights_only` loader allows and outside
/// `allowed_extra`. Names below `sys`, `os`, `posix` and `nt` are refused even if they are allowed,
/// as PyTorch does. A path (`serialization.os.system`) is never one of the 144, and neither is an
/// object named by a code of copyreg's extension registry, which is listed as `extension 240`.
///
/// ```
/// let mut objects = ir::Objects::new();
/// for (module, name) in [("torch", "FloatStorage"), ("argparse", "Namespace")] {
///     objects.push(ir::Object::global(module, name), 0);
/// }
/// let outside = weightbridge_scan::outside_weights_only(&objects, &[]);
/// assert_eq!(outside, ["argparse.Namespace"]);
/// ```
pub fn outside_weights_only(objects: &Objects, allowed_extra: &[String]) -> Vec<String> {
    let mut outside = BTreeSet::new();
    for (_, node) in objects.iter() {
        match &node.object {
            Object::Global(global) if !allows(&global.module, &global.name) => {
                let (module, name) = (&global.module, &global.name);
                let full = format!("{module}.{name}");
                let first = module.split('.').next().unwrap_or_default();
                if NEVER.contains(&first) || !allowed_extra.contains(&full) {
                    outside.insert(full);
                }
            }
            Object::Extension(code) => {
                outside.insert(format!("extension {code}"));
            }
            _ => {}
        }
    }
    outside.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_144_names_each_found_by_search() {
        let mut count = 0;
        for (module, groups) in ALLOWED {
            for name in groups.iter().copied().flatten() {
                assert!(
                    allows(module, name),
                    "{module}.{name}: is its group sorted?"
                );
                count += 1;
            }
        }
        assert_eq!(count, 144);
    }

    #[test]
    fn extra_names_widen_the_list_but_never_to_the_system() {
        let mut objects = Objects::new();
        for (module, name) in [
            ("fairseq.data.dictionary", "Dictionary"),
            ("argparse", "Namespace"),
            ("argparse", "Namespace"),
            ("posix", "system"),
            ("os.path", "join"),
            ("torch", "storage.TypedStorage"),
            ("torch._utils", "_rebuild_tensor_v2"),
        ] {
            objects.push(Object::global(module, name), 0);
        }
        objects.push(Object::Extension(240), 9);
        let extra = ["argparse.Namespace", "posix.system", "os.path.join"].map(String::from);
        assert_eq!(
            outside_weights_only(&objects, &extra),
            [
                "extension 240",
                "fairseq.data.dictionary.Dictionary",
                "os.path.join",
                "posix.system",
                "torch.storage.TypedStorage"
            ]
        );
    }
}
