//! The families, as data: what differs from one decoder to the next, and nothing else.
//!
//! Names are those of transformers' modules. What a configuration can tell (sizes, windows, rope,
//! caps) is read in `settings`, and only by the keys that the family lists here; what the weights
//! can tell (biases) is looked for there.

/// How tensors are called, below the path of the decoder.
#[derive(Debug)]
pub(crate) struct Names {
    /// Paths of the decoder, the first that has the embedding counts.
    pub(crate) bases: &'static [&'static str],
    pub(crate) embedding: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) attention: &'static str,
    /// Query, key, value.
    pub(crate) qkv: [&'static str; 3],
    pub(crate) fused_qkv: &'static str,
    pub(crate) output: &'static str,
    pub(crate) mlp: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) fused_gate: &'static str,
    pub(crate) down: &'static str,
}

const LLAMA_NAMES: Names = Names {
    bases: &[
        "model.",
        "model.language_model.",
        "language_model.model.",
        "",
    ],
    embedding: "embed_tokens",
    positions: "",
    final_norm: "norm",
    layers: "layers",
    attention: "self_attn",
    qkv: ["q_proj", "k_proj", "v_proj"],
    fused_qkv: "qkv_proj",
    output: "o_proj",
    mlp: "mlp",
    gate: "gate_proj",
    up: "up_proj",
    fused_gate: "gate_up_proj",
    down: "down_proj",
};

const GPT2_NAMES: Names = Names {
    bases: &["transformer.", ""],
    embedding: "wte",
    positions: "wpe",
    final_norm: "ln_f",
    layers: "h",
    attention: "attn",
    fused_qkv: "c_attn",
    output: "c_proj",
    up: "c_fc",
    down: "c_proj",
    ..LLAMA_NAMES
};

/// The arithmetic of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Root mean square, times the weight.
    Rms,
    /// Root mean square, times one plus the weight, all of it in F32.
    RmsPlusOne,
    /// Mean and variance, weight and bias.
    Layer,
}

/// Where norms stand in a layer, by name; an empty name for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norms {
    pub(crate) before_attention: &'static str,
    pub(crate) after_attention: &'static str,
    pub(crate) before_mlp: &'static str,
    pub(crate) after_mlp: &'static str,
}

const BEFORE: Norms = Norms {
    before_attention: "input_layernorm",
    after_attention: "",
    before_mlp: "post_attention_layernorm",
    after_mlp: "",
};

const AROUND: Norms = Norms {
    before_attention: "input_layernorm",
    after_attention: "post_attention_layernorm",
    before_mlp: "pre_feedforward_layernorm",
    after_mlp: "post_feedforward_layernorm",
};

const AFTER: Norms = Norms {
    before_attention: "",
    after_attention: "post_attention_layernorm",
    before_mlp: "",
    after_mlp: "post_feedforward_layernorm",
};

/// What queries and keys are normed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// They are not.
    None,
    /// Each head by itself.
    Head,
    /// All heads together.
    Whole,
}

/// How the part between the norms is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mlp {
    /// `down(act(gate) * up)`.
    Gated,
    /// The same, gate and up one matrix.
    FusedGate,
    /// `down(act(up))`.
    Plain,
}

/// Which layers see only a window, where `layer_types` does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// None, whatever the configuration says of windows.
    None,
    /// All, if the configuration has a window.
    All,
    /// Those from `max_window_layers` on; no layer at all without `use_sliding_window`.
    Late,
    /// Those without rope, if `use_sliding_window`.
    Unturned,
    /// All but each n-th; `sliding_window_pattern` may say another n.
    Pattern(u64),
}

