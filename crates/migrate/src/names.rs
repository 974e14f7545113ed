//! What a file is called after its conversion: the names under which loaders look for it.

use ir::shard::ShardName;

/// Beginnings of PyTorch names and what the same library calls the safetensors file. Every other
/// library keeps the stem.
const STEMS: &[(&str, &str)] = &[
    // transformers, sentence-transformers, and text encoders of diffusers
    ("pytorch_model", "model"),
    // open_clip
    ("open_clip_pytorch_model", "open_clip_model"),
];

/// The safetensors name of a whole PyTorch file: `pytorch_model.fp16.bin` becomes
/// `model.fp16.safetensors`, `v1-5.ckpt` becomes `v1-5.safetensors`.
pub(crate) fn safetensors(main: &str) -> String {
    let stem = main.rsplit_once('.').map_or(main, |(stem, _)| stem);
    let stem = STEMS
        .iter()
        .find_map(|(old, new)| {
            let rest = stem.strip_prefix(old)?;
            // A variant stands behind a point; `pytorch_model_2` of accelerate keeps its number.
            (rest.is_empty() || rest.starts_with(['.', '_'])).then(|| format!("{new}{rest}"))
        })
        .unwrap_or_else(|| stem.to_owned());
    format!("{stem}.safetensors")
}

/// The GGUF name of a repository: its folder's, or in the hub's cache that of the model.
pub(crate) fn gguf(folder: &str, quantize: Option<&str>) -> String {
    let mut parts = folder.rsplit('/');
    let last = parts.next().unwrap_or_default();
    let stem = match (parts.next(), parts.next()) {
        (Some("snapshots"), Some(repository)) => repository
            .strip_prefix("models--")
            .map_or(last, |name| name.rsplit("--").next().unwrap_or(name)),
        _ => last,
    };
    let stem = if stem.is_empty() { "model" } else { stem };
    match quantize {
        Some(kind) => format!("{stem}-{kind}.gguf"),
        None => format!("{stem}.gguf"),
    }
}

/// Where transformers and diffusers look for the index of a set of a variant, where its shards
/// alone would be called otherwise: `model.fp16.safetensors` has `model.safetensors.index.fp16.json`.
pub(crate) fn variant_index(main: &str) -> Option<String> {
    let (stem, extension) = main.rsplit_once('.')?;
    let (stem, variant) = stem.rsplit_once('.')?;
    let plain = !variant.is_empty()
        && variant
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let known = ["model", "pytorch_model", "diffusion_pytorch_model"].contains(&stem);
    (plain && known).then(|| format!("{stem}.{extension}.index.{variant}.json"))
}

/// The index a writer gives a set.
pub(crate) fn index(main: &str) -> String {
    format!("{main}.index.json")
}

/// All files of the set that a shard belongs to, in order.
pub(crate) fn siblings(shard: &str) -> Vec<String> {
    ShardName::parse(shard).map_or_else(Vec::new, |shard| {
        (1..=shard.count)
            .map(|number| shard.sibling(number))
            .collect()
    })
}

/// Whether a name is a part of Meta's releases, `consolidated.01.pth`.
pub(crate) fn is_part(main: &str) -> bool {
    let number = main
        .strip_prefix("consolidated.")
        .and_then(|rest| rest.strip_suffix(".pth"));
    number.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_find_them() {
        for (old, new) in [
            ("pytorch_model.bin", "model.safetensors"),
            ("pytorch_model.fp16.bin", "model.fp16.safetensors"),
            ("pytorch_model_1.bin", "model_1.safetensors"),
            (
                "diffusion_pytorch_model.bin",
                "diffusion_pytorch_model.safetensors",
            ),
            ("adapter_model.bin", "adapter_model.safetensors"),
            ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
            ("v1-5-pruned.ckpt", "v1-5-pruned.safetensors"),
            ("pytorch_models.pt", "pytorch_models.safetensors"),
        ] {
            assert_eq!(safetensors(old), new);
        }
        assert_eq!(
            variant_index("model.fp16.safetensors").as_deref(),
            Some("model.safetensors.index.fp16.json")
        );
        assert_eq!(variant_index("model.safetensors"), None);
        assert_eq!(variant_index("v1.5.ckpt"), None);
    }

    #[test]
    fn a_gguf_is_named_after_its_repository() {
        assert_eq!(gguf("org/tiny", Some("Q4_K_M")), "tiny-Q4_K_M.gguf");
        assert_eq!(
            gguf("hub/models--org--tiny/snapshots/abc", None),
            "tiny.gguf"
        );
        assert_eq!(gguf("", None), "model.gguf");
    }
}
