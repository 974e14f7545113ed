//! Operator graphs: values and nodes by typed handle.
//!
//! Complete enough to hold any ONNX model: unknown operators, attributes and domains are carried
//! whole, subgraphs and functions are bodies like the main one.

use crate::{DType, Error, Fault, Result, TensorId, TensorTable};
use bytes::Bytes;

/// The place of a value in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

impl ValueId {
    /// Its position.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A whole graph: the main body, what it calls, and the operator sets both are written in.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Imported operator sets: domain (empty for the standard one) and version.
    pub opsets: Vec<(String, i64)>,
    /// The main body.
    pub body: GraphBody,
    /// Functions that nodes may call.
    pub functions: Vec<Function>,
    /// Bodies run before training starts, with the bindings of their outputs.
    pub training: Vec<Training>,
    /// Who made it, and when in the history of its format.
    pub about: About,
    /// What is said of tensors beside their names, types and shapes. Most have none.
    pub remarks: Vec<Remark>,
}

/// What a graph's file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The version of the format's own description of graphs.
    pub ir_version: Option<i64>,
    /// The program that made it.
    pub producer: String,
    /// That program's version.
    pub producer_version: String,
    /// Whose model it is, as a reversed domain name.
    pub domain: String,
    /// The model's own version.
    pub model_version: Option<i64>,
    /// Text for people.
    pub doc: String,
    /// Sets of devices that nodes may name, each as the format encodes it.
    pub devices: Vec<Bytes>,
}

/// What is said of a tensor beside its name, type and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The tensor.
    pub tensor: TensorId,
    /// Its name in the source, where that is not a name of the model's table.
    pub name: Option<String>,
    /// Text for people.
    pub doc: String,
    /// Free pairs.
    pub metadata: Vec<(String, String)>,
}

/// Training information of a graph, carried whole.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// Run once.
    pub initialization: Option<GraphBody>,
    /// Run each step.
    pub algorithm: Option<GraphBody>,
    /// Which initializer takes which output, after initialization.
    pub initialization_binding: Vec<(String, String)>,
    /// Which initializer takes which output, after a step.
    pub update_binding: Vec<(String, String)>,
}

/// Nodes in topological order over a list of values.
#[derive(Clone, Debug, Default)]
pub struct GraphBody {
    /// Its name.
    pub name: String,
    /// Text for people.
    pub doc: String,
    /// All values this body names, outer ones that a subgraph uses included.
    pub values: Vec<Value>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// What is fed.
    pub inputs: Vec<ValueId>,
    /// What comes out.
    pub outputs: Vec<ValueId>,
    /// Values that are tensors of the model.
    pub initializers: Vec<Initializer>,
    /// What quantization says of values: names of scales and zero points.
    pub annotations: Vec<Annotation>,
    /// Free pairs.
    pub metadata: Vec<(String, String)>,
}

impl Graph {
    /// Every body: the main one, those of functions and training, and all that are nested in them.
    pub fn bodies(&self) -> Vec<&GraphBody> {
        let mut found = vec![&self.body];
        found.extend(self.functions.iter().map(|function| &function.body));
        for training in &self.training {
            found.extend(training.initialization.iter().chain(&training.algorithm));
        }
        // A list instead of calls, however deep they are.
        let mut at = 0;
        while let Some(body) = found.get(at).copied() {
            found.extend(body.nodes.iter().flat_map(Node::bodies));
            at += 1;
        }
        found
    }
}

impl GraphBody {
    /// Adds a value. `None` when ids run out, at 2^32 values.
    pub fn add_value(&mut self, value: Value) -> Option<ValueId> {
        let id = ValueId(u32::try_from(self.values.len()).ok()?);
        self.values.push(value);
        Some(id)
    }

    /// A body of tensors alone: each is an initializer and an output under its own name.
    pub fn of_tensors(tensors: &TensorTable) -> Result<Self> {
        let mut body = Self::default();
        for (id, tensor) in tensors.ids() {
            let dims = tensor.spec.shape.iter().map(|size| Dim {
                size: DimSize::Known(*size),
                denotation: String::new(),
            });
            let value = Value {
                name: tensor.name.clone(),
                ty: Some(ValueType::Tensor(
                    Some(tensor.dtype()),
                    Some(dims.collect()),
                )),
                ..Value::default()
            };
            let value = body.add_value(value).ok_or_else(|| {
                let what = "more tensors than 32 bits count".to_owned();
                Error::from(Fault::Invalid { what })
            })?;
            body.outputs.push(value);
            body.initializers.push(Initializer::Dense(value, id));
        }
        Ok(body)
    }

    /// The value of an id.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.index())
    }
}

/// What quantization says of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// The value's name.
    pub value: String,
    /// Which parameter (`SCALE_TENSOR`) is which value.
    pub parameters: Vec<(String, String)>,
}

/// A value: something a node takes or gives.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// Its name, unique in its body.
    pub name: String,
    /// Its type, where it is declared.
    pub ty: Option<ValueType>,
    /// Whether it is defined in an enclosing body.
    pub outer: bool,
    /// Text for people.
    pub doc: String,
    /// Free pairs.
    pub metadata: Vec<(String, String)>,
}

/// A declared type.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// A tensor; `None` dims for unknown rank.
    Tensor(Option<DType>, Option<Vec<Dim>>),
    /// A sparse tensor.
    Sparse(Option<DType>, Option<Vec<Dim>>),
    /// A list.
    Sequence(Box<ValueType>),
    /// A map from a key type.
    Map(DType, Box<ValueType>),
    /// Something or nothing.
    Optional(Box<ValueType>),
    /// A type of another domain.
    Opaque {
        /// Its domain.
        domain: String,
        /// Its name.
        name: String,
    },
    /// A type with a word on what it means, e.g. `IMAGE`.
    Denoted(String, Box<ValueType>),
    /// A type that is not said.
    Undefined,
}

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim {
    /// Its size.
    pub size: DimSize,
    /// What it means, e.g. `DATA_BATCH`.
    pub denotation: String,
}

