//! What PEFT calls the tensors of an adapter.
//!
//! `base_model.model.` stands before the base model's own name, `.lora_A.weight` and
//! `.lora_B.weight` in place of its `.weight`. Embeddings have `.lora_embedding_A` and
//! `.lora_embedding_B`. Source: PEFT's checkpoint format page.

/// What PEFT puts before the base model's names.
pub(super) const PREFIX: &str = "base_model.model.";

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The first factor, `[rank, columns]`.
    A { embedding: bool },
    /// The second factor, `[rows, rank]`.
    B { embedding: bool },
    /// The base model's own weight, saved beside its adapter.
    Base,
    /// A norm that was trained whole.
    Norm,
    /// Something else that was trained whole, or another kind of adapter.
    Other,
}

const PARTS: [(&str, Part); 4] = [
    (".lora_A.weight", Part::A { embedding: false }),
    (".lora_B.weight", Part::B { embedding: false }),
    (".lora_embedding_A", Part::A { embedding: true }),
    (".lora_embedding_B", Part::B { embedding: true }),
];

/// What it is, and the base model's name for the matrix it belongs to.
pub(super) fn part_of(name: &str) -> (Part, String) {
    let mut base = name.replace(PREFIX, "");
    let mut part = None;
    for (mark, which) in PARTS {
        if name.contains(mark) {
            part = part.or(Some(which));
            base = base.replace(mark, ".weight");
        }
    }
    // The marks of norms are the reference converter's.
    let part = part.unwrap_or_else(|| {
        if name.contains(".base_layer.weight") {
            Part::Base
        } else if name.contains("_layernorm") || name.contains(".norm") {
            Part::Norm
        } else {
            Part::Other
        }
    });
    (part, base)
}

/// Whether a name is that of a factor.
pub fn is_lora(name: &str) -> bool {
    PARTS.iter().any(|(mark, _)| name.contains(mark))
}

/// The names of the factors of a base model's matrix, and its module's name.
pub(super) fn factors(matrix: &str, embedding: bool) -> [String; 3] {
    let module = matrix.strip_suffix(".weight").unwrap_or(matrix);
    let name = |which: char| {
        if embedding {
            format!("{PREFIX}{module}.lora_embedding_{which}")
        } else {
            format!("{PREFIX}{module}.lora_{which}.weight")
        }
    };
    [name('A'), name('B'), module.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (matrix, embedding) in [
            ("model.layers.3.self_attn.q_proj.weight", false),
            ("model.embed_tokens.weight", true),
        ] {
            let [a, b, module] = factors(matrix, embedding);
            assert_eq!(part_of(&a), (Part::A { embedding }, matrix.to_owned()));
            assert_eq!(part_of(&b), (Part::B { embedding }, matrix.to_owned()));
            assert_eq!(format!("{module}.weight"), matrix);
            assert!(is_lora(&a) && !is_lora(matrix));
        }
    }

    #[test]
    fn the_rest() {
        let is = |name: &str| part_of(name).0;
        assert_eq!(is("base_model.model.model.norm.weight"), Part::Norm);
        assert_eq!(is("base_model.model.lm_head.base_layer.weight"), Part::Base);
        assert_eq!(is("base_model.model.lm_head.weight"), Part::Other);
        assert_eq!(is("x.q_proj.lora_magnitude_vector"), Part::Other);
        assert_eq!(is("x.q_proj.lora_B.bias"), Part::Other);
    }
}
