//! Parameters that an exporter wrote otherwise than their module has them.
//!
//! | module | the graph has | the module has |
//! |---|---|---|
//! | `LSTM`, `GRU`, `RNN` | `W [D, G*H, I]` | `weight_ih_lK`, `weight_ih_lK_reverse`: `[G*H, I]`, the gates in another order |
//! | | `R [D, G*H, H]` | `weight_hh_lK`, … |
//! | | `B [D, 2*G*H]` | `bias_ih_lK`, `bias_hh_lK`, … |
//! | `PReLU` | `[C, 1, 1]` | `weight [C]` |
//! | `GroupNorm`, as an `InstanceNormalization` of ones and zeros | `Mul` by `[C, 1, 1]`, `Add` of it | `weight [C]`, `bias [C]` |
//! | `Bilinear` | `MatMul` by `[I, O*J]` | `weight [O, I, J]` |
//! | `MultiheadAttention` | `[1, N, E]`, one row again and again | `bias_k`, `bias_v`: `[1, 1, E]` |
//!
//! All of them are the tensor's own numbers in another place; what is not, keeps its name.

use super::folded::folds;
use super::join::{join, part};
use super::listed::Listed;
use super::nodes::{called, hidden};
use super::scene::Scene;
use ir::{AttributeValue, DType, Node, Strides, Tensor, TensorId, TensorSpec, ValueId, View};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bytes of a repeated row that are compared.
const REPEATED: u64 = 1 << 20;
/// Dimensions of what a Bilinear gives.
const RANK: u64 = 64;
/// Parameters of one tensor: exporters write equal ones once, and a file could ask for any number.
const SHARED: usize = 64;

/// A parameter that is in a tensor of the graph.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Parts of the tensor, one behind the other: where each starts, and the shape of each.
    Parts(Vec<u64>, Vec<u64>),
    /// The first numbers, in this shape.
    Head(Vec<u64>),
    /// `[I, O*J]` as `[O, I, J]`, by `O`.
    Bilinear(u64),
}

impl Parameter {
    /// The parameter itself; none for a tensor that cannot be taken apart.
    pub(super) fn of(&self, tensor: &Tensor) -> Option<Tensor> {
        match &self.form {
            Form::Parts(starts, shape) => {
                let parts = starts.iter().map(|start| part(tensor, *start, shape));
                join(&self.name, parts.collect::<Option<Vec<Tensor>>>()?)
            }
            Form::Head(shape) => {
                let head = part(tensor, 0, shape)?;
                let name = self.name.clone();
                Some(Tensor { name, ..head })
            }
            Form::Bilinear(out) => {
                let &[rows, columns] = &tensor.spec.shape[..] else {
                    return None;
                };
                let across = columns.checked_div(*out)?;
                tensor.dtype().element_bytes()?;
                let view = View {
                    strides: Some(Strides::new([across, columns, 1])),
                    ..View::contiguous(tensor.as_plain()?)
                };
                let spec = TensorSpec::new(tensor.dtype(), [*out, rows, across]);
                Some(Tensor::stored(self.name.as_str(), spec, view))
            }
        }
    }
}

/// By tensor, what parameters are in it.
#[derive(Default)]
pub(super) struct Spelled {
    pub(super) found: BTreeMap<TensorId, Vec<Parameter>>,
}

impl Spelled {
    pub(super) fn find(scene: &Scene<'_>) -> Self {
        let mut found = Self::default();
        let makers: HashMap<ValueId, &Node> = scene
            .nodes()
            .flat_map(|(_, node, _)| node.outputs.iter().flatten().map(move |id| (*id, node)))
            .collect();
        let first = |node: &Node| node.inputs.first().copied().flatten();
        let takers: HashMap<ValueId, &Node> = scene
            .nodes()
            .filter_map(|(_, node, _)| Some((first(node)?, node)))
            .collect();
        let mut looked_at = HashSet::new();
        let mut layers: HashMap<&str, Vec<TensorId>> = HashMap::new();
        for (_, node, path) in scene.nodes().filter(|(_, node, _)| node.domain.is_empty()) {
            match node.op.as_str() {
                "LSTM" | "GRU" | "RNN" => found.recurrent(node, path, &mut layers, scene),
                "PRelu" => found.slope(node, path, scene),
                "Mul" | "Add" => found.group(node, path, &makers, scene),
                "MatMul" => found.bilinear(node, &makers, &takers, scene),
                "Concat" => found.repeated(node, &mut looked_at, scene),
                _ => {}
            }
        }
        found
    }

