//! Special ids, `add_*` flags, templates and normalizer flags: what gguf-py's `SpecialVocab`
//! gathers (gguf-py/gguf/vocab.py of llama.cpp), in its order. The first who sets an id wins:
//! `tokenizer_config.json` by the names in `tokenizer.json`, then `config.json`.

use crate::error::VocabError;
use crate::files::Files;
use crate::json::{Added, Merges, TokenizerJson};
use crate::pairs::Pairs;
use crate::template::Template;
use ir::{Error, Limits, MetaValue, Record, Result};
use serde_json::{Map, Value};

pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The roles that are looked for, in the order in which they are.
const ROLES: &[&str] = &["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// What is known of the special tokens.
#[derive(Debug, Default)]
pub(crate) struct Special {
    roles: Vec<&'static str>,
    /// Ids by role, in the order in which they were set.
    pub(crate) ids: Vec<(&'static str, u32)>,
    /// `add_*_token` by role.
    pub(crate) add: Vec<(&'static str, bool)>,
    pub(crate) template: Option<Template>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    /// Ids at and above it are left out, if the method says how many tokens there are.
    n_tokens: Option<u64>,
}

/// What a method asks of [`Special::gather`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Other roles than the usual.
    pub(crate) roles: Option<&'a [&'static str]>,
    /// How many tokens there are, if ids are to be checked against it.
    pub(crate) n_tokens: Option<u64>,
}

impl Special {
    /// Gathers all from the files.
    pub(crate) fn gather(
        files: &Files<'_>,
        json: Option<&TokenizerJson>,
        config: &Value,
        ask: Ask<'_>,
        records: &mut Vec<Record>,
    ) -> Result<Self> {
        let mut own = Self {
            roles: ask.roles.unwrap_or(ROLES).to_vec(),
            n_tokens: ask.n_tokens,
            ..Self::default()
        };
        let mut tokenizer_config = files.object(TOKENIZER_CONFIG)?;
        tokenizer_config = tokenizer_config.filter(|config| !config.is_empty());
        if let Some(json) = json {
            own.normalizer(&json.normalizer, files.limits, 0)?;
            own.post_processor(json, tokenizer_config.as_mut(), records);
        }
        if let Some(tokenizer_config) = &tokenizer_config {
            let found = tokenizer_config.get("chat_template");
            own.template = Template::find(files, found, records)?;
            let added = json.map_or(&[][..], |json| &json.added_tokens);
            own.read_config(tokenizer_config, added, records)?;
        }
        for role in own.roles.clone() {
            let key = format!("{role}_token_id");
            let id = |at: &Value| at.get(&key).filter(|id| !id.is_null()).cloned();
            let found = id(config).or_else(|| config.get("text_config").and_then(id));
            if let Some(found) = found {
                own.set_value(role, &found, "config.json", records)?;
            }
        }
        Ok(own)
    }

    fn normalizer(&mut self, from: &Value, limits: &Limits, depth: u64) -> Result<()> {
        Limits::check("depth of normalizers", depth, limits.depth)?;
        match from.get("type").and_then(Value::as_str) {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                if let Some(value) = from.get("lowercase") {
                    self.lowercase = value.as_bool();
                }
                if let Some(value) = from.get("strip_accents") {
                    self.strip_accents = value.as_bool();
                }
            }
            Some("Sequence") => {
                let inner = from.get("normalizers").and_then(Value::as_array);
                for one in inner.into_iter().flatten() {
                    self.normalizer(one, limits, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The flags the post-processor stands for, and the names it gives to bos, eos and so on.
    fn post_processor(
        &mut self,
        json: &TokenizerJson,
        config: Option<&mut Map<String, Value>>,
        records: &mut Vec<Record>,
    ) {
        let mut names = Names::of(config);
        let post = &json.post_processor;
        let whole = std::slice::from_ref(post);
        let list = match post.get("processors") {
            Some(list) => list.as_array().map_or(&[][..], Vec::as_slice),
            None => whole,
        };
        for processor in list {
            match processor.get("type").and_then(Value::as_str) {
                Some("ByteLevel") => {
                    self.flag_if_new("bos", false);
                    self.flag_if_new("eos", false);
                }
                Some("RobertaProcessing") => {
                    for role in ["bos", "eos", "sep"] {
                        self.flag(role, true);
                    }
                    names.roberta(processor);
                }
                Some("TemplateProcessing") => self.templates(processor, &mut names, records),
                _ => {}
            }
        }
    }

    /// Simple templates: one special token before and after.
    fn templates(&mut self, processor: &Value, names: &mut Names<'_>, records: &mut Vec<Record>) {
        let list = |key: &str| {
            let list = processor.get(key).and_then(Value::as_array);
            list.map_or(&[][..], Vec::as_slice)
        };
        let (single, pair) = (list("single"), list("pair"));
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special_id);
            last = single.last().and_then(special_id);
        }
        if let Some(first) = first {
            names.first(first);
            self.flag("bos", names.bos == *first || names.cls == *first);
        }
        if let Some(last) = last {
            self.last(last, names, records);
            self.flag("eos", names.eos == *last);
        }
        let skip = usize::from(first.is_some() && pair.first().and_then(special_id) == first);
        let cut = usize::from(last.is_some() && pair.last().and_then(special_id) == last);
        let Some(inner) = pair.get(skip..pair.len().saturating_sub(cut)) else {
            return;
        };
        let sequence = |at: Option<&Value>| {
            let id = at.and_then(|at| at.get("Sequence")?.get("id")?.as_str());
            id.map(str::to_owned)
        };
        let ends = (sequence(inner.first()), sequence(inner.last()));
        if ends.0.as_deref() != Some("A") || ends.1.as_deref() != Some("B") || inner.len() < 3 {
            return;
        }
        let between = inner.get(1..inner.len() - 1).unwrap_or_default();
        let separates =
            |name: Option<&str>| name.is_some_and(|name| names.sep == *name || names.eos == *name);
        let mut add = separates(between.first().and_then(special_id)) && last.is_none();
        if let [_, second] = between {
            add |= separates(special_id(second));
        }
        self.flag("sep", add);
        if add && !named(&names.sep) {
            names.put("sep_token", names.eos.clone());
        }
    }

    /// The token a text ends with becomes eos; the one that was eos becomes eot, then eom.
    fn last(&mut self, last: &str, names: &mut Names<'_>, records: &mut Vec<Record>) {
        if !names.has_config() {
            names.eos = last.into();
            return;
        }
        if names.eos == *last {
            return;
        }
        if let Some(role) = ["eot", "eom"].into_iter().find(|r| !self.roles.contains(r)) {
            self.roles.push(role);
            names.put(&format!("{role}_token"), names.eos.clone());
        }
        let was = std::mem::replace(&mut names.eos, last.into());
        names.put("eos_token", last.into());
        let why = format!(
            "the post-processor ends a text with {last:?}, tokenizer_config.json says {was}"
        );
        records.push(Record::changed("lint-eos", "eos token", why).wanted());
    }

    fn read_config(
        &mut self,
        config: &Map<String, Value>,
        added: &[Added],
        records: &mut Vec<Record>,
    ) -> Result<()> {
        for role in self.roles.clone() {
            if let Some(Value::Bool(add)) = config.get(&format!("add_{role}_token")) {
                let post = self.add.iter().find(|(own, _)| *own == role);
                match post.map(|(_, value)| *value) {
                    None => self.add.push((role, *add)),
                    Some(value) if value != *add => {
                        let why = format!(
                            "tokenizer_config.json says {add}, the post-processor of \
                             tokenizer.json {value}, which counts"
                        );
                        let what = format!("add_{role}_token");
                        records.push(Record::changed("lint-add", what, why).wanted());
                    }
                    Some(_) => {}
                }
            }
            let Some(content) = config.get(&format!("{role}_token")).and_then(token_text) else {
                continue;
            };
            if let Some(token) = added.iter().find(|token| token.content == content) {
                self.set(role, token.id.into(), TOKENIZER_CONFIG, records)?;
            }
        }
        Ok(())
    }

    /// Sets the id of a role, unless it is set.
    pub(crate) fn set(
        &mut self,
        role: &'static str,
        id: u64,
        from: &'static str,
        records: &mut Vec<Record>,
    ) -> Result<()> {
        self.set_value(role, &Value::from(id), from, records)
    }

    fn set_value(
        &mut self,
        role: &'static str,
        id: &Value,
        from: &'static str,
        records: &mut Vec<Record>,
    ) -> Result<()> {
        let bad = || {
            let what = format!("{role}_token_id");
            let found = id.to_string();
            Error::from(VocabError::BadId { what, found }).in_file(from)
        };
        if !id.is_i64() && !id.is_u64() {
            return Ok(()); // a list of ids, as Llama 3 has for eos, is not for GGUF
        }
        let number = id.as_u64().ok_or_else(bad)?;
        if let Some(n_tokens) = self.n_tokens.filter(|n| number >= *n) {
            let why = format!("{from} says {number}, there are {n_tokens} tokens");
            records.push(Record::dropped(
                "lint-special",
                format!("{role}_token_id"),
                why,
            ));
            return Ok(());
        }
        let number = u32::try_from(number).map_err(|_| bad())?;
        if !self.ids.iter().any(|(own, _)| *own == role) {
            self.ids.push((role, number));
        }
        Ok(())
    }

    fn flag(&mut self, role: &'static str, value: bool) {
        match self.add.iter_mut().find(|(own, _)| *own == role) {
            Some((_, own)) => *own = value,
            None => self.add.push((role, value)),
        }
    }

    fn flag_if_new(&mut self, role: &'static str, value: bool) {
        if !self.add.iter().any(|(own, _)| *own == role) {
            self.add.push((role, value));
        }
    }

    /// Writes all of it, the merges first.
    pub(crate) fn write(self, merges: Option<&Merges>, pairs: &mut Pairs) {
        if let Some(merges) = merges {
            pairs.texts("merges", merges.joined());
        }
        for (role, id) in &self.ids {
            // "seperator" is GGUF's spelling. cls and the infill roles have no key.
            let name = match *role {
                "unk" => "unknown",
                "sep" => "seperator",
                "pad" => "padding",
                "bos" | "eos" | "eot" | "eom" | "mask" => role,
                _ => continue,
            };
            pairs.u32(&format!("{name}_token_id"), *id);
        }
        for (role, value) in &self.add {
            if ["bos", "eos", "sep"].contains(role) {
                pairs.bool(&format!("add_{role}_token"), *value);
            }
        }
        if let Some(template) = self.template {
            template.write(pairs);
        }
        let flags = [
            ("normalizer.lowercase", self.lowercase),
            ("normalizer.strip_accents", self.strip_accents),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                pairs.set(crate::pairs::key(name), MetaValue::Bool(value));
            }
        }
    }
}

/// The text of a token in `tokenizer_config.json`: itself or an object with `content`.
pub(crate) fn token_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(object) => object.get("content")?.as_str(),
        _ => None,
    }
}

