//! Configurations in JSON: what they make a loader import, fetch or run.

use super::interpolation::Interpolated;
use super::json::Json;
use super::{jinja, python};
use crate::ledger::Ledger;
use crate::rules;
use crate::standing::{Standing, first_part, standing};
use crate::tables::pipelines::PIPELINES;

/// How deep settings are looked for: deeper than any document that is parsed (128).
const DEPTH: u8 = 130;

/// Judges a configuration of transformers, diffusers, PEFT, sentence-transformers or Hydra. `pipeline`
/// says that it lists the parts of a pipeline, by its file's name (`model_index.json`).
pub(super) fn judge(value: &Json, pipeline: bool, ledger: &mut Ledger<'_>) {
    object(value, DEPTH, ledger);
    // Before version 4 of notebooks cells stood in worksheets.
    let sheets = value.get("worksheets").map(Json::items).unwrap_or_default();
    let cells = sheets
        .iter()
        .chain([value])
        .filter_map(|it| it.get("cells"));
    for cell in cells.flat_map(Json::items) {
        let source = cell.get("source").or_else(|| cell.get("input"));
        notebook_cell(cell.get("cell_type"), source, ledger);
    }
    let bundle = ["bundle_root", "imports", "monai_version"];
    if bundle.iter().any(|key| value.get(key).is_some()) || holds(value, "_target_", DEPTH) {
        expressions(value, DEPTH, true, ledger);
    } else {
        expressions(value, DEPTH, false, ledger);
    }
    // `modules.json`: a list of layers, each with the class that is imported for it.
    for item in value.items() {
        if let (Some(name), Some(_)) = (item.get("type").and_then(Json::text), item.get("path"))
            && name.contains('.')
        {
            class(name, "type", ledger);
        }
    }
    if pipeline {
        parts(value, ledger);
    }
    let mut put_together = Interpolated::default();
    let mut texts = Vec::new();
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        for (name, inner) in value.pairs() {
            if let (true, Some(target)) = (name == "_target_", inner.text())
                && !put_together.take(target, 0, ledger)
            {
                callable(target, 0, ledger);
            }
        }
        texts.extend(value.text());
        todo.extend(value.items());
        todo.extend(value.pairs().iter().map(|(_, value)| value));
    }
    put_together.judge(texts.into_iter(), ledger);
}

fn object(value: &Json, depth: u8, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for item in value.items() {
        object(item, depth, ledger);
    }
    skops(value, ledger);
    for (name, inner) in value.pairs() {
        let shown = || format!("{name}: {}", inner.shown());
        match (name.as_str(), inner) {
            ("trust_remote_code", Json::True)
            | ("auto_map" | "custom_pipelines", Json::Object(_) | Json::Array(_) | Json::Text(_)) =>
            {
                ledger.note(rules::REMOTE_CODE, name, 0, shown);
            }
            (
                "attn_implementation" | "_attn_implementation" | "_attn_implementation_internal",
                Json::Text(kernel),
            ) if kernel.contains('/') => {
                ledger.note(rules::REMOTE_CODE, name, 0, shown);
            }
            // Kernels that transformers fetches for layers, by the names of their repositories.
            ("kernel_config", Json::Object(_)) => kernels(inner, ledger),
            ("parent_library", Json::Text(module)) => {
                class(&format!("{module}.Model"), name, ledger);
            }
            // sentence-transformers imports these, where transformers looks a plain word up.
            (
                "activation_fn" | "activation_function" | "sbert_ce_default_activation_function",
                Json::Text(function),
            ) => named(name, function, 0, ledger),
            ("chat_template", Json::Text(template)) => jinja::judge(template, 0, ledger),
            ("chat_template" | "chat_templates", _) => templates(inner, ledger),
            ("weight_map", Json::Object(files)) => {
                for (tensor, file) in files {
                    shard(tensor, file, ledger);
                }
            }
            (_, Json::Text(path)) if name.ends_with("_file") && path.contains("../") => {
                ledger.note(rules::EXTERNAL_PATH, path, 0, shown);
            }
            _ => {}
        }
        object(inner, depth, ledger);
    }
}

/// Repositories of kernels, each for a layer, or for a layer on each kind of machine.
fn kernels(value: &Json, ledger: &mut Ledger<'_>) {
    for (layer, inner) in value.pairs() {
        let by_machine = inner.pairs().iter().map(|(_, kernel)| kernel);
        let all = [inner].into_iter().chain(by_machine);
        for kernel in all.filter_map(Json::text).filter(|it| it.contains('/')) {
            let more = || format!("kernel_config: {layer}: {kernel}");
            ledger.note(rules::REMOTE_CODE, "kernel_config", 0, more);
        }
    }
}