/// Keys of a configuration, in groups that families share.
type Keys = &'static [&'static [&'static str]];

/// What every class reads. `is_causal` is transformers' code for masks that reads it,
/// `per_layer_config` what all its configurations have in common.
const ANY: &[&str] = &[
    "is_causal",
    "per_layer_config",
    "quantization_config",
    "tie_word_embeddings",
];

/// What every class with rope reads; `rope` and `rope_all` are `arch`'s names for all about it.
const ROPED: &[&str] = &[
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope",
    "rope_all",
];

const WINDOW: &[&str] = &["sliding_window", "layer_types"];

const GEMMA_KEYS: &[&str] = &[
    "hidden_activation",
    "use_bidirectional_attention",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
];

/// One family of decoders.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// The architecture table that leads to it.
    pub(crate) table: &'static str,
    /// And the model type, where one table is for several families.
    pub(crate) model_type: Option<&'static str>,
    pub(crate) names: &'static Names,
    /// The keys of a configuration that its class reads. Files carry others too, of the model they
    /// were made from; nothing but these is looked at.
    pub(crate) keys: Keys,
    /// Matrices are stored `[in, out]`, as Conv1D has them.
    pub(crate) conv1d: bool,
    pub(crate) norm: Norm,
    pub(crate) norms: Norms,
    /// Queries, keys and values are one matrix.
    pub(crate) fused_qkv: bool,
    pub(crate) qk_norm: QkNorm,
    pub(crate) mlp: Mlp,
    /// Positions turn queries and keys; else they are learned and added.
    pub(crate) rope: bool,
    /// Its class turns a part of the dimensions, as `partial_rotary_factor` says.
    pub(crate) partial_rope: bool,
    /// Layers with a window have a rope of their own.
    pub(crate) local_rope: bool,
    /// Each n-th layer does without rope, where the configuration does not list them.
    pub(crate) unturned: Option<u64>,
    /// Embeddings are multiplied by the root of their size.
    pub(crate) scaled_embedding: bool,
    pub(crate) windows: Windows,
    /// The window where the key is not there.
    pub(crate) window: Option<u64>,
    /// The activation where no key names it.
    pub(crate) activation: &'static str,
    /// The activation that this family calls `gelu`.
    pub(crate) gelu: &'static str,
    /// Whether the head is the embedding where the configuration does not say.
    pub(crate) tied: bool,
}

const LLAMA: Family = Family {
    name: "llama",
    table: "llama",
    model_type: None,
    names: &LLAMA_NAMES,
    keys: &[ANY, ROPED, &["hidden_act"]],
    conv1d: false,
    norm: Norm::Rms,
    norms: BEFORE,
    fused_qkv: false,
    qk_norm: QkNorm::None,
    mlp: Mlp::Gated,
    rope: true,
    partial_rope: false,
    local_rope: false,
    unturned: None,
    scaled_embedding: false,
    windows: Windows::None,
    window: None,
    activation: "silu",
    gelu: "gelu",
    tied: false,
};

const MISTRAL: Family = Family {
    name: "mistral",
    model_type: Some("mistral"),
    keys: &[ANY, ROPED, WINDOW, &["hidden_act"]],
    windows: Windows::All,
    window: Some(4096),
    ..LLAMA
};

const QWEN2: Family = Family {
    name: "qwen2",
    table: "qwen2",
    keys: &[
        ANY,
        ROPED,
        WINDOW,
        &["hidden_act", "use_sliding_window", "max_window_layers"],
    ],
    windows: Windows::Late,
    window: Some(4096),
    ..LLAMA
};

const GEMMA: Family = Family {
    name: "gemma",
    table: "gemma",
    keys: &[ANY, ROPED, &["hidden_act", "use_bidirectional_attention"]],
    norm: Norm::RmsPlusOne,
    scaled_embedding: true,
    activation: "gelu_pytorch_tanh",
    // Its first configurations say gelu and mean the other one.
    gelu: "gelu_pytorch_tanh",
    tied: true,
    ..LLAMA
};

