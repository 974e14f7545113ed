//! From a repository's files to GGUF's keys, one method for each kind of model.

use crate::bpe::Loaded;
use crate::error::VocabError;
use crate::files::{Files, Source};
use crate::json::{TOKENIZER_JSON, TokenizerJson};
use crate::lint;
use crate::methods::Method;
use crate::pairs::{Pairs, Tokens, kind};
use crate::special::{Ask, Special, TOKENIZER_CONFIG};
use crate::{hf, pre, spm, unigram};
use ir::{Error, Limits, MetaValue, Record, Result};
use serde_json::Value;

/// What is to be made of a repository's tokenizer.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The class in `architectures` of `config.json`.
    pub hf_class: &'a str,
    /// `config.json` as it is in the file.
    pub config: &'a Value,
    /// `vocab_size` where the config alone does not say it: transformers' default.
    pub vocab_size: Option<u64>,
    /// Rows of the embedding, for the lint.
    pub embedding_rows: Option<u64>,
    /// `--pre NAME`: the pre-tokenizer, whatever its fingerprint.
    pub pre: Option<&'a str>,
    /// A method, whatever the class.
    pub method: Option<Method>,
    /// How much the files may ask for.
    pub limits: &'a Limits,
}

/// A tokenizer as GGUF has it.
#[derive(Debug)]
pub struct Vocabulary {
    /// The keys in the reference's order.
    pub pairs: Vec<(String, MetaValue)>,
    /// What was left out or looks wrong.
    pub records: Vec<Record>,
    /// How many tokens there are, padding included.
    pub tokens: u64,
    /// `tokenizer.ggml.model`.
    pub model: String,
    /// `tokenizer.ggml.pre`, where the method writes it.
    pub pre: Option<String>,
    /// The method that was used.
    pub method: Method,
}

/// Makes GGUF's `tokenizer.*` keys of a repository's files.
pub fn to_gguf(source: &dyn Source, request: &Request<'_>) -> Result<Vocabulary> {
    let files = Files::new(source, request.limits);
    let mut work = Work {
        files,
        request,
        rows: rows(request),
        pairs: Pairs::default(),
        records: Vec::new(),
    };
    let known = request
        .method
        .or_else(|| Method::of_class(request.hf_class));
    let method = match known {
        Some(method) => method,
        None => work.guess()?,
    };
    work.run(method)?;
    let Work {
        pairs, mut records, ..
    } = work;
    lint::lint(&files, request, &pairs, &mut records)?;
    let word = |name: &str| {
        pairs
            .get(name)
            .and_then(MetaValue::as_str)
            .map(str::to_owned)
    };
    let tokens = match pairs.get("tokens") {
        Some(MetaValue::Array(list)) => list.len() as u64,
        _ => 0,
    };
    Ok(Vocabulary {
        model: word("model").unwrap_or_default(),
        pre: word("pre"),
        tokens,
        pairs: pairs.0,
        records,
        method,
    })
}

/// `vocab_size`, from the text model's part of the config if there is one.
fn rows(request: &Request<'_>) -> Option<u64> {
    let size = |at: &Value| at.get("vocab_size").and_then(Value::as_u64);
    let inner = request.config.get("text_config").and_then(size);
    request
        .vocab_size
        .or(inner)
        .or_else(|| size(request.config))
}

struct Work<'a> {
    files: Files<'a>,
    request: &'a Request<'a>,
    rows: Option<u64>,
    pairs: Pairs,
    records: Vec<Record>,
}

