//! Graphs that do not hold are refused, and unusual ones that load are read; what onnx.checker 1.23
//! and onnxruntime 1.31 say of each was asked of them (`tests/interop/test_onnx.py` asks again).

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod support;

use ir::{Class, Context, Error, Model, Output, Report, Writer};
use prost::Message;
use std::fs;
use support::open_bytes;
use weightbridge_onnx::OnnxWriter;
use weightbridge_onnx::wire::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, ValueInfoProto,
};

fn node(op: &str, takes: &str, gives: &str) -> NodeProto {
    let names = |names: &str| names.split_whitespace().map(str::to_owned).collect();
    let (domain, op) = op.split_once(':').unwrap_or(("", op));
    NodeProto {
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()).filter(|domain| !domain.is_empty()),
        input: names(takes),
        output: names(gives),
        ..NodeProto::default()
    }
}

fn with(mut node: NodeProto, attributes: &[&str]) -> NodeProto {
    let made = attributes.iter().map(|name| AttributeProto {
        name: Some((*name).to_owned()),
        r#type: Some(2),
        i: Some(1),
        ..AttributeProto::default()
    });
    node.attribute.extend(made);
    node
}

/// An `If` whose one branch is these nodes, which give `z`.
fn branch(gives: &str, nodes: Vec<NodeProto>) -> NodeProto {
    let mut node = node("If", "c", gives);
    node.attribute.push(AttributeProto {
        name: Some("then_branch".to_owned()),
        r#type: Some(5),
        g: Some(graph(nodes, "", "z")),
        ..AttributeProto::default()
    });
    node
}

/// The same node, whose branch hands on a value of another name.
fn handing(mut node: NodeProto, name: &str) -> NodeProto {
    let graphs = node.attribute.iter_mut().filter_map(|it| it.g.as_mut());
    for graph in graphs {
        graph.output[0].name = Some(name.to_owned());
    }
    node
}

fn graph(nodes: Vec<NodeProto>, inputs: &str, outputs: &str) -> GraphProto {
    let infos = |names: &str| {
        let names = names.split_whitespace().map(|name| ValueInfoProto {
            name: Some(name.trim_matches('-').to_owned()),
            ..ValueInfoProto::default()
        });
        names.collect()
    };
    GraphProto {
        name: Some("g".to_owned()),
        node: nodes,
        input: infos(inputs),
        output: infos(outputs),
        initializer: vec![TensorProto {
            name: Some("w".to_owned()),
            dims: vec![1],
            data_type: Some(1),
            raw_data: Some(vec![0; 4].into()),
            ..TensorProto::default()
        }],
        ..GraphProto::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    let domain = Some(domain.to_owned());
    let version = Some(version);
    OperatorSetIdProto { domain, version }
}

fn function(name: &str, domains: &[(&str, i64)], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        domain: Some("my".to_owned()),
        name: Some(name.to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: nodes,
        opset_import: domains.iter().map(|it| opset(it.0, it.1)).collect(),
        ..FunctionProto::default()
    }
}

fn model(graph: GraphProto, opsets: &[(&str, i64)]) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: opsets.iter().map(|it| opset(it.0, it.1)).collect(),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A model of nodes over `x`, `c` and the tensor `w` that gives `y`.
fn of(nodes: Vec<NodeProto>) -> ModelProto {
    model(graph(nodes, "x c", "y"), &[("", 21), ("my", 1)])
}

fn open(model: &ModelProto) -> Result<Model, Error> {
    open_bytes(&model.encode_to_vec())
}

fn write(model: &Model) -> (ModelProto, Report) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let mut out = Output::new(&path, true);
    let report = OnnxWriter.write(model, &mut out, &Context::default());
    out.commit().unwrap();
    let written = ModelProto::decode(&fs::read(&path).unwrap()[..]).unwrap();
    (written, report.unwrap())
}

