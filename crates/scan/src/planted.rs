//! Methods that a state plants on an object, and classes that it keeps there to be called: Python and the
//! classes of libraries call some by themselves while the object is loaded, or thrown away.

use crate::conditions::Condition;
use crate::objects::{Bench, DETAIL_CHARS};
use crate::render::render;
use crate::rules;
use crate::standing::{Standing, standing};
use crate::tables::loaders::{LOADERS, loads};
use ir::{Object, ObjectId, Objects};

/// Notes methods that a state plants on an object: Python would call them later by themselves.
pub(crate) fn judge(bench: &mut Bench<'_>, state: ObjectId, at: u64) {
    let objects = bench.objects;
    let parts: &[ObjectId] = match objects.get(state) {
        Object::Tuple(parts) => parts,
        _ => &[],
    };
    for part in parts.iter().take(4).chain([&state]) {
        if !bench.states.insert(*part) {
            continue;
        }
        for (key, value) in objects.pairs(*part).unwrap_or_default() {
            let Some(key) = objects.str(*key) else {
                continue;
            };
            let callable = matches!(
                objects.get(*value),
                Object::Global(_)
                    | Object::Call(_)
                    | Object::Extension(_)
                    | Object::Persistent(_)
                    | Object::Patch(_)
            );
            if opens(objects, *value) {
                let value = *value;
                bench.ledger.note(rules::INDIRECTION, key, at, || {
                    format!("{key} = {}", render(objects, value, DETAIL_CHARS))
                });
            }
            if callable && is_called(key) {
                let value = *value;
                bench.ledger.note(rules::STATE_POISONING, key, at, || {
                    format!("{key} = {}", render(objects, value, DETAIL_CHARS))
                });
            }
        }
    }
}

/// Whether it is a class that opens or runs what it is named. Many of these are called with what stands
/// beside them.
fn opens(objects: &Objects, value: ObjectId) -> bool {
    objects.global(value).is_some_and(|(module, name)| {
        let condition = standing(module, name);
        loads(LOADERS, module, name).is_some()
            || matches!(
                condition,
                Standing::Conditional(Condition::Bare | Condition::Config)
            )
    })
}

fn is_called(method: &str) -> bool {
    METHODS.binary_search(&method).is_ok() || OWN.binary_search(&method).is_ok()
}

/// Names that Python itself looks up, and calls or follows. Other names of this form are data:
/// pydantic's, yacs', what `typing` leaves behind.
const METHODS: &[&str] = &[
    "__add__",
    "__array__",
    "__array_function__",
    "__array_ufunc__",
    "__await__",
    "__bases__",
    "__bool__",
    "__builtins__",
    "__bytes__",
    "__call__",
    "__class__",
    "__class_getitem__",
    "__closure__",
    "__code__",
    "__contains__",
    "__copy__",
    "__deepcopy__",
    "__del__",
    "__delattr__",
    "__delete__",
    "__delitem__",
    "__dir__",
    "__enter__",
    "__eq__",
    "__exit__",
    "__float__",
    "__format__",
    "__fspath__",
    "__ge__",
    "__get__",
    "__getattr__",
    "__getattribute__",
    "__getitem__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getstate__",
    "__globals__",
    "__gt__",
    "__hash__",
    "__import__",
    "__index__",
    "__init__",
    "__init_subclass__",
    "__instancecheck__",
    "__int__",
    "__iter__",
    "__le__",
    "__len__",
    "__loader__",
    "__lt__",
    "__missing__",
    "__mro__",
    "__mul__",
    "__ne__",
    "__new__",
    "__next__",
    "__path__",
    "__post_init__",
    "__prepare__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__reversed__",
    "__set__",
    "__set_name__",
    "__setattr__",
    "__setitem__",
    "__setstate__",
    "__spec__",
    "__str__",
    "__subclasscheck__",
    "__subclasshook__",
    "__torch_dispatch__",
    "__torch_function__",
    "__wrapped__",
];

/// Methods of their own that classes of libraries call in `__setstate__`, `__del__`, `__hash__` and their
/// kind: of PyTorch, transformers, sklearn, scipy, LightGBM, PEFT, bitsandbytes and sentencepiece.
const OWN: &[&str] = &[
    "LoadFromSerializedProto",
    "_attach_argparser_methods",
    "_attach_methods",
    "_build_debug_param_to_name_mapping",
    "_build_f",
    "_build_params_for_reducer",
    "_check_equals",
    "_compute_hash",
    "_ddp_init_helper",
    "_detach_hooks",
    "_error_location",
    "_free_handle",
    "_get_abs_string_index",
    "_get_item_by_idx",
    "_getattr_wrapped",
    "_hasattr_wrapped",
    "_hash_impl",
    "_hash_key",
    "_init_rpc",
    "_key_to_attr",
    "_log_and_throw",
    "_mark_worker_as_unavailable",
    "_optimizer_step_code",
    "_patch_step_function",
    "_post_init",
    "_setup_normalizer",
    "_shutdown_workers",
    "_verify_shard_order",
    "add",
    "add_module",
    "append",
    "as_dict",
    "close",
    "convert_ids_to_tokens",
    "convert_tokens_to_ids",
    "extend",
    "free_network",
    "get_params",
    "profile_hook_step",
    "register_buffer",
    "register_parameter",
    "set_weight_bias",
    "to_dict",
    "to_diff_dict",
    "to_json_string",
];

#[cfg(test)]
mod tests {
    use super::{METHODS, OWN};
    use crate::testing::Builder;

    #[test]
    fn the_names_are_sorted() {
        for table in [METHODS, OWN] {
            assert!(table.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn what_loading_calls_cannot_be_planted() {
        // `_build_f(X_thresholds_, y_thresholds_)`
        for (key, class, found) in [
            ("_build_f", "ReLU", vec!["state-poisoning _build_f"]),
            ("estimator", "ReLU", vec![]),
        ] {
            let mut b = Builder::new();
            let object = b.new_object("sklearn.isotonic", "IsotonicRegression");
            let class = b.global("torch.nn.modules.activation", class);
            let state = b.dict(&[(key, class)]);
            b.build(object, state);
            assert_eq!(b.findings(), found);
        }
    }

    #[test]
    fn classes_that_open_files_are_not_kept() {
        for (module, name) in [
            ("tokenizers.models", "BPE"),
            ("sentence_transformers", "SentenceTransformer"),
        ] {
            let mut b = Builder::new();
            let object = b.new_object("torch.nn.modules.activation", "ReLU");
            let class = b.global(module, name);
            let state = b.dict(&[("activation", class)]);
            b.build(object, state);
            let found = b.findings();
            assert!(
                found.iter().any(|f| f == "indirection activation"),
                "{found:?}"
            );
        }
    }
}