impl Work<'_> {
    /// A method for a class we do not know, by the files there are.
    fn guess(&mut self) -> Result<Method> {
        let method = if self.files.has(spm::TOKENIZER_MODEL) {
            Method::Llama
        } else {
            match self.loaded()?.json.model.kind() {
                "WordPiece" => Method::Bert,
                "Unigram" => Method::XlmRoberta,
                _ => Method::Llama,
            }
        };
        let why = format!(
            "no method is known for class {:?}; by its files it is taken as {method:?}",
            self.request.hf_class
        );
        self.records
            .push(Record::changed("vocab-guess", "tokenizer", why).wanted());
        Ok(method)
    }

    fn run(&mut self, method: Method) -> Result<()> {
        match method {
            Method::Gpt2 => self.gpt2(&self.loaded()?),
            Method::SentencePiece => self.sentencepiece(),
            Method::SentencePieceOrGpt2 => self.sentencepiece_or_gpt2(),
            Method::Llama => self.llama(),
            Method::Gemma => self.gemma(),
            Method::Gemma2 => {
                self.sentencepiece()?;
                self.pairs.bool("add_space_prefix", false);
                Ok(())
            }
            Method::Gemma3 if self.files.has(spm::TOKENIZER_MODEL) => self.run(Method::Gemma2),
            Method::Gemma3 => self.run(Method::Gpt2),
            Method::Gemma4 => self.gemma4(),
            Method::Phi3 => self.phi3(),
            Method::Glm4 => {
                let end = "<|endoftext|>";
                self.glm(&[
                    ("eos", end),
                    ("eot", "<|user|>"),
                    ("unk", end),
                    ("bos", end),
                ])
            }
            Method::Glm => self.glm(&[
                ("bos", "[gMASK]"),
                ("eot", "<|user|>"),
                ("unk", "<|endoftext|>"),
                ("eom", "<|observation|>"),
            ]),
            Method::Roberta if self.files.has(TOKENIZER_JSON) => {
                self.run(Method::Gpt2)?;
                self.token_type_count();
                Ok(())
            }
            Method::Bert | Method::Roberta => self.bert(),
            Method::XlmRoberta => self.xlm_roberta(false),
            Method::Nomic => {
                if self.loaded()?.json.model.kind() == "Unigram" {
                    self.xlm_roberta(true)
                } else {
                    self.bert()
                }
            }
            Method::Jina2 => self.jina2(),
            Method::ModernBert => {
                for role in ["bos", "eos", "sep"] {
                    self.pairs.bool(&format!("add_{role}_token"), true);
                }
                self.run(Method::Gpt2)
            }
            Method::EuroBert => {
                self.pairs.bool("add_bos_token", false);
                self.run(Method::Gpt2)
            }
            Method::T5 => self.t5(),
            Method::Mamba => {
                self.pad_rows(8);
                if self.files.has(TOKENIZER_JSON) {
                    self.run(Method::Gpt2)
                } else {
                    self.sentencepiece()
                }
            }
            Method::Mamba2 => self.mamba2(16),
            Method::GraniteHybrid => self.granite_hybrid(),
            Method::Nemotron => {
                self.sentencepiece()?;
                self.pairs.u32("padding_token_id", 0);
                self.pairs.u32("unknown_token_id", 1);
                Ok(())
            }
            Method::Ernie => self.ernie(),
            Method::Deci if self.rows.is_none_or(|rows| rows == 128_256) => self.run(Method::Gpt2),
            Method::Deci => {
                let loaded = self.loaded()?;
                self.llama_hf(&loaded)
            }
        }
    }

    fn loaded(&self) -> Result<Loaded> {
        Loaded::read(&self.files)
    }

    fn special(&mut self, json: Option<&TokenizerJson>, ask: Ask<'_>) -> Result<Special> {
        Special::gather(
            &self.files,
            json,
            self.request.config,
            ask,
            &mut self.records,
        )
    }

    /// `tokenizer.json` for the special tokens alone.
    fn json(&self) -> Result<Option<TokenizerJson>> {
        let bytes = self.files.bytes(TOKENIZER_JSON)?;
        bytes
            .map(|bytes| TokenizerJson::read(&bytes, self.files.limits))
            .transpose()
    }

    /// `get_vocab_base`.
    fn base(&self, loaded: &Loaded) -> Result<Tokens> {
        let (rows, from) = match self.rows {
            Some(rows) => (rows, "vocab_size of config.json"),
            None => (
                loaded.n_tokens(),
                "the number of tokens, as config.json has no vocab_size",
            ),
        };
        loaded.tokens(rows, from, self.files.limits)
    }

    fn pre(&mut self, loaded: &Loaded) -> Result<String> {
        pre::name(loaded, self.request.pre, &mut self.records)
    }

    fn gpt2(&mut self, loaded: &Loaded) -> Result<()> {
        self.gpt2_head(loaded)?;
        let special = self.special(of_file(loaded), Ask::default())?;
        special.write(Some(&loaded.json.model.merges), &mut self.pairs);
        Ok(())
    }

    fn gpt2_head(&mut self, loaded: &Loaded) -> Result<()> {
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

    fn sentencepiece(&mut self) -> Result<()> {
        let tokens = spm::tokens(&self.files, self.rows, &mut self.records)?;
        self.llama_tokens(tokens, None)
    }

    fn sentencepiece_or_gpt2(&mut self) -> Result<()> {
        if self.files.has(spm::TOKENIZER_MODEL) {
            self.sentencepiece()
        } else {
            self.run(Method::Gpt2)
        }
    }

    /// Tokens with scores under the model name `llama`.
    fn llama_tokens(&mut self, tokens: Tokens, json: Option<&TokenizerJson>) -> Result<()> {
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

    fn llama_hf(&mut self, loaded: &Loaded) -> Result<()> {
        let tokens = hf::tokens(loaded);
        self.llama_tokens(tokens, Some(&loaded.json))
    }

    fn llama(&mut self) -> Result<()> {
        if self.files.has("tekken.json") && !self.files.has(TOKENIZER_JSON) {
            let what =
                "Mistral's own tokenizer is not read; tokenizer.json beside it is".to_owned();
            return Err(Error::from(VocabError::Unsupported { what }).in_file("tekken.json"));
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
    fn infill(&mut self, eot: u64, template: bool) -> Result<()> {
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

    fn gemma(&mut self) -> Result<()> {
        self.sentencepiece()?;
        self.infill(107, false)?;
        self.pairs.bool("add_space_prefix", false);
        Ok(())
    }

    fn gemma4(&mut self) -> Result<()> {
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

    fn phi3(&mut self) -> Result<()> {
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if config.get("tokenizer_class").and_then(Value::as_str) == Some("GPT2Tokenizer") {
            return self.run(Method::Gpt2);
        }
        let tokens = spm::phi3_tokens(&self.files, self.rows, &mut self.records)?;
        self.llama_tokens(tokens, None)
    }

    fn glm(&mut self, roles: &[(&'static str, &str)]) -> Result<()> {
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

    fn bert(&mut self) -> Result<()> {
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

    fn token_type_count(&mut self) {
        let n = self.types();
        self.pairs.u32("token_type_count", n);
    }

    /// Two is what transformers fills in for every class this is asked for.
    fn types(&self) -> u32 {
        let n = self
            .request
            .config
            .get("type_vocab_size")
            .and_then(Value::as_u64);
        n.and_then(|n| u32::try_from(n).ok()).unwrap_or(2)
    }

    fn xlm_roberta(&mut self, mask: bool) -> Result<()> {
        let own = unigram::xlm_roberta(&self.files, self.rows, mask)?;
        let types = Some(self.types());
        self.unigram(own, types)
    }

    fn unigram(&mut self, own: unigram::Unigram, types: Option<u32>) -> Result<()> {
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

    fn t5(&mut self) -> Result<()> {
        match unigram::t5(&self.files, self.rows, &mut self.records)? {
            Some(own) => self.unigram(own, None),
            None => self.sentencepiece(),
        }
    }

    fn jina2(&mut self) -> Result<()> {
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
    fn pad_rows(&mut self, multiple: u64) {
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

    fn mamba2(&mut self, multiple: u64) -> Result<()> {
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

    fn granite_hybrid(&mut self) -> Result<()> {
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

    fn ernie(&mut self) -> Result<()> {
        self.sentencepiece()?;
        let config = self.files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
        if let Some(Value::Bool(add)) = config.get("add_prefix_space") {
            self.pairs.bool("add_space_prefix", *add);
        }
        Ok(())
    }
}

/// What was read, if it was `tokenizer.json`: the special tokens come from that file alone.
fn of_file(loaded: &Loaded) -> Option<&TokenizerJson> {
    (loaded.file == TOKENIZER_JSON).then_some(&loaded.json)
}