#[test]
fn what_no_runtime_loads_is_refused() {
    let relu = || vec![node("Relu", "x", "y")];
    let functions = |functions: Vec<FunctionProto>| ModelProto {
        functions,
        ..of(vec![node("my:F", "x", "y")])
    };
    let plain = [("", 21), ("my", 1)];
    let inner = || vec![node("Relu", "a", "b")];
    let late = || vec![node("Relu", "q", "b"), node("Relu", "a", "q")];
    for (model, why) in [
        // "topologically sorted" / "the graph is not acyclic"
        (
            of(vec![node("Add", "z w", "y"), node("Relu", "y", "z")]),
            "what it gives",
        ),
        (
            of(vec![node("Add", "y w", "y")]),
            "(Add): it takes, by others or itself, what it gives",
        ),
        (
            of(vec![
                branch("y", vec![node("Relu", "q", "z")]),
                node("Relu", "y", "q"),
            ]),
            "what it gives",
        ),
        (
            of(vec![branch("y", vec![node("Relu", "y", "z")])]),
            "what it gives",
        ),
        (
            of(vec![branch(
                "y",
                vec![node("Relu", "q", "z"), node("Relu", "z", "q")],
            )]),
            "what it gives",
        ),
        // Graphs within are not sorted by anybody.
        (
            of(vec![branch(
                "y",
                vec![node("Relu", "q", "z"), node("Relu", "x", "q")],
            )]),
            "it takes \"q\", which a later node gives",
        ),
        (
            functions(vec![function("F", &plain, late())]),
            "it takes \"q\", which a later node gives",
        ),
        // "single static assignment" of what the graph around has
        (
            of(vec![branch(
                "y",
                vec![node("Relu", "w", "x"), node("Relu", "x", "z")],
            )]),
            "it gives \"x\", which the graph around it has already",
        ),
        // "output x of If op does not exist"
        (
            of(vec![handing(branch("y", vec![]), "x")]),
            "its output \"x\" is a value of the graph around it",
        ),
        // "No Op registered for F"
        (
            ModelProto {
                functions: vec![FunctionProto {
                    domain: None,
                    ..function("F", &plain, inner())
                }],
                ..of(vec![node("F", "x", "y")])
            },
            "a function in the domain of ONNX itself",
        ),
        // "single static assignment" / "Duplicate definition-site"
        (
            model(graph(relu(), "x x", "y"), &plain),
            "input \"x\" is there twice",
        ),
        (
            model(graph(relu(), "x - -", "y"), &plain),
            "input \"\" is there twice",
        ),
        // "Field 'name' of 'value_info'" / "Graph output () does not exist"
        (
            model(graph(relu(), "x", "y -"), &plain),
            "an output of the graph has no name",
        ),
        // "Attribute 'alpha' appeared multiple times"
        (
            of(vec![with(node("Elu", "x", "y"), &["alpha", "alpha"])]),
            "\"alpha\" is there twice",
        ),
        (
            of(vec![with(node("my:Elu", "x", "y"), &["a", "b", "a"])]),
            "\"a\" is there twice",
        ),
        // "Field 'name' of 'attr' is required to be non-empty"
        (
            of(vec![with(node("Elu", "x", "y"), &[""])]),
            "an attribute of it has no name",
        ),
        (
            functions(vec![function(
                "F",
                &plain,
                vec![with(node("Elu", "a", "b"), &[""])],
            )]),
            "an attribute of it has no name",
        ),
        // "No Op registered for Add with domain_version of 0"
        (
            model(graph(relu(), "x", "y"), &[("", 0)]),
            "operator set 0 of domain \"\"",
        ),
        (
            model(graph(relu(), "x", "y"), &[("ai.onnx", -1)]),
            "operator set -1",
        ),
        (
            model(graph(relu(), "x", "y"), &[("", 21), ("", 0)]),
            "operator set 0",
        ),
        (
            of(vec![node("ai.onnx.ml:Binarizer", "x", "y")]).with_opset("ai.onnx.ml", 0),
            "operator set 0",
        ),
        // "No opset import for domain 'foo'"
        (
            of(vec![node("foo:Add", "x w", "y")]),
            "of domain \"foo\", which is not imported",
        ),
        (
            of(vec![branch("y", vec![node("foo:Add", "x w", "z")])]),
            "\"foo\", which is not imported",
        ),
        (
            ModelProto {
                functions: vec![function("F", &plain, inner())],
                ..model(graph(vec![node("my:F", "x", "y")], "x", "y"), &[("", 21)])
            },
            "of domain \"my\", which is not imported",
        ),
        // "No Opset registered for domain": a function imports by itself, letter by letter.
        (
            functions(vec![function("F", &[("my", 1)], inner())]),
            "domain \"\", which is not",
        ),
        (
            functions(vec![function("F", &[("ai.onnx", 21)], inner())]),
            "domain \"\", which is not",
        ),
        (
            ModelProto {
                functions: vec![function(
                    "F",
                    &plain,
                    vec![node("com.microsoft:Gelu", "a", "b")],
                )],
                ..of(relu())
            },
            "domain \"com.microsoft\", which is not imported",
        ),
        (
            functions(vec![function("F", &[("", 0)], inner())]),
            "operator set 0",
        ),
        // "multiple local functions with the same implementation id"
        (
            functions(vec![
                function("F", &plain, inner()),
                function("F", &plain, inner()),
            ]),
            "function \"F\": the function is there twice",
        ),
    ] {
        let error = open(&model).unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{error}");
        assert!(error.to_string().contains(why), "{error}, expected {why}");
        assert!(error.help().is_some());
    }
}