/// An object of skops (`schema.json`): it is imported by its module and name when the file is loaded
/// with what it names trusted, and unasked before version 0.12 (CVE-2025-54412, an `OperatorFuncNode` of another module than
/// `operator`; CVE-2025-54413, a `MethodNode`).
fn skops(value: &Json, ledger: &mut Ledger<'_>) {
    let text = |key| value.get(key).and_then(Json::text);
    if let (Some(module), Some(class), Some(_)) =
        (text("__module__"), text("__class__"), text("__loader__"))
        && let Standing::Dangerous(rule) = standing(module, class)
        && rule != rules::STANDARD_LIBRARY
    {
        let more = || format!("skops imports {module}.{class}");
        ledger.note(
            rules::CONFIG_CALLABLE,
            &format!("{module}.{class}"),
            0,
            more,
        );
    }
}

/// The file that an index says a tensor lies in.
pub(super) fn shard(tensor: &str, file: &Json, ledger: &mut Ledger<'_>) {
    if let Some(file) = file.text().filter(|file| leaves(file)) {
        let more = || format!("{tensor} lies in {file}");
        ledger.note(rules::EXTERNAL_PATH, file, 0, more);
    }
}

/// Whether a name of a file leaves the folder it is looked for in.
pub(super) fn leaves(file: &str) -> bool {
    let drive = file.as_bytes().get(1) == Some(&b':');
    file.starts_with(['/', '\\']) || drive || file.split(['/', '\\']).any(|part| part == "..")
}

/// Several templates: a list of names and texts, or texts by name.
fn templates(value: &Json, ledger: &mut Ledger<'_>) {
    let listed = value.items().iter().filter_map(|item| item.get("template"));
    let named = value.pairs().iter().map(|(_, inner)| inner);
    for template in listed.chain(named).filter_map(Json::text) {
        jinja::judge(template, 0, ledger);
    }
}

/// Libraries whose classes are imported by design.
const CLASSES_OF: &[&str] = &[
    "sentence_transformers",
    "transformers",
    "diffusers",
    "peft",
    "timm",
];

/// A dotted name of a class that a loader imports by itself.
fn class(name: &str, key: &str, ledger: &mut Ledger<'_>) {
    let Some((module, class)) = name.rsplit_once('.') else {
        return;
    };
    if CLASSES_OF.contains(&first_part(module)) {
        return;
    }
    let more = || format!("{key}: {name}");
    match standing(module, class) {
        Standing::Dangerous(_) => ledger.note(rules::CONFIG_CALLABLE, name, 0, more),
        _ => ledger.note(rules::REMOTE_CODE, name, 0, more),
    }
}

/// A cell of a notebook: if it is code, as Python.
pub(super) fn notebook_cell(kind: Option<&Json>, source: Option<&Json>, ledger: &mut Ledger<'_>) {
    if kind.and_then(Json::text) != Some("code") {
        return;
    }
    match source {
        Some(Json::Text(text)) => python::judge(text, ledger),
        Some(lines) => {
            let lines: String = lines.items().iter().filter_map(Json::text).collect();
            python::judge(&lines, ledger);
        }
        None => {}
    }
}

/// Whether a name stands anywhere in a document.
fn holds(value: &Json, wanted: &str, depth: u8) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return true;
    };
    let mut pairs = value.pairs().iter();
    pairs.any(|(name, inner)| name == wanted || holds(inner, wanted, depth))
        || value.items().iter().any(|item| holds(item, wanted, depth))
}

/// Texts that MONAI evaluates as Python, or imports: those behind a `$`. Where nothing says that a
/// document is a `bundle`, the whole text has to be a call, or an import, of what is dangerous:
/// vocabularies have bits of programs.
fn expressions(value: &Json, depth: u8, bundle: bool, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for inner in value
        .items()
        .iter()
        .chain(value.pairs().iter().map(|(_, v)| v))
    {
        expressions(inner, depth, bundle, ledger);
    }
    let Some(code) = value
        .text()
        .and_then(|text| text.trim_start().strip_prefix('$'))
    else {
        return;
    };
    let import = code.trim_start().starts_with("import ") || code.trim_start().starts_with("from ");
    let whole =
        import && code.contains(char::is_whitespace) && !code.ends_with(char::is_whitespace)
            || code.trim_end().ends_with(')') && balanced(code);
    if bundle && (import || code.contains('(')) || whole && python::is_dangerous(code) {
        python::dangers(code, ledger);
        let more = || format!("MONAI runs ${code}");
        ledger.note(rules::REMOTE_CODE, "$", 0, more);
    }
}

