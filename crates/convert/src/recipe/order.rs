//! The order tensors are handled and written in, and layers that are cut out.

use super::RecipeError;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The number after `blk.` as C's `%d` reads it, where a name begins so.
fn leading_block(name: &str) -> i64 {
    let Some(rest) = name.strip_prefix("blk.") else {
        return -1;
    };
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let (sign, digits) = match rest.as_bytes().first() {
        Some(b'-') => (-1, &rest[1..]),
        Some(b'+') => (1, &rest[1..]),
        _ => (1, rest),
    };
    let mut number: Option<i64> = None;
    for byte in digits.bytes().take_while(u8::is_ascii_digit) {
        let digit = i64::from(byte - b'0');
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
    }
    // A number of 64 bits, of which glibc keeps the lower half.
    #[allow(clippy::cast_possible_truncation)]
    number.map_or(-1, |number| i64::from((sign * number) as i32))
}

/// The block a tensor belongs to, if its name begins with `blk.N`.
pub(crate) fn block_number(name: &str) -> Option<u32> {
    u32::try_from(leading_block(name)).ok()
}

/// llama.cpp's order of tensors (`weight_name_comparer`): those of no block first, then by block,
/// and by name inside each.
pub fn compare_names(a: &str, b: &str) -> Ordering {
    leading_block(a)
        .cmp(&leading_block(b))
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// Layers to leave out, and the numbers the others get.
#[derive(Debug)]
pub(crate) struct Pruning<'a> {
    prune: &'a [u32],
    /// New numbers by old ones; `None` for a layer that goes.
    renumbered: BTreeMap<u64, Option<u64>>,
    next: u64,
}

/// Where a tensor of a block says which: the span of its number.
fn block_span(name: &str) -> Option<(std::ops::Range<usize>, u64)> {
    for (at, _) in name.match_indices("blk.") {
        let start = at + "blk.".len();
        let rest = name.get(start..)?;
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        if len > 0 && rest.as_bytes().get(len) == Some(&b'.') {
            return Some((start..start + len, rest.get(..len)?.parse().ok()?));
        }
    }
    None
}

impl<'a> Pruning<'a> {
    /// Leaves out `prune`, which is sorted.
    pub(crate) fn new(prune: &'a [u32]) -> Self {
        Self {
            prune,
            renumbered: BTreeMap::new(),
            next: 0,
        }
    }

    /// The new name of a tensor, `None` if it goes. To be called in [`compare_names`] order.
    pub(crate) fn rename(&mut self, name: &str) -> Option<String> {
        let Some(&first) = self.prune.first() else {
            return Some(name.to_owned());
        };
        let Some((span, block)) = block_span(name) else {
            return Some(name.to_owned());
        };
        let new = if let Some(new) = self.renumbered.get(&block) {
            *new
        } else {
            let new = if self.prune.iter().any(|&n| u64::from(n) == block) {
                None
            } else if block < u64::from(first) {
                self.next = block.saturating_add(1);
                Some(block)
            } else {
                self.next = self.next.saturating_add(1);
                Some(self.next - 1)
            };
            self.renumbered.insert(block, new);
            new
        };
        let mut renamed = name.to_owned();
        renamed.replace_range(span, &new?.to_string());
        Some(renamed)
    }

    /// How many layers are left, once all names were seen; `None` if none were to go.
    pub(crate) fn block_count(&self) -> Option<u64> {
        (!self.prune.is_empty()).then_some(self.next)
    }
}

/// Reads the layers of `--prune-layers`: `3,5,7`. Sorted, each once.
pub fn parse_layers(text: &str) -> Result<Vec<u32>, RecipeError> {
    let mut layers = text
        .split(',')
        .map(|layer| {
            layer.trim().parse().map_err(|_| RecipeError::BadOption {
                flag: "--prune-layers",
                text: text.to_owned(),
                why: format!("{layer:?} is no layer number"),
            })
        })
        .collect::<Result<Vec<u32>, _>>()?;
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_first_then_blocks_by_number() {
        let mut names = vec![
            "blk.10.a",
            "output.weight",
            "blk.2.b",
            "blk.2.a",
            "blk.x",
            "enc.blk.0.a",
            "a",
        ];
        names.sort_by(|a, b| compare_names(a, b));
        assert_eq!(
            names,
            [
                "a",
                "blk.x",
                "enc.blk.0.a",
                "output.weight",
                "blk.2.a",
                "blk.2.b",
                "blk.10.a"
            ]
        );
        assert_eq!(block_number("blk.7.attn"), Some(7));
        assert_eq!(block_number("blk.-7.attn"), None);
        // The lower half of the number, as scanf of glibc leaves it.
        assert_eq!(leading_block("blk.4000000000."), -294_967_296);
        assert_eq!(leading_block("blk.99999999999999999999."), -1);
    }

    #[test]
    fn pruned_layers_close_the_gap() {
        let mut pruning = Pruning::new(&[1, 3]);
        let names = [
            "t", "blk.0.a", "blk.1.a", "blk.2.a", "blk.2.b", "blk.3.a", "blk.4.a",
        ];
        let renamed: Vec<_> = names
            .iter()
            .filter_map(|name| pruning.rename(name))
            .collect();
        assert_eq!(renamed, ["t", "blk.0.a", "blk.1.a", "blk.1.b", "blk.2.a"]);
        assert_eq!(pruning.block_count(), Some(3));
        assert_eq!(parse_layers("5,1,5").unwrap(), [1, 5]);
        assert!(parse_layers("1,x").is_err());
        assert!(parse_layers("").is_err());
    }
}
