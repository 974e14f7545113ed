//! Keras configurations: which classes and functions loading a model imports and calls.
//!
//! A layer is `{"module", "class_name", "config", "registered_name"}`; models saved before Keras 3
//! have only the class and its settings. Loading imports `module` and looks the name up in it, so
//! that the file chooses what runs.

use super::json::Json;
use crate::ledger::Ledger;
use crate::rules;
use crate::standing::{Standing, is_told, standing};

const DEPTH: u8 = 120;

/// Packages whose classes Keras looks up.
const PACKAGES: &[&str] = &["keras", "keras_cv", "keras_hub", "keras_nlp", "tf_keras"];
/// Modules of Keras whose functions only compute.
const COMPUTING: &[&str] = &[
    "activations",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "ops",
    "applications",
];
/// Classes of Python that stand for plain values.
const VALUES: &[&str] = &[
    "bool", "bytes", "complex", "dict", "float", "int", "list", "set", "str", "tuple",
];

/// Functions of Keras that a configuration names without a module: what Keras 3 exports from the
/// modules it searches for them, and the short names of older versions.
const FUNCTIONS: &[&str] = &[
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "bce",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "celu",
    "circle",
    "concordance_correlation",
    "cosine_similarity",
    "ctc",
    "dice",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "huber",
    "kl_divergence",
    "kld",
    "leaky_relu",
    "linear",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "logcosh",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mish",
    "mse",
    "msle",
    "pearson_correlation",
    "poisson",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_plus",
    "sparse_sigmoid",
    "sparse_top_k_categorical_accuracy",
    "sparsemax",
    "squared_hinge",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
    "top_k_categorical_accuracy",
    "tversky",
];

/// Judges a configuration, whatever surrounds it.
pub(super) fn judge(value: &Json, ledger: &mut Ledger<'_>) {
    walk(value, DEPTH, ledger);
}

fn walk(value: &Json, depth: u8, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    // Every value of a name that is there twice: parsers disagree on which counts.
    let classes = value
        .pairs()
        .iter()
        .filter(|(name, _)| name == "class_name");
    for (_, class) in classes {
        if let Some(class) = class.text() {
            object(value, class, ledger);
        }
    }
    for item in value.items() {
        walk(item, depth, ledger);
    }
    for (_, inner) in value.pairs() {
        walk(inner, depth, ledger);
    }
}

fn object(value: &Json, class: &str, ledger: &mut Ledger<'_>) {
    let config = value.get("config");
    let shown = || value.shown();
    match class {
        "__lambda__" => return ledger.note(rules::KERAS_LAMBDA, class, 0, shown),
        "Lambda" => lambda(value, config, ledger),
        "TFSMLayer" => ledger.note(rules::KERAS_EXTERNAL, class, 0, shown),
        "TorchModuleWrapper" => ledger.note(rules::KERAS_PICKLE, class, 0, shown),
        _ => {}
    }
    let vocabulary = config.and_then(|config| config.get("vocabulary"));
    if let Some(file) = vocabulary.and_then(Json::text) {
        let more = || format!("{class} reads its vocabulary from {file}");
        ledger.note(rules::KERAS_EXTERNAL, class, 0, more);
    }
    for (_, module) in value.pairs().iter().filter(|(name, _)| name == "module") {
        if let Some(module) = module.text() {
            imported(value, module, class, config, ledger);
        }
    }
    let custom = value.get("registered_name").and_then(Json::text);
    let unnamed = !matches!(value.get("module"), Some(Json::Text(_)));
    if let Some(name) = custom.filter(|name| unnamed && name.contains('>')) {
        let ours = PACKAGES.iter().any(|package| name.starts_with(package));
        if !ours {
            ledger.note(rules::KERAS_CUSTOM, name, 0, shown);
        }
    }
}

/// A layer around a function: its bytecode, or a name of one.
fn lambda(value: &Json, config: Option<&Json>, ledger: &mut Ledger<'_>) {
    let function = config.and_then(|config| config.get("function"));
    let shown = || value.shown();
    match function {
        // A name, which the loader must have in its own custom objects.
        Some(Json::Text(name)) => ledger.note(rules::KERAS_CUSTOM, name, 0, shown),
        // A function by name is judged where it stands.
        Some(Json::Object(_))
            if function
                .and_then(|f| f.get("class_name"))
                .and_then(Json::text)
                == Some("function") => {}
        // One that is missing fails to load; what else it may hold is not guessed at.
        _ => ledger.note(rules::KERAS_LAMBDA, "Lambda", 0, shown),
    }
}

