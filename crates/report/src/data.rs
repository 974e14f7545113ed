//! What a page about a model is made from.

use serde::Serialize;

/// Everything a page about a model tells.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelPage {
    /// The model's name, for the title.
    pub title: String,
    /// What was read, as the user named it.
    pub source: String,
    /// The format, in words.
    pub format: String,
    /// Its version and container, in words; may be empty.
    pub version: String,
    /// The files the model lies in.
    pub files: Vec<FileRow>,
    /// Numbers in all tensors, ties counted once.
    pub parameters: u64,
    /// Bytes of all tensors, ties counted once.
    pub bytes: u64,
    /// What matters most of the metadata and the configuration, in order.
    pub facts: Vec<Fact>,
    /// All metadata.
    pub metadata: Vec<Fact>,
    /// The tensors, in the model's order.
    pub tensors: Vec<TensorRow>,
    /// The graph, where there is one.
    pub graph: Option<Graph>,
    /// What the values are like, where they were read.
    pub values: Option<ValueSection>,
    /// How far the values are from those of another model.
    pub comparison: Option<Comparison>,
    /// What the files would do to those who load them elsewhere.
    pub scan: Scan,
    /// What the reader chose, changed and left out.
    pub reading: Vec<RecordRow>,
    /// Remarks of the reader.
    pub notes: Vec<String>,
    /// The account of the conversion that made the model.
    pub conversion: Option<Conversion>,
}

/// A file and its size.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileRow {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// A key and its value.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fact {
    /// The key.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

/// A tensor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TensorRow {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// How many numbers it holds.
    pub elements: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// The earlier tensor that is the very same; its bytes count there.
    pub tied_to: Option<String>,
    /// What its values are like.
    pub values: Option<Values>,
}

/// What values are like.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Values {
    /// How many were read.
    pub read: u64,
    /// Of those, how many are no numbers.
    pub nan: u64,
    /// How many are infinite.
    pub infinite: u64,
    /// How many are zero.
    pub zeros: u64,
    /// The smallest finite one.
    pub min: f64,
    /// The largest finite one.
    pub max: f64,
    /// The mean of the finite ones.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// How they spread; none where all are one value.
    pub histogram: Option<Histogram>,
}

/// How values spread over a range.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Histogram {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last one ends.
    pub high: f64,
    /// How many values each bin of the same width has.
    pub bins: Vec<u64>,
    /// Finite values outside the range.
    pub outside: u64,
}

/// Values by what tensors do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ValueSection {
    /// Which values were read, in words.
    pub rule: String,
    /// Whether any tensor was read in part only.
    pub sampled: bool,
    /// Values by role, the largest first.
    pub roles: Vec<RoleValues>,
}

/// The values of all tensors of one role.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoleValues {
    /// The role: a tensor's name without its layer.
    pub role: String,
    /// How many tensors.
    pub tensors: u64,
    /// What their values are like.
    pub values: Values,
}

/// How far a model's values are from another's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The other, as the user named it.
    pub against: String,
    /// Whose names both were compared under, in words.
    pub names: String,
    /// How many tensors both have.
    pub compared: u64,
    /// Tensors that could be compared, exact ones included, in the model's order.
    pub rows: Vec<ErrorRow>,
    /// Tensors that both have and that cannot be set against each other, with the reason.
    pub unlike: Vec<Fact>,
    /// Names only this model has.
    pub only_here: Vec<String>,
    /// Names only the other has.
    pub only_there: Vec<String>,
}

/// The error of one tensor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ErrorRow {
    /// Its name.
    pub name: String,
    /// Its type in the other model.
    pub from: String,
    /// Its type in this one.
    pub to: String,
    /// How many numbers it holds.
    pub elements: u64,
    /// Root of the mean square difference.
    pub rmse: f64,
    /// Largest difference.
    pub max_abs: f64,
    /// The difference relative to the other's values, both as roots of mean squares.
    pub relative: f64,
}

/// What `scan` says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scan {
    /// Why nothing was scanned, where nothing was.
    pub skipped: Option<String>,
    /// A verdict a file.
    pub files: Vec<ScannedFile>,
}

/// One file's verdict.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScannedFile {
    /// Its path.
    pub path: String,
    /// `dangerous`, `suspicious`, `clean` or `malformed`.
    pub verdict: String,
    /// What it rests on.
    pub findings: Vec<FindingRow>,
    /// Why the file could not be read, where it could not.
    pub error: Option<String>,
}

/// One finding.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FindingRow {
    /// `dangerous` or `suspicious`.
    pub severity: String,
    /// The rule's id.
    pub rule: String,
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
    /// Why it matters.
    pub detail: String,
}

/// One thing that was carried, changed or dropped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecordRow {
    /// `carried`, `changed` or `dropped`.
    pub outcome: String,
    /// A word for scripts.
    pub kind: String,
    /// The tensor, key or subtree.
    pub what: String,
    /// Why.
    pub why: String,
    /// The flag that changes it.
    pub flag: Option<String>,
    /// Whether something is lost by it.
    pub loss: bool,
}

/// The account of a conversion.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Conversion {
    /// What was read.
    pub input: String,
    /// What was written.
    pub output: String,
    /// The format before.
    pub from: String,
    /// The format after.
    pub to: String,
    /// Tensors written.
    pub tensors: u64,
    /// Bytes of tensors written.
    pub bytes: u64,
    /// How long it took, where that is told.
    pub seconds: Option<f64>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Everything that was not simply copied.
    pub records: Vec<RecordRow>,
}

/// A graph in short.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Graph {
    /// Names of what is fed.
    pub inputs: Vec<String>,
    /// Names of what comes out.
    pub outputs: Vec<String>,
    /// How many nodes.
    pub nodes: u64,
    /// Operators and how often each stands in it, the most frequent first.
    pub operators: Vec<(String, u64)>,
}
