//! Findings as they come in, each kept short and their number bounded, whatever the file holds.

use crate::render::printable;
use crate::rules::{self, Rule};
use crate::{Finding, Severity};
use std::collections::HashMap;
use std::fmt::Write as _;

/// How often one dangerous thing is shown: each call has its own arguments.
const SHOWN_DANGEROUS: usize = 16;
/// How many findings of one severity a place may have.
const MAX_PER_PLACE: usize = 400;
/// How long the name of a thing may be.
const MAX_WHAT: usize = 200;

/// The findings of one place.
pub(crate) struct Ledger<'a> {
    place: &'a str,
    findings: Vec<Finding>,
    /// How often each thing was found, and where its first finding is. For looking up only.
    seen: HashMap<(&'static str, String), Seen>,
    shown: [usize; 2],
    left_out: [u64; 2],
}

struct Seen {
    first: usize,
    times: usize,
    shown: usize,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(place: &'a str) -> Self {
        Self {
            place,
            findings: Vec::new(),
            seen: HashMap::new(),
            shown: [0; 2],
            left_out: [0; 2],
        }
    }

    /// Notes a finding at an offset. Its detail is the rule's reason and what `more` adds, which
    /// is asked for only if the finding is shown.
    pub(crate) fn note(&mut self, rule: Rule, what: &str, at: u64, more: impl FnOnce() -> String) {
        let what = printable(what, MAX_WHAT);
        let slot = usize::from(rule.severity == Severity::Dangerous);
        let cap = match rule.severity {
            Severity::Dangerous => SHOWN_DANGEROUS,
            Severity::Suspicious => 1,
        };
        let key = (rule.id, what);
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.times += 1;
            if seen.shown >= cap {
                return;
            }
            seen.shown += 1;
        }
        let room = self.shown.get(slot).is_some_and(|n| *n < MAX_PER_PLACE);
        if !room {
            if let Some(n) = self.left_out.get_mut(slot) {
                *n += 1;
            }
            return;
        }
        if let Some(n) = self.shown.get_mut(slot) {
            *n += 1;
        }
        let more = more();
        let detail = if more.is_empty() {
            rule.why.to_owned()
        } else {
            format!("{}: {more}", rule.why)
        };
        self.findings.push(Finding {
            severity: rule.severity,
            rule: rule.id,
            where_: format!("{}, byte {at}", printable(self.place, MAX_WHAT)),
            what: key.1.clone(),
            detail,
        });
        let first = self.findings.len() - 1;
        self.seen.entry(key).or_insert(Seen {
            first,
            times: 1,
            shown: 1,
        });
    }

    /// The findings in the order of the place, with a word on those not shown.
    pub(crate) fn close(mut self) -> Vec<Finding> {
        for seen in self.seen.values().filter(|seen| seen.times > seen.shown) {
            if let Some(finding) = self.findings.get_mut(seen.first) {
                let _ = write!(finding.detail, " (found {} times)", seen.times);
            }
        }
        let left_out: u64 = self.left_out.iter().sum();
        if left_out > 0 {
            self.findings.push(Finding {
                severity: rules::MANY_FINDINGS.severity,
                rule: rules::MANY_FINDINGS.id,
                where_: printable(self.place, MAX_WHAT),
                what: format!("{left_out} more"),
                detail: rules::MANY_FINDINGS.why.to_owned(),
            });
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_stays_small_and_keeps_its_worst() {
        let mut ledger = Ledger::new("data.pkl");
        for at in 0..100_000u64 {
            ledger.note(rules::UNKNOWN_GLOBAL, &format!("a.B{at}"), at, String::new);
        }
        for at in 0..1000 {
            ledger.note(rules::PROCESS, "os.system", at, || "os.system()".to_owned());
        }
        let findings = ledger.close();
        assert_eq!(findings.len(), MAX_PER_PLACE + SHOWN_DANGEROUS + 1);
        let first = findings.iter().find(|f| f.rule == "process").unwrap();
        assert!(
            first.detail.ends_with("os.system() (found 1000 times)"),
            "{}",
            first.detail
        );
        assert_eq!(findings.last().unwrap().what, "99600 more");
    }
}