trait WithOpset {
    fn with_opset(self, domain: &str, version: i64) -> Self;
}

impl WithOpset for ModelProto {
    fn with_opset(mut self, domain: &str, version: i64) -> Self {
        self.opset_import.push(opset(domain, version));
        self
    }
}

#[test]
fn what_loads_is_read() {
    let relu = || vec![node("Relu", "x", "y")];
    let plain = [("", 21), ("my", 1)];
    let overload = FunctionProto {
        overload: Some("o".to_owned()),
        ..function("F", &plain, vec![node("Relu", "a", "b")])
    };
    let cyclic = vec![node("Add", "a q", "b"), node("Relu", "b", "q")];
    let mut unnamed = graph(relu(), "x", "y");
    unnamed.name = None;
    for model in [
        of(vec![node("Add", "z w", "y"), node("Relu", "x", "z")]),
        model(unnamed, &plain),
        model(graph(relu(), "x -", "y"), &plain),
        // Twice the name of a tensor, which is its default.
        model(graph(relu(), "x w w", "y"), &plain),
        model(graph(relu(), "x", "y y"), &plain),
        // Domains that onnxruntime knows unasked, and ONNX's own under its other name.
        of(vec![node("com.microsoft:Gelu", "x", "y")]),
        of(vec![node("ai.onnx.ml:Binarizer", "x", "y")]),
        of(vec![node("ai.onnx:Relu", "x", "y")]),
        model(graph(relu(), "x", "y"), &[("ai.onnx", 21)]),
        model(graph(relu(), "x", "y"), &[("ai.onnx.ml", 3)]),
        // The last of two counts.
        model(graph(relu(), "x", "y"), &[("", 0), ("", 21)]),
        // A set without a version that nothing is of.
        of(relu()).with_opset("foo", 0),
        model(
            graph(vec![node("com.microsoft:Gelu", "x", "y")], "x", "y"),
            &[("", 0)],
        ),
        ModelProto {
            functions: vec![
                function("F", &plain, vec![node("Relu", "a", "b")]),
                overload,
            ],
            ..of(vec![node("my:F", "x", "y")])
        },
        // Nothing calls it.
        ModelProto {
            functions: vec![function("F", &plain, cyclic)],
            ..of(relu())
        },
        ModelProto {
            functions: vec![function(
                "F",
                &plain,
                vec![with(node("Elu", "a", "b"), &["alpha", "alpha"])],
            )],
            ..of(vec![node("my:F", "x", "y")])
        },
    ] {
        let read = open(&model).unwrap_or_else(|error| panic!("{error}: {model:?}"));
        let (written, report) = write(&read);
        let nodes = written.graph.unwrap().node.len();
        assert_eq!(nodes, model.graph.unwrap().node.len());
        assert!(report.losses().next().is_none());
    }
}

