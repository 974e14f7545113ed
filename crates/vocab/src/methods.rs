//! Which way each model class of the reference takes its vocabulary.
//!
//! Facts from the `set_vocab` methods in llama.cpp's `conversion/*.py` (0.5.0-dev of 2026-10): for
//! each class the method that counts, inherited or its own. A test compares the classes with those
//! of `crates/arch/tables`.

/// A way to take a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Byte-level BPE: `_set_vocab_gpt2`.
    Gpt2,
    /// SentencePiece: `_set_vocab_sentencepiece`.
    SentencePiece,
    /// SentencePiece if there is a `tokenizer.model`, else byte-level BPE.
    SentencePieceOrGpt2,
    /// Llama's: SentencePiece, else its form in `tokenizer.json`, else byte-level BPE.
    Llama,
    /// Mistral's own files: `tekken.json`, or a SentencePiece model with its version in its name.
    Mistral,
    /// Gemma 1: SentencePiece with the turn's end, no space before the text.
    Gemma,
    /// Gemma 2: SentencePiece, no space before the text.
    Gemma2,
    /// Gemma 3: as 2, or byte-level BPE without a `tokenizer.model`.
    Gemma3,
    /// Gemma 4: BPE over SentencePiece's characters.
    Gemma4,
    /// Phi-3: SentencePiece with Phi's added tokens, or GPT-2's for Phi-4.
    Phi3,
    /// GLM-4: special ids by name.
    Glm4,
    /// GLM-4.5 and later: special ids by name.
    Glm,
    /// WordPiece.
    Bert,
    /// RoBERTa: byte-level BPE, WordPiece without a `tokenizer.json`.
    Roberta,
    /// XLM-RoBERTa: Unigram.
    XlmRoberta,
    /// Nomic: XLM-RoBERTa's or BERT's, as `tokenizer.json` says.
    Nomic,
    /// Jina v2: BERT's or RoBERTa's, as `tokenizer_config.json` says.
    Jina2,
    /// ModernBERT: byte-level BPE with special tokens on both sides.
    ModernBert,
    /// EuroBERT: byte-level BPE without bos.
    EuroBert,
    /// T5: Unigram, or SentencePiece if the model is BPE.
    T5,
    /// Mamba: padded to 8 rows, byte-level BPE first.
    Mamba,
    /// Mamba 2: padded to 16 rows, SentencePiece first.
    Mamba2,
    /// Granite hybrids: as Mamba 2, padded to 8 rows.
    GraniteHybrid,
    /// Nemotron: SentencePiece with fixed padding and unknown ids.
    Nemotron,
    /// ERNIE: SentencePiece, space before the text as the config says.
    Ernie,
    /// DeciLM: byte-level BPE for Llama 3's vocabulary, else SentencePiece in `tokenizer.json`.
    Deci,
}

use Method::{
    Bert, Deci, Ernie, EuroBert, Gemma, Gemma2, Gemma3, Gemma4, Glm, Glm4, Gpt2, GraniteHybrid,
    Jina2, Llama, Mamba, Mamba2, Mistral, ModernBert, Nemotron, Nomic, Phi3, Roberta,
    SentencePiece, SentencePieceOrGpt2, T5, XlmRoberta,
};

