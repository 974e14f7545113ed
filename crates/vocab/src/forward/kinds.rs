//! The methods one by one, in the reference's order of keys.

use super::{Work, of_file};
use crate::bpe::Loaded;
use crate::error::VocabError;
use crate::json::{TOKENIZER_JSON, TokenizerJson};
use crate::methods::Method;
use crate::pairs::{Tokens, kind};
use crate::special::{Ask, TOKENIZER_CONFIG};
use crate::tekken::TEKKEN_JSON;
use crate::{hf, spm, unigram};
use ir::{Error, Result};
use serde_json::Value;

impl Work<'_> {
    pub(super) fn gpt2(&mut self, loaded: &Loaded) -> Result<()> {
        self.gpt2_head(loaded)?;
        let special = self.special(of_file(loaded), Ask::default())?;
        special.write(Some(&loaded.json.model.merges), &mut self.pairs);
        Ok(())
    }

    pub(super) fn gpt2_head(&mut self, loaded: &Loaded) -> Result<()> {
        let kind = loaded.json.model.kind();
        if !["BPE", "WordLevel"].contains(&kind) {
            let what = format!("its model is {kind}, byte-level BPE was expected");
            return Err(Error::from(VocabError::Unsupported { what }).in_file(loaded.file));
        }
        let tokens = self.base(loaded)?;
        let pre = self.pre(loaded)?;
        self.pairs.text("model", "gpt2");
        self.pairs.text("pre", pre);
        tokens.write(&mut self.pairs);
        Ok(())
    }

    pub(super) fn sentencepiece(&mut self) -> Result<()> {
        let (tokens, beyond) = spm::tokens(&self.files, self.rows)?;
        beyond.settle(self.request.partial, &mut self.records)?;
        self.llama_tokens(tokens, None)
    }

    pub(super) fn sentencepiece_or_gpt2(&mut self) -> Result<()> {
        if self.files.has(spm::TOKENIZER_MODEL) {
            self.sentencepiece()
        } else {
            self.run(Method::Gpt2)
        }
    }

    /// Tokens with scores under the model name `llama`.
    pub(super) fn llama_tokens(
        &mut self,
        tokens: Tokens,
        json: Option<&TokenizerJson>,
    ) -> Result<()> {
        let n_tokens = Some(tokens.len() as u64);
        self.pairs.text("model", "llama");
        self.pairs.text("pre", "default");
        tokens.write(&mut self.pairs);
        let own = if json.is_none() { self.json()? } else { None };
        let ask = Ask {
            n_tokens,
            roles: None,
        };
        let special = self.special(json.or(own.as_ref()), ask)?;
        special.write(None, &mut self.pairs);
        Ok(())
    }

    pub(super) fn llama_hf(&mut self, loaded: &Loaded) -> Result<()> {
        let tokens = hf::tokens(loaded);
        self.llama_tokens(tokens, Some(&loaded.json))
    }

    pub(super) fn llama(&mut self) -> Result<()> {
        if self.files.has(TEKKEN_JSON) && !self.files.has(TOKENIZER_JSON) {
            return self.mistral(false);
        }
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if let Some(Value::Bool(add)) = config.get("add_prefix_space") {
            self.pairs.bool("add_space_prefix", *add);
        }
        if self.files.has(spm::TOKENIZER_MODEL) {
            self.sentencepiece()?;
        } else {
            let loaded = self.loaded()?;
            if hf::fits(&loaded) {
                self.llama_hf(&loaded)?;
            } else {
                self.gpt2(&loaded)?;
            }
        }
        if self.rows == Some(32_016) {
            self.infill(32_010, true)?; // CodeLlama
        }
        if self.rows == Some(49_152) {
            self.pairs.bool("add_bos_token", false); // small Granite
        }
        Ok(())
    }

    /// The second round for infill models. Their other roles have no key in GGUF.
    pub(super) fn infill(&mut self, eot: u64, template: bool) -> Result<()> {
        let json = self.json()?;
        let ask = Ask {
            roles: Some(&["prefix", "suffix", "middle", "eot"]),
            n_tokens: None,
        };
        let mut special = self.special(json.as_ref(), ask)?;
        special.set("eot", eot, "config.json", &mut self.records)?;
        if !template {
            special.template = None;
        }
        special.write(None, &mut self.pairs);
        Ok(())
    }

    pub(super) fn gemma(&mut self) -> Result<()> {
        self.sentencepiece()?;
        self.infill(107, false)?;
        self.pairs.bool("add_space_prefix", false);
        Ok(())
    }

    pub(super) fn gemma4(&mut self) -> Result<()> {
        /// Tokens a chat parser must see in the text.
        const VISIBLE: &[&str] = &[
            "<|channel>",
            "<channel|>",
            "<|tool_call>",
            "<tool_call|>",
            "<|tool_response>",
            "<tool_response|>",
            "<|\"|>",
        ];
        let loaded = self.loaded()?;
        if !hf::fits(&loaded) {
            let what = "it is not BPE with byte fallback, as Gemma 4's is".to_owned();
            return Err(Error::from(VocabError::Unsupported { what }).in_file(loaded.file));
        }
        let mut tokens = hf::tokens(&loaded);
        for (text, own) in tokens.texts.iter().zip(&mut tokens.types) {
            if VISIBLE.iter().any(|visible| text == visible.as_bytes()) {
                *own = kind::USER_DEFINED;
            }
        }
        self.pairs.text("model", "gemma4");
        tokens.write(&mut self.pairs);
        let special = self.special(Some(&loaded.json), Ask::default())?;
        special.write(Some(&loaded.json.model.merges), &mut self.pairs);
        self.pairs.bool("add_space_prefix", false);
        self.pairs.bool("add_bos_token", true);
        Ok(())
    }

    pub(super) fn phi3(&mut self) -> Result<()> {
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if config.get("tokenizer_class").and_then(Value::as_str) == Some("GPT2Tokenizer") {
            return self.run(Method::Gpt2);
        }
        // What comes back from a GGUF of Phi 4 names another class: its tokenizer tells.
        if !self.files.has(spm::TOKENIZER_MODEL)
            && self.files.has(TOKENIZER_JSON)
            && self.loaded()?.json.model.byte_fallback != Some(true)
        {
            return self.run(Method::Gpt2);
        }
        let (tokens, beyond) = spm::phi3_tokens(&self.files, self.rows)?;
        beyond.settle(self.request.partial, &mut self.records)?;
        self.llama_tokens(tokens, None)
    }

    pub(super) fn glm(&mut self, roles: &[(&'static str, &str)]) -> Result<()> {
        let loaded = self.loaded()?;
        self.gpt2_head(&loaded)?;
        let mut special = self.special(of_file(&loaded), Ask::default())?;
        for (role, token) in roles {
            let Some(added) = loaded.added.get(token) else {
                let why = format!("GLM's token {token:?} is not among the added tokens");
                return Err(Error::from(VocabError::malformed(why)).in_file(loaded.file));
            };
            special.set(role, added.id.into(), TOKENIZER_JSON, &mut self.records)?;
        }
        special.write(Some(&loaded.json.model.merges), &mut self.pairs);
        Ok(())
    }

    pub(super) fn bert(&mut self) -> Result<()> {
        let loaded = self.loaded()?;
        let mut tokens = self.base(&loaded)?;
        let pre = self.pre(&loaded)?;
        self.token_type_count();
        for (text, own) in tokens.texts.iter_mut().zip(&tokens.types) {
            // Word starts get a mark, continuations lose theirs.
            if *own == kind::CONTROL {
                continue;
            }
            *text = match text.strip_prefix(b"##") {
                Some(rest) => text.slice_ref(rest),
                None => [&b"\xe2\x96\x81"[..], text].concat().into(),
            };
        }
        let n_tokens = Some(tokens.len() as u64);
        self.pairs.text("model", "bert");
        self.pairs.text("pre", pre);
        tokens.write(&mut self.pairs);
        let ask = Ask {
            n_tokens,
            roles: None,
        };
        let special = self.special(of_file(&loaded), ask)?;
        special.write(None, &mut self.pairs);
        Ok(())
    }

    pub(super) fn token_type_count(&mut self) {
        let n = self.types();
        self.pairs.u32("token_type_count", n);
    }

    /// Two is what transformers fills in for every class this is asked for.
    pub(super) fn types(&self) -> u32 {
        let n = self
            .request
            .config
            .get("type_vocab_size")
            .and_then(Value::as_u64);
        n.and_then(|n| u32::try_from(n).ok()).unwrap_or(2)
    }

    pub(super) fn xlm_roberta(&mut self, mask: bool) -> Result<()> {
        let own = unigram::xlm_roberta(&self.files, self.rows, mask)?;
        let types = Some(self.types());
        self.unigram(own, types)
    }

    pub(super) fn unigram(&mut self, own: unigram::Unigram, types: Option<u32>) -> Result<()> {
        let n_tokens = Some(own.tokens.len() as u64);
        own.write(types, &mut self.pairs);
        let json = self.json()?;
        let ask = Ask {
            n_tokens,
            roles: None,
        };
        let special = self.special(json.as_ref(), ask)?;
        special.write(None, &mut self.pairs);
        Ok(())
    }

    pub(super) fn t5(&mut self) -> Result<()> {
        match unigram::t5(
            &self.files,
            self.rows,
            self.request.partial,
            &mut self.records,
        )? {
            Some(own) => self.unigram(own, None),
            None => self.sentencepiece(),
        }
    }

    pub(super) fn jina2(&mut self) -> Result<()> {
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if config.get("tokenizer_class").and_then(Value::as_str) != Some("RobertaTokenizer") {
            return self.bert();
        }
        let loaded = self.loaded()?;
        let splits = loaded
            .json
            .pre_tokenizer
            .get("type")
            .and_then(Value::as_str);
        if splits == Some("Whitespace") {
            let tokens = self.base(&loaded)?;
            self.pairs.text("model", "whitespace");
            self.pairs.text("pre", "whitespace");
            tokens.write(&mut self.pairs);
            let special = self.special(of_file(&loaded), Ask::default())?;
            special.write(Some(&loaded.json.model.merges), &mut self.pairs);
        } else {
            self.gpt2(&loaded)?;
        }
        self.pairs.u32("token_type_count", 2);
        Ok(())
    }

    /// Rounds the rows up to a multiple, which the config may name.
    pub(super) fn pad_rows(&mut self, multiple: u64) {
        let own = self
            .request
            .config
            .get("pad_vocab_size_multiple")
            .and_then(Value::as_u64);
        let multiple = own.unwrap_or(multiple).max(1);
        self.rows = self
            .rows
            .map(|rows| rows.div_ceil(multiple).saturating_mul(multiple));
    }

    pub(super) fn mamba2(&mut self, multiple: u64) -> Result<()> {
        self.pad_rows(multiple);
        if self.files.has(spm::TOKENIZER_MODEL) {
            self.sentencepiece()
        } else if self.files.has("tokenizer.model.v3") {
            let what = "rename it to tokenizer.model, as the reference asks".to_owned();
            Err(Error::from(VocabError::Unsupported { what }).in_file("tokenizer.model.v3"))
        } else {
            self.run(Method::Gpt2)
        }
    }

    pub(super) fn granite_hybrid(&mut self) -> Result<()> {
        let config = self.request.config;
        let layers = config.get("layer_types").and_then(Value::as_array);
        let all_attention = layers.is_some_and(|l| l.iter().all(|one| one == "attention"));
        let multiple = if all_attention { 1 } else { 8 };
        self.rows = self
            .rows
            .map(|rows| rows.div_ceil(multiple).saturating_mul(multiple));
        if self.files.has(spm::TOKENIZER_MODEL) {
            self.sentencepiece()
        } else {
            self.run(Method::Gpt2)
        }
    }

    pub(super) fn ernie(&mut self) -> Result<()> {
        self.sentencepiece()?;
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if let Some(Value::Bool(add)) = config.get("add_prefix_space") {
            self.pairs.bool("add_space_prefix", *add);
        }
        Ok(())
    }
}
