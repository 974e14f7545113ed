//! Where a tensor stands in its model, as its name tells.

/// A name taken apart: `model.layers.3.mlp.experts.7.w1.weight` is layer 3 of the stack
/// `model.layers`, with the role `mlp.experts.*.w1.weight`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What stands before the layer's number; empty for a tensor outside all layers.
    pub stack: String,
    /// The layer's number.
    pub layer: Option<u32>,
    /// What stands behind it, further numbers as `*`; for a tensor outside all layers its name.
    pub role: String,
}

/// Takes a name apart at its first part that is a number.
pub fn place(name: &str) -> Place {
    let parts: Vec<&str> = name.split(SEPARATORS).collect();
    let number = |part: &&str| part.parse::<u32>().ok();
    // A number at the very end or the very start names no layer: there is nothing it would hold.
    let found = parts
        .iter()
        .enumerate()
        .skip(1)
        .take(parts.len().saturating_sub(2))
        .find_map(|(at, part)| Some((at, number(part)?)));
    let starred = |parts: &[&str]| {
        let star = |part: &&str| match number(part) {
            Some(_) => "*".to_owned(),
            None => (*part).to_owned(),
        };
        parts.iter().map(star).collect::<Vec<_>>().join(".")
    };
    match found {
        Some((at, layer)) => Place {
            stack: parts.get(..at).unwrap_or_default().join("."),
            layer: Some(layer),
            role: starred(parts.get(at + 1..).unwrap_or_default()),
        },
        None => Place {
            stack: String::new(),
            layer: None,
            role: name.to_owned(),
        },
    }
}

/// What stands between the parts of a name: dots, and slashes in ONNX.
pub(crate) const SEPARATORS: [char; 2] = ['.', '/'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let is = |name: &str, stack: &str, layer: Option<u32>, role: &str| {
            let (stack, role) = (stack.to_owned(), role.to_owned());
            assert_eq!(place(name), Place { stack, layer, role }, "{name}");
        };
        is("blk.3.attn_q.weight", "blk", Some(3), "attn_q.weight");
        is(
            "model.layers.10.mlp.experts.7.w1.weight",
            "model.layers",
            Some(10),
            "mlp.experts.*.w1.weight",
        );
        is("token_embd.weight", "", None, "token_embd.weight");
        is("0.weight", "", None, "0.weight");
        is("ema.0", "", None, "ema.0");
        is("a.99999999999.b", "", None, "a.99999999999.b");
        is("", "", None, "");
    }
}
