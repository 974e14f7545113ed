//! Names of weights that an exporter hid in a graph.
//!
//! PyTorch's exporter keeps the names of parameters it uses as they are. A weight it has transposed
//! or folded is called `onnx::MatMul_123`; what module it belongs to is told by the node that takes
//! it, whose name (or whose output's) is the path of the module and the operator:
//! `/model/layers.0/mlp/up_proj/MatMul`.
//!
//! | node | input | name | stored |
//! |---|---|---|---|
//! | `MatMul`, `MatMulInteger` | 1 | `PATH.weight` | transposed |
//! | `QLinearMatMul` | 3 | `PATH.weight` | transposed |
//! | `MatMulNBits` | 1 | `PATH.weight` | |
//! | `QGemm` | 3 | `PATH.weight` | as `Gemm` |
//! | `Gemm` | 1 | `PATH.weight` | transposed unless `transB` is set |
//! | `Gemm` | 2 | `PATH.bias` | |
//! | `Conv`, `ConvTranspose` | 1, 2 | `PATH.weight`, `PATH.bias` | |
//! | `ConvInteger`, `QLinearConv` | 1, 3 | `PATH.weight` | |
//! | `Gather` | 0 | `PATH.weight` | |
//! | `LayerNormalization`, `GroupNormalization`, `InstanceNormalization`, `RMSNormalization` | 1, 2 | `PATH.weight`, `PATH.bias` | |
//! | `BatchNormalization` | 1 to 4 | `PATH.weight`, `.bias`, `.running_mean`, `.running_var` | |
//! | `Add` behind a weight of the same path | 0, 1 | `PATH.bias` | |
//!
//! A transposed matrix that is, number for number, one that a Gather takes rows of becomes a second
//! name of it: exporters write the head of a model out again that shares it with the embedding.
//!
//! A name that has the operator in it (`mlp.up_proj.MatMul.weight`) is that of the node at that path, and
//! the parameter's without it.
//!
//! A tensor that several modules take has the name of the first, in the order of the nodes; the
//! others are second names of it, and so are the names of copies (`Identity`) that an exporter made
//! of tensors it met twice. What two weights have a claim to, and a name that is taken, no tensor
//! gets: it keeps its own, which is a record.
//!
//! What an exporter wrote in another form than the module has it, the gates of an LSTM for one, is
//! in `spelled`.
//!
//! The newer exporter (`dynamo=True`) tells modules in a node's properties (`name_scopes`), of a
//! weight that it transposed the parameter it was (`folded`), and the parameters of each call
//! (`listed`). What the tracing one computed is in `computed`, what modules the tracing exporter's paths mean is in `traced`.
//!
//! A wrong name is worse than a raw one: what cannot be told has no name.

mod attention;
mod computed;
mod folded;
mod join;
mod kept;
mod listed;
mod nodes;
mod scene;
mod spelled;
mod told;
mod traced;

use super::same;
use super::transpose::transposed;
use attention::Join;
use ir::{
    MetaValue, Model, Payload, Record, Region, Result, Strides, Tensor, TensorId, TensorSpec,
    TensorTable, View, ns,
};
use kept::{fed, strip, turn};
use nodes::hidden;
use spelled::Parameter;
use std::collections::{BTreeMap, HashMap, HashSet};
use told::{By, Name, Told, tell};