#[test]
fn nodes_are_written_behind_what_they_take() {
    let nodes = vec![
        node("Relu", "b", "y"),
        branch("b", vec![node("Relu", "a", "z")]),
        node("Relu", "x", "a"),
    ];
    let read = open(&of(nodes.clone())).unwrap();
    let (written, report) = write(&read);
    let order: Vec<_> = written.graph.unwrap().node;
    assert_eq!(
        order,
        [nodes[2].clone(), nodes[1].clone(), nodes[0].clone()]
    );
    let [record] = &report.records[..] else {
        panic!("{report:?}");
    };
    assert_eq!((record.kind, record.what.as_str()), ("nodes-sorted", "g"));
}

/// A field of a length and bytes, numbers below 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend(bytes);
    out
}

#[test]
fn a_graph_in_pieces_is_one() {
    let whole = of(vec![node("Relu", "x", "z"), node("Add", "z w", "y")]);
    let mut parts = [whole.graph.clone().unwrap(), whole.graph.clone().unwrap()];
    parts[0].node.truncate(1);
    parts[0].name = Some("another".to_owned());
    parts[0].output.clear();
    parts[1].node.remove(0);
    parts[1].input.clear();
    parts[0].initializer.clear();
    let mut bytes = ModelProto {
        graph: None,
        ..whole.clone()
    }
    .encode_to_vec();
    for part in &parts {
        bytes.extend(field(7, &part.encode_to_vec()));
    }
    // As protobuf's own merging says.
    assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), whole);
    let (written, _) = write(&open_bytes(&bytes).unwrap());
    let (expected, _) = write(&open(&whole).unwrap());
    assert_eq!(written, expected);
    // Twice the same graph has everything twice.
    bytes.extend(field(7, &parts[0].encode_to_vec()));
    assert_eq!(open_bytes(&bytes).unwrap_err().class(), Class::Malformed);
}

#[test]
fn a_type_in_pieces_is_one() {
    let dim = |size: u8| field(1, &[1 << 3, size]);
    let shape = |dims: &[u8]| {
        field(
            2,
            &dims.iter().flat_map(|size| dim(*size)).collect::<Vec<u8>>(),
        )
    };
    let tensor = |parts: &[u8]| field(2, &field(1, parts));
    let float = [1 << 3, 1];
    let name = field(1, b"x");
    let typed = [&float[..], &shape(&[2, 3])].concat();
    let whole = [name.clone(), tensor(&typed)].concat();
    let pieces = [
        name,
        // Another kind before: the last one counts, and takes nothing over.
        field(2, &field(8, &shape(&[3]))),
        tensor(&shape(&[2])),
        tensor(&float),
        tensor(&shape(&[3])),
    ];
    let pieces = pieces.concat();
    // As protobuf's own merging says.
    let value = ValueInfoProto::decode(&whole[..]).unwrap();
    assert_eq!(ValueInfoProto::decode(&pieces[..]).unwrap(), value);
    let mut model = of(vec![node("Relu", "x", "y")]);
    model.graph.as_mut().unwrap().input.clear();
    let written = [whole, pieces].map(|value| {
        let bytes = [model.encode_to_vec(), field(7, &field(11, &value))].concat();
        write(&open_bytes(&bytes).unwrap()).0
    });
    let [expected, found] = written;
    assert_eq!(found, expected);
}
