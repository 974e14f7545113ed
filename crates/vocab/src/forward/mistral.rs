//! Mistral's own tokenizer files: the reference's `_set_vocab_mistral`.

use super::Work;
use crate::error::VocabError;
use crate::pairs::{Pairs, Tokens};
use crate::spm;
use crate::tekken::{TEKKEN_JSON, Tekken};
use crate::wire::{ModelProto, TrainerSpec, model_proto::sentence_piece::Type};
use ir::{Array, Error, Limits, MetaValue, Record, Result};

/// The template's file, in Mistral's own layout the one place it is looked for.
const TEMPLATE: &str = "chat_template.jinja";

/// The special tokens of both kinds of files.
struct Ids {
    bos: u32,
    eos: u32,
    unknown: u32,
    padding: u32,
}

impl Work<'_> {
    /// `own` is Mistral's own layout, in which the repository's template counts.
    pub(super) fn mistral(&mut self, own: bool) -> Result<()> {
        let file = self.mistral_file()?;
        let version = if file == TEKKEN_JSON {
            self.tekken()?
        } else {
            self.mistral_spm(&file)?
        };
        self.pairs.bool("add_bos_token", true);
        self.pairs.bool("add_eos_token", false);
        self.mistral_template(own, &version, file == TEKKEN_JSON)
    }

    /// `tekken.json`, else the SentencePiece model of the highest name.
    fn mistral_file(&self) -> Result<String> {
        let mut names = self.files.names();
        if names.iter().any(|name| name == TEKKEN_JSON) {
            return Ok(TEKKEN_JSON.to_owned());
        }
        names.retain(|name| spm_version(name).is_some());
        names.into_iter().max().ok_or_else(|| {
            let names = vec![TEKKEN_JSON, spm::TOKENIZER_MODEL, "tokenizer.model.v3"];
            VocabError::Missing { names }.into()
        })
    }

    fn tekken(&mut self) -> Result<String> {
        let tekken = Tekken::read(&self.files.need(TEKKEN_JSON)?, self.files.limits)?;
        let merges = tekken.merges(self.files.limits)?;
        self.pairs.text("model", "gpt2");
        self.pairs.text("pre", self.request.pre.unwrap_or("tekken"));
        let merges = merges.into_iter().map(Into::into).collect();
        self.pairs.texts("merges", merges);
        let ids = Ids {
            bos: tekken.special("<s>")?,
            eos: tekken.special("</s>")?,
            unknown: tekken.special("<unk>")?,
            padding: tekken.special("<pad>")?,
        };
        ids.write(&mut self.pairs);
        let mut tokens = Tokens::default();
        for (text, kind) in tekken.tokens() {
            tokens.push(text, 0.0, kind);
        }
        let n = tokens.len();
        self.pairs.texts("tokens", tokens.texts);
        // Whole numbers, as the reference has them; they mean nothing in a BPE.
        let zeros = MetaValue::Array(Array::I32(vec![0; n]));
        self.pairs.set(crate::pairs::key("scores"), zeros);
        self.pairs.i32s("token_type", tokens.types);
        self.rows_told(n);
        Ok(tekken.version)
    }

    fn mistral_spm(&mut self, file: &str) -> Result<String> {
        let bytes = self.files.bytes(file)?.unwrap_or_default();
        let model = spm::read(bytes, file, self.files.limits)?;
        let ids = Ids::of(&model).map_err(|error| error.in_file(file))?;
        self.pairs.text("model", "llama");
        ids.write(&mut self.pairs);
        let n = model.pieces.len();
        Limits::check("tokens", n as u64, self.files.limits.entries)?;
        spm::pieces(&model, n).write(&mut self.pairs);
        self.rows_told(n);
        Ok(spm_version(file).unwrap_or_default())
    }

    /// The one method that tells the size of the vocabulary itself.
    fn rows_told(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let key = format!("{}vocab_size", super::ARCH);
        self.pairs.set(key, MetaValue::U32(n));
    }

    /// The repository's own template, or the name llama.cpp knows a version's by.
    fn mistral_template(&mut self, own: bool, version: &str, tekken: bool) -> Result<()> {
        let known = match (version, tekken) {
            ("v1", _) => "mistral-v1",
            ("v3", false) => "mistral-v3",
            ("v3", true) => "mistral-v3-tekken",
            ("v7", false) => "mistral-v7",
            ("v7", true) => "mistral-v7-tekken",
            _ => "",
        };
        let beside = if own || known.is_empty() {
            self.files.text(TEMPLATE)?
        } else {
            None
        };
        match beside {
            Some(text) => self.template(text),
            None if !known.is_empty() => self.template(known.to_owned()),
            None => {
                let why = format!(
                    "Mistral's tokenizers have none in them, and llama.cpp no name for that of \
                     version {version}: put a {TEMPLATE} into the folder"
                );
                let record = Record::dropped("no-template", "the chat template", why);
                self.records.push(record);
            }
        }
        Ok(())
    }

    fn template(&mut self, text: String) {
        let key = "tokenizer.chat_template";
        self.pairs.set(key, MetaValue::text(text));
    }
}

/// The version in the name of a SentencePiece model: `tokenizer.model.v7m1` is of version 7. One
/// without is of the first.
fn spm_version(name: &str) -> Option<String> {
    let rest = name.strip_prefix(spm::TOKENIZER_MODEL)?;
    if rest.is_empty() {
        return Some("v1".to_owned());
    }
    let version = rest.strip_prefix(".v")?;
    let (number, image) = version.split_once('m').unwrap_or((version, "0"));
    let counted = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (counted(number) && counted(image)).then(|| format!("v{number}"))
}

