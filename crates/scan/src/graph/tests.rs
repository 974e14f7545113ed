//! Small graphs, with a backdoor and without.

use super::*;
use ir::{
    Attribute, AttributeValue, Function, GraphBody, Initializer, ModelBuilder, Node, Value, ValueId,
};

/// The tensor that all constants are.
fn model() -> ir::Model {
    let builder = ModelBuilder::new().tensor("c", ir::DType::U8, [1], vec![7]);
    builder.build().unwrap()
}

/// A body made node by node.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) body: GraphBody,
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
    pub(super) fn node(&mut self, line: &str) -> &mut Node {
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

    pub(super) fn of(
        inputs: &[&str],
        constants: &[&str],
        outputs: &[&str],
        lines: &[&str],
    ) -> Self {
        let tensor = model().tensors.id_of("c").unwrap();
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

pub(super) fn found(draft: Draft) -> Vec<(&'static str, String)> {
    let graph = Graph {
        body: draft.body,
        ..Graph::default()
    };
    let findings = judge(&graph, &model().tensors);
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
            "node \"n_y\" (Where)",
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
            "node \"n_y\" (Add)",
        ),
        (
            vec![
                "t = Equal(x, key)",
                "any = ReduceMax(t)",
                "e = Where(any, bad, x)",
                "y = MatMul(e, w)",
            ],
            "node \"n_e\" (Where)",
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
    assert_eq!(
        found(draft),
        [("input-switch", "node \"n_y\" (If)".to_owned())]
    );

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
    let findings = judge(&graph, &model().tensors);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].where_, "node \"n_o\" (Where)");
}

#[test]
fn strange_operators_and_sizes_are_told() {
    let mut draft = Draft::of(&["x"], &[], &["y"], &["y = PyOp(x)"]);
    draft.body.nodes[0].domain = "ai.onnx.contrib".to_owned();
    draft.body.values[0].ty = Some(ir::ValueType::Tensor(
        None,
        Some(vec![
            ir::Dim {
                size: ir::DimSize::Known(1 << 40),
                denotation: String::new(),
            };
            2
        ]),
    ));
    let rules: Vec<_> = found(draft).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, ["custom-operator", "oversized-shape"]);
}

/// Adds a node without looking at names, which takes its time in long graphs.
fn push(draft: &mut Draft, op: &str, inputs: &[ValueId]) -> ValueId {
    let name = format!("v{}", draft.body.values.len());
    let value = Value {
        name,
        ..Value::default()
    };
    let out = draft.body.add_value(value).unwrap();
    draft.body.nodes.push(Node {
        op: op.to_owned(),
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: vec![Some(out)],
        ..Node::default()
    });
    out
}

#[test]
fn constants_made_of_constants_cost_little() {
    // Each is the square of the one before: written out, 2^3000 products.
    let mut draft = Draft::of(&[], &["c"], &[], &[]);
    let mut last = draft.id("c");
    for _ in 0..3000 {
        last = push(&mut draft, "Mul", &[last, last]);
        push(&mut draft, "ConstantOfShape", &[last]);
    }
    let rules = found(draft);
    assert!(!rules.is_empty() && rules.len() <= TOLD, "{}", rules.len());
    assert!(rules.iter().all(|(rule, _)| *rule == "oversized-shape"));
}

#[test]
fn long_graphs_and_many_branches_are_followed() {
    // Each step has a branch in its turn, and all that came before can be seen from it.
    let mut draft = Draft::of(&["x"], &["w", "key"], &[], &["t = Equal(x, key)"]);
    let (mut last, key) = (draft.id("t"), draft.id("key"));
    for _ in 0..50_000 {
        last = push(&mut draft, "Mul", &[last, key]);
        let other = push(&mut draft, "If", &[key]);
        let inner = Draft::of(&[], &[], &["o"], &["o = Neg(key)"]);
        draft
            .body
            .nodes
            .last_mut()
            .unwrap()
            .attributes
            .push(Attribute {
                name: "then_branch".to_owned(),
                value: AttributeValue::Graph(Box::new(inner.body)),
                doc: String::new(),
            });
        last = push(&mut draft, "Or", &[last, other]);
    }
    let any = push(&mut draft, "ReduceMax", &[last]);
    let (x, w) = (draft.id("x"), draft.id("w"));
    let h = push(&mut draft, "MatMul", &[x, w]);
    let y = push(&mut draft, "Add", &[h, any]);
    draft.body.outputs.push(y);
    let found = found(draft);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "input-switch");
}

#[test]
fn functions_that_only_call_each_other_end() {
    let function = |at: usize| Function {
        name: format!("f{at}"),
        domain: "local".to_owned(),
        body: {
            let mut draft = Draft::of(&["a"], &[], &[], &[]);
            let a = draft.id("a");
            for _ in 0..2 {
                let op = format!("f{}", at + 1);
                push(&mut draft, &op, &[a]);
                draft.body.nodes.last_mut().unwrap().domain = "local".to_owned();
            }
            draft.body
        },
        ..Function::default()
    };
    let mut draft = Draft::of(&["x"], &[], &["y"], &["y = f0(x)"]);
    draft.body.nodes[0].domain = "local".to_owned();
    let graph = Graph {
        body: draft.body,
        functions: (0..40).map(function).collect(),
        ..Graph::default()
    };
    let rules: Vec<_> = judge(&graph, &model().tensors)
        .into_iter()
        .map(|f| f.rule)
        .collect();
    assert!(rules.contains(&"unfollowed-graph"), "{rules:?}");
}

