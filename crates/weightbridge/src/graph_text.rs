//! A graph as text that people read: a line a node, bodies indented below the node they belong to.

use ir::{
    Attribute, AttributeValue, Dim, DimSize, Function, Graph, GraphBody, Initializer, Model, Node,
    SparseTensor, TensorId, ValueId, ValueType,
};

/// Items of a list that are shown.
const ITEMS: usize = 8;
/// Characters of a text that are shown.
const TEXT: usize = 60;

/// The lines of a model's graph; none without a graph.
///
/// ```text
/// opset 21, local 1
/// graph main (x: F32 [N, 4]) -> (y: F32 [N, 2])
///   weight: F32 [4, 2]
///   h = MatMul(x, weight)
///   y = local.Act(h) {alpha=0.5}
/// function local.Act (a) -> (b) {alpha=1}
///   b = LeakyRelu(a) {alpha=@alpha}
/// ```
pub fn graph_text(model: &Model) -> Vec<String> {
    let mut writer = Writer {
        model,
        lines: Vec::new(),
    };
    if let Some(graph) = &model.graph {
        writer.graph(graph);
    }
    writer.lines
}

struct Writer<'a> {
    model: &'a Model,
    lines: Vec<String>,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        self.lines.push(format!("{}{text}", "  ".repeat(depth)));
    }

    fn graph(&mut self, graph: &Graph) {
        self.line(0, &opsets(&graph.opsets));
        self.body("graph", &graph.body, 0);
        for function in &graph.functions {
            self.function(function);
        }
        for training in &graph.training {
            for (what, body) in [
                ("training initialization", &training.initialization),
                ("training step", &training.algorithm),
            ] {
                if let Some(body) = body {
                    self.body(what, body, 0);
                }
            }
        }
    }

    fn function(&mut self, function: &Function) {
        let (inputs, outputs) = (&function.body.inputs, &function.body.outputs);
        let defaults = function.defaults.iter().map(|a| self.attribute(a));
        let bare = function.attributes.iter().cloned();
        let attributes = braces(bare.chain(defaults));
        let text = format!(
            "function {} ({}) -> ({}){attributes}",
            qualified(&function.domain, &function.name),
            values(&function.body, inputs),
            values(&function.body, outputs),
        );
        self.line(0, &text);
        self.inside(&function.body, 1);
    }

    /// As deep as `Model::validate` allowed.
    fn body(&mut self, what: &str, body: &GraphBody, depth: usize) {
        let text = format!(
            "{what} {} ({}) -> ({})",
            body.name,
            values(body, &body.inputs),
            values(body, &body.outputs)
        );
        self.line(depth, &text);
        self.inside(body, depth + 1);
    }

    fn inside(&mut self, body: &GraphBody, depth: usize) {
        for initializer in &body.initializers {
            let (id, what) = match initializer {
                Initializer::Dense(id, tensor) => (id, self.tensor(*tensor)),
                Initializer::Sparse(id, sparse) => (id, self.sparse(sparse)),
            };
            let text = format!("{}: {what}", name(body, *id));
            self.line(depth, &text);
        }
        for node in &body.nodes {
            self.node(node, body, depth);
        }
    }

    fn node(&mut self, node: &Node, body: &GraphBody, depth: usize) {
        let list = |ids: &[Option<ValueId>]| {
            let names = ids.iter().map(|id| id.map_or("_", |id| name(body, id)));
            names.collect::<Vec<_>>().join(", ")
        };
        let plain = node
            .attributes
            .iter()
            .filter(|a| a.value.bodies().is_empty());
        let text = format!(
            "{} = {}({}){}",
            list(&node.outputs),
            qualified(&node.domain, &node.op),
            list(&node.inputs),
            braces(plain.map(|a| self.attribute(a))),
        );
        self.line(depth, &text);
        for attribute in &node.attributes {
            for inner in attribute.value.bodies() {
                self.body(&attribute.name, inner, depth + 1);
            }
        }
    }

    fn attribute(&self, attribute: &Attribute) -> String {
        let value = match &attribute.value {
            AttributeValue::Float(x) => x.to_string(),
            AttributeValue::Int(n) => n.to_string(),
            AttributeValue::Str(text) => quoted(text),
            AttributeValue::Tensor(id) => self.tensor(*id),
            AttributeValue::Sparse(sparse) => self.sparse(sparse),
            AttributeValue::Type(ty) => type_text(ty),
            AttributeValue::Floats(list) => brackets(list, f32::to_string),
            AttributeValue::Ints(list) => brackets(list, i64::to_string),
            AttributeValue::Strs(list) => brackets(list, |text| quoted(text)),
            AttributeValue::Tensors(list) => brackets(list, |id| self.tensor(*id)),
            AttributeValue::Sparses(list) => brackets(list, |sparse| self.sparse(sparse)),
            AttributeValue::Types(list) => brackets(list, type_text),
            AttributeValue::Graph(_) | AttributeValue::Graphs(_) => "…".to_owned(),
            AttributeValue::Ref(name, _) => format!("@{name}"),
        };
        format!("{}={value}", attribute.name)
    }

    fn tensor(&self, id: TensorId) -> String {
        match self.model.tensors.get(id) {
            Some(tensor) => format!("{} {}", tensor.dtype(), tensor.spec.shape),
            None => "?".to_owned(),
        }
    }

    fn sparse(&self, sparse: &SparseTensor) -> String {
        let values = self.tensor(sparse.values);
        format!("sparse {:?} of {values}", sparse.dims)
    }
}

