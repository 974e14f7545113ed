//! `--include`, `--drop` and `--rename`.

use crate::ConvertError;
use ir::{Metadata, Model, Record, Result, Tensor, TensorTable, ns};
use regex::Regex;
use std::collections::HashMap;

/// Which tensors to take.
#[derive(Clone, Debug, Default)]
pub struct NameFilter {
    include: Vec<Regex>,
    drop: Vec<Regex>,
}

impl NameFilter {
    /// Takes what any of `include` matches (everything, if there is none) and none of `drop`.
    /// Patterns match anywhere in a name.
    pub fn new(include: &[String], drop: &[String]) -> Result<Self> {
        let compile = |flag, list: &[String]| {
            list.iter()
                .map(|text| pattern(flag, text))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            include: compile("--include", include)?,
            drop: compile("--drop", drop)?,
        })
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.drop.is_empty()
    }

    /// Whether it takes a tensor of that name.
    pub fn takes(&self, name: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|re| re.is_match(name));
        included && !self.drop.iter().any(|re| re.is_match(name))
    }
}

/// `REGEX=NAME`: what the pattern matches is replaced, `${1}` standing for its groups.
#[derive(Clone, Debug)]
pub struct Rename {
    pattern: Regex,
    name: String,
}

impl Rename {
    /// Reads `REGEX=NAME`, cut at the last `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let (re, name) = text
            .rsplit_once('=')
            .ok_or_else(|| ConvertError::BadPattern {
                flag: "--rename",
                pattern: text.to_owned(),
                why: "expected REGEX=NAME".to_owned(),
            })?;
        Ok(Self {
            pattern: pattern("--rename", re)?,
            name: name.to_owned(),
        })
    }
}

fn pattern(flag: &'static str, text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        ConvertError::BadPattern {
            flag,
            pattern: text.to_owned(),
            why: error.to_string(),
        }
        .into()
    })
}

/// Leaves out the tensors that `names` does not take.
pub(crate) fn filter(
    model: &mut Model,
    names: &NameFilter,
    records: &mut Vec<Record>,
) -> Result<()> {
    if names.is_empty() || model.tensors.is_empty() {
        return Ok(());
    }
    let mut table = TensorTable::new();
    for tensor in std::mem::take(&mut model.tensors).into_tensors() {
        if names.takes(&tensor.name) {
            table.push(tensor)?;
        } else {
            let why = format!("{} {}", tensor.spec.dtype, tensor.spec.shape);
            records.push(
                Record::dropped("filtered", tensor.name, why)
                    .flag("--include, --drop")
                    .wanted(),
            );
        }
    }
    if table.is_empty() {
        return Err(ConvertError::NothingLeft {
            why: "no name passes --include and --drop".into(),
        }
        .into());
    }
    model.tensors = table;
    flatten_objects(model, records);
    Ok(())
}

/// Renames tensors by every rule in turn.
pub(crate) fn rename(model: &mut Model, rules: &[Rename], records: &mut Vec<Record>) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut table = TensorTable::new();
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut renamed: HashMap<String, String> = HashMap::new();
    for tensor in std::mem::take(&mut model.tensors).into_tensors() {
        let mut name = tensor.name.clone();
        for rule in rules {
            name = rule
                .pattern
                .replace_all(&name, rule.name.as_str())
                .into_owned();
        }
        if let Some(first) = taken.insert(name.clone(), tensor.name.clone()) {
            return Err(ConvertError::RenameClash {
                name,
                first,
                second: tensor.name,
            }
            .into());
        }
        if name != tensor.name {
            renamed.insert(tensor.name.clone(), name.clone());
            let record = Record::carried("renamed", &tensor.name, format!("now {name}"));
            records.push(record.flag("--rename"));
        }
        table.push(Tensor { name, ..tensor })?;
    }
    model.tensors = table;
    if !renamed.is_empty() {
        rename_notes(model, &renamed);
        flatten_objects(model, records);
    }
    Ok(())
}

/// Notes are about tensors by name: `KIND.NAME`.
fn rename_notes(model: &mut Model, renamed: &HashMap<String, String>) {
    let mut metadata = Metadata::new();
    for entry in &model.metadata {
        let key = entry
            .key
            .split_once('.')
            .filter(|_| entry.namespace == ns::NOTE);
        let key = key.and_then(|(kind, name)| Some(format!("{kind}.{}", renamed.get(name)?)));
        let key = key.unwrap_or_else(|| entry.key.clone());
        metadata.push_new(entry.namespace, key, entry.value.clone());
    }
    model.metadata = metadata;
}

/// An object tree tells tensors by the names it had; once those are others it is no longer true.
fn flatten_objects(model: &mut Model, records: &mut Vec<Record>) {
    if model.objects.take().is_some() {
        let why = "tensors were renamed or left out, so a flat mapping of names is written";
        records.push(Record::dropped("object-tree", "the Python object tree", why).wanted());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, ModelBuilder};

    fn model() -> Model {
        ["a.weight", "a.bias", "b.weight"]
            .iter()
            .fold(ModelBuilder::new(), |b, name| {
                b.tensor(name, DType::U8, [1], vec![0])
            })
            .build()
            .unwrap()
    }

    fn names(model: &Model) -> Vec<&str> {
        model.tensors.iter().map(|t| t.name.as_str()).collect()
    }

    #[test]
    fn filters_and_renames() {
        let mut records = Vec::new();
        let mut m = model();
        let f = NameFilter::new(&["weight$".into()], &["^b".into()]).unwrap();
        filter(&mut m, &f, &mut records).unwrap();
        assert_eq!(names(&m), ["a.weight"]);
        assert_eq!(records.len(), 2);
        rename(
            &mut m,
            &[Rename::parse(r"^a\.(\w+)=model.${1}").unwrap()],
            &mut records,
        )
        .unwrap();
        assert_eq!(names(&m), ["model.weight"]);
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(NameFilter::new(&["(".into()], &[]).is_err());
        assert!(Rename::parse("nothing").is_err());
        let clash = [Rename::parse("^[ab]=x").unwrap()];
        let error = rename(&mut model(), &clash, &mut Vec::new()).unwrap_err();
        assert!(error.message().contains("\"x.weight\""), "{error}");
        let none = NameFilter::new(&["nope".into()], &[]).unwrap();
        assert!(filter(&mut model(), &none, &mut Vec::new()).is_err());
    }
}