/// What `module` and the name in it lead to.
fn imported(
    value: &Json,
    module: &str,
    class: &str,
    config: Option<&Json>,
    ledger: &mut Ledger<'_>,
) {
    let function = matches!(class, "function" | "builtin_function_or_method" | "method");
    let name = if function {
        config.and_then(Json::text).unwrap_or(class)
    } else {
        class
    };
    let what = format!("{module}.{name}");
    let shown = || value.shown();
    let (first, rest) = module.split_once('.').unwrap_or((module, ""));
    // Keras writes its own functions as Python's. It looks them up in its own modules and among its
    // user's objects; versions before the advisories also in Python's.
    if module == "builtins" && function && FUNCTIONS.binary_search(&name).is_ok() {
        return;
    }
    if module == "builtins" && function && !is_builtin(name) {
        return ledger.note(rules::KERAS_CUSTOM, &what, 0, shown);
    }
    if module == "builtins" && !function && VALUES.contains(&class) {
        return;
    }
    if PACKAGES.contains(&first)
        || module.starts_with("tensorflow.keras")
        || module.starts_with("tensorflow.python.keras")
    {
        let rest = rest.trim_start_matches("src.").trim_start_matches("keras.");
        let rest = rest
            .trim_start_matches("python.keras.")
            .trim_start_matches("api.");
        let part = rest.split('.').next().unwrap_or_default();
        // Keras hands out what the name leads to and calls it with the settings: a function that is
        // named where a class is due runs as well. Classes begin with a capital letter.
        let named = !class.starts_with(|c: char| c.is_uppercase()) && !class.starts_with("__");
        if (function || named) && !COMPUTING.contains(&part) {
            ledger.note(rules::KERAS_IMPORT, &what, 0, shown);
        }
        return;
    }
    match standing(module, name) {
        Standing::Dangerous(_) | Standing::Conditional(_) | Standing::LibraryFunction => {
            ledger.note(rules::KERAS_IMPORT, &what, 0, shown);
        }
        Standing::UnknownFunction if function => ledger.note(rules::KERAS_CUSTOM, &what, 0, shown),
        Standing::Harmless => {}
        _ => ledger.note(rules::KERAS_CUSTOM, &what, 0, shown),
    }
}

/// Whether Python's module `builtins` has a name, in any version; any name with underscores around
/// it counts.
fn is_builtin(name: &str) -> bool {
    name.starts_with("__")
        || name.contains('.')
        || BUILTINS.contains(&name)
        || is_told("builtins", name)
}

/// What `builtins` has that no table of names needs: functions that no checkpoint calls.
const BUILTINS: &[&str] = &[
    "aiter",
    "anext",
    "ascii",
    "bin",
    "chr",
    "cmp",
    "divmod",
    "exit",
    "format",
    "hash",
    "hex",
    "id",
    "isinstance",
    "issubclass",
    "oct",
    "ord",
    "pow",
    "print",
    "quit",
    "repr",
    "unichr",
];

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use crate::testing::noted_rules;

    fn findings(text: &str) -> Vec<&'static str> {
        let value = json::parse(text).unwrap();
        noted_rules("config.json", |ledger| judge(&value, ledger))
    }

    #[test]
    fn layers_of_keras_are_harmless() {
        for text in [
            r#"{"module": "keras", "class_name": "Sequential", "config": {"layers": [{"module":
               "keras.layers", "class_name": "Dense", "config": {"activation": "relu",
               "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform",
               "config": {}, "registered_name": null}}, "registered_name": null}]}}"#,
            r#"{"class_name": "Model", "config": {"layers": [{"class_name": "Dense", "config": {}}]}}"#,
            r#"{"module": "builtins", "class_name": "float", "config": 1}"#,
            r#"{"module": "keras.activations", "class_name": "function", "config": "relu"}"#,
            r#"{"module": "keras.activations", "class_name": "relu", "config": {}}"#,
            r#"{"module": "builtins", "class_name": "function", "config": "mean_squared_error"}"#,
            r#"{"module": "keras.src.models.functional", "class_name": "Functional", "config": {}}"#,
            r#"{"module": "keras.src.utils.module_utils", "class_name": "__tensor__", "config": 1}"#,
            r#"{"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}"#,
        ] {
            assert_eq!(findings(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn advisories() {
        for (text, rule) in [
            (
                r#"{"class_name": "Lambda", "config": {"function": ["4wEA", null, null]}}"#,
                "keras-lambda",
            ),
            (
                r#"{"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": "4w"}}}}"#,
                "keras-lambda",
            ),
            (
                r#"{"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "builtins", "class_name": "function", "config": "exec"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "builtins", "class_name": "function", "config": "input"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "builtins", "class_name": "function", "config": "__import__"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "builtins", "class_name": "function", "config": "my_loss"}"#,
                "keras-custom-object",
            ),
            (
                r#"{"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "keras.utils", "class_name": "function", "config": "get_file"}"#,
                "keras-import",
            ),
            (
                r#"{"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://x"}}"#,
                "keras-import",
            ),
            (
                r#"{"module": "keras.models", "class_name": "load_model", "config": {}}"#,
                "keras-import",
            ),
            (
                r#"{"module": "keras.src.saving.saving_lib", "class_name": "load_model", "config": {}}"#,
                "keras-import",
            ),
            (
                r#"{"class_name": "TFSMLayer", "config": {"filepath": "/x"}}"#,
                "keras-external",
            ),
            (
                r#"{"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}"#,
                "keras-external",
            ),
            (
                r#"{"class_name": "TorchModuleWrapper", "config": {}}"#,
                "keras-pickle",
            ),
            (
                r#"{"module": "my_layers", "class_name": "Mine", "registered_name": "my>Mine"}"#,
                "keras-custom-object",
            ),
            (
                r#"{"module": null, "class_name": "Mine", "registered_name": "my>Mine"}"#,
                "keras-custom-object",
            ),
        ] {
            assert!(
                findings(text).contains(&rule),
                "{text}: {:?}",
                findings(text)
            );
        }
    }
}