/// Methods by the class in `architectures` of `config.json`.
#[rustfmt::skip]
const BY_CLASS: &[(Method, &[&str])] = &[
    (Gpt2, &[
        "BloomForCausalLM", "BloomModel", "ChameleonForCausalLM", "ChameleonForConditionalGeneration",
        "CodeShellForCausalLM", "Cohere2ForCausalLM", "Cohere2MoeForCausalLM", "CohereForCausalLM",
        "DbrxForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM", "Dots1ForCausalLM", "Exaone4ForCausalLM", "ExaoneForCausalLM",
        "ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM", "FalconForCausalLM", "FalconH1ForCausalLM",
        "GPT2LMHeadModel", "GPTBigCodeForCausalLM", "GPTNeoXForCausalLM", "GPTRefactForCausalLM",
        "GptOssForCausalLM", "GroveMoeForCausalLM", "HYV3ForCausalLM", "HrmTextForCausalLM",
        "HunYuanDenseV1ForCausalLM", "JAISLMHeadModel", "Jais2ForCausalLM", "KimiVLForConditionalGeneration",
        "LFM2ForCausalLM", "LLaDAMoEModel", "LLaDAMoEModelLM", "LagunaForCausalLM", "Lfm2ForCausalLM",
        "Lfm2MoeForCausalLM", "Llama4ForCausalLM", "Llama4ForConditionalGeneration", "MaincoderForCausalLM",
        "MellumForCausalLM", "MiMoV2FlashForCausalLM", "MiniMaxM2ForCausalLM", "MiniMaxM3SparseForCausalLM",
        "OLMoForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM", "OlmoeForCausalLM",
        "PLMForCausalLM", "PhiForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM", "Qwen3VLMoeForConditionalGeneration", "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration",
        "RWForCausalLM", "RuGPT3XLForCausalLM", "SeedOssForCausalLM", "SmallThinkerForCausalLM",
        "Spark2_5ForCausalLM", "StableLMEpochForCausalLM", "StableLmForCausalLM", "Starcoder2ForCausalLM",
        "TalkieForCausalLM", "YoutuForCausalLM",
    ]),
    (SentencePieceOrGpt2, &[
        "DeepseekForCausalLM", "DotsOCRForCausalLM", "KORMoForCausalLM", "MPTForCausalLM",
        "Qwen2AudioForConditionalGeneration", "Qwen2ForCausalLM", "Qwen2Model", "Qwen2VLForConditionalGeneration",
        "Qwen2VLModel", "Qwen2_5OmniModel", "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM",
        "Qwen3Model", "Qwen3VLForConditionalGeneration",
    ]),
    (SentencePiece, &[
        "BaiChuanForCausalLM", "BaichuanForCausalLM", "BitNetForCausalLM", "BitnetForCausalLM",
        "MiniCPM3ForCausalLM", "MiniCPMForCausalLM", "OrionForCausalLM", "PlamoForCausalLM",
    ]),
    (Llama, &[
        "AfmoeForCausalLM", "ApertusForCausalLM", "ArceeForCausalLM", "GraniteForCausalLM",
        "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "IQuestCoderForCausalLM", "LLaMAForCausalLM",
        "LlamaBidirectionalModel", "LlamaForCausalLM", "LlamaModel", "LlavaForConditionalGeneration",
        "Ministral3ForCausalLM", "Mistral3ForConditionalGeneration", "MistralForCausalLM",
        "MixtralForCausalLM", "NanbeigeForCausalLM", "SmolLM3ForCausalLM", "VLlama3ForCausalLM",
        "VoxtralForConditionalGeneration",
    ]),
    // No class of transformers: Mistral's own layout has none, and is given this name.
    (Mistral, &["MistralConsolidated"]),
    (Gemma, &["GemmaForCausalLM"]),
    (Gemma2, &["Gemma2ForCausalLM"]),
    (Gemma3, &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma3TextModel"]),
    (Gemma4, &["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration"]),
    (Phi3, &["Phi3ForCausalLM", "PhiMoEForCausalLM"]),
    (Glm4, &["Glm4ForCausalLM", "Glm4vForConditionalGeneration", "GlmOcrForConditionalGeneration"]),
    (Glm, &[
        "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM", "Glm4vMoeForConditionalGeneration",
        "GlmMoeDsaForCausalLM", "SolarOpenForCausalLM",
    ]),
    (Bert, &[
        "BertForMaskedLM", "BertForSequenceClassification", "BertModel", "CamembertModel",
        "DistilBertForMaskedLM", "DistilBertForSequenceClassification", "DistilBertModel", "NeoBERT",
        "NeoBERTForSequenceClassification", "NeoBERTLMHead",
    ]),
    (Roberta, &["RobertaForSequenceClassification", "RobertaModel"]),
    (XlmRoberta, &["XLMRobertaForSequenceClassification", "XLMRobertaModel"]),
    (Nomic, &["NomicBertModel"]),
    (Jina2, &["JinaBertForMaskedLM", "JinaBertModel"]),
    (ModernBert, &["ModernBertForMaskedLM", "ModernBertForSequenceClassification", "ModernBertModel"]),
    (EuroBert, &["EuroBertModel", "JinaEmbeddingsV5Model"]),
    (T5, &[
        "MT5ForConditionalGeneration", "T5EncoderModel", "T5ForConditionalGeneration", "T5WithLMHeadModel",
        "UMT5ForConditionalGeneration", "UMT5Model",
    ]),
    (Mamba, &["FalconMambaForCausalLM", "MambaForCausalLM", "MambaLMHeadModel"]),
    (Mamba2, &["Mamba2ForCausalLM"]),
    (GraniteHybrid, &["BambaForCausalLM", "GraniteMoeHybridForCausalLM"]),
    (Nemotron, &["NemotronForCausalLM"]),
    (Ernie, &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM", "Ernie4_5_MoeForCausalLM"]),
    (Deci, &["DeciLMForCausalLM"]),
];

impl Method {
    /// The method of a class of `architectures`.
    pub fn of_class(class: &str) -> Option<Self> {
        let row = BY_CLASS
            .iter()
            .find(|(_, classes)| classes.contains(&class));
        row.map(|(method, _)| *method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_class_has_one_method() {
        let mut seen = HashSet::new();
        for class in BY_CLASS.iter().flat_map(|(_, classes)| *classes) {
            assert!(seen.insert(class), "{class} stands twice");
        }
    }

    #[test]
    fn every_class_of_the_architectures_has_a_method() {
        let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("../arch/tables");
        let mut n = 0;
        for entry in fs::read_dir(tables).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ext| ext != "toml") {
                continue;
            }
            let table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
            let classes = table.get("classes").and_then(toml::Value::as_array);
            for class in classes.into_iter().flatten() {
                let class = class.as_str().unwrap();
                assert!(
                    Method::of_class(class).is_some(),
                    "{class} of {}",
                    path.display()
                );
                n += 1;
            }
        }
        assert!(n > 80, "{n} classes");
    }
}
