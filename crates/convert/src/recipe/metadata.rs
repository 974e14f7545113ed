//! What the output's metadata says of its making.

use super::file_type::guess;
use super::{FileType, Imatrix, QuantizeOptions, compare_names};
use ir::{MetaValue, Metadata, Model, ns};

/// The version of ggml's block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Rewrites the metadata as `llama-quantize` does: a key that is set moves to the end.
///
/// `n_left` is how many layers are left where some were pruned.
pub fn rewrite_metadata(
    model: &mut Model,
    file_type: FileType,
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
    n_left: Option<u64>,
) {
    let id = file_type
        .id()
        .unwrap_or_else(|| own_file_type(model, options));
    let metadata = &mut model.metadata;
    let version = MetaValue::U32(QUANTIZATION_VERSION);
    append(metadata, "general.quantization_version", version);
    append(metadata, "general.file_type", MetaValue::U32(id));
    // The writer says anew how the output is split.
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(ns::GGUF, key);
    }
    for over in &options.overrides {
        append(metadata, &over.key, over.value.clone());
    }
    for (key, value) in imatrix.into_iter().flat_map(Imatrix::metadata) {
        append(metadata, key, value);
    }
    if let Some(n_left) = n_left {
        let architecture = metadata
            .get(ns::GGUF, "general.architecture")
            .and_then(MetaValue::as_str)
            .unwrap_or("(unknown)");
        let key = format!("{architecture}.block_count");
        let value = MetaValue::U32(n_left.try_into().unwrap_or(u32::MAX));
        append(metadata, &key, value);
    }
}

fn append(metadata: &mut Metadata, key: &str, value: MetaValue) {
    metadata.remove(ns::GGUF, key);
    metadata.set(ns::GGUF, key, value);
}

/// The file type a copy keeps: what the file says, else a guess from its tensors.
fn own_file_type(model: &Model, options: &QuantizeOptions) -> u32 {
    let key = "general.file_type";
    let over = options.overrides.iter().find(|over| over.key == key);
    let said = over
        .map(|over| &over.value)
        .filter(|value| matches!(value, MetaValue::U32(_)))
        .or_else(|| model.metadata.get(ns::GGUF, key))
        .and_then(MetaValue::as_u64)
        .and_then(|id| u32::try_from(id).ok());
    said.unwrap_or_else(|| {
        let mut tensors: Vec<_> = model.tensors.iter().collect();
        tensors.sort_by(|a, b| compare_names(&a.name, &b.name));
        guess(tensors.into_iter().map(ir::Tensor::dtype))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, ModelBuilder};

    #[test]
    fn keys_that_are_set_move_to_the_end() {
        let text = MetaValue::text("llama");
        let mut model = ModelBuilder::new()
            .tensor("a", DType::F16, [1], vec![0, 0])
            .metadata(ns::GGUF, "general.architecture", text)
            .metadata(ns::GGUF, "general.quantization_version", MetaValue::U32(1))
            .metadata(ns::GGUF, "llama.block_count", MetaValue::U32(4))
            .metadata(ns::GGUF, "split.no", MetaValue::U16(0))
            .metadata(ns::GGUF, "general.name", MetaValue::text("x"))
            .build()
            .unwrap();
        let options = QuantizeOptions {
            overrides: vec!["general.name=str:y".parse().unwrap()],
            ..QuantizeOptions::default()
        };
        rewrite_metadata(&mut model, FileType::Copy, &options, None, Some(3));
        let pairs: Vec<_> = model.metadata.of(ns::GGUF).collect();
        assert_eq!(
            pairs,
            [
                ("general.architecture", &MetaValue::text("llama")),
                ("general.quantization_version", &MetaValue::U32(2)),
                ("general.file_type", &MetaValue::U32(1025)),
                ("general.name", &MetaValue::text("y")),
                ("llama.block_count", &MetaValue::U32(3)),
            ]
        );
    }
}
