//! Operators of TensorFlow graphs: those that reach outside the model.
//!
//! The text has a line for each operator: its name, the node's name and short texts among its
//! attributes, with tabs between.

use crate::ledger::Ledger;
use crate::rules;

/// Operators that read, write or list files, start programs' own functions or talk to others.
const OUTSIDE: &[(&str, &str)] = &[
    ("DebugGradientIdentity", "sends values to an address"),
    ("DebugIdentity", "sends values to an address"),
    ("DebugIdentityV2", "sends values to an address"),
    ("FixedLengthRecordReader", "reads files"),
    ("FixedLengthRecordReaderV2", "reads files"),
    ("LMDBReader", "reads files"),
    ("MatchingFiles", "lists files"),
    ("ReadFile", "reads a file"),
    ("RpcCall", "talks to an address"),
    ("SnapshotDataset", "writes files"),
    ("SnapshotDatasetV2", "writes files"),
    ("TextLineDataset", "reads files"),
    ("TextLineReader", "reads files"),
    ("TextLineReaderV2", "reads files"),
    ("TFRecordReader", "reads files"),
    ("TFRecordReaderV2", "reads files"),
    ("WholeFileReader", "reads files"),
    ("WholeFileReaderV2", "reads files"),
    ("WriteFile", "writes a file"),
    ("WriteAudioSummary", "writes files"),
    ("WriteGraphSummary", "writes files"),
    ("WriteRawProtoSummary", "writes files"),
    ("WriteSummary", "writes files"),
];

/// Operators that call functions of the process, which the file can only name by a token.
const CALLING: &[&str] = &["EagerPyFunc", "PyFunc", "PyFuncStateless"];

/// Judges a list of operators.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    for line in text.lines() {
        let mut parts = line.split('\t');
        let op = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        if let Some((_, does)) = OUTSIDE.iter().find(|(name, _)| *name == op) {
            let more = format!("{does}: node {}", rest.join(", "));
            ledger.note(rules::TENSORFLOW_FILE_ACCESS, op, 0, || more);
        } else if CALLING.contains(&op) {
            let more = format!("node {}", rest.join(", "));
            ledger.note(rules::TENSORFLOW_PYTHON, op, 0, || more);
        }
    }
}