/// The size of a declared dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimSize {
    /// Known.
    Known(u64),
    /// The same wherever the name stands.
    Named(String),
    /// Not known.
    Unknown,
}

/// An operator applied.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name; may be empty.
    pub name: String,
    /// The operator, e.g. `MatMul`.
    pub op: String,
    /// The operator's domain; empty for the standard one.
    pub domain: String,
    /// Which overload of a function.
    pub overload: String,
    /// What it takes; `None` for an optional input left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it gives; `None` for an output not wanted.
    pub outputs: Vec<Option<ValueId>>,
    /// Its attributes, in order.
    pub attributes: Vec<Attribute>,
    /// Text for people.
    pub doc: String,
    /// Free pairs.
    pub metadata: Vec<(String, String)>,
    /// How it is spread over devices, as the format encodes it.
    pub devices: Vec<Bytes>,
}

impl Node {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        let found = self.attributes.iter().find(|a| a.name == name);
        found.map(|attribute| &attribute.value)
    }

    /// The node in words, for people: by its name, or else by what it gives first in its `body`.
    ///
    /// `node "gate" (If)`, `the node that gives "y" (If)`, `a node without a name (If)`.
    pub fn title(&self, body: &GraphBody) -> String {
        let given = self.outputs.iter().flatten();
        let mut names = given.filter_map(|id| body.value(*id).map(|value| &value.name));
        let who = match names.find(|name| !name.is_empty()) {
            _ if !self.name.is_empty() => format!("node {:?}", self.name),
            Some(name) => format!("the node that gives {name:?}"),
            None => "a node without a name".to_owned(),
        };
        match self.op.as_str() {
            "" => who,
            op => format!("{who} ({op})"),
        }
    }

    /// An attribute that is a whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name) {
            Some(AttributeValue::Int(n)) => Some(*n),
            _ => None,
        }
    }

    /// The bodies in its attributes: branches of an `If`, what a `Loop` repeats.
    pub fn bodies(&self) -> impl Iterator<Item = &GraphBody> {
        let values = self.attributes.iter().map(|attribute| &attribute.value);
        values.flat_map(AttributeValue::bodies)
    }
}

/// A named constant of a node.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: AttributeValue,
    /// Text for people.
    pub doc: String,
}

/// An attribute's value.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the names say it all
pub enum AttributeValue {
    Float(f32),
    Int(i64),
    Str(Bytes),
    Tensor(TensorId),
    Sparse(SparseTensor),
    Graph(Box<GraphBody>),
    Type(ValueType),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strs(Vec<Bytes>),
    Tensors(Vec<TensorId>),
    Sparses(Vec<SparseTensor>),
    Graphs(Vec<GraphBody>),
    Types(Vec<ValueType>),
    /// Inside a function: the value of the caller's attribute of that name, which is of that kind.
    Ref(String, AttributeKind),
}

impl AttributeValue {
    /// The bodies it is, if it is a graph or a list of them.
    pub fn bodies(&self) -> &[GraphBody] {
        match self {
            Self::Graph(body) => std::slice::from_ref(body),
            Self::Graphs(list) => list,
            _ => &[],
        }
    }
}

/// The kind of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it all
pub enum AttributeKind {
    Float,
    Int,
    Str,
    Tensor,
    Sparse,
    Graph,
    Type,
    Floats,
    Ints,
    Strs,
    Tensors,
    Sparses,
    Graphs,
    Types,
    /// Not said.
    Undefined,
}

/// A sparse tensor: values and their places.
#[derive(Clone, Debug)]
pub struct SparseTensor {
    /// The values that are not zero.
    pub values: TensorId,
    /// Where they stand.
    pub indices: TensorId,
    /// The dense shape.
    pub dims: Vec<u64>,
}

/// A value that is a tensor of the model.
#[derive(Clone, Debug)]
pub enum Initializer {
    /// A dense one.
    Dense(ValueId, TensorId),
    /// A sparse one.
    Sparse(ValueId, SparseTensor),
}

/// A function: a body with parameters.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// Which overload.
    pub overload: String,
    /// Attributes without defaults.
    pub attributes: Vec<String>,
    /// Attributes with defaults.
    pub defaults: Vec<Attribute>,
    /// The operator sets its body is written in.
    pub opsets: Vec<(String, i64)>,
    /// Its body.
    pub body: GraphBody,
    /// Text for people.
    pub doc: String,
    /// Free pairs.
    pub metadata: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_by_its_name_or_by_what_it_gives() {
        let value = |name: &str| Value {
            name: name.to_owned(),
            ..Value::default()
        };
        let body = GraphBody {
            values: vec![value(""), value("y")],
            ..GraphBody::default()
        };
        let id = |n| Some(ValueId(n));
        let title = |name: &str, op: &str, outputs: Vec<Option<ValueId>>| {
            let node = Node {
                name: name.to_owned(),
                op: op.to_owned(),
                outputs,
                ..Node::default()
            };
            node.title(&body)
        };
        assert_eq!(title("gate", "If", vec![id(1)]), "node \"gate\" (If)");
        let both = vec![None, id(0), id(1)];
        let said = "the node that gives \"y\" (If)";
        assert_eq!(title("", "If", both), said);
        assert_eq!(title("", "If", Vec::new()), "a node without a name (If)");
        assert_eq!(title("", "", Vec::new()), "a node without a name");
    }
}
