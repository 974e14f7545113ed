//! From a repository's files to GGUF's keys, one method for each kind of model.

mod kinds;
mod mistral;

use crate::bpe::Loaded;
use crate::files::{Files, Source};
use crate::json::{TOKENIZER_JSON, TokenizerJson};
use crate::lint;
use crate::methods::Method;
use crate::pairs::{Pairs, Tokens};
use crate::special::{Ask, Special};
use crate::{pre, spm};
use ir::{Limits, MetaValue, Record, Result};
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
    /// Rows of the embedding.
    pub embedding_rows: Option<u64>,
    /// `--pre NAME`: the pre-tokenizer, whatever its fingerprint.
    pub pre: Option<&'a str>,
    /// A method, whatever the class.
    pub method: Option<Method>,
    /// Leave out added tokens that the model has no row for, each a loss.
    pub partial: bool,
    /// How much the files may ask for.
    pub limits: &'a Limits,
}

/// What stands for the architecture's name in a key that is not the tokenizer's own.
pub const ARCH: &str = "{arch}.";

/// A tokenizer as GGUF has it.
#[derive(Debug)]
pub struct Vocabulary {
    /// The keys in the reference's order; those of the architecture begin with [`ARCH`].
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

/// `vocab_size`, from the text model's part of the config if there is one; where it is not there,
/// the rows of the embedding, as every row needs a token.
fn rows(request: &Request<'_>) -> Option<u64> {
    let size = |at: &Value| at.get("vocab_size").and_then(Value::as_u64);
    let inner = request.config.get("text_config").and_then(size);
    request
        .vocab_size
        .or(inner)
        .or_else(|| size(request.config))
        .or(request.embedding_rows)
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
        let class = match self.request.hf_class {
            "" => "config.json names no class".to_owned(),
            class => format!("no method is known for class {class:?}"),
        };
        let why = format!("{class}; by its files it is taken as {method:?}");
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
            Method::Mistral => self.mistral(true),
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
}

/// What was read, if it was `tokenizer.json`: the special tokens come from that file alone.
fn of_file(loaded: &Loaded) -> Option<&TokenizerJson> {
    (loaded.file == TOKENIZER_JSON).then_some(&loaded.json)
}