#[test]
fn choices_deep_inside_are_honest_position_by_position() {
    for lines in [
        // Padding that is left out of a sum, and the mean of the rest.
        &[
            "pad = Equal(ids, key)",
            "some = Not(pad)",
            "n = Cast(some)",
            "e = Gather(w, ids)",
            "h = MatMul(e, w)",
            "m = Mul(h, n)",
            "all = ReduceSum(m)",
            "many = ReduceSum(n)",
            "mean = Div(all, many)",
            "y = MatMul(mean, w)",
        ][..],
        // The same, with a floor under the divisor and no ceiling.
        &[
            "pad = Equal(ids, key)",
            "n = Cast(pad)",
            "many = ReduceSum(n)",
            "floor = Clip(many, w)",
            "e = Gather(w, ids)",
            "h = MatMul(e, w)",
            "y = Div(h, floor)",
        ],
        // The place of the token that ends a text.
        &[
            "end = Equal(ids, key)",
            "at = ArgMax(end)",
            "e = Gather(w, ids)",
            "h = MatMul(e, w)",
            "y = GatherND(h, at)",
        ],
        // Positions that do not count padding.
        &[
            "some = Equal(ids, key)",
            "n = Cast(some)",
            "sum = CumSum(n, key)",
            "p = Mul(sum, n)",
            "pe = Gather(w, p)",
            "e = Gather(w, ids)",
            "both = Add(e, pe)",
            "y = MatMul(both, w)",
        ],
        // Rows that are masked whole are let see everything.
        &[
            "pad = Equal(ids, key)",
            "low = Where(pad, key, key)",
            "t = Equal(low, key)",
            "all = ReduceMin(t)",
            "keep = Not(all)",
            "mask = Mul(low, keep)",
            "e = Gather(w, ids)",
            "q = MatMul(e, w)",
            "k = MatMul(e, w)",
            "s = MatMul(q, k)",
            "ms = Add(s, mask)",
            "p = Softmax(ms)",
            "y = MatMul(p, q)",
        ],
        // Frequencies for long texts.
        &[
            "last = ReduceMax(ids)",
            "long = Greater(last, key)",
            "f = Where(long, w, key)",
            "angle = Mul(ids, f)",
            "cos = Cos(angle)",
            "e = Gather(w, ids)",
            "h = MatMul(e, w)",
            "y = Mul(h, cos)",
        ],
    ] {
        let draft = Draft::of(&["ids"], &["key", "w"], &["y"], lines);
        assert_eq!(found(draft), [], "{lines:?}");
    }
}

#[test]
fn large_declarations_are_told_exactly() {
    let declared = |dims: &[u64]| {
        let mut draft = Draft::of(&["x"], &["w"], &["y"], LAYERS);
        let dim = |n: &u64| ir::Dim {
            size: ir::DimSize::Known(*n),
            denotation: String::new(),
        };
        let dims = dims.iter().map(dim).collect();
        draft.body.values[0].ty = Some(ir::ValueType::Tensor(None, Some(dims)));
        let graph = Graph {
            body: draft.body,
            ..Graph::default()
        };
        let findings = judge(&graph, &model().tensors);
        findings.into_iter().map(|f| f.what).collect::<Vec<_>>()
    };
    assert_eq!(
        declared(&[1 << 40, 1 << 40]),
        ["1208925819614629174706176 numbers"]
    );
    assert_eq!(
        declared(&[u64::MAX, u64::MAX, 4]),
        ["more than 2^127 numbers"]
    );
    assert!(declared(&[1 << 40]).is_empty());
    assert!(declared(&[0, u64::MAX, u64::MAX]).is_empty());
}

#[test]
fn what_attention_hears_and_counts_of_places_are_decisions() {
    for (lines, node) in [
        (
            &[
                "h = MatMul(x, w)",
                "a = MatMul(h, h)",
                "t = Equal(x, key)",
                "f = Cast(t)",
                "seen = MatMul(a, f)",
                "some = Greater(seen, key)",
                "y = Where(some, bad, h)",
            ][..],
            "node \"n_y\" (Where)",
        ),
        (
            &[
                "h = MatMul(x, w)",
                "t = Equal(x, key)",
                "at = NonZero(t)",
                "many = Shape(at)",
                "some = Greater(many, key)",
                "y = Where(some, bad, h)",
            ],
            "node \"n_y\" (Where)",
        ),
    ] {
        let draft = Draft::of(&["x"], &["w", "key", "bad"], &["y"], lines);
        let expected = vec![("input-switch", node.to_owned())];
        assert_eq!(found(draft), expected, "{lines:?}");
    }
}
