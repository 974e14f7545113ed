//! What a checkpoint must be like to be converted.

use crate::{FacadeError, detect};
use ir::{Context, Format, Input, Model, Record, Result};
use scan::Severity;
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

/// Holds a model and the files it came from against a policy. Under `extract` the object tree of
/// a dangerous file is taken away, so that it reaches no output, and a record says so.
pub(crate) fn check(
    model: &mut Model,
    input: &Input,
    format: &'static Format,
    policy: Policy,
    allowed: &[String],
    cx: &Context,
) -> Result<()> {
    if let (Policy::Strict, Some(objects)) = (policy, &model.objects) {
        let names = scan::outside_weights_only(objects, allowed);
        if !names.is_empty() {
            return Err(FacadeError::OutsideWeightsOnly { names }.into());
        }
    }
    let dangers = dangers(model, input, format, cx)?;
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
    let why = format!(
        "the file is dangerous: loading it elsewhere would {findings}; nothing of it was executed"
    );
    let record = Record::dropped("dangerous", "the Python object tree", why);
    model
        .provenance
        .records
        .push(record.flag("--policy extract").wanted());
    Ok(())
}

/// What loading the files of a model would reach, each once: all that `scan` would find in them,
/// in pickles that the tensors are not in too.
fn dangers(
    model: &Model,
    input: &Input,
    format: &'static Format,
    cx: &Context,
) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    // A wrong checksum reaches nothing: to hold the entries against theirs would be to read them all.
    let mut cx = cx.clone();
    cx.limits.summed_bytes = 0;
    let files = &model.provenance.files;
    let alone = files.len() <= 1;
    for (path, _) in files {
        cx.cancel.check()?;
        // The input is open already, and may be a stream that cannot be opened again.
        let file = if alone {
            input.clone()
        } else {
            cx.places.open(path)?
        };
        if file.region().is_none() {
            continue;
        }
        // A set is of another format than its files.
        let format = detect(&file).map_or(format, |detected| detected.format);
        // Formats that hold no code have nothing to find.
        let Some(reader) = format.reader.filter(|_| format.id == ckpt::FORMAT.id) else {
            continue;
        };
        let judgement = scan::judge(&reader.survey(&file, &cx));
        let bad = judgement
            .findings
            .into_iter()
            .filter(|f| f.severity == Severity::Dangerous);
        for finding in bad {
            if !found.contains(&finding.what) {
                found.push(finding.what);
            }
        }
    }
    Ok(found)
}
