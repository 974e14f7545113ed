//! Names that OmegaConf puts together for Hydra: `${a.b}` stands for the value of `b` in `a`, of this text
//! or of another, and `${oc.env:X}` for what a resolver finds. What a name comes to be is not worked out:
//! each word of the text may be the part that is missing.

use super::config;
use crate::ledger::Ledger;
use crate::rules;
use std::collections::BTreeSet;

/// Ways in which names are put together that are looked at.
const WAYS: usize = 16;
/// Names that are tried in one text.
const TRIES: usize = 200_000;

/// Names of one text, by what stands around the part that is missing.
#[derive(Default)]
pub(super) struct Interpolated(BTreeSet<(String, String)>);

impl Interpolated {
    /// Takes a name, if it is put together. It is suspicious by itself.
    pub(super) fn take(&mut self, name: &str, at: u64, ledger: &mut Ledger<'_>) -> bool {
        let Some((before, rest)) = name.split_once('$').filter(|(_, rest)| {
            let rest = rest.trim_start();
            rest.is_empty() || rest.starts_with('{')
        }) else {
            return false;
        };
        let after = rest.rsplit_once('}').map_or("", |(_, after)| after);
        if self.0.len() < WAYS {
            self.0.insert((before.to_owned(), after.to_owned()));
        }
        let more = || format!("_target_: {name}");
        ledger.note(rules::REMOTE_CODE, "interpolation", at, more);
        true
    }

    /// Judges what the names may come to be with the words of a text.
    pub(super) fn judge<'a>(self, texts: impl Iterator<Item = &'a str>, ledger: &mut Ledger<'_>) {
        if self.0.is_empty() {
            return;
        }
        let other = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'));
        let mut seen = BTreeSet::new();
        let words = texts.flat_map(|text| text.split(other));
        for word in words.map(|word| word.trim_matches('.')) {
            if word.is_empty() || word.len() > 256 || !seen.insert(word) {
                continue;
            }
            if seen.len().saturating_mul(self.0.len()) > TRIES {
                let what = "too many words to see what a name comes to be";
                return ledger.note(rules::UNREADABLE, "_target_", 0, || what.to_owned());
            }
            for (before, after) in &self.0 {
                config::target("_target_", &format!("{before}{word}{after}"), 0, ledger);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noted;

    fn findings(names: &[&str], text: &str) -> Vec<&'static str> {
        let noted = noted("a.yaml", |ledger| {
            let mut all = Interpolated::default();
            for name in names {
                all.take(name, 0, ledger);
            }
            all.judge([text].into_iter(), ledger);
        });
        noted.into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn a_name_that_is_put_together_is_suspicious_and_dangerous_by_the_words_around() {
        assert_eq!(findings(&["torch.nn.Linear", "$5"], "os.system"), [""; 0]);
        assert_eq!(
            findings(&["${kind}"], "kind: torch.optim.${name} # and so on."),
            ["remote-code"]
        );
        for (name, text) in [
            ("${y}", "y: os.system"),
            ("${m}.system", "m: os"),
            ("subprocess.${f}", "f: [Popen]"),
            ("${", "a: {b: 'os.system'}"),
        ] {
            let found = findings(&[name], text);
            assert!(found.contains(&"config-callable"), "{name} {found:?}");
        }
    }

    #[test]
    fn many_names_and_many_words_come_to_an_end() {
        let names: Vec<String> = (0..20_000).map(|n| format!("${{k}}{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let words: Vec<String> = (0..200_000).map(|n| format!("w{n}")).collect();
        let words = words.join(" ");
        assert!(findings(&names, &words).contains(&"unreadable"));
    }
}
