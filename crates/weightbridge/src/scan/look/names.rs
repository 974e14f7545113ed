//! What names of files say: which are read whatever their size, and which promise a model.

use crate::registry;
use ir::Input;

/// JSON documents that a loader reads whatever their size: transformers, diffusers, PEFT,
/// sentence-transformers, Keras. Those of real models have
/// at most 2 MB.
const SETTINGS: &[&str] = &[
    "adapter_config.json",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "feature_extractor_config.json",
    "generation_config.json",
    "image_processor_config.json",
    "metadata.json",
    "model_index.json",
    "modular_model_index.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantization_config.json",
    "quantize_config.json",
    "router_config.json",
    "scheduler_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
];

/// Whether a name is one of those; `config.4.0.0.json` is read by that version of transformers.
pub(super) fn is_settings(base: &str) -> bool {
    let version = |name: &str| {
        name.strip_prefix("config.")?
            .strip_suffix(".json")
            .map(str::len)
    };
    SETTINGS.contains(&base) || version(base).is_some()
}

/// Whether a name is one by which diffusers finds the parts of a pipeline.
pub(super) fn is_pipeline(base: &str) -> bool {
    matches!(base, "model_index.json" | "modular_model_index.json")
}

/// Whether a name is one under which conda and MLflow list the packages of a model.
pub(super) fn is_environment(base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    let stem = base.rsplit_once('.').map_or("", |(stem, _)| stem);
    matches!(stem, "conda" | "environment" | "python_env")
}

/// Whether a document is read however long it is: the index of a set of shards, with the paths in
/// it, and notebooks.
pub(super) fn is_long(base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    match base.rsplit_once('.') {
        Some((_, "ipynb")) => true,
        Some((stem, "json")) => stem.contains(".index"),
        _ => false,
    }
}

/// Whether an entry of an archive has the name of a graph of `torch.export`, of today or before 2.7.
pub(super) fn is_exported(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut parts = name.rsplit('/');
    parts.next() == Some("serialized_exported_program.json") || parts.next() == Some("models")
}

/// The name of what is unpacked: without the ending that says how it was packed.
pub(super) fn unpacked_name(input: &Input) -> String {
    let name = input.path().to_string_lossy().into_owned();
    let ends = [".gz", ".bz2", ".xz", ".lzma", ".z", ".zlib"];
    let lower = name.to_ascii_lowercase();
    let end = ends.iter().find(|end| lower.ends_with(**end));
    let keep = name.len() - end.map_or(0, |end| end.len());
    name.get(..keep).unwrap_or(&name).to_owned()
}

/// Whether TensorFlow or Keras asks for a file of this name.
pub(super) fn is_saved_model(name: &str) -> bool {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    matches!(base, "saved_model.pb" | "keras_metadata.pb")
}

/// Whether an extension says that a file is a model.
pub(in crate::scan) fn promises(path: &std::path::Path) -> bool {
    const OTHERS: [&str; 12] = [
        "h5", "hdf5", "keras", "npy", "npz", "joblib", "pkl", "pickle", "dill", "dat", "p", "nemo",
    ];
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let extension = extension.to_ascii_lowercase();
    OTHERS.contains(&extension.as_str())
        || registry()
            .iter()
            .any(|format| format.extensions.contains(&extension.as_str()))
}