impl Ids {
    /// Those of a SentencePiece model: pieces of a name and a kind.
    fn of(model: &ModelProto) -> Result<Self> {
        let spec = model.trainer_spec.as_ref();
        let find = |own: fn(&TrainerSpec) -> Option<&String>, usual: &str, kind: Type| {
            let own = spec.and_then(own).map(String::as_str);
            let text = own.filter(|text| !text.is_empty()).unwrap_or(usual);
            let mut pieces = model.pieces.iter();
            let at = pieces.position(|piece| piece.piece() == text && piece.r#type() == kind);
            at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| {
                let why = format!("it has no piece {text:?} of the right kind");
                Error::from(VocabError::malformed(why))
            })
        };
        let eos = find(|spec| spec.eos_piece.as_ref(), "</s>", Type::Control)?;
        Ok(Self {
            bos: find(|spec| spec.bos_piece.as_ref(), "<s>", Type::Control)?,
            unknown: find(|spec| spec.unk_piece.as_ref(), "<unk>", Type::Unknown)?,
            padding: find(|spec| spec.pad_piece.as_ref(), "<pad>", Type::Control).unwrap_or(eos),
            eos,
        })
    }

    fn write(&self, pairs: &mut Pairs) {
        pairs.u32("bos_token_id", self.bos);
        pairs.u32("eos_token_id", self.eos);
        pairs.u32("unknown_token_id", self.unknown);
        pairs.u32("padding_token_id", self.padding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::{Request, to_gguf};
    use crate::methods::Method;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn vocabulary(files: &[(String, Bytes)], method: Method) -> Result<crate::Vocabulary> {
        let config = json!({});
        let request = Request {
            hf_class: "",
            config: &config,
            vocab_size: None,
            embedding_rows: None,
            partial: false,
            pre: None,
            method: Some(method),
            limits: &Limits::default(),
        };
        to_gguf(&files, &request)
    }

    fn file(name: &str, bytes: impl Into<Bytes>) -> (String, Bytes) {
        (name.to_owned(), bytes.into())
    }

    fn tekken(version: &str) -> (String, Bytes) {
        let mut json: Value = crate::tekken::tests::file(version, &["th", "the"]);
        if version == "v13" {
            let texts = ["<unk>", "<s>", "</s>", "<pad>"];
            let listed = (0..).zip(texts);
            let listed = listed.map(|(n, t): (u32, _)| json!({"rank": n, "token_str": t}));
            json["special_tokens"] = listed.collect();
        }
        file(TEKKEN_JSON, json.to_string())
    }

    fn template(made: &crate::Vocabulary) -> Option<&str> {
        let mut pairs = made.pairs.iter();
        let found = pairs.find(|(key, _)| key == "tokenizer.chat_template");
        found.and_then(|(_, value)| value.as_str())
    }

    #[test]
    fn keys_stand_as_the_reference_has_them() {
        let made = vocabulary(&[tekken("v3")], Method::Mistral).unwrap();
        let keys: Vec<&str> = made.pairs.iter().map(|(key, _)| key.as_str()).collect();
        let ggml = "model pre merges bos_token_id eos_token_id unknown_token_id padding_token_id \
                    tokens scores token_type";
        let mut wanted: Vec<String> = ggml
            .split_whitespace()
            .map(|name| format!("tokenizer.ggml.{name}"))
            .collect();
        wanted.extend(
            [
                "{arch}.vocab_size",
                "tokenizer.ggml.add_bos_token",
                "tokenizer.ggml.add_eos_token",
                "tokenizer.chat_template",
            ]
            .map(str::to_owned),
        );
        assert_eq!(keys, wanted);
        assert_eq!(template(&made), Some("mistral-v3-tekken"));
        assert_eq!(made.tokens, 280);
    }

    #[test]
    fn templates_come_from_the_folder_or_by_version() {
        let jinja = file(TEMPLATE, "{{ x }}");
        let made = vocabulary(&[tekken("v3"), jinja.clone()], Method::Mistral).unwrap();
        assert_eq!(template(&made), Some("{{ x }}"));
        // Without Mistral's layout the reference takes its own all the same.
        let made = vocabulary(&[tekken("v3"), jinja.clone()], Method::Llama).unwrap();
        assert_eq!(template(&made), Some("mistral-v3-tekken"));
        let made = vocabulary(&[tekken("v13"), jinja], Method::Llama).unwrap();
        assert_eq!(template(&made), Some("{{ x }}"));
        let made = vocabulary(&[tekken("v13")], Method::Mistral).unwrap();
        assert_eq!(template(&made), None);
        assert!(made.records.iter().any(|one| one.kind == "no-template"));
    }

    #[test]
    fn models_are_known_by_their_names() {
        let version = |name: &str| spm_version(name).unwrap_or_default();
        assert_eq!(version("tokenizer.model"), "v1");
        assert_eq!(version("tokenizer.model.v3"), "v3");
        assert_eq!(version("tokenizer.model.v7m1"), "v7");
        for other in [
            "tokenizer.model.bak",
            "tokenizer.model.v",
            "spiece.model",
            "x.v3",
        ] {
            assert_eq!(spm_version(other), None, "{other}");
        }
        let error = vocabulary(&[], Method::Mistral).unwrap_err();
        assert!(error.to_string().contains("tekken.json or tokenizer.model"));
    }
}
