//! What a checkpoint must be like to be converted.

use crate::FacadeError;
use ir::{Model, Outcome, Record, Result};
use std::str::FromStr;

/// How strict to be with pickles. None of them executes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Tensors from any checkpoint but a dangerous one.
    #[default]
    Default,
    /// Only what PyTorch's `weights_only` loader would accept.
    Strict,
    /// Tensors even from a dangerous file.
    Extract,
}

impl Policy {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Strict => "strict",
            Self::Extract => "extract",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "strict" => Ok(Self::Strict),
            "extract" => Ok(Self::Extract),
            other => Err(format!("{other:?} is not default, strict or extract")),
        }
    }
}

/// Most findings an error message lists.
const SHOWN: usize = 5;

/// Holds a model against a policy. Under `extract` a dangerous object tree is taken away, so that
/// it reaches no output, and a record says so.
pub(crate) fn check(model: &mut Model, policy: Policy, allowed: &[String]) -> Result<()> {
    let Some(objects) = &model.objects else {
        return Ok(());
    };
    if policy == Policy::Strict {
        let names = scan::outside_weights_only(objects, allowed);
        if !names.is_empty() {
            return Err(FacadeError::OutsideWeightsOnly { names }.into());
        }
    }
    let mut dangers: Vec<String> = scan::judge_objects(objects, "")
        .into_iter()
        .filter(|finding| finding.severity == scan::Severity::Dangerous)
        .map(|finding| finding.what)
        .collect();
    dangers.dedup();
    if dangers.is_empty() {
        return Ok(());
    }
    let mut findings: Vec<String> = dangers
        .iter()
        .take(SHOWN)
        .map(|what| format!("reach {what}"))
        .collect();
    if dangers.len() > SHOWN {
        findings.push(format!("and {} more", dangers.len() - SHOWN));
    }
    let findings = findings.join(", ");
    if policy != Policy::Extract {
        return Err(FacadeError::Dangerous { findings }.into());
    }
    model.objects = None;
    let why = format!("loading it elsewhere would {findings}; nothing of it was executed");
    let record =
        Record::dropped("dangerous", "the Python object tree", why).flag("--policy extract");
    debug_assert_eq!(record.outcome, Outcome::Dropped);
    model.provenance.records.push(record.wanted());
    Ok(())
}
