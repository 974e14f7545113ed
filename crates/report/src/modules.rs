//! The tree of modules that tensors' names tell of.

use crate::data::TensorRow;
use crate::palette::Palette;
use crate::place::SEPARATORS;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Deepest level; what a name has beyond is one part. Keeps every walk of the tree flat enough.
const DEPTH: usize = 8;

/// Colours of the palette, the one for others included.
const COLOURS: usize = 10;

/// A module or, without children, a tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// Its own part of the name; several with dots where a module holds nothing but another.
    pub(crate) label: String,
    /// Its whole name.
    pub(crate) path: String,
    pub(crate) tensors: u64,
    pub(crate) elements: u64,
    pub(crate) bytes: u64,
    /// The type, for one tensor.
    pub(crate) dtype: Option<String>,
    /// Bytes by the colour of their type.
    colours: [u64; COLOURS],
    /// The largest first, numbers in their order where sizes are the same.
    pub(crate) children: Vec<usize>,
}

impl Module {
    /// The colour of most of its bytes.
    pub(crate) fn colour(&self) -> usize {
        let mut best = 0;
        for (colour, bytes) in self.colours.iter().enumerate() {
            if *bytes > self.colours[best] {
                best = colour;
            }
        }
        best
    }
}

/// All modules; the first is the model itself.
#[derive(Debug)]
pub(crate) struct Modules(Vec<Module>);

impl Modules {
    /// Of the tensors that take room.
    pub(crate) fn of(tensors: &[TensorRow], palette: &Palette) -> Self {
        let mut all = vec![Module::default()];
        // Only ever looked up, never walked.
        let mut known: HashMap<(usize, &str), usize> = HashMap::new();
        for tensor in tensors
            .iter()
            .filter(|t| t.tied_to.is_none() && t.bytes > 0)
        {
            let colour = palette.colour(&tensor.dtype).min(COLOURS - 1);
            let mut at = 0;
            let mut parts = tensor.name.splitn(DEPTH, SEPARATORS).peekable();
            loop {
                let module = &mut all[at];
                module.tensors += 1;
                module.elements = module.elements.saturating_add(tensor.elements);
                module.bytes = module.bytes.saturating_add(tensor.bytes);
                module.colours[colour] = module.colours[colour].saturating_add(tensor.bytes);
                let Some(part) = parts.next() else {
                    module.dtype = Some(tensor.dtype.clone());
                    break;
                };
                at = *known.entry((at, part)).or_insert_with(|| {
                    let start = part.as_ptr() as usize - tensor.name.as_ptr() as usize;
                    let path = tensor.name.get(..start + part.len()).unwrap_or_default();
                    all.push(Module {
                        label: part.to_owned(),
                        path: path.to_owned(),
                        ..Module::default()
                    });
                    let new = all.len() - 1;
                    all[at].children.push(new);
                    new
                });
            }
        }
        let mut tree = Self(all);
        tree.settle();
        tree
    }

    /// Joins chains of single modules and puts children in order.
    fn settle(&mut self) {
        // Children stand behind their parents: from the end, every child is settled already.
        for at in (1..self.0.len()).rev() {
            if let [only] = self.0[at].children[..]
                && self.0[at].dtype.is_none()
            {
                let child = self.0[only].clone();
                let label = format!("{}.{}", self.0[at].label, child.label);
                self.0[at] = Module { label, ..child };
            }
        }
        for at in 0..self.0.len() {
            let mut children = std::mem::take(&mut self.0[at].children);
            children.sort_by(|a, b| {
                let (a, b) = (&self.0[*a], &self.0[*b]);
                b.bytes
                    .cmp(&a.bytes)
                    .then_with(|| natural(&a.label, &b.label))
            });
            self.0[at].children = children;
        }
    }

    /// The model itself.
    pub(crate) fn root(&self) -> &Module {
        &self.0[0]
    }

    /// The modules right below one.
    pub(crate) fn below(&self, module: &Module) -> Vec<&Module> {
        module
            .children
            .iter()
            .filter_map(|at| self.0.get(*at))
            .collect()
    }
}

/// Numbers by their value, other texts by their letters.
fn natural(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(x), Ok(y)) => x.cmp(&y).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, bytes: u64) -> TensorRow {
        let (name, dtype) = (name.to_owned(), "F32".to_owned());
        TensorRow {
            name,
            dtype,
            bytes,
            elements: bytes / 4,
            ..TensorRow::default()
        }
    }

    #[test]
    fn sums_and_chains() {
        let tensors = [
            row("m.layers.10.w", 8),
            row("m.layers.9.w", 8),
            row("m.layers.9.b", 4),
            row("h", 40),
        ];
        let tree = Modules::of(&tensors, &Palette::of(&tensors));
        assert_eq!((tree.root().bytes, tree.root().tensors), (60, 4));
        let top = tree.below(tree.root());
        let labels: Vec<_> = top.iter().map(|m| (m.label.as_str(), m.bytes)).collect();
        assert_eq!(labels, [("h", 40), ("m.layers", 20)]);
        let layers = tree.below(top[1]);
        let paths: Vec<_> = layers.iter().map(|m| m.path.as_str()).collect();
        assert_eq!(paths, ["m.layers.9", "m.layers.10.w"]);
        assert_eq!(natural("9", "10"), Ordering::Less);
    }

    #[test]
    fn a_name_can_be_as_deep_as_it_likes() {
        let tensors = [
            row(&"a.".repeat(30_000), 4),
            row("", 4),
            row("a", 4),
            row("a.b", 4),
        ];
        let tree = Modules::of(&tensors, &Palette::of(&tensors));
        assert_eq!(tree.root().bytes, 16);
        assert!(tree.0.len() < 20);
    }
}
