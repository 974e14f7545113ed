//! ONNX graphs.

use super::{SIZE, alone, over};
use weightbridge_tests::filled;

/// A field of a protobuf message: its number, and bytes of any length.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = match number {
        0..16 => vec![number << 3 | 2],
        _ => vec![(number << 3 | 2) | 0x80, number >> 4],
    };
    let mut len = body.len();
    while len > 127 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [out, body.to_vec()].concat()
}

/// A model of a graph of these fields, and of what follows it.
fn model(graph: &[u8], after: &[u8]) -> Vec<u8> {
    let opset = field(8, b"\x10\x11");
    [b"\x08\x08".to_vec(), opset, field(7, graph), after.to_vec()].concat()
}

/// A model of one node over `x`, which is fed, and `k`, which is known.
fn of_one_node(node: &[u8]) -> Vec<u8> {
    let known = [b"\x10\x01".to_vec(), field(8, b"k"), field(9, &[0; 4])].concat();
    let graph = [
        field(1, node),
        field(5, &known),
        field(11, &field(1, b"x")),
        field(12, &field(1, b"y")),
    ];
    model(&graph.concat(), b"")
}

/// What a node takes and gives is looked at once, not each with each.
#[test]
fn one_node_as_wide_as_a_file_is_judged_in_time() {
    let _alone = alone();
    let many = |n: usize, name: &[u8], op: &[u8]| {
        let takes = field(1, name).repeat(n);
        [takes, field(2, b"y"), field(4, op)].concat()
    };
    let branch = [field(
        5,
        &[field(1, b"t"), field(6, b""), b"\xa0\x01\x05".to_vec()].concat(),
    )];
    let gives = [field(2, b"y"), field(2, b"").repeat(200_000)].concat();
    let branches = [
        field(1, b"x"),
        gives,
        field(4, b"If"),
        branch.concat().repeat(40_000),
    ];
    let floods = [
        ("fed values", many(300_000, b"x", b"Sum")),
        ("known values of a layer", many(300_000, b"k", b"MatMul")),
        ("branches", branches.concat()),
    ];
    let over = over(
        "model.onnx",
        floods.map(|(name, node)| (name, of_one_node(&node))),
    );
    assert!(over.is_empty(), "{over:#?}");
}

/// The graph of a model that takes `x` and gives `y`, and has these fields as often as they fit.
fn of_many(fields: &[u8]) -> Vec<u8> {
    let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    model(&filled(&ends, fields, b"", SIZE - 100), b"")
}

/// As many nodes as there is room for, each of which takes what the one before it gives.
fn chain(op: &[u8], more: &[u8]) -> Vec<u8> {
    let mut nodes = field(11, &field(1, b"0"));
    for n in 0u32.. {
        let (takes, gives) = (format!("{n:x}"), format!("{:x}", n + 1));
        let ends = [field(1, takes.as_bytes()), field(2, gives.as_bytes())].concat();
        let node = field(1, &[ends, field(4, op), more.to_vec()].concat());
        if nodes.len() + node.len() > SIZE - 100 {
            break;
        }
        nodes.extend(node);
    }
    model(&nodes, b"")
}

/// Functions that call each other often, and a graph that calls the last.
fn functions(nodes: usize, of: &[u8]) -> Vec<u8> {
    let io = [field(1, b"x"), field(2, b"y")].concat();
    let body = |call: &[u8], times: usize| -> Vec<u8> {
        let node = [io.clone(), field(4, call), field(7, b"f")].concat();
        field(7, &node).repeat(times)
    };
    let mut all = Vec::new();
    for level in 0..8u8 {
        let called = match level {
            0 => field(7, &[io.clone(), field(4, of)].concat()).repeat(nodes),
            _ => body(&[b'a' + level - 1], 10),
        };
        let ends = [field(4, b"x"), field(5, b"y")].concat();
        let name = field(1, &[b'a' + level]);
        all.extend(field(25, &[name, ends, called, field(10, b"f")].concat()));
    }
    let call = [io.clone(), field(4, b"h"), field(7, b"f")].concat();
    let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
    model(&[field(1, &call), ends].concat(), &all)
}

