//! YAML: tags that make Python objects, and names that a framework resolves.

use super::config;
use crate::ledger::Ledger;
use crate::rules;

/// Judges a YAML text line by line: what matters stands on one.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let mut at = 0u64;
    for line in text.split_inclusive('\n') {
        let shown = || line.trim().chars().take(200).collect::<String>();
        for tag in ["!!python/", "tag:yaml.org,2002:python/"] {
            let Some(from) = line.find(tag) else { continue };
            let rest = line.get(from + tag.len()..).unwrap_or_default();
            let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '>' | ']' | '}'));
            let what = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            // These are plain values.
            let plain = [
                "tuple", "str", "unicode", "int", "long", "float", "bool", "none", "bytes",
            ];
            let kind = what.split(':').next().unwrap_or_default();
            if !plain.contains(&kind) && !plain.contains(&what) {
                ledger.note(rules::YAML_OBJECT, what, at, shown);
            }
        }
        let line_start = line.trim_start().trim_start_matches("- ");
        for key in ["_target_", "'_target_'", "\"_target_\""] {
            let value = line_start.strip_prefix(key).and_then(|rest| {
                let rest = rest.trim_start().strip_prefix(':')?;
                Some(rest.trim().trim_matches(['"', '\'']))
            });
            if let Some(value) = value {
                config::callable(value, at, ledger);
            }
        }
        // In flow style.
        if let Some((_, rest)) = line.split_once("{_target_:") {
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            let value = rest.get(..end).unwrap_or_default();
            config::callable(value.trim().trim_matches(['"', '\'']), at, ledger);
        }
        at += line.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_targets() {
        let mut ledger = Ledger::new("a.yaml");
        judge(
            "a: !!python/tuple [1]\nb: !!python/object/apply:os.system ['id']\nc:\n  _target_: os.system\n  \
             - _target_: torch.nn.Linear\n",
            &mut ledger,
        );
        let found: Vec<_> = ledger
            .close()
            .into_iter()
            .map(|f| (f.rule, f.what))
            .collect();
        assert_eq!(
            found,
            [
                ("yaml-object", "object/apply:os.system".to_owned()),
                ("config-callable", "os.system".to_owned())
            ]
        );
    }
}
