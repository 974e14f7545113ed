//! Keys that `config.json` does not give.
//!
//! transformers takes the defaults of its class for them, and so does the reference converter. What
//! a default decides is told in a record. Where it does not work out, the error names the keys that
//! are not there, not the shapes that follow from their defaults.

use super::gather::row_of;
use crate::error::ArchError;
use crate::expr::Expr;
use crate::hparams::{LAYERS, lifted, set};
use crate::keys::full_name;
use crate::need::part;
use crate::table::{ConfigClass, Row, Table};
use crate::verb::Verb;
use ir::{Error, MetaValue, Model, Record, Tensor};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// A size by its GGUF key, and what configs call it.
pub(super) struct Size {
    pub(super) key: &'static str,
    pub(super) names: &'static [&'static str],
}

pub(super) const WIDTH: Size = Size {
    key: "embedding_length",
    names: &["hidden_size", "n_embd", "n_embed", "d_model", "dim"],
};

pub(super) const HEADS: Size = Size {
    key: "attention.head_count",
    names: &["num_attention_heads", "n_head", "n_heads"],
};

const BLOCKS: Size = Size {
    key: "block_count",
    names: &LAYERS,
};

pub(super) const HEAD: Size = Size {
    key: "attention.key_length",
    names: &["head_dim"],
};

pub(super) const KEY_HEADS: Size = Size {
    key: "attention.head_count_kv",
    names: &[
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "n_kv_heads",
    ],
};

const EXPERTS: Size = Size {
    key: "expert_count",
    names: &["num_local_experts", "num_experts", "n_routed_experts"],
};

/// Keys whose default the tensors need not contradict, and without which a runtime computes
/// something else, or holds less text.
const TOLD: [&str; 24] = [
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "num_experts_per_tok",
    "n_routed_experts",
    "num_experts",
    "num_local_experts",
    "n_shared_experts",
    "first_k_dense_replace",
    "max_position_embeddings",
    "n_positions",
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "norm_eps",
    "norm_epsilon",
    "original_max_position_embeddings",
];

/// Keys of GGUF for which a table may have a value of its own, as the reference converter does.
const MADE: [&str; 3] = [
    "context_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
];

/// What a config gives, as its class reads it.
pub(super) struct Absent<'a> {
    table: &'a Table,
    class: Option<&'a ConfigClass>,
    text: &'a Map<String, Value>,
}

impl<'a> Absent<'a> {
    pub(super) fn of(table: &'a Table, text: &'a Map<String, Value>) -> Self {
        let model_type = text.get("model_type").and_then(Value::as_str).unwrap_or("");
        let class = table.class_of(model_type);
        Self { table, class, text }
    }

    fn given(&self, key: &str) -> bool {
        let there = |key: &str| self.text.get(key).is_some_and(|value| !value.is_null());
        let mut renames = self.class.iter().flat_map(|class| &class.rename);
        there(key) || renames.any(|(from, to)| to == key && there(from))
    }

    /// The class's own number, if it has one that follows from no other key.
    pub(super) fn literal(&self, key: &str) -> Option<&Expr> {
        let mut defaults = self.class?.defaults.iter();
        let found = defaults.find(|(name, value)| name == key && value.is_number());
        found.map(|(_, value)| value)
    }

    /// Whether the class has a value for a key that the config does not give.
    fn assumes(&self, key: &str) -> bool {
        let mut defaults = self.class.iter().flat_map(|class| &class.defaults);
        !self.given(key) && defaults.any(|(name, _)| name.trim_end_matches('?') == key)
    }

    /// The keys that a size is made of beside its own and that the class has values for.
    pub(super) fn assumed(&self, size: &Size) -> BTreeSet<String> {
        let rows = self.table.kv.iter().filter(|row| row.name == size.key);
        let read = rows.flat_map(|row| self.read(&row.value));
        read.filter(|key| self.assumes(key)).collect()
    }

    /// Every key of the config that a value is made of, through the table's own names.
    fn read(&self, value: &Expr) -> Vec<String> {
        self.through_set(value.keys())
    }

    fn through_set(&self, mut keys: Vec<String>) -> Vec<String> {
        for (name, made) in &self.table.set {
            if keys.contains(name) {
                keys.extend(made.keys());
            }
        }
        keys
    }

