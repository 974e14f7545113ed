//! The few facts about a model that the recipe asks for.
//!
//! Keys and defaults are those of `llama_model_base::load_hparams`; which models count as 70B,
//! and which change the number of layers, those of llama.cpp's `src/models/*.cpp` (v0.5.0).

use super::options::Override;
use super::{TensorFacts, category::Category};
use ir::{Array, MetaValue, Metadata, ns};

/// What the recipe asks about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`; empty where the model does not say.
    pub architecture: String,
    /// Blocks, those of multi-token prediction included.
    pub n_layer: u64,
    /// Experts a layer, 0 for a dense model.
    pub n_expert: u64,
    /// Query heads of the first layer that share one key and value; 0 where unknown.
    pub n_gqa: u64,
    /// Whether llama.cpp takes it for a model of 70B with grouped heads.
    pub is_70b: bool,
}

/// Reads keys as llama.cpp does: an override of the right type first, then the file.
struct Keys<'a> {
    metadata: &'a Metadata,
    overrides: &'a [Override],
    architecture: String,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<u64> {
        let over = self.overrides.iter().find(|over| over.key == key);
        if let Some(MetaValue::U32(n)) = over.map(|over| &over.value) {
            return Some((*n).into());
        }
        self.metadata.get(ns::GGUF, key)?.as_u64()
    }

    /// The value of `{architecture}.{key}`.
    fn of(&self, key: &str) -> Option<u64> {
        self.get(&format!("{}.{key}", self.architecture))
    }

    /// The value for the first layer of a key that may have one a layer.
    fn first(&self, key: &str) -> Option<u64> {
        let key = format!("{}.{key}", self.architecture);
        match self.metadata.get(ns::GGUF, &key)? {
            MetaValue::Array(array) => first_of(array),
            _ => self.get(&key),
        }
    }
}

fn first_of(array: &Array) -> Option<u64> {
    match array {
        Array::U8(v) => v.first().map(|&n| n.into()),
        Array::U16(v) => v.first().map(|&n| n.into()),
        Array::U32(v) => v.first().map(|&n| n.into()),
        Array::U64(v) => v.first().copied(),
        Array::I8(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::I16(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::I32(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::I64(v) => v.first().and_then(|&n| n.try_into().ok()),
        _ => None,
    }
}

impl ModelFacts {
    /// The facts of a model with this metadata, as the overrides change it.
    ///
    /// Without hyperparameters (no block count: an architecture llama.cpp does not know, or no
    /// architecture at all) they follow from the names and shapes of the tensors.
    pub fn of<T: TensorFacts>(metadata: &Metadata, overrides: &[Override], tensors: &[T]) -> Self {
        let architecture = overrides
            .iter()
            .find(|over| over.key == "general.architecture")
            .map(|over| &over.value)
            .or_else(|| metadata.get(ns::GGUF, "general.architecture"))
            .and_then(MetaValue::as_str)
            .unwrap_or_default()
            .to_owned();
        let keys = Keys {
            metadata,
            overrides,
            architecture,
        };
        // llama.cpp reads no hyperparameters of vision and audio towers.
        if keys.architecture == "clip" {
            return Self {
                architecture: keys.architecture,
                ..Self::default()
            };
        }
        match keys.of("block_count") {
            Some(n_layer) => Self::from_keys(keys, n_layer),
            None => Self::from_tensors(keys.architecture, tensors),
        }
    }

    fn from_keys(keys: Keys<'_>, n_block: u64) -> Self {
        let n_expert = keys.of("expert_count").unwrap_or(0);
        let n_head = keys.first("attention.head_count").unwrap_or(0);
        let n_head_kv = keys.first("attention.head_count_kv").unwrap_or(n_head);
        let n_nextn = keys.of("nextn_predict_layers").unwrap_or(0);
        let n_real = n_block.saturating_sub(n_nextn);
        let is_70b = match keys.architecture.as_str() {
            "llama" | "llama-embed" => n_real == 80 && n_expert != 8 && n_head != n_head_kv,
            "qwen2" | "deci" | "olmo" => n_real == 80,
            "jais2" => n_real == 68,
            _ => false,
        };
        let n_layer = match keys.architecture.as_str() {
            // The same blocks run several times count as often.
            "nanbeige" => n_real.saturating_mul(keys.of("num_loops").unwrap_or(1).max(1)),
            // One more layer routes among the adapters.
            "graniteswitch" => n_real.saturating_add(1),
            _ => n_block,
        };
        Self {
            architecture: keys.architecture,
            n_layer,
            n_expert,
            n_gqa: n_head.checked_div(n_head_kv).unwrap_or(0),
            is_70b,
        }
    }

    fn from_tensors<T: TensorFacts>(architecture: String, tensors: &[T]) -> Self {
        let mut facts = Self {
            architecture,
            ..Self::default()
        };
        let (mut n_query, mut n_value) = (None, None);
        for tensor in tensors {
            let shape = tensor.shape();
            if let Some(block) = super::order::block_number(tensor.name()) {
                facts.n_layer = facts.n_layer.max(u64::from(block) + 1);
            }
            let rows = match shape {
                [.., rows, _] => *rows,
                _ => continue,
            };
            match Category::of(tensor.name()) {
                Category::AttentionQ if n_query.is_none() => n_query = Some(rows),
                Category::AttentionV if n_value.is_none() => n_value = Some(rows),
                Category::FfnUp | Category::FfnDown => {
                    if let [experts, _, _] = shape {
                        facts.n_expert = facts.n_expert.max(*experts);
                    }
                }
                _ => {}
            }
        }
        if let (Some(query), Some(value)) = (n_query, n_value) {
            facts.n_gqa = query.checked_div(value).unwrap_or(0);
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::DType;

    struct Named(&'static str, Vec<u64>);

    impl TensorFacts for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn shape(&self) -> &[u64] {
            &self.1
        }
        fn dtype(&self) -> DType {
            DType::F32
        }
    }

    #[test]
    fn keys_come_first_and_overrides_before_them() {
        let metadata = Metadata::from_pairs(
            ns::GGUF,
            [
                ("general.architecture", MetaValue::text("llama")),
                ("llama.block_count", MetaValue::U32(80)),
                ("llama.attention.head_count", MetaValue::U32(64)),
                (
                    "llama.attention.head_count_kv",
                    MetaValue::Array(Array::I32(vec![8, 16])),
                ),
            ],
        );
        let none: &[Named] = &[];
        let facts = ModelFacts::of(&metadata, &[], none);
        assert_eq!((facts.n_layer, facts.n_gqa, facts.is_70b), (80, 8, true));
        let over = [
            "llama.expert_count=int:8".parse().unwrap(),
            "llama.block_count=float:3".parse().unwrap(),
        ];
        let facts = ModelFacts::of(&metadata, &over, none);
        assert_eq!(
            (facts.n_expert, facts.n_layer, facts.is_70b),
            (8, 80, false)
        );
    }

    #[test]
    fn unknown_models_tell_by_their_tensors() {
        let tensors = [
            Named("blk.0.attn_q.weight", vec![64, 32]),
            Named("blk.0.attn_v.weight", vec![16, 32]),
            Named("blk.11.ffn_down_exps.weight", vec![6, 32, 64]),
        ];
        let facts = ModelFacts::of(&Metadata::new(), &[], &tensors);
        assert_eq!((facts.n_layer, facts.n_expert, facts.n_gqa), (12, 6, 4));
    }
}