    pub(super) fn has(&self, id: TensorId) -> bool {
        self.found.contains_key(&id)
    }

    fn add(&mut self, id: TensorId, name: String, form: Form) {
        let list = self.found.entry(id).or_default();
        // Another call of a module has its number: `a.norm_1.weight` is `a.norm.weight` again.
        let first = name.rsplit_once('.').and_then(|(module, leaf)| {
            let module = called(module)?;
            Some(format!("{module}.{leaf}"))
        });
        let known = |p: &Parameter| p.name == name || Some(&p.name) == first.as_ref();
        if list.len() < SHARED && !list.iter().any(known) {
            list.push(Parameter { name, form });
        }
    }

    fn recurrent<'a>(
        &mut self,
        node: &Node,
        path: Option<&'a str>,
        layers: &mut HashMap<&'a str, Vec<TensorId>>,
        scene: &Scene<'_>,
    ) {
        // PyTorch's order of gates, each by its place in ONNX's: `iofc` and `zrh`.
        let order: &[u64] = match node.op.as_str() {
            "LSTM" => &[0, 2, 3, 1],
            "GRU" if node.int("linear_before_reset") == Some(1) => &[1, 0, 2],
            "RNN" => &[0],
            _ => return,
        };
        let gates = order.len() as u64;
        let ends: &[&str] = match node.attribute("direction") {
            None => &[""],
            Some(AttributeValue::Str(text)) if text[..] == b"forward"[..] => &[""],
            Some(AttributeValue::Str(text)) if text[..] == b"bidirectional"[..] => {
                &["", "_reverse"]
            }
            _ => return,
        };
        let input = |at: usize| node.inputs.get(at).copied().flatten();
        let Some(wide) = node.int("hidden_size").and_then(|n| u64::try_from(n).ok()) else {
            return;
        };
        // The newer exporter cuts an LSTM with a projection down: its cell is wider than what it gives.
        let cell = scene.source(input(6)).map(|(_, cell)| cell);
        if cell.is_some_and(|cell| cell.spec.shape.last() != Some(&wide)) {
            return;
        }
        let Some((weight, tensor)) = scene.source(input(1)) else {
            return;
        };
        let Some(rows) = gates.checked_mul(wide).filter(|rows| *rows > 0) else {
            return;
        };
        let Some((module, layer)) = folded_layer(input(1), scene).or_else(|| {
            counted_layer(node, path, weight.id, layers).filter(|_| hidden(&tensor.name))
        }) else {
            return;
        };
        let dot = if module.is_empty() { "" } else { "." };
        // What code computed of a parameter is listed under the name of its operator.
        let first = format!("{module}{dot}weight_ih_l{layer}");
        if Listed::of(node).is_some_and(|listed| !listed.has(&first)) {
            return;
        }
        for (slot, leaf) in [(1, "weight_ih"), (2, "weight_hh")] {
            let Some((source, tensor)) = scene.source(input(slot)) else {
                continue;
            };
            let &[ways, all, across] = &tensor.spec.shape[..] else {
                continue;
            };
            if ways != ends.len() as u64 || all != rows || source.turned || !hidden(&tensor.name) {
                continue;
            }
            let Some(block) = wide.checked_mul(across) else {
                continue;
            };
            for (way, end) in (0..).zip(ends) {
                let starts = order.iter().map(|gate| (way * gates + gate) * block);
                let form = Form::Parts(starts.collect(), vec![wide, across]);
                self.add(
                    source.id,
                    format!("{module}{dot}{leaf}_l{layer}{end}"),
                    form,
                );
            }
        }
        let Some((source, tensor)) = scene.source(input(3)) else {
            return;
        };
        let shape = [Some(ends.len() as u64), rows.checked_mul(2)];
        let fits = tensor.spec.shape.iter().map(|n| Some(*n)).eq(shape);
        if !fits || !hidden(&tensor.name) || !bears(input(3), "bias_ih_l", scene) {
            return;
        }
        for (way, end) in (0..).zip(ends) {
            for (half, leaf) in [(0, "bias_ih"), (1, "bias_hh")] {
                let first = (way * 2 + half) * rows;
                let starts = order.iter().map(|gate| first + gate * wide);
                let form = Form::Parts(starts.collect(), vec![wide]);
                self.add(
                    source.id,
                    format!("{module}{dot}{leaf}_l{layer}{end}"),
                    form,
                );
            }
        }
    }

    /// A tensor of one number for each channel.
    fn channels(
        &mut self,
        node: &Node,
        input: Option<ValueId>,
        path: Option<&str>,
        leaf: &str,
        scene: &Scene<'_>,
    ) {
        let Some((source, tensor)) = scene.source(input) else {
            return;
        };
        let shape = &tensor.spec.shape;
        let several = shape.iter().filter(|n| **n != 1).count();
        if several > 1 || source.turned || !hidden(&tensor.name) || !tensor.dtype().is_float() {
            return;
        }
        let dot = format!(".{leaf}");
        let folded = folded_one(input, scene).filter(|name| name.ends_with(&dot));
        let own = path.map(|path| format!("{path}{dot}"));
        // The newer exporter lists what is a parameter: a module without any has ones and zeros.
        let name = match (Listed::of(node), own) {
            (Some(listed), own) => [own, folded].into_iter().flatten().find(|n| listed.has(n)),
            (None, own) => folded.or(own),
        };
        if let (Some(name), Some(count)) = (name, tensor.spec.elements()) {
            self.add(source.id, name, Form::Head(vec![count]));
        }
    }

    fn slope(&mut self, node: &Node, path: Option<&str>, scene: &Scene<'_>) {
        let input = node.inputs.get(1).copied().flatten();
        self.channels(node, input, path, "weight", scene);
    }

    fn group(
        &mut self,
        node: &Node,
        path: Option<&str>,
        makers: &HashMap<ValueId, &Node>,
        scene: &Scene<'_>,
    ) {
        let normed = |id: &ValueId| {
            let reshape = makers.get(id).filter(|node| node.op == "Reshape");
            let before = reshape.and_then(|node| node.inputs.first().copied().flatten());
            let maker = before.and_then(|id| makers.get(&id));
            maker.is_some_and(|node| node.op == "InstanceNormalization")
        };
        let scaled = |id: &ValueId| {
            let mul = makers.get(id).filter(|node| node.op == "Mul");
            mul.is_some_and(|node| node.inputs.iter().flatten().any(normed))
        };
        let [Some(one), Some(other)] = node.inputs[..] else {
            return;
        };
        let fits = |id: &ValueId| {
            if node.op == "Mul" {
                normed(id)
            } else {
                scaled(id)
            }
        };
        let parameter = match (fits(&one), fits(&other)) {
            (true, false) => other,
            (false, true) => one,
            _ => return,
        };
        let leaf = if node.op == "Mul" { "weight" } else { "bias" };
        self.channels(node, Some(parameter), path, leaf, scene);
    }

    /// The newer exporter: a product with all matrices at once, then one with the other input.
    fn bilinear(
        &mut self,
        node: &Node,
        makers: &HashMap<ValueId, &Node>,
        takers: &HashMap<ValueId, &Node>,
        scene: &Scene<'_>,
    ) {
        let input = node.inputs.get(1).copied().flatten();
        let Some((source, tensor)) = scene.source(input) else {
            return;
        };
        let (Some(name), &[_, columns]) = (folded_one(input, scene), &tensor.spec.shape[..]) else {
            return;
        };
        let taker = |node: &Node| {
            takers
                .get(&node.outputs.first().copied().flatten()?)
                .copied()
        };
        let Some(reshape) = taker(node).filter(|node| node.op == "Reshape") else {
            return;
        };
        let second = taker(reshape).filter(|node| node.op == "MatMul");
        let other = second.and_then(|node| node.inputs.get(1).copied().flatten());
        let other = other.and_then(|id| makers.get(&id));
        if !name.ends_with(".weight") || other.is_none_or(|node| node.op != "Unsqueeze") {
            return;
        }
        if Listed::of(node).is_some_and(|listed| !listed.has(&name)) {
            return;
        }
        let shape = scene.source(reshape.inputs.get(1).copied().flatten());
        let few = |shape: &Tensor| matches!(shape.spec.shape[..], [2..=RANK]);
        let shape = shape.filter(|(_, shape)| shape.dtype() == DType::I64 && few(shape));
        let shape = shape.and_then(|(_, shape)| shape.read_all().ok());
        let sizes = shape.unwrap_or_default();
        let sizes: Vec<i64> = sizes
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect();
        // The dimensions of the inputs stand before.
        if let [.., many, across] = sizes[..]
            && let (Ok(many), Ok(across)) = (u64::try_from(many), u64::try_from(across))
            && many > 0
            && many.checked_mul(across) == Some(columns)
            && !source.turned
        {
            self.add(source.id, name, Form::Bilinear(many));
        }
    }

    /// The newer exporter: a row that it wrote as many times as there are samples.
    fn repeated(&mut self, node: &Node, looked_at: &mut HashSet<TensorId>, scene: &Scene<'_>) {
        for input in node.inputs.iter().copied() {
            let Some((source, tensor)) = scene.source(input) else {
                continue;
            };
            let name = folded_one(input, scene);
            let name = name.filter(|n| n.ends_with(".bias_k") || n.ends_with(".bias_v"));
            let (Some(name), &[one, _, wide]) = (name, &tensor.spec.shape[..]) else {
                continue;
            };
            let many = tensor.spec.byte_len().is_none_or(|n| n > REPEATED);
            let row = tensor
                .dtype()
                .byte_len(wide)
                .and_then(|n| usize::try_from(n).ok());
            if one != 1 || many || !looked_at.insert(source.id) {
                continue;
            }
            if let (Some(row), Ok(bytes)) = (row.filter(|n| *n > 0), tensor.read_all())
                && bytes
                    .chunks(row)
                    .all(|other| Some(other) == bytes.get(..row))
            {
                self.add(source.id, name, Form::Head(vec![1, 1, wide]));
            }
        }
    }
}