/// Gives weights of a graph the names their modules have; the graph's own stay in the notes.
///
/// A graph that is kept (`keep_graph`) turns what was transposed back again, by nodes of its own.
pub fn recover_names(model: &mut Model, keep_graph: bool) -> Result<()> {
    let Some(graph) = &model.graph else {
        return Ok(());
    };
    let mut told = tell(&graph.body, &model.tensors);
    if keep_graph {
        // A caller of the graph may give another value for what is an input too, and the graph
        // computes with the parts it has.
        for id in fed(&graph.body) {
            if let Some(names) = told.names.get_mut(&id) {
                names.list.retain(|name| !name.transposed);
            }
        }
        told.joins.clear();
        told.zeros.clear();
    }
    let spelled = std::mem::take(&mut told.spelled.found);
    let mut work = Work::new(model, told);
    for (id, parameters) in spelled {
        match model.tensors.get(id) {
            Some(tensor) if !keep_graph => work.spell(id, tensor, &parameters),
            _ => drop(work.whole.insert(id)),
        }
    }
    for (id, tensor) in model.tensors.ids() {
        if keep_graph || !work.again(id, tensor, &model.tensors)? {
            work.take(id, tensor)?;
        }
    }
    work.finish(model)?;
    // What is there twice is written once, and what a graph takes in parts is one.
    if let Some(graph) = &mut model.graph {
        if keep_graph {
            turn(&mut graph.body, &work.turned)?;
        } else if !work.parts.is_empty() {
            strip(&mut graph.body);
        }
    }
    Ok(())
}

/// Tables of rows that heads are compared with: a model has one, or a few.
const TABLES: usize = 16;
/// Bytes of a bias that an exporter took away: wider layers than any.
const ZEROS: usize = 1 << 24;

/// A tensor that has more names than one.
struct Seconds {
    /// As it was, and what became of it.
    was: Tensor,
    now: TensorId,
    transposed: bool,
    /// Whether rows are taken of it.
    table: bool,
    names: Vec<Name>,
}

/// The table under better names, while it is made.
struct Work {
    told: Told,
    table: TensorTable,
    /// Names that are some tensor's.
    taken: HashSet<String>,
    /// Names that more than one weight has a claim to.
    claimed: HashSet<String>,
    /// Names that take the place of paths.
    instead: HashMap<TensorId, Name>,
    /// Tensors that are in a parameter of several and have no other name, with those that stand in
    /// their place.
    parts: HashMap<TensorId, Vec<Tensor>>,
    /// Parameters of several tensors that all have names.
    loose: Vec<Tensor>,
    /// Tensors that a graph which is kept takes as they are.
    whole: HashSet<TensorId>,
    seconds: Vec<Seconds>,
    tables: Vec<TensorId>,
    /// Tensors that lie the other way round now, with their names.
    turned: BTreeMap<TensorId, String>,
    records: Vec<Record>,
    notes: Vec<(String, String)>,
}

impl Work {
    fn new(model: &Model, told: Told) -> Self {
        // How many weights nodes give a name to; a folded one is what its exporter says.
        let mut claims: HashMap<&str, u64> = HashMap::new();
        for (id, tensor) in model.tensors.ids() {
            let first = told.names.get(&id).and_then(|names| names.list.first());
            if let Some(first) = first.filter(|_| hidden(&tensor.name)) {
                *claims.entry(&first.text).or_default() += u64::from(first.by != By::Fold);
            }
        }
        let (mut taken, mut instead) = (HashSet::new(), HashMap::new());
        for (id, tensor) in model.tensors.ids() {
            let names = told.names.get(&id).map_or(&[][..], |names| &names.list);
            if hidden(&tensor.name) {
                if names.is_empty() {
                    taken.insert(tensor.name.clone());
                }
                continue;
            }
            // Where a head shares the embedding's table, the table has the embedding's name.
            let head = told.products.contains(&id) || claims.contains_key(tensor.name.as_str());
            let better = names
                .iter()
                .find(|name| match name.by {
                    By::Fused | By::Operator => true,
                    By::Table => head,
                    _ => false,
                })
                .filter(|name| model.tensors.id_of(&name.text).is_none());
            match better {
                Some(name) => drop(instead.insert(id, name.clone())),
                None => drop(taken.insert(tensor.name.clone())),
            }
        }
        // Biases are told by their place behind a weight: the first is the one.
        let claimed = claims.into_iter();
        let claimed = claimed
            .filter(|(name, count)| *count > 1 && name.ends_with(".weight"))
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut work = Self {
            told,
            table: TensorTable::new(),
            taken,
            claimed,
            instead,
            parts: HashMap::new(),
            loose: Vec::new(),
            whole: HashSet::new(),
            seconds: Vec::new(),
            tables: Vec::new(),
            turned: BTreeMap::new(),
            records: Vec::new(),
            notes: Vec::new(),
        };
        for join in std::mem::take(&mut work.told.joins) {
            work.join(&join, model);
        }
        work
    }

