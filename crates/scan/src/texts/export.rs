//! Exported programs (`torch.export`): a graph in JSON whose nodes name what they call.
//!
//! PyTorch looks a node's target up as a path below `torch`, `_operator` or `math`, attribute by
//! attribute (`deserialize_operator` in `torch/_export/serde/serialize.py`), and calls it when the
//! program runs. Sizes are texts that sympy evaluates as Python while the program is loaded.

use super::json;
use crate::ledger::Ledger;
use crate::rules;
use crate::script;
use crate::standing::{Standing, standing};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Functions of `operator` that compute: what `torch.export` writes, and their kind.
const OPERATOR: &[&str] = &[
    "abs", "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "index", "inv", "invert", "is_",
    "is_not", "le", "lshift", "lt", "matmul", "mod", "mul", "ne", "neg", "not_", "or_", "pos",
    "pow", "rshift", "sub", "truediv", "truth", "xor",
];
/// Operators of aten that are named as Python's methods are.
const DUNDER: &[&str] = &[
    "__and__",
    "__contains__",
    "__derive_index",
    "__getitem__",
    "__iand__",
    "__ilshift__",
    "__ior__",
    "__irshift__",
    "__is__",
    "__isnot__",
    "__ixor__",
    "__lshift__",
    "__not__",
    "__or__",
    "__range_length",
    "__rshift__",
    "__xor__",
];

/// Judges an exported program. Other JSON says nothing here.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lenient = json::standard(text);
    let mut source = serde_json::Deserializer::from_str(lenient.as_deref().unwrap_or(text));
    let mut named = Named::default();
    let read = Walk(&mut named, Under::Other).deserialize(&mut source);
    let read = read.and_then(|()| source.end());
    // The name may be escaped.
    let ours = named.program || text.contains("graph_module") || text.contains("\\u00");
    if let (Err(error), true) = (read, ours) {
        let more = || error.to_string();
        ledger.note(rules::UNREADABLE, "JSON", 0, more);
    }
    if !named.program {
        return;
    }
    for name in &named.targets {
        target(name, ledger);
    }
    for expression in &named.expressions {
        if !is_size(expression) {
            let more = || format!("sympy evaluates the size {expression}");
            ledger.note(rules::CODE_EXECUTION, "sympy.sympify", 0, more);
        }
    }
}

/// What a node calls.
fn target(name: &str, ledger: &mut Ledger<'_>) {
    let more = || format!("the target of a node: {name}");
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default();
    let parts: Vec<&str> = parts.take(64).collect();
    let dunder = |part: &&str| part.starts_with("__") && !DUNDER.contains(part);
    match (first, parts.as_slice()) {
        ("_operator", [one]) if OPERATOR.contains(one) => {}
        ("math", [one]) if !one.starts_with('_') => {}
        ("torch", [one]) if one.starts_with("sym_") || one.starts_with("_sym_") => {}
        ("torch", ["ops", space, op, overload @ ..])
            if overload.len() <= 1
                && ![*space, *op].iter().any(dunder)
                && !overload.iter().any(|part| part.starts_with("__"))
                && !matches!(*space, "import_module" | "load_library") =>
        {
            if script::touches_files(&format!("ops.{space}.{op}")) {
                ledger.note(rules::TORCHSCRIPT_FILE_ACCESS, name, 0, more);
            } else if *space != "higher_order" && !script::is_ours(space) {
                ledger.note(rules::TORCHSCRIPT_CUSTOM_OP, name, 0, more);
            }
        }
        // PyTorch goes by how the name begins, not by its first part.
        _ if ["torch", "_operator", "math"]
            .iter()
            .any(|it| first.starts_with(it)) =>
        {
            let (module, function) = name.rsplit_once('.').unwrap_or((name, ""));
            match standing(module, function) {
                Standing::Harmless | Standing::KnownClass => {}
                Standing::UnknownClass | Standing::UnknownFunction => {
                    ledger.note(rules::TORCHSCRIPT_CUSTOM_OP, name, 0, more);
                }
                _ => ledger.note(rules::CONFIG_CALLABLE, name, 0, more),
            }
        }
        _ => ledger.note(rules::TORCHSCRIPT_CUSTOM_OP, name, 0, more),
    }
}

/// Functions in small letters that sizes are made of. sympy's classes have capitals, and what
/// Python builds in has not.
const FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "ceiling", "cos", "cosh", "exp", "floor", "log", "max", "min",
    "round", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
];