/// `opset 21, ai.onnx.ml 3`.
fn opsets(opsets: &[(String, i64)]) -> String {
    let each = opsets.iter().map(|(domain, version)| {
        let domain = if domain.is_empty() { "opset" } else { domain };
        format!("{domain} {version}")
    });
    each.collect::<Vec<_>>().join(", ")
}

fn qualified(domain: &str, op: &str) -> String {
    match domain {
        "" => op.to_owned(),
        domain => format!("{domain}.{op}"),
    }
}

fn name(body: &GraphBody, id: ValueId) -> &str {
    body.value(id).map_or("?", |value| value.name.as_str())
}

fn values(body: &GraphBody, ids: &[ValueId]) -> String {
    let each = ids.iter().map(|id| {
        let ty = body.value(*id).and_then(|value| value.ty.as_ref());
        match ty {
            Some(ty) => format!("{}: {}", name(body, *id), type_text(ty)),
            None => name(body, *id).to_owned(),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn type_text(ty: &ValueType) -> String {
    let tensor = |dtype: &Option<ir::DType>, dims: &Option<Vec<Dim>>| {
        let dtype = dtype.map_or("?", ir::DType::name);
        match dims {
            Some(dims) => format!("{dtype} {}", brackets(dims, dim_text)),
            None => dtype.to_owned(),
        }
    };
    match ty {
        ValueType::Tensor(dtype, dims) => tensor(dtype, dims),
        ValueType::Sparse(dtype, dims) => format!("sparse {}", tensor(dtype, dims)),
        ValueType::Sequence(inner) => format!("sequence of {}", type_text(inner)),
        ValueType::Optional(inner) => format!("optional {}", type_text(inner)),
        ValueType::Map(key, value) => format!("map from {key} to {}", type_text(value)),
        ValueType::Opaque { domain, name } => format!("opaque {}", qualified(domain, name)),
        ValueType::Denoted(_, inner) => type_text(inner),
        ValueType::Undefined => "?".to_owned(),
    }
}

fn dim_text(dim: &Dim) -> String {
    match &dim.size {
        DimSize::Known(n) => n.to_string(),
        DimSize::Named(name) => name.clone(),
        DimSize::Unknown => "?".to_owned(),
    }
}

fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let short: String = text.chars().take(TEXT).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

fn brackets<T>(list: &[T], each: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = list.iter().take(ITEMS).map(each).collect();
    let more = match list.len() {
        n if n > ITEMS => format!(", … {n} in all"),
        _ => String::new(),
    };
    format!("[{}{more}]", shown.join(", "))
}

fn braces(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        String::new()
    } else {
        format!(" {{{}}}", items.join(", "))
    }
}
