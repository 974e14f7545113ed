//! Documents that are long by nature: the index of a set of shards, and notebooks, whose cells hold
//! what they printed. They are walked, and one path or one cell of code is held at a time.

use super::config;
use super::json::{self, Json};
use crate::ledger::Ledger;
use crate::rules;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Judges the paths of an index and the code of a notebook.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lenient = json::standard(text);
    let mut source = serde_json::Deserializer::from_str(lenient.as_deref().unwrap_or(text));
    let walked = (&mut source).deserialize_map(Document(ledger));
    if let Err(error) = walked.and_then(|()| source.end()) {
        ledger.note(rules::UNREADABLE, "JSON", 0, || error.to_string());
    }
}

/// The outermost object.
struct Document<'a, 'b>(&'a mut Ledger<'b>);

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while let Some(key) = from.next_key::<String>()? {
            match key.as_str() {
                "weight_map" => from.next_value_seed(Shards(self.0))?,
                "cells" => from.next_value_seed(Cells(self.0))?,
                _ => drop(from.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The file of each tensor.
struct Shards<'a, 'b>(&'a mut Ledger<'b>);

impl<'de> DeserializeSeed<'de> for Shards<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Shards<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the files of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while let Some(tensor) = from.next_key::<String>()? {
            let file = json::part(&mut from)?;
            config::shard(&tensor, &file, self.0);
        }
        Ok(())
    }
}

/// The cells of a notebook.
struct Cells<'a, 'b>(&'a mut Ledger<'b>);

impl<'de> DeserializeSeed<'de> for Cells<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Cells<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cells of a notebook")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while from.next_element_seed(Cell(self.0))?.is_some() {}
        Ok(())
    }
}

/// One cell, without what it printed.
struct Cell<'a, 'b>(&'a mut Ledger<'b>);

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cell of a notebook")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let (mut kind, mut source): (Option<Json>, Option<Json>) = (None, None);
        while let Some(key) = from.next_key::<String>()? {
            match key.as_str() {
                "cell_type" => kind = Some(json::part(&mut from)?),
                "source" => source = Some(json::part(&mut from)?),
                _ => drop(from.next_value::<IgnoredAny>()?),
            }
        }
        config::notebook_cell(kind.as_ref(), source.as_ref(), self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noted_rules;

    fn findings(text: &str) -> Vec<&'static str> {
        noted_rules("model.safetensors.index.json", |ledger| {
            judge(text, ledger);
        })
    }

    #[test]
    fn paths_and_cells_are_found_behind_anything() {
        let none: [&str; 0] = [];
        let honest =
            r#"{"metadata": {"total_size": NaN}, "weight_map": {"a": "model-1.safetensors"}}"#;
        assert_eq!(findings(honest), none);
        let outside =
            r#"{"x": [{"weight_map": 1}], "weight_map": {"a": "m", "b": "../../secret"}}"#;
        assert_eq!(findings(outside), ["external-path"]);
        let cells = r#"{"cells": [{"cell_type": "code", "outputs": [{"x": "exec(y)"}], "source": ["a = 1"]},
                       {"source": "import os\nos.system('id')", "cell_type": "code"},
                       {"cell_type": "markdown", "source": "exec(x)"}], "nbformat": 4}"#;
        assert_eq!(findings(cells), ["python-code", "python-danger"]);
        for broken in [
            "{",
            "[]",
            r#"{"weight_map": 3}"#,
            r#"{"cells": {}}"#,
            "{} x",
        ] {
            assert_eq!(findings(broken), ["unreadable"], "{broken}");
        }
    }
}
