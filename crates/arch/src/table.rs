//! A table: everything we know about one architecture, as read from its TOML file.

use crate::error::ArchError;
use crate::expr::Expr;
use crate::fixed::Fixed;
use crate::need::Needs;
use crate::template::{Places, Template};
use crate::verb::Verb;
use ir::Result;
use regex::Regex;
use serde::Deserialize;
use std::sync::LazyLock;

/// The TOML file as it is written. `docs/architectures.md` explains each key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    gguf: String,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    graph_classes: Vec<String>,
    gguf_when: Option<String>,
    hf_when: Option<String>,
    #[serde(default)]
    rename: Vec<[String; 2]>,
    #[serde(default)]
    skip: Vec<String>,
    skip_if: Option<String>,
    #[serde(default)]
    cannot: Vec<[String; 2]>,
    #[serde(default)]
    fixed: Vec<Vec<String>>,
    #[serde(default)]
    beyond: Vec<[String; 2]>,
    #[serde(default)]
    tensors: Vec<Vec<OneOrMore>>,
    #[serde(default)]
    accept: Vec<Vec<OneOrMore>>,
    #[serde(default)]
    optional: Vec<OneOrMore>,
    #[serde(default)]
    biased: Vec<String>,
    #[serde(default)]
    either: Vec<Vec<Vec<String>>>,
    #[serde(default)]
    only_if: Vec<[String; 2]>,
    #[serde(default)]
    asked: Vec<(OneOrMore, String)>,
    #[serde(default)]
    f32: Vec<String>,
    #[serde(default)]
    generate: Vec<GenerateRow>,
    #[serde(default)]
    config: Vec<ConfigRow>,
    #[serde(default)]
    set: Vec<[String; 2]>,
    #[serde(default)]
    early: Vec<KeyRow>,
    #[serde(default)]
    kv: Vec<KeyRow>,
    #[serde(default)]
    vocab_head: Vec<KeyRow>,
    #[serde(default)]
    vocab_tail: Vec<KeyRow>,
    hf: Option<HfRow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum KeyRow {
    Group(String),
    Row([String; 3]),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateRow {
    gguf: String,
    when: String,
    values: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigRow {
    model_type: String,
    theta: Option<f64>,
    #[serde(default)]
    rope: String,
    #[serde(default)]
    rename: Vec<[String; 2]>,
    #[serde(default)]
    defaults: Vec<[String; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HfRow {
    class: String,
    model_type: String,
    inside: Option<[String; 2]>,
    #[serde(default)]
    config: Vec<[String; 2]>,
}

/// One architecture.
#[derive(Debug)]
pub struct Table {
    /// Its own name: what `--arch` takes.
    pub name: String,
    /// What `general.architecture` says.
    pub gguf: String,
    /// The HF classes it is for.
    pub classes: Vec<String>,
    /// HF classes of the same weights that the reference converter does not take: a graph is made
    /// of them, no GGUF.
    pub(crate) graph_classes: Vec<String>,
    /// Of several tables for one GGUF architecture, when it is this one.
    pub(crate) gguf_when: Option<Expr>,
    /// Of several tables for one HF class, when it is this one.
    pub(crate) hf_when: Option<Expr>,
    pub(crate) rename: Vec<(Regex, String)>,
    pub(crate) skip: Vec<Regex>,
    pub(crate) skip_if: Option<Expr>,
    /// Configs whose models no runtime has a place for, each with the reason.
    pub(crate) cannot: Vec<(Expr, String)>,
    /// Keys of a config that a runtime has values of its own for.
    pub(crate) fixed: Vec<Fixed>,
    /// What blocks beyond the last are called in HF: see [`Table::beyond_in`].
    pub(crate) beyond: Vec<(String, String)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) needs: Needs,
    pub(crate) f32: Vec<Regex>,
    pub(crate) generate: Vec<Generate>,
    pub(crate) config: Vec<ConfigClass>,
    pub(crate) set: Vec<(String, Expr)>,
    pub(crate) early: Vec<Key>,
    pub(crate) kv: Vec<Key>,
    pub(crate) vocab_head: Vec<Key>,
    pub(crate) vocab_tail: Vec<Key>,
    pub(crate) hf: Option<Hf>,
}

/// A row of the tensor map.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) hf: Vec<Template>,
    pub(crate) gguf: Vec<Template>,
    pub(crate) verbs: Vec<Verb>,
    /// Only read from HF; another row is the way back.
    pub(crate) accept_only: bool,
}

/// A tensor made of the config.
#[derive(Debug)]
pub(crate) struct Generate {
    pub(crate) gguf: String,
    pub(crate) when: Expr,
    /// A list, or the name of a rule written in code.
    pub(crate) values: Expr,
}

/// What transformers' config class of a model type does to a config.
#[derive(Debug)]
pub(crate) struct ConfigClass {
    pub(crate) model_type: String,
    pub(crate) theta: Option<f64>,
    pub(crate) rope: String,
    pub(crate) rename: Vec<(String, String)>,
    pub(crate) defaults: Vec<(String, Expr)>,
}

/// A key to write.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Without the architecture's prefix, which keys with `general.` and `tokenizer.` lack too.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// An error if there is no value.
    pub(crate) required: bool,
    pub(crate) value: Expr,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    U32,
    I32,
    F32,
    Bool,
    Str,
}

/// The way back.
#[derive(Debug)]
pub(crate) struct Hf {
    pub(crate) class: String,
    pub(crate) model_type: String,
    /// What the names of the model begin with where a classifier is around it, and when one is.
    pub(crate) inside: Option<(String, Expr)>,
    pub(crate) config: Vec<(String, Expr)>,
}

/// The keys most architectures share; in data too, and named by tables as `@base`.
const BASE: &str = include_str!("../tables/base.toml");

#[derive(Debug, Deserialize)]
struct Groups {
    group: Vec<Group>,
    hf: Vec<[String; 2]>,
    fixed: Vec<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Group {
    name: String,
    kv: Vec<KeyRow>,
}

impl Table {
    /// Reads a table. `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| ArchError::Table {
            table: origin.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        let name = file.name.clone();
        Self::build(file).map_err(|why| ArchError::Table { table: name, why }.into())
    }

    fn build(file: File) -> Result<Self, String> {
        let regexes = |list: &[String]| {
            list.iter()
                .map(|text| regex(text))
                .collect::<Result<Vec<_>, _>>()
        };
        let exprs = |list: &[[String; 2]]| list.iter().map(pair).collect::<Result<Vec<_>, _>>();
        let mut rows = Vec::new();
        for (list, accept_only) in [(&file.tensors, false), (&file.accept, true)] {
            for row in list {
                rows.push(Row::build(row, accept_only)?);
            }
        }
        let asked = file.asked.iter();
        let asked = asked.map(|(names, when)| Ok((names.list().to_vec(), Expr::parse(when)?)));
        let needs = Needs {
            optional: file
                .optional
                .iter()
                .map(|one| one.list().to_vec())
                .collect(),
            biased: file.biased.clone(),
            either: file.either.clone(),
            only_if: exprs(&file.only_if)?,
            asked: asked.collect::<Result<_, String>>()?,
        };
        needs.check(&rows)?;
        let rename = file
            .rename
            .iter()
            .map(|[from, to]| Ok((regex(from)?, to.clone())));
        let generate = file.generate.iter().map(|row| {
            Ok(Generate {
                gguf: row.gguf.clone(),
                when: Expr::parse(&row.when)?,
                values: Expr::parse(&row.values)?,
            })
        });
        let config = file.config.iter().map(|row| {
            Ok(ConfigClass {
                model_type: row.model_type.clone(),
                theta: row.theta,
                rope: row.rope.clone(),
                rename: row
                    .rename
                    .iter()
                    .map(|[a, b]| (a.clone(), b.clone()))
                    .collect(),
                defaults: exprs(&row.defaults)?,
            })
        });
        let hf = match &file.hf {
            Some(hf) => Some(Hf {
                class: hf.class.clone(),
                model_type: hf.model_type.clone(),
                inside: hf.inside.as_ref().map(pair).transpose()?,
                config: exprs(&hf.config)?,
            }),
            None => None,
        };
        let cannot = file.cannot.iter();
        let cannot = cannot.map(|[when, why]| Ok((Expr::parse(when)?, why.clone())));
        let shared = groups()?;
        let when = |text: &Option<String>| text.as_deref().map(Expr::parse).transpose();
        Ok(Self {
            gguf_when: when(&file.gguf_when)?,
            hf_when: when(&file.hf_when)?,
            rename: rename.collect::<Result<_, String>>()?,
            skip: regexes(&file.skip)?,
            skip_if: when(&file.skip_if)?,
            cannot: cannot.collect::<Result<_, String>>()?,
            fixed: shared
                .fixed
                .iter()
                .chain(&file.fixed)
                .map(|row| Fixed::build(row))
                .collect::<Result<_, _>>()?,
            beyond: file
                .beyond
                .iter()
                .map(|[a, b]| (a.clone(), b.clone()))
                .collect(),
            rows,
            needs,
            f32: regexes(&file.f32)?,
            generate: generate.collect::<Result<_, String>>()?,
            config: config.collect::<Result<_, String>>()?,
            set: exprs(&file.set)?,
            early: keys(&file.early, 0)?,
            kv: keys(&file.kv, 0)?,
            vocab_head: keys(&file.vocab_head, 0)?,
            vocab_tail: keys(&file.vocab_tail, 0)?,
            hf,
            gguf: if file.gguf.is_empty() {
                file.name.clone()
            } else {
                file.gguf
            },
            name: file.name,
            classes: file.classes,
            graph_classes: file.graph_classes,
        })
    }

    /// The row and slot for an HF name.
    pub(crate) fn by_hf(&self, name: &str) -> Option<(usize, usize, Places)> {
        let mut rows = self.rows.iter().enumerate();
        rows.find_map(|(i, row)| slot_of(&row.hf, name).map(|(slot, places)| (i, slot, places)))
    }

    /// The row and slot for a GGUF name.
    pub(crate) fn by_gguf(&self, name: &str) -> Option<(usize, usize, Places)> {
        let mut rows = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.accept_only);
        rows.find_map(|(i, row)| slot_of(&row.gguf, name).map(|(slot, places)| (i, slot, places)))
    }

    /// A name of a multi-token-prediction block as one of a block beyond the `last`:
    /// `mtp.layers.0.x` is `model.layers.{last}.x`, and so is each name the table lists.
    pub(crate) fn beyond_in(&self, name: &str, last: u64) -> Option<String> {
        let name = name.strip_prefix("model.").unwrap_or(name);
        self.beyond.iter().find_map(|(inner, outer)| {
            let rest = name.strip_prefix(outer.as_str())?.strip_prefix('.')?;
            if inner != "*" {
                return Some(format!("model.layers.{last}.{inner}.{rest}"));
            }
            let (block, rest) = rest.split_once('.')?;
            let block = last.checked_add(block.parse().ok()?)?;
            Some(format!("model.layers.{block}.{rest}"))
        })
    }

    /// The way back of [`Table::beyond_in`].
    pub(crate) fn beyond_out(&self, name: &str, last: u64) -> Option<String> {
        let (block, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let block = block.parse::<u64>().ok()?.checked_sub(last)?;
        self.beyond.iter().find_map(|(inner, outer)| {
            if inner == "*" {
                return Some(format!("{outer}.{block}.{rest}"));
            }
            let tail = rest.strip_prefix(inner.as_str())?.strip_prefix('.')?;
            Some(format!("{outer}.{tail}"))
        })
    }

    /// What `model_type` leaks, if transformers knows it.
    pub(crate) fn class_of(&self, model_type: &str) -> Option<&ConfigClass> {
        self.config
            .iter()
            .find(|class| class.model_type == model_type)
    }

    /// The model types it is for.
    pub fn model_types(&self) -> impl Iterator<Item = &str> {
        self.config.iter().map(|class| class.model_type.as_str())
    }
}

/// Which of the names it is, and what stands in its places.
pub(crate) fn slot_of(names: &[Template], name: &str) -> Option<(usize, Places)> {
    let mut names = names.iter().enumerate();
    names.find_map(|(slot, template)| template.matches(name).map(|places| (slot, places)))
}

impl Row {
    fn build(row: &[OneOrMore], accept_only: bool) -> Result<Self, String> {
        let [hf, gguf, verbs @ ..] = row else {
            return Err("a tensor row is [hf name, gguf name, verbs ..]".to_owned());
        };
        let templates = |names: &OneOrMore| {
            names
                .list()
                .iter()
                .map(|text| Template::parse(text))
                .collect::<Result<Vec<_>, _>>()
        };
        let verbs = verbs
            .iter()
            .flat_map(OneOrMore::list)
            .map(|text| Verb::parse(text));
        let row = Self {
            hf: templates(hf)?,
            gguf: templates(gguf)?,
            verbs: verbs.collect::<Result<_, _>>()?,
            accept_only,
        };
        let what = || row.hf.first().map_or("", Template::text).to_owned();
        let split = row.verbs.iter().find_map(Verb::parts);
        let joins = row.verbs.iter().any(Verb::joins);
        if row.hf.is_empty() || row.gguf.is_empty() {
            return Err("a tensor row lacks a name".to_owned());
        }
        if row.hf.len() > 1 && !joins
            || row.gguf.len() > 1 && !joins && split != Some(row.gguf.len())
        {
            return Err(format!(
                "{:?}: the verbs do not make so many tensors",
                what()
            ));
        }
        let stacked = row.hf.iter().any(|t| t.has("{xid}"));
        if stacked && (row.hf.len() > 1 || row.gguf.len() > 1) {
            return Err(format!("{:?}: a stack is of one name into one", what()));
        }
        for place in ["{bid}", "{s}"] {
            let mut both = row.hf.iter().chain(&row.gguf).map(|t| t.has(place));
            let first = both.next();
            if both.any(|has| Some(has) != first) {
                return Err(format!(
                    "{:?}: {place} must be in all names or none",
                    what()
                ));
            }
        }
        Ok(row)
    }

    /// Whether experts are stacked.
    pub(crate) fn stacks(&self) -> bool {
        self.hf.iter().any(|t| t.has("{xid}")) && !self.gguf.iter().any(|t| t.has("{xid}"))
    }
}

/// The keys of `config.json` that every way back sets: the `hf` of `base.toml`.
pub(crate) fn shared_hf() -> Result<Vec<(String, Expr)>, String> {
    groups()?.hf.iter().map(pair).collect()
}

/// `base.toml`, read once for all tables.
fn groups() -> Result<&'static Groups, String> {
    static GROUPS: LazyLock<Result<Groups, String>> =
        LazyLock::new(|| toml::from_str(BASE).map_err(|error| error.to_string()));
    GROUPS.as_ref().map_err(Clone::clone)
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

fn pair([key, value]: &[String; 2]) -> Result<(String, Expr), String> {
    Ok((key.clone(), Expr::parse(value)?))
}

fn keys(rows: &[KeyRow], depth: usize) -> Result<Vec<Key>, String> {
    let mut list = Vec::new();
    for row in rows {
        match row {
            KeyRow::Group(name) => {
                let groups = groups()?;
                let wanted = name.strip_prefix('@').unwrap_or(name);
                let group = groups.group.iter().find(|group| group.name == wanted);
                let group = group.filter(|_| depth < 4);
                let group = group.ok_or_else(|| format!("there is no group {name:?} of keys"))?;
                list.extend(keys(&group.kv, depth + 1)?);
            }
            KeyRow::Row([key, kind, value]) => {
                let plain = kind.trim_end_matches('!');
                list.push(Key {
                    name: key.clone(),
                    kind: match plain {
                        "u32" => Kind::U32,
                        "i32" => Kind::I32,
                        "f32" => Kind::F32,
                        "bool" => Kind::Bool,
                        "str" => Kind::Str,
                        other => return Err(format!("{key}: there is no type {other:?}")),
                    },
                    required: kind.ends_with('!'),
                    value: Expr::parse(value)?,
                });
            }
        }
    }
    Ok(list)
}