/// The names that the newer exporter computed an input from, those of values left out.
fn folded_names<'a>(input: Option<ValueId>, scene: &Scene<'a>) -> Vec<&'a str> {
    let value = input.and_then(|id| scene.body.value(id));
    value.and_then(folds).unwrap_or_default()
}

/// The one parameter of a module that an input was computed from, sizes left out.
fn folded_one(input: Option<ValueId>, scene: &Scene<'_>) -> Option<String> {
    let names = folded_names(input, scene);
    let mut names = names.into_iter().filter(|name| !hidden(name));
    let name = names.next()?;
    names.next().is_none().then(|| name.to_owned())
}

/// Whether an input is computed from such a parameter, as far as its exporter tells.
fn bears(input: Option<ValueId>, leaf: &str, scene: &Scene<'_>) -> bool {
    let names = folded_names(input, scene);
    let last = |name: &&str| name.rsplit('.').next().is_some_and(|n| n.starts_with(leaf));
    names.is_empty() || names.iter().any(last)
}

/// The module and the layer of `W`, as the newer exporter tells them.
fn folded_layer(input: Option<ValueId>, scene: &Scene<'_>) -> Option<(String, usize)> {
    folded_names(input, scene).into_iter().find_map(|name| {
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        let layer = leaf.strip_prefix("weight_ih_l")?.parse().ok()?;
        Some((module.to_owned(), layer))
    })
}

/// The same by the order of nodes: the tracing exporter writes layers one behind the other.
fn counted_layer<'a>(
    node: &Node,
    path: Option<&'a str>,
    weight: TensorId,
    layers: &mut HashMap<&'a str, Vec<TensorId>>,
) -> Option<(String, usize)> {
    // A model that is such a module and nothing else has names without a path.
    let alone = || {
        node.name
            .strip_prefix('/')
            .filter(|name| !name.contains('/'))
    };
    let path = match path {
        Some(path) => path,
        None => alone().map(|_| "")?,
    };
    // Another call of a module takes the same tensors.
    let again = called(path).and_then(|module| layers.get(module));
    if again.is_some_and(|ids| ids.contains(&weight)) {
        return None;
    }
    let ids = layers.entry(path).or_default();
    if ids.contains(&weight) {
        return None;
    }
    ids.push(weight);
    Some((path.to_owned(), ids.len() - 1))
}