/// Whether an expression is one of sizes: names, numbers, functions of them and arithmetic, as
/// sympy's `str` writes it or its `srepr` (`Mul(Integer(3), Symbol('s77', integer=True))`).
fn is_size(text: &str) -> bool {
    if text.len() > 64 << 10 || text.contains("__") || text.contains("lambda") {
        return false;
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // The word before the bracket that was opened last, if nothing stands between.
    let (mut rest, mut word, mut opened) = (text, "", "");
    // Whether an attribute's name may follow, and whether the call of what stands in brackets.
    let (mut point, mut closed) = (false, false);
    while let Some(c) = rest.chars().next() {
        let mut len = c.len_utf8();
        match c {
            '\'' | '"' => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.find(|c| !is_word(c) && !matches!(c, '.' | '-' | '+'));
                let names = matches!(opened, "Symbol" | "Dummy" | "Float");
                match end.filter(|end| names && inner.get(*end..).is_some_and(|r| r.starts_with(c)))
                {
                    Some(end) => len = end + 2,
                    None => return false,
                }
                (word, opened) = ("", "");
            }
            c if is_word(c) => {
                len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                word = rest.get(..len).unwrap_or_default();
                if point && !c.is_ascii_digit() {
                    return false;
                }
                opened = "";
            }
            '(' => {
                let first = word.chars().next();
                let known =
                    first.is_none_or(|c| c.is_ascii_uppercase()) || FUNCTIONS.contains(&word);
                if closed || !known {
                    return false;
                }
                (opened, word) = (word, "");
            }
            ' ' | '\n' => {}
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '&' | '|' | '~' | '^' | ')'
            | ',' | '.' => (word, opened) = ("", ""),
            _ => return false,
        }
        if c != ' ' && c != '\n' {
            (point, closed) = (c == '.', c == ')');
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    true
}

/// What a program names, wherever it does.
#[derive(Default)]
struct Named {
    program: bool,
    targets: BTreeSet<String>,
    expressions: BTreeSet<String>,
}

/// Walks a document and keeps no more of it than the names: graphs are long.
struct Walk<'a>(&'a mut Named, Under);

/// The key that a value stands under.
enum Under {
    Target,
    Expression,
    Other,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let set = match self.1 {
            Under::Target => &mut self.0.targets,
            Under::Expression => &mut self.0.expressions,
            Under::Other => return Ok(()),
        };
        if !set.contains(text) {
            set.insert(text.to_owned());
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while from
            .next_element_seed(Walk(self.0, Under::Other))?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while let Some(key) = from.next_key::<String>()? {
            self.0.program |= key == "graph_module";
            let under = match key.as_str() {
                "target" => Under::Target,
                "expr_str" => Under::Expression,
                _ => Under::Other,
            };
            from.next_value_seed(Walk(self.0, under))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noted_rules;

    fn findings(target: &str, size: &str) -> Vec<&'static str> {
        let text = format!(
            r#"{{"graph_module": {{"graph": {{"nodes": [{{"target": "{target}", "inputs": [],
               "x": {{"as_expr": {{"expr_str": "{size}"}}, "n": [1, null, NaN, true]}}}}]}}}}}}"#
        );
        noted_rules("models/model.json", |ledger| judge(&text, ledger))
    }

    #[test]
    fn what_exports_write_says_nothing() {
        for target in [
            "torch.ops.aten.linear.default",
            "torch.ops.aten.__and__.Scalar",
            "torch.ops.higher_order.cond",
            "torch.ops.higher_order.wrap_with_set_grad_enabled",
            "torch.ops.quantized_decomposed.quantize_per_tensor.default",
            "_operator.getitem",
            "_operator.floordiv",
            "math.trunc",
            "torch.sym_max",
        ] {
            let none: [&str; 0] = [];
            assert_eq!(
                findings(target, "FloorDiv(s27, 2) + 1.5*Max(1, u0)"),
                none,
                "{target}"
            );
        }
    }

    #[test]
    fn sizes_as_exports_write_them_say_nothing() {
        for size in [
            "s27",
            "2*s27 + 1.5",
            "-(u0 // 2) % 3 >= 1.0e5",
            "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(1))",
            "Mul(Float('-1.5e-05', precision=53), ToFloat(Symbol('u0')))",
            "Max(1, ceiling(s0/2))",
            "",
        ] {
            let none: [&str; 0] = [];
            assert_eq!(findings("math.trunc", size), none, "{size}");
        }
    }

    #[test]
    fn targets_and_sizes_that_do_more_are_told() {
        for (target, rule) in [
            (
                "torch.ops.aten.from_file.default",
                "torchscript-file-access",
            ),
            (
                "torch.ops.image.write_file.default",
                "torchscript-file-access",
            ),
            ("torch.ops.mylib.run.default", "torchscript-custom-op"),
            ("mylib.run", "torchscript-custom-op"),
            ("torch.ops.load_library", "config-callable"),
            ("torch.serialization.os.mkdir", "config-callable"),
            ("torch.ops.aten.__init__.__globals__", "config-callable"),
            ("torch.save", "config-callable"),
            ("_operator.attrgetter", "config-callable"),
        ] {
            assert_eq!(findings(target, "s0"), [rule], "{target}");
        }
        for size in [
            "__import__('os').system('id')",
            "().x",
            "eval(s0)",
            "open('x')",
            "Symbol('x').func",
            "S('open(1)')",
            "sympify ('x')",
            "print (1)",
            "(eval)(s0)",
            "[1][0]",
        ] {
            assert_eq!(findings("math.trunc", size), ["code-execution"], "{size}");
        }
        let mut ledger = Ledger::new("models/model.json");
        judge(r#"{"target": "os.system", "other": 1}"#, &mut ledger);
        judge("{not JSON", &mut ledger);
        assert!(ledger.close().is_empty());
        let mut ledger = Ledger::new("models/model.json");
        judge(r#"{"graph_module": {"target": "#, &mut ledger);
        assert_eq!(ledger.close()[0].rule, "unreadable");
    }
}