/// Every family; of those with one table the ones with a model type stand first.
static FAMILIES: [Family; 14] = [
    // With `layer_types` transformers takes it for a ministral, which computes the same.
    MISTRAL,
    Family {
        name: "ministral",
        model_type: Some("ministral"),
        ..MISTRAL
    },
    LLAMA,
    QWEN2,
    Family {
        name: "qwen3",
        table: "qwen3",
        qk_norm: QkNorm::Head,
        ..QWEN2
    },
    GEMMA,
    Family {
        name: "gemma2",
        table: "gemma2",
        keys: &[ANY, ROPED, WINDOW, GEMMA_KEYS, &["attn_logit_softcapping"]],
        norms: AROUND,
        windows: Windows::Pattern(2),
        window: Some(4096),
        gelu: "gelu",
        ..GEMMA
    },
    Family {
        name: "gemma3",
        table: "gemma3",
        // Its configuration has attn_logit_softcapping, its attention does nothing with it.
        keys: &[ANY, ROPED, WINDOW, GEMMA_KEYS, &["sliding_window_pattern"]],
        norms: AROUND,
        qk_norm: QkNorm::Head,
        local_rope: true,
        windows: Windows::Pattern(6),
        window: Some(4096),
        gelu: "gelu",
        ..GEMMA
    },
    Family {
        name: "phi3",
        table: "phi3",
        keys: &[ANY, ROPED, &["hidden_act", "sliding_window"]],
        fused_qkv: true,
        mlp: Mlp::FusedGate,
        partial_rope: true,
        windows: Windows::All,
        ..LLAMA
    },
    Family {
        name: "gpt2",
        table: "gpt2",
        names: &GPT2_NAMES,
        keys: &[
            ANY,
            &[
                "n_embd",
                "n_layer",
                "n_head",
                "layer_norm_epsilon",
                "activation_function",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "add_cross_attention",
            ],
        ],
        conv1d: true,
        norm: Norm::Layer,
        norms: Norms {
            before_attention: "ln_1",
            after_attention: "",
            before_mlp: "ln_2",
            after_mlp: "",
        },
        fused_qkv: true,
        mlp: Mlp::Plain,
        rope: false,
        activation: "gelu_new",
        tied: true,
        ..LLAMA
    },
    Family {
        name: "granite",
        table: "granite",
        keys: &[
            ANY,
            ROPED,
            &[
                "hidden_act",
                "embedding_multiplier",
                "residual_multiplier",
                "attention_multiplier",
                "logits_scaling",
            ],
        ],
        ..LLAMA
    },
    Family {
        name: "smollm3",
        table: "smollm3",
        keys: &[
            ANY,
            ROPED,
            WINDOW,
            &[
                "hidden_act",
                "use_sliding_window",
                "no_rope_layers",
                "no_rope_layer_interval",
            ],
        ],
        windows: Windows::Unturned,
        unturned: Some(4),
        tied: true,
        ..LLAMA
    },
    Family {
        name: "olmo3",
        table: "olmo2",
        model_type: Some("olmo3"),
        keys: &[ANY, ROPED, WINDOW, &["hidden_act"]],
        norms: AFTER,
        qk_norm: QkNorm::Whole,
        local_rope: true,
        windows: Windows::Pattern(4),
        window: Some(4096),
        ..LLAMA
    },
    Family {
        name: "olmo2",
        table: "olmo2",
        norms: AFTER,
        qk_norm: QkNorm::Whole,
        ..LLAMA
    },
];

/// The names of all families.
pub fn families() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.name).collect()
}

/// The family of an architecture table, for models of this type.
pub fn family(table: &str, model_type: &str) -> Option<&'static Family> {
    let mut all = FAMILIES.iter();
    all.find(|f| f.table == table && f.model_type.is_none_or(|kind| kind == model_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_type_tells_families_of_one_table_apart() {
        let name = |table, kind| family(table, kind).map(|family| family.name);
        assert_eq!(name("llama", "mistral"), Some("mistral"));
        assert_eq!(name("llama", "ministral"), Some("ministral"));
        assert_eq!(name("llama", "llama"), Some("llama"));
        assert_eq!(name("llama", ""), Some("llama"));
        assert_eq!(name("mixtral", "mixtral"), None);
        let mut names = families();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
