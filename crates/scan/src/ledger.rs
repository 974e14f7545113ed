//! Findings as they come in, each kept short and their number bounded, whatever the file holds.

use crate::render::printable;
use crate::rules::{self, Rule};
use crate::{Finding, Severity};
use ir::ObjectId;
use std::collections::HashMap;
use std::fmt::Write as _;

/// How often one dangerous thing is shown: each call has its own arguments.
const SHOWN_DANGEROUS: usize = 16;
/// How many findings of one severity a place may have.
const MAX_PER_PLACE: usize = 400;
/// Objects of which it is remembered what was shown, once nothing more is: to remember a million
/// would take more than the objects themselves.
const SUBJECTS: usize = 10_000;
/// How long the name of a thing may be.
const MAX_WHAT: usize = 200;

/// The findings of one place.
pub(crate) struct Ledger<'a> {
    place: &'a str,
    findings: Vec<Finding>,
    seen: Vec<Seen>,
    /// Where each thing is in `seen`. For looking up only, like the next.
    by_name: HashMap<(&'static str, String), usize>,
    /// The same for objects of which nothing more is shown; `None` if nothing ever was.
    by_subject: HashMap<(&'static str, ObjectId), Option<usize>>,
    shown: [usize; 2],
    left_out: [u64; 2],
}

struct Seen {
    first: usize,
    times: usize,
    shown: usize,
}

/// Whether more findings of the same thing would be shown.
enum After {
    Shown,
    Full(Option<usize>),
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(place: &'a str) -> Self {
        Self {
            place,
            findings: Vec::new(),
            seen: Vec::new(),
            by_name: HashMap::new(),
            by_subject: HashMap::new(),
            shown: [0; 2],
            left_out: [0; 2],
        }
    }

    /// Notes a finding at an offset. Its detail is the rule's reason and what `more` adds, which
    /// is asked for only if the finding is shown.
    pub(crate) fn note(&mut self, rule: Rule, what: &str, at: u64, more: impl FnOnce() -> String) {
        self.enter(rule, what, at, more);
    }

    /// The same for an object that many findings are about: its name is asked for only while they
    /// are shown.
    pub(crate) fn note_of(
        &mut self,
        subject: ObjectId,
        rule: Rule,
        what: impl FnOnce() -> String,
        at: u64,
        more: impl FnOnce() -> String,
    ) {
        let key = (rule.id, subject);
        match self.by_subject.get(&key) {
            Some(Some(seen)) => {
                if let Some(seen) = self.seen.get_mut(*seen) {
                    seen.times += 1;
                }
            }
            Some(None) => self.leave_out(rule),
            None => {
                if let After::Full(seen) = self.enter(rule, &what(), at, more)
                    && self.by_subject.len() < SUBJECTS
                {
                    self.by_subject.insert(key, seen);
                }
            }
        }
    }

    fn enter(&mut self, rule: Rule, what: &str, at: u64, more: impl FnOnce() -> String) -> After {
        let cap = match rule.severity {
            Severity::Dangerous => SHOWN_DANGEROUS,
            Severity::Suspicious => 1,
        };
        let key = (rule.id, printable(what, MAX_WHAT));
        let known = self.by_name.get(&key).copied();
        if let Some(at) = known
            && let Some(seen) = self.seen.get_mut(at)
        {
            seen.times += 1;
            if seen.shown >= cap {
                return After::Full(known);
            }
            seen.shown += 1;
        }
        if self.is_full(rule) {
            self.leave_out(rule);
            return After::Full(None);
        }
        if let Some(shown) = self.shown.get_mut(slot(rule)) {
            *shown += 1;
        }
        let more = more();
        let detail = if more.is_empty() {
            rule.why.to_owned()
        } else {
            format!("{}: {more}", rule.why)
        };
        if known.is_none() {
            self.by_name.insert(key.clone(), self.seen.len());
            self.seen.push(Seen {
                first: self.findings.len(),
                times: 1,
                shown: 1,
            });
        }
        self.findings.push(Finding {
            severity: rule.severity,
            rule: rule.id,
            where_: format!("{}, byte {at}", printable(self.place, MAX_WHAT)),
            what: key.1,
            detail,
        });
        After::Shown
    }

    /// Whether no more findings of a rule's severity are shown.
    fn is_full(&self, rule: Rule) -> bool {
        self.shown
            .get(slot(rule))
            .is_none_or(|n| *n >= MAX_PER_PLACE)
    }

    fn leave_out(&mut self, rule: Rule) {
        if let Some(n) = self.left_out.get_mut(slot(rule)) {
            *n += 1;
        }
    }

    /// The findings in the order of the place, with a word on those not shown.
    pub(crate) fn close(mut self) -> Vec<Finding> {
        for seen in self.seen.iter().filter(|seen| seen.times > seen.shown) {
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

/// Dangerous and suspicious ones are counted apart.
fn slot(rule: Rule) -> usize {
    usize::from(rule.severity == Severity::Dangerous)
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