#[test]
fn a_graph_of_a_megabyte_is_judged_in_little_memory() {
    let _alone = alone();
    let node = |parts: &[(u8, &[u8])]| {
        let parts: Vec<Vec<u8>> = parts.iter().map(|(n, body)| field(*n, body)).collect();
        field(1, &parts.concat())
    };
    let names = |number: u8, wrap: bool| {
        let names = (0..SIZE / 8).map(|n| field(1, format!("{n:x}").as_bytes()));
        let names = names.map(|it| if wrap { field(number, &it) } else { it });
        let mut out = Vec::new();
        for name in names {
            if out.len() + name.len() > SIZE - 200 {
                break;
            }
            out.extend(name);
        }
        out
    };
    let one = |attribute: &[u8]| {
        let parts = [
            field(1, b"x"),
            field(2, b"y"),
            field(4, b"A"),
            field(5, attribute),
        ];
        of_one_node(&parts.concat())
    };
    let filled = |kind: u8, part: &[u8]| {
        let kind = [vec![0xa0, 0x01], vec![kind]].concat();
        [field(1, b"a"), kind, part.repeat((SIZE - 200) / part.len())].concat()
    };
    let deep = field(2, &field(1, &field(2, &[10, 0].repeat(400_000))));
    let info = [field(1, b"z"), deep].concat();
    let floods = [
        ("a chain of nodes", chain(b"Abs", b"")),
        ("a chain of additions", chain(b"Add", &field(1, b"x"))),
        ("a chain with names", chain(b"A", &field(3, b"n"))),
        (
            "a chain of comparisons",
            chain(b"Less", &[field(1, b"x"), field(2, b"z")].concat()),
        ),
        ("nodes that take", of_many(&node(&[(1, b"x"), (4, b"A")]))),
        (
            "nodes that give nothing",
            of_many(&node(&[(2, b""), (4, b"A")])),
        ),
        (
            "nodes with texts",
            of_many(&node(&[
                (2, b""),
                (4, b"A"),
                (3, b"n"),
                (7, b"d"),
                (6, b"d"),
            ])),
        ),
        (
            "constants",
            of_many(&node(&[
                (2, b"k"),
                (4, b"Constant"),
                (5, b"\x0a\x09value_int\x18\x01\xa0\x01\x02"),
            ])),
        ),
        ("values declared", of_many(&field(13, b""))),
        ("inputs", of_many(&field(11, b""))),
        ("outputs", of_many(&field(12, b""))),
        ("different inputs", model(&names(11, true), b"")),
        ("different outputs", model(&names(12, true), b"")),
        ("different values", model(&names(13, true), b"")),
        (
            "values of one node",
            of_one_node(&[names(0, false), field(4, b"Sum")].concat()),
        ),
        (
            "dimensions",
            model(
                &[field(13, &info), field(12, &field(1, b"y"))].concat(),
                b"",
            ),
        ),
        ("initializers", of_many(&field(5, b"\x10\x01\x08\x00"))),
        ("pairs", of_many(&[0x82, 0x01, 0])),
        ("annotations", of_many(&field(14, b""))),
        ("texts of an attribute", one(&filled(8, &[0x4a, 0]))),
        (
            "numbers of an attribute",
            one(&[
                field(1, b"a"),
                vec![0xa0, 1, 7],
                field(8, &vec![1; SIZE - 200]),
            ]
            .concat()),
        ),
        ("types of an attribute", one(&filled(14, &[0x7a, 0]))),
        ("graphs of an attribute", one(&filled(10, &[0x5a, 0]))),
        (
            "tensors of an attribute",
            one(&filled(9, &[0x52, 2, 0x10, 1])),
        ),
        ("functions", functions(10, b"Abs")),
        ("functions of many nodes", functions(60_000, b"Abs")),
        ("functions of nodes of any kind", functions(3_000, b"Sum")),
        ("opsets", model(b"", &[0x42, 0].repeat(400_000))),
        ("properties", model(b"", &[0x72, 0].repeat(400_000))),
        ("empty functions", model(b"", &[0xca, 1, 0].repeat(300_000))),
    ];
    let over = over("model.onnx", floods);
    assert!(over.is_empty(), "{over:#?}");
}
