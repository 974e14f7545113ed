//! Switches that are arithmetic alone, without a comparison, and honest graphs of the same steps.

use super::tests::{Draft, found};
use ir::{Attribute, AttributeValue};

/// Two results of the input.
const RESULTS: &[&str] = &["a = MatMul(x, w)", "b = MatMul(x, v)"];

/// A graph over `x` with constants `w`, `v`, `c` and these lines; a number behind a `;` is what a
/// `Cast` casts to, or what a `Constant` is.
fn told(lines: &[&str]) -> bool {
    let mut draft = Draft::of(&["x"], &["w", "v", "c"], &[], RESULTS);
    for line in lines {
        let (line, number) = line.split_once("; ").unwrap_or((line, ""));
        let node = draft.node(line);
        if let Ok(number) = number.parse() {
            let name = if node.op == "Cast" { "to" } else { "value_int" };
            node.attributes.push(Attribute {
                name: name.to_owned(),
                value: AttributeValue::Int(number),
                doc: String::new(),
            });
        }
    }
    let y = draft.body.nodes.last().unwrap().outputs[0].unwrap();
    draft.body.outputs.push(y);
    let findings = found(draft);
    findings.iter().any(|(rule, _)| *rule == "input-switch")
}

const BOOL: &str = "; 9";

#[test]
fn switches_without_a_comparison_are_told() {
    let most = "m = ReduceMax(x)";
    let to_bool = format!("s = Cast(t){BOOL}");
    let choice = "y = Where(s, a, b)";
    let two = "two = Constant(); 2";
    for lines in [
        &["s = RegexFullMatch(x)", choice][..],
        &[
            "t = Binarizer(x)",
            "u = ReduceMax(t)",
            "s = Cast(u); 9",
            choice,
        ],
        &[most, "t = ThresholdedRelu(m)", &to_bool, choice],
        &[most, "l = Concat(m, c)", "t = ArgMax(l)", &to_bool, choice],
        &[
            most,
            "l = Concat(c, m)",
            "h = Hardmax(l)",
            "t = Gather(h, c)",
            &to_bool,
            choice,
        ],
        &[
            "i = Cast(x); 7",
            "b1 = BitwiseAnd(i, c)",
            "t = ReduceMax(b1)",
            &to_bool,
            choice,
        ],
        &[most, "i = Cast(m); 7", "t = Cast(i); 1", &to_bool, choice],
        &[most, "t = Floor(m)", &to_bool, choice],
        &[
            most,
            "q = QuantizeLinear(m, c)",
            "t = Cast(q); 1",
            &to_bool,
            choice,
        ],
        &[
            most,
            two,
            "i = Cast(m); 7",
            "p = Mod(i, two)",
            "l = Concat(a, b)",
            "y = GatherND(l, p)",
        ],
        &[
            most,
            "d = Sub(m, c)",
            "t = Tanh(d)",
            "g = Mul(t, a)",
            "y = Add(g, b)",
        ],
        &[
            most,
            "d = Sub(m, c)",
            "n = Abs(d)",
            "t = Pow(c, n)",
            "g = Mul(t, a)",
            "y = Add(g, b)",
        ],
    ] {
        assert!(told(lines), "{lines:?}");
    }
}

#[test]
fn honest_arithmetic_of_inputs_is_not_told() {
    for lines in [
        // Words that are looked up, features that are on or off.
        &["t = Binarizer(x)", "h = MatMul(t, w)", "y = Relu(h)"][..],
        // A power of what is centred, the root of a mean.
        &[
            "d = Sub(x, c)",
            "p = Pow(d, c)",
            "m = ReduceMean(p)",
            "q = Sqrt(m)",
            "y = Div(a, q)",
        ],
        &[
            "p = Mul(x, x)",
            "m = ReduceMean(p)",
            "e = Add(m, c)",
            "r = Reciprocal(e)",
            "y = Mul(a, r)",
        ],
        // Sizes that are fed are scaled and rounded, and say where to cut.
        &[
            "n = ReduceMax(x)",
            "f = Mul(n, c)",
            "g = Floor(f)",
            "i = Cast(g); 7",
            "y = Slice(a, c, i)",
        ],
        // The largest of several parts of the input.
        &[
            "l = Concat(x, c)",
            "i = ArgMax(l)",
            "t = Cast(i); 1",
            "y = Mul(a, t)",
        ],
        // Bits of what is packed, made whole numbers and multiplied.
        &[
            "i = Cast(x); 2",
            "p = BitwiseAnd(i, c)",
            "f = Cast(p); 1",
            "h = MatMul(f, w)",
            "y = Relu(h)",
        ],
        // A result is rounded, not the input.
        &["m = ReduceMax(a)", "f = Floor(m)", "y = Mul(b, f)"],
        &["f = Tanh(x)", "y = Mul(a, f)"],
    ] {
        assert!(!told(lines), "{lines:?}");
    }
}