    /// What the class calls a size.
    pub(super) fn name(&self, size: &Size) -> &'static str {
        let own = self.table.hf.iter().flat_map(|hf| &hf.config);
        let own = own.filter(|(_, value)| value.to_string() == size.key);
        let own: Vec<&String> = own.map(|(name, _)| name).collect();
        let defaults = self.class.iter().flat_map(|class| &class.defaults);
        let renames = self.class.iter().flat_map(|class| &class.rename);
        let class = defaults.map(|(name, _)| name);
        let class: Vec<&String> = class.chain(renames.map(|(_, to)| to)).collect();
        let rows = self.table.kv.iter().filter(|row| row.name == size.key);
        let read: Vec<String> = rows.flat_map(|row| self.read(&row.value)).collect();
        let asked = |name: &&&str| {
            let is = |key: &&String| key.as_str() == **name;
            [
                own.iter().any(is),
                class.iter().any(is),
                read.iter().any(|key| is(&key)),
            ]
        };
        let places = (0..3).find_map(|place| size.names.iter().find(|name| asked(name)[place]));
        let usual = match size.key {
            "block_count" => Some("num_hidden_layers"),
            _ => size.names.first().copied(),
        };
        places.copied().or(usual).unwrap_or(size.key)
    }

    /// Whether the table makes the size of the config, and the config does not have it.
    fn lacks(&self, size: &Size) -> bool {
        let mut rows = self.table.kv.iter().filter(|row| row.name == size.key);
        let asked = |key: &String| size.names.contains(&key.as_str()) || key == size.key;
        rows.any(|row| self.read(&row.value).iter().any(asked))
            && !size.names.iter().any(|name| self.given(name))
    }

    /// The sizes without which nothing works out, in the words of the class, with what the tensors
    /// say of them.
    fn core(&self, model: &Model) -> Vec<String> {
        let mut list = Vec::new();
        if self.lacks(&WIDTH) {
            let name = self.name(&WIDTH);
            let embedding = of_part(self.table, model, "token_embd");
            list.push(match embedding.map(|tensor| tensor.spec.shape.row_len()) {
                Some(n) => format!("{name:?} (the rows of the embedding have {n} values)"),
                None => format!("{name:?}"),
            });
        }
        if self.lacks(&BLOCKS) {
            let name = self.name(&BLOCKS);
            let there = wording::count(blocks(self.table, model), "layer", ' ');
            list.push(format!("{name:?} (there are tensors of {there})"));
        }
        if self.lacks(&HEADS) {
            list.push(format!("{:?}", self.name(&HEADS)));
        }
        list
    }

    /// The error in terms of the keys that are not there, if it may follow from them.
    pub(super) fn explain(&self, error: Error, model: &Model) -> Error {
        use ArchError as E;
        let of_layers = match error.downcast_ref::<E>() {
            Some(E::BadValue { .. } | E::MissingKey { .. } | E::Shape { .. }) => false,
            Some(E::MissingBlocks { .. } | E::MissingTensors { .. } | E::Leftover { .. }) => true,
            _ => return error,
        };
        if let Some(E::MissingTensors { keys, .. }) = error.downcast_ref::<E>() {
            // What the class takes says that there are such tensors.
            let keys: BTreeSet<&String> = keys.iter().filter(|key| self.assumes(key)).collect();
            if !keys.is_empty() {
                return lacking(quoted(keys), error);
            }
        }
        if of_layers && !self.lacks(&BLOCKS) {
            return error;
        }
        lacking(self.core(model), error)
    }

    /// The same for an error in what a row does to tensors.
    pub(super) fn explain_row(&self, error: Error, row: &Row, model: &Model) -> Error {
        let shape = error.downcast_ref::<ArchError>();
        if !matches!(
            shape,
            Some(ArchError::BadValue { .. } | ArchError::Shape { .. })
        ) {
            return error;
        }
        let core = self.core(model);
        if !core.is_empty() {
            return lacking(core, error);
        }
        let mut keys: Vec<String> = row.verbs.iter().flat_map(Verb::keys).collect();
        keys = self.through_set(keys);
        let shared = keys
            .iter()
            .any(|key| KEY_HEADS.names.contains(&key.as_str()));
        let lacks = shared && !KEY_HEADS.names.iter().any(|name| self.given(name));
        let lacks = lacks.then(|| self.name(&KEY_HEADS).to_owned());
        let assumed = |key: &String| !self.given(key) && self.literal(key).is_some();
        let keys: BTreeSet<String> = keys.into_iter().filter(assumed).chain(lacks).collect();
        lacking(quoted(&keys), error)
    }

    /// Says which numbers are the class's, or the reference converter's, and not the config's.
    pub(super) fn defaults(&self, params: &[(String, MetaValue)]) -> Vec<Record> {
        let class = self.class.iter().flat_map(|class| &class.defaults);
        let written = |key: &str| {
            params
                .iter()
                .find(|(name, _)| *name == full_name(self.table, key))
        };
        let counts = |key: &String| {
            let rows = self.table.kv.iter();
            let mut read = rows.filter(|row| row.value.keys().contains(key));
            TOLD.contains(&key.as_str()) || read.any(|row| written(&row.name).is_some())
        };
        // A null that is written is the config's own word: the class's number is not taken for it.
        let said = |key: &String| self.given(key) || self.text.contains_key(key);
        let class = class.filter(|(key, value)| value.is_number() && !said(key) && counts(key));
        let model_type = self.class.map_or("", |class| &class.model_type);
        let mut records: Vec<Record> = class
            .map(|(key, value)| {
                let whose = format!("transformers takes for model type {model_type:?}");
                assumed(key, &value.to_string(), &whose)
            })
            .collect();
        for key in MADE {
            let rows = self.table.kv.iter().filter(|row| row.name == key);
            let keys: Vec<String> = rows.flat_map(|row| row.value.keys()).collect();
            let value = written(key);
            let known = |key: &String| self.given(key) || self.literal(key).is_some();
            let own = |key: &&String| !self.table.set.iter().any(|(name, _)| name == *key);
            if let (Some((_, value)), Some(name), false) =
                (value, keys.iter().find(own), keys.iter().any(known))
            {
                let whose = "llama.cpp's converter takes for this architecture";
                records.push(assumed(name, &value.to_string(), whose));
            }
        }
        records.extend(self.theta(written("rope.freq_base").map(|(_, value)| value)));
        let key_heads = written(KEY_HEADS.key).map(|(_, value)| value);
        let heads = written(HEADS.key).map(|(_, value)| value);
        records.extend(self.key_heads(key_heads, heads));
        records.extend(self.no_model_type());
        // llama.cpp's own choice is the older models'.
        let corrected = self.table.rows.iter().flat_map(|row| &row.gguf);
        let corrected = corrected.map(|gguf| part(gguf.text()) == "exp_probs_b.bias");
        if written("expert_count").is_some()
            && written("expert_gating_func").is_none()
            && corrected.reduce(|a, b| a || b) == Some(true)
        {
            let why = "config.json has none: llama.cpp takes softmax then, and transformers sigmoid \
                       for this class; put it there if that is the model's";
            records.push(Record::carried("class-default", "scoring_func", why));
        }
        records
    }

    /// The number of key heads, if it is taken to be that of all heads.
    fn key_heads(&self, own: Option<&MetaValue>, all: Option<&MetaValue>) -> Option<Record> {
        let name = self.name(&KEY_HEADS);
        let rows = self.table.kv.iter().filter(|row| row.name == KEY_HEADS.key);
        let verbs = self.table.rows.iter().flat_map(|row| &row.verbs);
        let is = |key: &String| KEY_HEADS.names.contains(&key.as_str());
        let asked = own.is_some() && rows.flat_map(|row| row.value.keys()).any(|key| is(&key))
            || verbs.flat_map(Verb::keys).any(|key| is(&key));
        let said = KEY_HEADS
            .names
            .iter()
            .any(|key| self.text.contains_key(*key));
        let made = self.table.set.iter().any(|(key, _)| is(key));
        if !asked || said || made || self.literal(name).is_some() {
            return None;
        }
        let value = own.or(all)?.to_string();
        Some(assumed(name, &value, "is the number of all heads"))
    }

    /// A config that does not tell its model type, which decides whose defaults are taken.
    fn no_model_type(&self) -> Option<Record> {
        let said = self.text.contains_key("model_type") || self.table.config.is_empty();
        let why = format!(
            "config.json has none: it is read as architecture {:?}, and what it does not say is no \
             class's default but what a runtime takes; put the model's own type there",
            self.table.name
        );
        (!said).then(|| Record::carried("class-default", "model_type", why))
    }

    /// The base of rope, if the config gives it under none of its names.
    fn theta(&self, written: Option<&MetaValue>) -> Option<Record> {
        let mut rows = self.table.kv.iter().rev();
        let row = rows.find(|row| row.name == "rope.freq_base")?;
        let keys = row.value.keys();
        let given = self
            .text
            .iter()
            .any(|(key, value)| names_theta(key, value, 0));
        if given || keys.iter().any(|key| self.given(key)) {
            return None;
        }
        let class = self.class.and_then(|class| class.theta);
        match (written, keys.first()) {
            (Some(value), _) if class.is_some() => {
                let whose = "transformers takes for its model type";
                Some(assumed("rope_theta", &value.to_string(), whose))
            }
            (None, Some(key)) if key != "rope" => Some(assumed(
                key,
                "what a runtime takes",
                "is 10000 for llama.cpp",
            )),
            _ => None,
        }
    }
}