/// Whether round brackets are closed in order, and there are some with something in them.
fn balanced(code: &str) -> bool {
    let mut open = 0i32;
    for c in code.chars() {
        open += i32::from(c == '(') - i32::from(c == ')');
        if open < 0 {
            return false;
        }
    }
    open == 0 && code.contains('(') && !code.contains("()")
}

/// A dotted name that Hydra and its kind import and call.
pub(super) fn callable(name: &str, at: u64, ledger: &mut Ledger<'_>) {
    named("_target_", name, at, ledger);
}

/// Endings of files, which other settings call their target.
const FILES: &[&str] = &[
    "bin", "c", "cfg", "cpp", "csv", "gz", "h", "html", "js", "json", "md", "pt", "py", "sh", "so",
    "toml", "txt", "xml", "yaml", "yml", "zip",
];

/// A dotted name that the configurations of latent diffusion import and call. Much else is called a
/// target: only what is dangerous by its name counts, and no file.
pub(super) fn target(key: &str, value: &str, at: u64, ledger: &mut Ledger<'_>) {
    let Some((module, name)) = value.rsplit_once('.') else {
        return;
    };
    if let Standing::Dangerous(rule) = standing(module, name)
        && rule != rules::STANDARD_LIBRARY
        && !FILES.contains(&name)
        && !value.contains(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.'))
    {
        let more = || format!("{key}: {value}");
        ledger.note(rules::CONFIG_CALLABLE, value, at, more);
    }
}

fn named(key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    let Some((module, function)) = name.rsplit_once('.') else {
        return;
    };
    let more = || format!("{key}: {name}");
    match standing(module, function) {
        Standing::Dangerous(_) | Standing::Conditional(_) => {
            ledger.note(rules::CONFIG_CALLABLE, name, at, more);
        }
        _ if walks(name) => ledger.note(rules::CONFIG_CALLABLE, name, at, more),
        Standing::LibraryFunction | Standing::UnknownFunction => {
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        _ => {}
    }
}

/// Whether a path leads from a module into another one that it imports: whoever resolves it takes one
/// attribute after the other (`torch.serialization.os.abort`, `torch.nn.functional.torch.load`).
pub(super) fn walks(name: &str) -> bool {
    const THROUGH: &[&str] = &[
        "builtins",
        "importlib",
        "np",
        "nt",
        "numpy",
        "os",
        "pickle",
        "posix",
        "runpy",
        "shutil",
        "socket",
        "subprocess",
        "sys",
        "torch",
    ];
    name.match_indices('.').take(64).any(|(at, _)| {
        let rest = name.get(at + 1..).unwrap_or_default();
        let first = first_part(rest);
        let split = rest.rsplit_once('.').filter(|_| THROUGH.contains(&first));
        split.is_some_and(|(module, name)| {
            // The name that everybody imports it by.
            let module = match module.strip_prefix("np") {
                Some(rest) if first == "np" => format!("numpy{rest}"),
                _ => module.to_owned(),
            };
            matches!(standing(&module, name), Standing::Dangerous(_))
        })
    })
}

/// The parts of a pipeline of diffusers: each with the library and class it is made by, and what else
/// there is to say of it.
fn parts(value: &Json, ledger: &mut Ledger<'_>) {
    for (name, part) in value.pairs() {
        // `modular_model_index.json` says it once more among what else there is.
        let hints = part.items().iter().filter_map(|it| it.get("type_hint"));
        let named = hints.map(Json::items).chain([part.items()]);
        let named = named.filter_map(|parts| match parts {
            [Json::Text(library), Json::Text(class), ..] => Some((library, class)),
            _ => None,
        });
        for (library, class) in named {
            made_by(name, library, class, ledger);
        }
    }
}

/// A part of a pipeline, by its library and class.
fn made_by(name: &str, library: &str, class: &str, ledger: &mut Ledger<'_>) {
    const KNOWN: &[&str] = &[
        "diffusers",
        "flax",
        "k_diffusion",
        "onnxruntime",
        "optimum",
        "transformers",
    ];
    if PIPELINES.binary_search(&library).is_ok() || KNOWN.contains(&first_part(library)) {
        return;
    }
    let more = || format!("{name}: [{library}, {class}]");
    match standing(library, class) {
        Standing::Dangerous(_) => ledger.note(rules::CONFIG_CALLABLE, library, 0, more),
        _ => ledger.note(rules::REMOTE_CODE, library, 0, more),
    }
}

#[cfg(test)]
mod tests;
