//! The rules, each with its id, its severity and one sentence on why it is there.
//!
//! Ids are stable: scripts filter on them. `docs/scan.md` has an example for each.

use crate::Severity::{self, Dangerous, Suspicious};

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The stable id.
    pub id: &'static str,
    /// The severity of all its findings.
    pub severity: Severity,
    /// Why what it finds matters, as the beginning of a finding's detail.
    pub why: &'static str,
}

const fn dangerous(id: &'static str, why: &'static str) -> Rule {
    Rule {
        id,
        severity: Dangerous,
        why,
    }
}

const fn suspicious(id: &'static str, why: &'static str) -> Rule {
    Rule {
        id,
        severity: Suspicious,
        why,
    }
}

macro_rules! rules {
    ($($name:ident = $make:ident($id:literal, $why:literal);)*) => {
        $(pub(crate) const $name: Rule = $make($id, $why);)*
        /// Every rule, in the order of `docs/scan.md`.
        pub const RULES: &[Rule] = &[$($name),*];
    };
}

rules! {
    CODE_EXECUTION = dangerous("code-execution", "runs code that the file brings along");
    PROCESS = dangerous("process", "starts or controls other programs");
    FILE_ACCESS = dangerous("file-access", "reads or writes files on the loader's machine");
    NETWORK = dangerous("network", "talks to the network");
    IMPORT_RESOLUTION = dangerous("import-resolution", "imports modules or resolves names chosen by the file");
    INDIRECTION = dangerous("indirection", "reaches or calls something that the file does not name outright");
    NESTED_PICKLE = dangerous("nested-pickle", "loads another pickle while this one is loaded");
    STATE_POISONING = dangerous("state-poisoning", "changes a module, a class or an object's methods");
    LOADER_TAMPERING = dangerous("loader-tampering", "changes what the loader, or Python itself, trusts");
    EXTENSION_REGISTRY = dangerous("extension-registry", "names an object through copyreg's extension registry, which hides the name");
    PERSISTENT_CALLABLE = dangerous("persistent-callable", "hides a callable or a call in a persistent id");
    MODULE_ATTRIBUTE_PATH = dangerous("module-attribute-path", "walks from an innocent module into another one");
    STANDARD_LIBRARY = dangerous("standard-library", "uses a part of Python that no checkpoint needs");
    LIBRARY_FUNCTION = dangerous("library-function", "calls a library function that builds no tensor");
    CONSTRUCTOR_ARGUMENTS = dangerous("constructor-arguments", "hands text or a callable to a library class that no checkpoint needs");
    CODE_ARGUMENT = dangerous("code-argument", "hands text that reads like code, a command, a path or an address to something unknown");
    PARSER_DISAGREEMENT = dangerous("parser-disagreement", "is written so that unpicklers read it differently; what runs may not be what is shown");
    TORCHSCRIPT_FILE_ACCESS = dangerous("torchscript-file-access", "is TorchScript, or an exported graph, that reads or writes files");
    TEMPLATE_ESCAPE = dangerous("template-escape", "is a template that reaches into Python's own objects: where it is not run in a sandbox, it runs anything");
    KERAS_LAMBDA = dangerous("keras-lambda", "is a Keras layer that brings its own bytecode");
    KERAS_IMPORT = dangerous("keras-import", "is a Keras configuration that imports and calls what no model needs");
    KERAS_EXTERNAL = dangerous("keras-external", "is a Keras layer that loads another file of the loader's machine or of the network");
    KERAS_PICKLE = dangerous("keras-pickle", "is a Keras layer that loads a pickle");
    TENSORFLOW_FILE_ACCESS = dangerous("tensorflow-file-access", "is a TensorFlow operator that reaches files or the network when the model runs");
    CONFIG_CALLABLE = dangerous("config-callable", "is a setting that names what a framework imports and calls, and names what no model needs");
    YAML_OBJECT = dangerous("yaml-object", "is a YAML tag that makes a Python object or calls a function while the text is read");
    PYTHON_DANGER = dangerous("python-danger", "is Python beside the model that starts programs or runs data as code");
    UNKNOWN_GLOBAL = suspicious("unknown-global", "is a class or function nobody here knows");
    UNKNOWN_CALL = suspicious("unknown-call", "calls a function nobody here knows");
    CLASS_ARGUMENTS = suspicious("class-arguments", "hands arguments to the constructor of a class that checkpoints hold without any");
    STATE_FILE = suspicious("state-file", "gives an object a state that names a file, which its class opens while it is loaded");
    ATTRIBUTE_LOOKUP = suspicious("attribute-lookup", "takes a method from a class or an object without calling it");
    ODD_PERSISTENT_ID = suspicious("odd-persistent-id", "is a persistent id that names no storage");
    ODD_OBJECT = suspicious("odd-object", "does what no pickle written by a program does");
    BROKEN_PICKLE = suspicious("broken-pickle", "is a pickle that could not be read to its end");
    TORCHSCRIPT_CUSTOM_OP = suspicious("torchscript-custom-op", "is TorchScript, or an exported graph, that calls an operator from outside PyTorch");
    TORCHSCRIPT_ALIAS = suspicious("torchscript-alias", "is TorchScript that uses a module in a way its printer never writes");
    DUPLICATE_ENTRY = suspicious("duplicate-entry", "is there twice, and loaders disagree on which counts");
    HEADER_MISMATCH = suspicious("header-mismatch", "is described differently by its own header and by the archive's directory");
    CHECKSUM_MISMATCH = suspicious("checksum-mismatch", "does not have the checksum it claims");
    HIDDEN_BYTES = suspicious("hidden-bytes", "is data that no entry of the archive owns");
    SECOND_DIRECTORY = suspicious("second-directory", "gives the archive more than one table of contents");
    ODD_FLAGS = suspicious("odd-flags", "has flags that no writer of checkpoints sets");
    UNSAFE_NAME = suspicious("unsafe-name", "is a name that leaves the archive or has control characters");
    HIDDEN_PAYLOAD = suspicious("hidden-payload", "is a pickle or archive where the loader does not look");
    TRAILING_PICKLE = suspicious("trailing-pickle", "is data after the object a loader reads");
    LOOSE_HEADER = suspicious("loose-header", "is what the reference library loads and the format does not allow");
    SIZE_MISMATCH = suspicious("size-mismatch", "has another size than it claims");
    UNREADABLE = suspicious("unreadable", "could not be read");
    EXTERNAL_PATH = suspicious("external-path", "names tensor data outside the model's own folder, or behind a link");
    CUSTOM_OPERATOR = suspicious("custom-operator", "is an operator that neither ONNX nor its runtimes have: a library that the loader brings decides what it does");
    INPUT_SWITCH = suspicious("input-switch", "switches what the model gives by comparing an input with a constant, as a backdoor in an architecture does");
    OVERSIZED_SHAPE = suspicious("oversized-shape", "is declared or computed larger than any memory, or runs longer than anyone can wait");
    UNFOLLOWED_GRAPH = suspicious("unfollowed-graph", "is too much to follow whole");
    REMOTE_CODE = suspicious("remote-code", "is a setting that makes a loader run code of this repository or of another, if it is told to trust it");
    PYTHON_CODE = suspicious("python-code", "is code beside the model");
    NATIVE_CODE = suspicious("native-code", "is a program or library for the machine itself, a script, or bytecode");
    TEMPLATE_ODDITY = suspicious("template-oddity", "is a template that uses what no chat template needs");
    KERAS_CUSTOM = suspicious("keras-custom-object", "is a class or function of Keras's user that nobody here knows");
    TENSORFLOW_PYTHON = suspicious("tensorflow-python", "is a TensorFlow operator that calls a function of the process that runs the model");
    CLOSED_ARCHIVE = suspicious("closed-archive", "is packed in a way that is not opened here");
    MANY_FINDINGS = suspicious("many-findings", "has more findings than are shown");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_kebab_case_and_documented_under_their_severity() {
        let docs = include_str!("../../../docs/scan.md");
        let (dangerous, suspicious) = docs.split_once("### Suspicious").unwrap();
        for (at, rule) in RULES.iter().enumerate() {
            let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(rule.id.chars().all(kebab), "{}", rule.id);
            assert!(RULES.iter().skip(at + 1).all(|other| other.id != rule.id));
            let part = match rule.severity {
                Dangerous => dangerous,
                Suspicious => suspicious,
            };
            let row = format!("\n| `{}` | ", rule.id);
            assert!(
                part.contains(&row),
                "docs/scan.md has no row for {}",
                rule.id
            );
        }
        // And back: what the document promises is there.
        let rows = docs.split("\n| `").skip(1);
        let ids = rows.filter_map(|row| row.split_once("` | ").map(|(id, _)| id));
        let ids = ids.filter(|id| {
            id.contains('-') && id.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        });
        for id in ids {
            assert!(RULES.iter().any(|rule| rule.id == id), "no rule {id}");
        }
    }
}