fn special_id(at: &Value) -> Option<&str> {
    let id = at.get("SpecialToken")?.get("id")?.as_str()?;
    (!id.is_empty()).then_some(id)
}

/// The names of the special tokens while the post-processor is read, and the config they are
/// written back to. A name that is an object equals no text, as in the reference.
struct Names<'a> {
    config: Option<&'a mut Map<String, Value>>,
    bos: Value,
    cls: Value,
    eos: Value,
    sep: Value,
}

/// What Python takes for true: a name there is.
fn named(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => false,
    }
}

impl<'a> Names<'a> {
    fn of(config: Option<&'a mut Map<String, Value>>) -> Self {
        let name = |key: &str| {
            let value = config.as_ref().and_then(|config| config.get(key));
            value.cloned().unwrap_or_default()
        };
        let (bos, cls) = (name("bos_token"), name("cls_token"));
        let (eos, sep) = (name("eos_token"), name("sep_token"));
        let mut own = Self {
            config,
            bos,
            cls,
            eos,
            sep,
        };
        if !named(&own.bos) && named(&own.cls) {
            own.bos = own.cls.clone();
            own.put("bos_token", own.cls.clone());
        }
        if !named(&own.eos) && named(&own.sep) {
            own.eos = own.sep.clone();
            own.put("eos_token", own.sep.clone());
        }
        own
    }

    fn has_config(&self) -> bool {
        self.config.is_some()
    }

    fn put(&mut self, key: &str, name: Value) {
        if let Some(config) = self.config.as_mut() {
            config.insert(key.to_owned(), name);
        }
    }

    /// The token a text begins with becomes bos and cls where those have no name.
    fn first(&mut self, first: &str) {
        if !self.has_config() {
            self.bos = first.into();
            return;
        }
        if self.bos == *first || self.cls == *first {
            return;
        }
        if !named(&self.bos) {
            self.bos = first.into();
            self.put("bos_token", first.into());
        }
        if !named(&self.cls) {
            self.cls = first.into();
            self.put("cls_token", first.into());
        }
    }

    fn roberta(&mut self, processor: &Value) {
        if !self.has_config() {
            return;
        }
        let name = |key: &str, other: &Value| match processor.get(key) {
            Some(pair) => pair.get(0).cloned().unwrap_or_default(),
            None => other.clone(),
        };
        if !named(&self.cls) {
            self.cls = name("cls", &self.bos);
            self.put("cls_token", self.cls.clone());
        }
        if !named(&self.sep) {
            self.sep = name("sep", &self.eos);
            self.put("sep_token", self.sep.clone());
        }
    }
}