    /// The parameters that a tensor holds in another form, all of them or none.
    fn spell(&mut self, id: TensorId, tensor: &Tensor, parameters: &[Parameter]) {
        let made: Option<Vec<Tensor>> = parameters.iter().map(|p| p.of(tensor)).collect();
        let free = |p: &Parameter| !self.taken.contains(&p.name) && !self.claimed.contains(&p.name);
        let Some(made) = made.filter(|_| parameters.iter().all(free)) else {
            return;
        };
        let names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        let what = format!("{} is {}", tensor.name, names.join(", "));
        let why = "its module has these numbers in another form: all are there, and only they";
        let record = Record::carried("recovered", what, why);
        self.records.push(record.flag("--raw-names"));
        for name in names {
            self.taken.insert(name.to_owned());
            self.notes.push((name.to_owned(), tensor.name.clone()));
        }
        self.parts.entry(id).or_default().extend(made);
    }

    /// A parameter that the graph has in parts.
    fn join(&mut self, join: &Join, model: &Model) {
        let parts = join.parts.iter().map(|id| model.tensors.get(*id));
        let Some(parts) = parts.collect::<Option<Vec<&Tensor>>>() else {
            return;
        };
        let turned = parts.iter().map(|part| {
            let name = Name {
                text: part.name.clone(),
                transposed: join.transposed,
                by: By::Node,
            };
            renamed(part, &name)
        });
        let turned: Option<Vec<Tensor>> = turned.collect();
        let Some(joined) = turned.and_then(|parts| join::join(&join.name, parts)) else {
            return;
        };
        if !self.taken.insert(join.name.clone()) {
            return;
        }
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let what = format!("{} are {}", names.join(", "), join.name);
        let why = "parts of one parameter of an attention, one behind the other again";
        let record = Record::carried("recovered", what, why);
        self.records.push(record.flag("--raw-names"));
        self.notes.push((join.name.clone(), names.join(" ")));
        let mut joined = Some(joined);
        for (id, part) in join.parts.iter().zip(&parts) {
            if hidden(&part.name) && !self.told.names.contains_key(id) {
                let place = self.parts.entry(*id).or_default();
                place.extend(joined.take());
            }
        }
        self.loose.extend(joined);
    }

