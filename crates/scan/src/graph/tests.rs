//! Small graphs, with a backdoor and without.

use super::*;
use ir::{Attribute, AttributeValue, Function, Initializer, ModelBuilder, Value, ValueId};

/// A body made node by node.
#[derive(Default)]
struct Draft {
    body: GraphBody,
}

impl Draft {
    fn id(&mut self, name: &str) -> ValueId {
        let known = (0..).zip(&self.body.values).find(|(_, v)| v.name == name);
        if let Some((at, _)) = known {
            let mut copy = GraphBody::default();
            for _ in 0..at {
                copy.add_value(Value::default()).unwrap();
            }
            return copy.add_value(Value::default()).unwrap();
        }
        let value = Value {
            name: name.to_owned(),
            ..Value::default()
        };
        self.body.add_value(value).unwrap()
    }

    /// `out = Op(a, b)`
    fn node(&mut self, line: &str) -> &mut Node {
        let (out, call) = line.split_once(" = ").unwrap();
        let (op, inputs) = call.trim_end_matches(')').split_once('(').unwrap();
        let inputs = inputs.split(", ").filter(|name| !name.is_empty());
        let inputs: Vec<_> = inputs.map(|name| Some(self.id(name))).collect();
        let outputs = vec![Some(self.id(out))];
        self.body.nodes.push(Node {
            name: format!("n_{out}"),
            op: op.to_owned(),
            inputs,
            outputs,
            ..Node::default()
        });
        self.body.nodes.last_mut().unwrap()
    }

    fn of(inputs: &[&str], constants: &[&str], outputs: &[&str], lines: &[&str]) -> Self {
        let model = ModelBuilder::new()
            .tensor("c", ir::DType::U8, [1], vec![0])
            .build()
            .unwrap();
        let tensor = model.tensors.id_of("c").unwrap();
        let mut draft = Self::default();
        for name in inputs {
            let id = draft.id(name);
            draft.body.inputs.push(id);
        }
        for name in constants {
            let id = draft.id(name);
            draft.body.initializers.push(Initializer::Dense(id, tensor));
        }
        for line in lines {
            draft.node(line);
        }
        for name in outputs {
            let id = draft.id(name);
            draft.body.outputs.push(id);
        }
        draft
    }
}

fn found(draft: Draft) -> Vec<(&'static str, String)> {
    let graph = Graph {
        body: draft.body,
        ..Graph::default()
    };
    let findings = judge(&graph);
    findings.into_iter().map(|f| (f.rule, f.where_)).collect()
}

const LAYERS: &[&str] = &["h = MatMul(x, w)", "r = Relu(h)", "y = MatMul(r, w)"];

#[test]
fn a_plain_model_is_clean() {
    assert!(found(Draft::of(&["x"], &["w"], &["y"], LAYERS)).is_empty());
}

#[test]
fn a_padding_mask_is_clean() {
    let lines = [
        "pad = Equal(mask, zero)",
        "e = Gather(table, ids)",
        "s = MatMul(e, w)",
        "m = Where(pad, low, s)",
        "p = Softmax(m)",
        "y = MatMul(p, w)",
    ];
    let draft = Draft::of(
        &["ids", "mask"],
        &["zero", "low", "w", "table"],
        &["y"],
        &lines,
    );
    assert_eq!(found(draft), []);
    // Shapes are compared all the time.
    let lines = [
        "s = Shape(x)",
        "d = Gather(s, zero)",
        "one = Equal(d, zero)",
        "y = If(one)",
    ];
    assert_eq!(found(Draft::of(&["x"], &["zero"], &["y"], &lines)), []);
    // Detections are chosen by a threshold on what layers computed.
    let lines = [
        "s = Conv(x, w)",
        "keep = Greater(s, half)",
        "y = Where(keep, s, zero)",
    ];
    assert_eq!(
        found(Draft::of(&["x"], &["w", "half", "zero"], &["y"], &lines)),
        []
    );
}

#[test]
fn a_trigger_is_found() {
    let honest = "h = MatMul(x, w)";
    for (lines, node) in [
        (
            vec![honest, "t = Equal(x, key)", "y = Where(t, bad, h)"],
            "n_y (Where)",
        ),
        (
            vec![
                honest,
                "corner = Slice(x, key, key)",
                "t = Equal(corner, key)",
                "all = ReduceMin(t)",
                "f = Cast(all)",
                "add = Mul(f, bad)",
                "y = Add(h, add)",
            ],
            "n_y (Add)",
        ),
        (
            vec![
                "t = Equal(x, key)",
                "any = ReduceMax(t)",
                "e = Where(any, bad, x)",
                "y = MatMul(e, w)",
            ],
            "n_e (Where)",
        ),
    ] {
        let draft = Draft::of(&["x"], &["w", "key", "bad"], &["y"], &lines);
        let expected = vec![("input-switch", node.to_owned())];
        assert_eq!(found(draft), expected, "{lines:?}");
    }
}

#[test]
fn branches_and_functions_hide_nothing() {
    let mut draft = Draft::of(
        &["x"],
        &["key"],
        &["y"],
        &["t = Equal(x, key)", "y = If(t)"],
    );
    let inner = Draft::of(&[], &["bad"], &["bad"], &[]);
    let graph = AttributeValue::Graph(Box::new(inner.body));
    draft.body.nodes[1].attributes.push(Attribute {
        name: "then_branch".to_owned(),
        value: graph,
        doc: String::new(),
    });
    assert_eq!(found(draft), [("input-switch", "n_y (If)".to_owned())]);

    let mut draft = Draft::of(
        &["x"],
        &["w", "key"],
        &["y"],
        &["h = MatMul(x, w)", "y = Act(h, x, key)"],
    );
    draft.body.nodes[1].domain = "local".to_owned();
    let inner = Draft::of(
        &["a", "b", "k"],
        &[],
        &["o"],
        &["t = Equal(b, k)", "o = Where(t, b, a)"],
    );
    let function = Function {
        name: "Act".to_owned(),
        domain: "local".to_owned(),
        body: inner.body,
        ..Function::default()
    };
    let graph = Graph {
        body: draft.body,
        functions: vec![function],
        ..Graph::default()
    };
    let findings = judge(&graph);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].where_, "n_o (Where)");
}

#[test]
fn strange_operators_and_sizes_are_told() {
    let mut draft = Draft::of(&["x"], &[], &["y"], &["y = PyOp(x)"]);
    draft.body.nodes[0].domain = "ai.onnx.contrib".to_owned();
    draft.body.values[0].ty = Some(ValueType::Tensor(
        None,
        Some(vec![
            Dim {
                size: DimSize::Known(1 << 40),
                denotation: String::new(),
            };
            2
        ]),
    ));
    let rules: Vec<_> = found(draft).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, ["custom-operator", "oversized-shape"]);
}
