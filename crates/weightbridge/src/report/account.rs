//! Reading the account of a conversion: what `convert --json` and `quantize --json` print.

use crate::FacadeError;
use ::report::{Conversion, RecordRow};
use ir::{Error, Limits, Region, Result};
use serde_json::Value;
use std::path::Path;

/// Most bytes of an account.
const ACCOUNT_MAX: u64 = 256 << 20;

pub(super) fn read(path: &Path) -> Result<Conversion> {
    let read = || {
        let region = Region::open(path)?;
        Limits::check("bytes of an account", region.len(), ACCOUNT_MAX)?;
        let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
        parse(&bytes)
    };
    read().map_err(|error: Error| error.in_file(path))
}

fn parse(bytes: &[u8]) -> Result<Conversion> {
    let no = |why: String| Error::from(FacadeError::NotAnAccount { why });
    let document: Value = serde_json::from_slice(bytes).map_err(|error| no(error.to_string()))?;
    let text = |value: &Value, key: &str| {
        let value = value.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let mut done = Conversion {
        input: text(&document, "input"),
        output: text(&document, "output"),
        from: text(&document, "from"),
        to: text(&document, "to"),
        tensors: number(&document, "tensor_count"),
        bytes: number(&document, "nbytes"),
        seconds: document.get("seconds").and_then(Value::as_f64),
        dry_run: document
            .get("dry_run")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        records: Vec::new(),
    };
    if let Some(records) = document.get("report").and_then(Value::as_array) {
        done.records.extend(records.iter().map(record));
        return Ok(done);
    }
    // quantize: an account for each type.
    let outputs = document.get("outputs").and_then(Value::as_array);
    let outputs =
        outputs.ok_or_else(|| no("it has neither \"report\" nor \"outputs\"".to_owned()))?;
    "gguf".clone_into(&mut done.from);
    let join = |key: &str| {
        outputs
            .iter()
            .map(|one| text(one, key))
            .collect::<Vec<_>>()
            .join(", ")
    };
    (done.output, done.to) = (join("output"), join("type"));
    for one in outputs {
        let list = |key: &str| one.get(key).and_then(Value::as_array).into_iter().flatten();
        done.records.extend(list("report").map(record));
        for tensor in list("tensors") {
            done.tensors = done.tensors.saturating_add(1);
            done.bytes = done.bytes.saturating_add(number(tensor, "nbytes_after"));
        }
    }
    Ok(done)
}

fn record(value: &Value) -> RecordRow {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    RecordRow {
        outcome: text("outcome").unwrap_or_default(),
        kind: text("kind").unwrap_or_default(),
        what: text("what").unwrap_or_default(),
        why: text("why").unwrap_or_default(),
        flag: text("flag"),
        loss: value.get("loss").and_then(Value::as_bool).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_both_commands() {
        let convert = br#"{"input":"a.pt","output":"b.gguf","from":"ckpt","to":"gguf","seconds":1.5,
            "report":[{"outcome":"dropped","kind":"left-out","what":"opt","why":"w","loss":true}]}"#;
        let done = parse(convert).unwrap();
        assert_eq!((done.from.as_str(), done.records.len()), ("ckpt", 1));
        assert!(done.records[0].loss && done.records[0].flag.is_none());
        let quantize = br#"{"input":"a.gguf","outputs":[{"type":"Q4_K_M","output":"b.gguf",
            "tensors":[{"nbytes_after":7}],"report":[]}]}"#;
        let done = parse(quantize).unwrap();
        assert_eq!(
            (done.to.as_str(), done.tensors, done.bytes),
            ("Q4_K_M", 1, 7)
        );
        for bad in [&b"{}"[..], b"[1]", b"no", b""] {
            assert_eq!(parse(bad).unwrap_err().class(), ir::Class::Malformed);
        }
    }
}
