//! What a tensor is, told from its name, and whether it is quantized at all.
//!
//! Names are GGUF's (`blk.3.ffn_down.weight`). The tables are those of `tensor_get_category` and
//! `tensor_allows_quantization` in llama.cpp's `src/llama-quant.cpp` (v0.5.0).

use super::TensorFacts;

/// The broad kinds the mixtures tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// The output matrix.
    Output,
    /// Token embeddings, those of each layer included.
    TokenEmbedding,
    /// Query, key and value in one.
    AttentionQkv,
    /// The compressed keys and values of latent attention.
    AttentionKvB,
    /// Values.
    AttentionV,
    /// Keys.
    AttentionK,
    /// Queries.
    AttentionQ,
    /// What attention gives back.
    AttentionOutput,
    /// The way up, dense or of experts.
    FfnUp,
    /// The gate, dense or of experts.
    FfnGate,
    /// The way down, dense or of experts.
    FfnDown,
    /// Everything else.
    Other,
}

/// First match wins.
const PARTS: &[(&str, Category)] = &[
    ("attn_qkv.weight", Category::AttentionQkv),
    ("attn_kv_b.weight", Category::AttentionKvB),
    ("attn_v.weight", Category::AttentionV),
    ("attn_k.weight", Category::AttentionK),
    ("attn_q.weight", Category::AttentionQ),
    ("attn_output.weight", Category::AttentionOutput),
    ("ffn_up", Category::FfnUp),
    ("ffn_gate", Category::FfnGate),
    ("ffn_down", Category::FfnDown),
];

impl Category {
    /// The category of a tensor of this name.
    pub fn of(name: &str) -> Self {
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | PER_LAYER_EMBEDDING => Self::TokenEmbedding,
            _ => PARTS
                .iter()
                .find(|(part, _)| name.contains(part))
                .map_or(Self::Other, |row| row.1),
        }
    }

    /// Whether errors in it hurt as much as those in attention's values.
    pub(crate) const fn is_value(self) -> bool {
        matches!(
            self,
            Self::AttentionV | Self::AttentionQkv | Self::AttentionKvB
        )
    }
}

/// The embeddings each layer has of its own (gemma 3n).
pub(crate) const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";

/// Parts of names that are never quantized, and why.
#[rustfmt::skip]
const KEPT: &[(&str, &str)] = &[
    ("_norm.weight", "norms are kept"),
    ("ffn_gate_inp.weight", "routers are kept"),
    ("ffn_gate_tid2eid.weight", "routing tables are kept"),
    ("altup", "very small"),
    ("laurel", "very small"),
    ("per_layer_model_proj", "not large"),
    ("ssm_conv1d", "small convolutions are kept"),
    ("shortconv.conv.weight", "small convolutions are kept"),
    ("indexer.k_proj.weight", "indexers are kept"),
    ("indexer.q_proj.weight", "indexers are kept"),
    ("time_mix_first.weight", "small parts of RWKV are kept"),
    ("time_mix_w0.weight", "small parts of RWKV are kept"),
    ("time_mix_w1.weight", "small parts of RWKV are kept"),
    ("time_mix_w2.weight", "small parts of RWKV are kept"),
    ("time_mix_v0.weight", "small parts of RWKV are kept"),
    ("time_mix_v1.weight", "small parts of RWKV are kept"),
    ("time_mix_v2.weight", "small parts of RWKV are kept"),
    ("time_mix_a0.weight", "small parts of RWKV are kept"),
    ("time_mix_a1.weight", "small parts of RWKV are kept"),
    ("time_mix_a2.weight", "small parts of RWKV are kept"),
    ("time_mix_g1.weight", "small parts of RWKV are kept"),
    ("time_mix_g2.weight", "small parts of RWKV are kept"),
    ("time_mix_decay_w1.weight", "small parts of RWKV are kept"),
    ("time_mix_decay_w2.weight", "small parts of RWKV are kept"),
    ("time_mix_lerp_fused.weight", "small parts of RWKV are kept"),
    ("attn_rel_b.weight", "position biases are kept"),
    (".position_embd", "positions are kept"),
    ("sam.pos_embd", "positions are kept"),
    ("sam.neck.", "small parts of image towers are kept"),
    ("sam.net_", "small parts of image towers are kept"),
    (".rel_pos", "positions are kept"),
    (".patch_embd", "patch embeddings are kept"),
    (".patch_merger", "patch embeddings are kept"),
    ("a.rvq.codebook", "codebooks are kept"),
    ("mm.a.code_embd", "codebooks are kept"),
];

/// Parts of names that `glm5-next` keeps besides.
const KEPT_GLM5_NEXT: &[&str] = &[
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
];

/// Why a tensor is not quantized whatever the type, or `None` where it may be.
pub(crate) fn never_quantized(
    tensor: &impl TensorFacts,
    architecture: &str,
) -> Option<&'static str> {
    // As `ggml_n_dims` counts them: outer dimensions of 1 are none.
    let mut outer = tensor.shape().iter().rev().skip(1);
    if outer.all(|&dim| dim == 1) {
        return Some("one dimension");
    }
    let name = tensor.name();
    // A name of five bytes passes llama.cpp's test too, by the wrap-around of an index.
    if !name.ends_with("weight") && name.len() != 5 {
        return Some("no weight by its name");
    }
    if let "position_embd.weight" | "token_types.weight" = name {
        return Some("positions and token types are kept");
    }
    if let Some((_, why)) = KEPT.iter().find(|(part, _)| name.contains(part)) {
        return Some(why);
    }
    let glm = architecture == "glm5-next";
    (glm && KEPT_GLM5_NEXT.iter().any(|part| name.contains(part)))
        .then_some("small parts of this architecture are kept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::DType;

    struct Named(&'static str, &'static [u64]);

    impl TensorFacts for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn shape(&self) -> &[u64] {
            self.1
        }
        fn dtype(&self) -> DType {
            DType::F32
        }
    }

    #[test]
    fn names_tell_the_category() {
        for (name, category) in [
            ("output.weight", Category::Output),
            ("blk.0.attn_output.weight", Category::AttentionOutput),
            ("blk.0.attn_output.bias", Category::Other),
            ("blk.12.ffn_gate_exps.weight", Category::FfnGate),
            ("blk.1.attn_kv_b.weight", Category::AttentionKvB),
            ("dec.blk.1.cross_attn_q.weight", Category::AttentionQ),
            (PER_LAYER_EMBEDDING, Category::TokenEmbedding),
        ] {
            assert_eq!(Category::of(name), category, "{name}");
        }
    }

    #[test]
    fn some_tensors_are_never_quantized() {
        let never = |name, shape| never_quantized(&Named(name, shape), "llama");
        assert_eq!(never("blk.0.attn_q.weight", &[4, 32]), None);
        assert_eq!(never("blk.0.attn_q.weight", &[4, 1]), None);
        assert!(never("blk.0.attn_q.weight", &[1, 32]).is_some());
        assert!(never("blk.0.attn_q.weight", &[32]).is_some());
        assert!(never("blk.0.attn_q.weight", &[]).is_some());
        assert!(never("blk.0.attn_q.bias", &[4, 32]).is_some());
        assert!(never("blk.0.attn_q_norm.weight", &[4, 32]).is_some());
        assert!(never("v.position_embd.weight", &[4, 32]).is_some());
        assert_eq!(never("lm_hd", &[4, 32]), None);
        let glm = Named("blk.0.attn_k_b.weight", &[4, 32]);
        assert!(never_quantized(&glm, "glm5-next").is_some());
        assert!(never_quantized(&glm, "deepseek2").is_none());
    }
}