    /// Whether a tensor is another copy of the one that has its name: an exporter computes a
    /// transposed weight for each of its calls.
    fn again(&mut self, id: TensorId, tensor: &Tensor, were: &TensorTable) -> Result<bool> {
        let names = self
            .told
            .names
            .get(&id)
            .map_or(&[][..], |names| &names.list);
        let free = |name: &&Name| !self.taken.contains(&name.text);
        if !hidden(&tensor.name) || self.parts.contains_key(&id) || names.iter().any(|n| free(&n)) {
            return Ok(false);
        }
        for name in names {
            let own = || were.by_name(&name.text);
            let known = self.table.by_name(&name.text).or_else(own);
            if let (Some(known), Some(copy)) = (known, renamed(tensor, name))
                && same::same(known, &copy)?
            {
                let what = format!("{} is {}, too", tensor.name, name.text);
                let why = "number for number that one, for another call of its module";
                let record = Record::carried("recovered", what, why);
                self.records.push(record.flag("--raw-names"));
                self.parts.insert(id, Vec::new());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, id: TensorId, tensor: &Tensor) -> Result<()> {
        if let Some(joined) = self.parts.get_mut(&id) {
            for tensor in std::mem::take(joined) {
                self.table.push(tensor)?;
            }
            return Ok(());
        }
        let names = self.told.names.remove(&id);
        let mut names = names.map(|names| names.list).unwrap_or_default();
        let mut better = self.instead.remove(&id);
        // What is given up for a better name is a module's name, too, but where the exporter made it.
        let made = |name: &Name| matches!(name.by, By::Fused | By::Operator);
        if better.is_some() && !names.iter().any(made) {
            names.push(Name {
                text: tensor.name.clone(),
                transposed: false,
                by: By::Node,
            });
        } else if hidden(&tensor.name) {
            let mut free = names.iter().filter(|name| {
                !self.taken.contains(&name.text) && !self.claimed.contains(&name.text)
            });
            better = free.find(|name| renamed(tensor, name).is_some()).cloned();
        }
        let transposed = better.as_ref().is_some_and(|name| name.transposed);
        let now = match better {
            Some(name) => self.rename(tensor, &name)?,
            None => self.leave(id, tensor, &names)?,
        };
        if let Some(of) = self.told.normalized.remove(&id)
            && let Some(known) = self.table.get(now).filter(|known| !hidden(&known.name))
        {
            let why = match of {
                Some(module) => format!(
                    "the exporter computed {module} into it: it has the numbers of both, and \
                     {module} no parameters of its own here"
                ),
                None => "the exporter computed it: it has the numbers of the normalization behind \
                     its layer, too"
                    .to_owned(),
            };
            let record = Record::carried("normalized", &known.name, why);
            self.records.push(record);
        }
        if self.told.tables.contains(&id) {
            self.tables.push(now);
        }
        if !names.is_empty() {
            self.seconds.push(Seconds {
                was: tensor.clone(),
                now,
                transposed,
                table: self.told.tables.contains(&id),
                names,
            });
        }
        Ok(())
    }

    fn rename(&mut self, tensor: &Tensor, name: &Name) -> Result<TensorId> {
        let how = match (name.transposed, name.by) {
            (true, _) => "named by the node that takes it, and transposed back",
            (false, By::Operator) => "named by its module, without the operator",
            (_, By::Fused) => "named after the weight that it belongs to",
            _ => "named by the node that takes it",
        };
        let what = format!("{} is {}", tensor.name, name.text);
        let record = Record::carried("recovered", what, how).flag("--raw-names");
        self.records.push(record);
        self.notes.push((name.text.clone(), tensor.name.clone()));
        self.taken.insert(name.text.clone());
        let now = renamed(tensor, name).unwrap_or_else(|| tensor.clone());
        let now = self.table.push(now)?;
        if name.transposed {
            self.turned.insert(now, name.text.clone());
        }
        Ok(now)
    }

    /// A tensor that keeps its name.
    fn leave(&mut self, id: TensorId, tensor: &Tensor, names: &[Name]) -> Result<TensorId> {
        self.taken.insert(tensor.name.clone());
        if self.told.rows.contains(&id)
            && let Some(tensor) = transposed(tensor, &tensor.name)
        {
            let why = "MatMulNBits has it as [N, K]: under its own name it is [K, N], as the \
                       MatMul has it that was quantized";
            let record = Record::carried("transposed", &tensor.name, why);
            self.records.push(record.flag("--raw-names"));
            return self.table.push(tensor);
        }
        if hidden(&tensor.name) && tensor.spec.shape.len() > 1 {
            let why = match names.first() {
                None if self.whole.contains(&id) => "its module has it in another form, and the \
                     graph that is kept computes with this one: it keeps its name"
                    .to_owned(),
                None if self.told.made.contains(&id) => {
                    "it was computed of parameters, and is none itself: it keeps its name"
                        .to_owned()
                }
                None => "no node tells which module it belongs to: it keeps its name".to_owned(),
                Some(name) if self.claimed.contains(&name.text) => format!(
                    "it is not the only weight of its module, {}: it keeps its name",
                    name.text.trim_end_matches(".weight")
                ),
                Some(name) => format!(
                    "{}, as its node calls it, is another tensor: it keeps its name",
                    name.text
                ),
            };
            let record = Record::carried("raw-name", &tensor.name, why);
            self.records.push(record.flag("--rename"));
        }
        self.table.push(tensor.clone())
    }

    /// Gives the model its table, ties it, and adds the second names.
    fn finish(&mut self, model: &mut Model) -> Result<()> {
        for tensor in std::mem::take(&mut self.loose) {
            self.table.push(tensor)?;
        }
        for (name, spec) in std::mem::take(&mut self.told.zeros) {
            let len = spec.byte_len().and_then(|n| usize::try_from(n).ok());
            let Some(len) = len.filter(|n| *n <= ZEROS && !self.taken.contains(&name)) else {
                continue;
            };
            let why = "the exporter lists this bias, and took it away as one of zeros";
            let record = Record::carried("recovered", &name, why);
            self.records.push(record.flag("--raw-names"));
            let zeros = View::contiguous(Region::memory(vec![0; len]));
            self.taken.insert(name.clone());
            self.table.push(Tensor::stored(name, spec, zeros))?;
        }
        model.tensors = std::mem::take(&mut self.table);
        for (name, raw) in std::mem::take(&mut self.notes) {
            let key = format!("onnx-name.{name}");
            model.metadata.set(ns::NOTE, key, MetaValue::text(raw));
        }
        let records = std::mem::take(&mut self.records);
        model.provenance.records.extend(records);
        self.tables.truncate(TABLES);
        same::tie(model, &self.turned.keys().copied().collect(), &self.tables)?;
        for seconds in std::mem::take(&mut self.seconds) {
            let Some(now) = model.tensors.get(seconds.now).cloned() else {
                continue;
            };
            for name in seconds.names {
                if self.taken.contains(&name.text) || self.claimed.contains(&name.text) {
                    continue;
                }
                let second = if name.transposed == seconds.transposed {
                    let name = name.text.clone();
                    Some(Tensor {
                        name,
                        ..now.clone()
                    })
                } else {
                    renamed(&seconds.was, &name)
                };
                let Some(second) = second else { continue };
                let head = seconds.table && name.by != By::Table;
                let record = if head {
                    let why = format!("one tensor with {}, which rows are taken of", now.name);
                    Record::carried("tied", &name.text, why).flag("--shared copy")
                } else {
                    let what = format!("{} is {}, too", now.name, name.text);
                    let why = "a second name of it: its module takes the same tensor";
                    Record::carried("recovered", what, why).flag("--raw-names")
                };
                model.provenance.records.push(record);
                self.taken.insert(name.text);
                model.tensors.push(second)?;
            }
        }
        Ok(())
    }
}

/// The tensor under its module's name. None for numbers of parts of bytes, which cannot be looked at
/// crosswise.
fn renamed(tensor: &Tensor, found: &Name) -> Option<Tensor> {
    if !found.transposed {
        return Some(Tensor {
            name: found.text.clone(),
            ..tensor.clone()
        });
    }
    let &[rows, columns] = &tensor.spec.shape[..] else {
        return None;
    };
    let whole = tensor.spec.dtype.element_bytes().is_some();
    let Some(plain) = tensor.as_plain().filter(|_| whole) else {
        return transposed(tensor, &found.text);
    };
    let view = View {
        strides: Some(Strides::new([1, columns])),
        ..View::contiguous(plain)
    };
    Some(Tensor {
        name: found.text.clone(),
        spec: TensorSpec::new(tensor.spec.dtype, [columns, rows]),
        payload: Payload::Stored(view),
    })
}

#[cfg(test)]
mod tests;