/// Whether a value of the config, or one inside it, is a base of rope.
fn names_theta(key: &str, value: &Value, depth: u8) -> bool {
    let inner = |map: &Map<String, Value>| {
        let mut all = map.iter();
        depth < 2 && all.any(|(key, value)| names_theta(key, value, depth + 1))
    };
    let named = key.contains("rope_theta") || key == "rotary_emb_base";
    named && value.is_number() || value.as_object().is_some_and(inner)
}

fn lacking(keys: Vec<String>, error: Error) -> Error {
    if keys.is_empty() {
        return error;
    }
    let why = error.message();
    ArchError::Lacks { keys, why }.into()
}

fn quoted<'a>(keys: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    keys.into_iter().map(|key| format!("{key:?}")).collect()
}

fn assumed(name: &str, value: &str, whose: &str) -> Record {
    let why = format!(
        "config.json has none: it is {value}, which {whose}; put the model's own number there if \
         it is another"
    );
    Record::carried("class-default", name, why)
}

/// Numbers of experts, and of tokens, that the config does not give: the router has a row for each
/// expert, the embedding for each token.
pub(super) fn counts(
    table: &Table,
    model: &Model,
    config: &mut Value,
    tokens: Option<u64>,
) -> Vec<Record> {
    let mut records = Vec::new();
    let mut take = |config: &mut Value, name: &str, rows: u64, of: &str| {
        set(config, name, json!(rows));
        let why = format!("config.json has none: it is {rows}, the rows of the {of}");
        records.push(Record::carried("of-tensors", name, why));
    };
    let text = lifted(config);
    if let Some(rows) = tokens.filter(|_| !text.contains_key("vocab_size")) {
        take(config, "vocab_size", rows, "embedding");
    }
    let absent = Absent::of(table, &text);
    let router = absent
        .lacks(&EXPERTS)
        .then(|| of_part(table, model, "ffn_gate_inp"));
    let router = router.flatten();
    if let Some(&[rows, _]) = router.map(|tensor| &tensor.spec.shape[..]) {
        take(config, absent.name(&EXPERTS), rows, "router");
    }
    records
}

/// The first matrix of the source that becomes a part.
fn of_part<'a>(table: &Table, model: &'a Model, name: &str) -> Option<&'a Tensor> {
    let is = |tensor: &&Tensor| {
        let row = row_of(table, &tensor.name).and_then(|(row, ..)| table.rows.get(row));
        row.is_some_and(|row| row.gguf.iter().any(|gguf| part(gguf.text()) == name))
    };
    let mut matrices = model.tensors.iter().filter(|t| t.spec.shape.len() == 2);
    matrices.find(is)
}

/// Blocks of which there are tensors.
fn blocks(table: &Table, model: &Model) -> u64 {
    let places = model.tensors.iter();
    let places = places.filter_map(|tensor| row_of(table, &tensor.name)?.2.bid);
    places.collect::<BTreeSet<u64>>().len() as u64
}
