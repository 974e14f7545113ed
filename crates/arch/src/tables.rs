//! The tables that come with the program.

use crate::expr::Expr;
use crate::table::{Table, shared_hf};
use std::sync::LazyLock;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../tables/", $name, ".toml")))),*]
    };
}

/// Name and text of each, in the order of `docs/architectures.md`.
const EMBEDDED: &[(&str, &str)] = include!("../tables/list.in");

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    // A test proves that each reads; here one that does not is left out rather than a panic.
    EMBEDDED
        .iter()
        .filter_map(|(name, text)| Table::parse(text, name).ok())
        .collect()
});

static BASE_HF: LazyLock<Vec<(String, Expr)>> = LazyLock::new(|| shared_hf().unwrap_or_default());

/// The keys of `config.json` that every way back sets.
pub(crate) fn base_hf() -> &'static [(String, Expr)] {
    &BASE_HF
}

/// Every table that comes with the program.
pub fn tables() -> &'static [Table] {
    &TABLES
}

/// The table of this name.
pub fn table(name: &str) -> Option<&'static Table> {
    tables()
        .iter()
        .find(|table| table.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Places;

    #[test]
    fn every_table_reads() {
        for (name, text) in EMBEDDED {
            let table = Table::parse(text, name).unwrap();
            assert_eq!(table.name, *name);
        }
        assert_eq!(tables().len(), EMBEDDED.len());
        assert!(!base_hf().is_empty());
    }

    /// Each name of a row leads to that row and no other, both ways.
    #[test]
    fn every_table_is_unambiguous_both_ways() {
        let places = Places {
            bid: Some(7),
            xid: Some(3),
            s: None,
        };
        for table in tables() {
            for row in &table.rows {
                for s in ["weight", "bias"] {
                    let places = Places {
                        s: Some(s.to_owned()),
                        ..places.clone()
                    };
                    for template in &row.hf {
                        let name = template.fill(&places);
                        let hits = table.rows.iter().flat_map(|row| &row.hf);
                        let hits = hits.filter(|t| t.matches(&name).is_some()).count();
                        assert_eq!(hits, 1, "{}: HF name {name}", table.name);
                    }
                    for template in &row.gguf {
                        let name = template.fill(&places);
                        let back = table.rows.iter().filter(|row| !row.accept_only);
                        let hits = back.flat_map(|row| &row.gguf);
                        let hits = hits.filter(|t| t.matches(&name).is_some()).count();
                        // A name only `accept` makes has another row as its way back.
                        assert_eq!(hits, 1, "{}: GGUF name {name}", table.name);
                        assert!(name.len() < 64, "{name} is too long for ggml");
                    }
                }
            }
        }
    }

    /// A class leads to one table, and several tables of one GGUF name tell each other apart.
    #[test]
    fn tables_do_not_compete() {
        for table in tables() {
            for class in &table.classes {
                let rivals: Vec<_> = tables()
                    .iter()
                    .filter(|t| t.classes.contains(class))
                    .collect();
                let plain = rivals.iter().filter(|t| t.hf_when.is_none()).count();
                assert!(
                    plain <= 1,
                    "class {class} has {plain} tables without hf_when"
                );
            }
            let rivals = tables().iter().filter(|t| t.gguf == table.gguf);
            let plain = rivals.filter(|t| t.gguf_when.is_none()).count();
            assert!(
                plain <= 1,
                "GGUF {} has {plain} tables without gguf_when",
                table.gguf
            );
        }
    }
}
