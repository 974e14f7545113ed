//! Constants of a graph: their sizes, and the first of their numbers.

use super::flat::{Flat, Number, Step};
use super::ops;
use ir::{AttributeValue, DType, Node, TensorId, TensorTable};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Numbers of a constant that are looked at.
const LOOKED_AT: u64 = 1024;
/// Constants that are read or computed in one graph.
const READS: u32 = 20_000;
/// Steps that are followed back to a constant.
const BACK: usize = 16;

/// What is known of values before a graph runs.
pub(super) struct Known<'a> {
    tensors: &'a TensorTable,
    flat: &'a Flat<'a>,
    /// Which step makes a value, the first of them 1.
    maker: Vec<Option<NonZeroU32>>,
    reads: Cell<u32>,
}

impl<'a> Known<'a> {
    pub(super) fn of(flat: &'a Flat<'a>, tensors: &'a TensorTable) -> Self {
        let mut known = Self {
            tensors,
            flat,
            maker: flat.table(None),
            reads: Cell::new(0),
        };
        for (at, step) in (1u32..).zip(&flat.steps) {
            for number in &step.outputs {
                if let Some(maker) = known.maker.get_mut(number.index()) {
                    *maker = NonZeroU32::new(at);
                }
            }
        }
        known
    }

    /// The step that makes a value.
    fn maker(&self, number: Number) -> Option<&Step<'a>> {
        let at = self.maker.get(number.index()).copied().flatten()?;
        self.flat.steps.get(usize::try_from(at.get() - 1).ok()?)
    }

    /// The sizes of a constant.
    pub(super) fn dims(&self, number: Option<Number>) -> Option<Vec<u64>> {
        let number = number?;
        if let Some(tensor) = self.flat.constants.get(&number) {
            return Some(self.tensors.get((*tensor)?)?.spec.shape.to_vec());
        }
        let step = self.maker(number)?;
        own(step.node, self.tensors).filter(|_| step.outputs.first() == Some(&number))
    }

    /// The first numbers of a constant, also behind steps that keep them or compute with few.
    pub(super) fn numbers(&self, number: Number) -> Option<Vec<f64>> {
        self.followed(number, BACK)
    }

    /// The same; `most` bounds the recursion, and the count of reads its breadth.
    fn followed(&self, number: Number, most: usize) -> Option<Vec<f64>> {
        if let Some(tensor) = self.flat.constants.get(&number) {
            return self.read((*tensor)?);
        }
        let step = self.maker(number)?;
        if most == 0 || !ops::DOMAINS.contains(&step.node.domain.as_str()) {
            return None;
        }
        let input = |at: usize| {
            let number = step.inputs.get(at).copied().flatten()?;
            self.followed(number, most - 1)
        };
        match step.node.op.as_str() {
            "Constant" => self.constant(step.node),
            "ConstantOfShape" => {
                let value = step.node.attributes.iter().find_map(|a| match a.value {
                    AttributeValue::Tensor(id) if a.name == "value" => Some(id),
                    _ => None,
                });
                value.map_or(Some(vec![0.0]), |id| self.read(id))
            }
            "Identity" | "Cast" | "CastLike" | "Expand" | "Reshape" | "Unsqueeze" | "Squeeze"
            | "Tile" | "Transpose" | "Flatten" => input(0),
            "Concat" => {
                self.spend()?;
                let mut all = Vec::new();
                for at in 0..step.inputs.len().min(64) {
                    all.extend(input(at)?);
                }
                (all.len() <= 64).then_some(all)
            }
            op @ ("ReduceProd" | "ReduceSum" | "ReduceMax") => {
                // Of a list, all of it: what is left of a dimension more is not followed.
                let list = input(0)?;
                let first = step.inputs.first().copied().flatten();
                if self.dims(first).is_some_and(|dims| dims.len() > 1) || list.len() > 64 {
                    return None;
                }
                Some(vec![match op {
                    "ReduceProd" => list.iter().product(),
                    "ReduceSum" => list.iter().sum(),
                    _ => list.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                }])
            }
            "Gather" => {
                let (list, places) = (input(0)?, input(1)?);
                if places.len() > 64 {
                    return None;
                }
                let at = |place: &f64| {
                    #[allow(clippy::cast_possible_truncation)] // places are whole
                    let place = *place as i64;
                    let back = usize::try_from(place.unsigned_abs()).ok()?;
                    let at = if place < 0 {
                        list.len().checked_sub(back)?
                    } else {
                        back
                    };
                    list.get(at).copied()
                };
                places.iter().map(at).collect()
            }
            op @ ("Add" | "Sub" | "Mul" | "Pow" | "Div" | "Max" | "BitShift") => {
                self.spend()?;
                let (left, right) = (input(0)?, input(1)?);
                let many = left.len().max(right.len());
                let fits = |list: &[f64]| list.len() == many || list.len() == 1;
                if many > 64 || !fits(&left) || !fits(&right) {
                    return None;
                }
                let right_shift = match step.node.attribute("direction") {
                    Some(AttributeValue::Str(text)) => text[..] == b"RIGHT"[..],
                    _ => false,
                };
                let pairs = left.iter().cycle().zip(right.iter().cycle()).take(many);
                let made = pairs.map(|(a, b)| match op {
                    "Add" => a + b,
                    "Sub" => a - b,
                    "Mul" => a * b,
                    "Div" => a / b,
                    "Max" => a.max(*b),
                    "BitShift" if right_shift => a / b.exp2(),
                    "BitShift" => a * b.exp2(),
                    _ => a.powf(*b),
                });
                Some(made.collect())
            }
            _ => None,
        }
    }

    /// Counts one more look. `None` when there were enough.
    fn spend(&self) -> Option<()> {
        let more = self.reads.get() + 1;
        self.reads.set(more);
        (more <= READS).then_some(())
    }

    fn constant(&self, node: &Node) -> Option<Vec<f64>> {
        node.attributes.iter().find_map(|a| match &a.value {
            AttributeValue::Tensor(id) => self.read(*id),
            #[allow(clippy::cast_precision_loss)] // constants are compared roughly
            AttributeValue::Int(n) => Some(vec![*n as f64]),
            AttributeValue::Float(n) => Some(vec![f64::from(*n)]),
            #[allow(clippy::cast_precision_loss)]
            AttributeValue::Ints(list) => Some(list.iter().map(|n| *n as f64).collect()),
            AttributeValue::Floats(list) => Some(list.iter().map(|n| f64::from(*n)).collect()),
            _ => None,
        })
    }

    fn read(&self, id: TensorId) -> Option<Vec<f64>> {
        let tensor = self.tensors.get(id)?;
        let width = usize::try_from(tensor.dtype().byte_len(1)?).ok()?;
        if width == 0 {
            return None;
        }
        self.spend()?;
        let many = tensor.spec.elements()?.min(LOOKED_AT);
        let mut bytes = vec![0; usize::try_from(tensor.dtype().byte_len(many)?).ok()?];
        tensor.read(0..many, &mut bytes).ok()?;
        bytes
            .chunks_exact(width)
            .map(|b| decode(tensor.dtype(), b))
            .collect()
    }

    /// All the whole numbers of a small constant.
    pub(super) fn whole(&self, number: Option<Number>) -> Option<Vec<i64>> {
        let number = number?;
        let dims = self.dims(Some(number));
        if dims.is_some_and(|d| d.iter().fold(1u64, |n, d| n.saturating_mul(*d)) > LOOKED_AT) {
            return None;
        }
        let numbers = self.numbers(number)?;
        #[allow(clippy::cast_possible_truncation)] // what is beyond is as large as can be
        let whole = numbers.iter().map(|n| *n as i64);
        Some(whole.collect())
    }

    /// The number of a constant that has one only.
    pub(super) fn single(&self, number: Option<Number>) -> Option<f64> {
        let numbers = self.numbers(number?)?;
        let first = *numbers.first()?;
        let same = |n: &f64| n.to_bits() == first.to_bits();
        numbers.iter().all(same).then_some(first)
    }

    /// How many different numbers a constant has, up to three.
    pub(super) fn different(&self, number: Number) -> usize {
        let Some(numbers) = self.numbers(number) else {
            return 1;
        };
        let mut seen = BTreeSet::new();
        for number in numbers {
            seen.insert(number.to_bits());
            if seen.len() == 3 {
                break;
            }
        }
        seen.len()
    }

    /// Whether a matrix adds up what it is multiplied with.
    pub(super) fn is_column(&self, number: Number) -> bool {
        self.dims(Some(number))
            .is_some_and(|d| d.len() < 2 || d.last() == Some(&1))
    }
}

/// An attribute of whole numbers, where old versions have one in the place of an input.
pub(super) fn attribute(node: &Node, name: &str) -> Option<Vec<i64>> {
    node.attributes.iter().find_map(|a| match &a.value {
        AttributeValue::Ints(list) if a.name == name => Some(list.clone()),
        AttributeValue::Int(n) if a.name == name => Some(vec![*n]),
        _ => None,
    })
}

pub(super) fn casts_to_bool(node: &Node) -> bool {
    attribute(node, "to") == Some(vec![9])
}

pub(super) fn casts_to_whole(node: &Node) -> bool {
    let to = attribute(node, "to");
    to.is_some_and(|to| matches!(to.as_slice(), [2..=7 | 9 | 12 | 13]))
}

/// The sizes of what a Constant node holds.
fn own(node: &Node, tensors: &TensorTable) -> Option<Vec<u64>> {
    if node.op != "Constant" {
        return None;
    }
    node.attributes.iter().find_map(|a| match &a.value {
        AttributeValue::Tensor(id) => Some(tensors.get(*id)?.spec.shape.to_vec()),
        AttributeValue::Int(_) | AttributeValue::Float(_) => Some(Vec::new()),
        AttributeValue::Ints(list) => Some(vec![list.len() as u64]),
        AttributeValue::Floats(list) => Some(vec![list.len() as u64]),
        _ => None,
    })
}

#[allow(clippy::cast_precision_loss)] // constants are compared roughly
fn decode(dtype: DType, bytes: &[u8]) -> Option<f64> {
    Some(match dtype {
        DType::F64 => f64::from_le_bytes(bytes.try_into().ok()?),
        DType::F32 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        DType::BF16 => {
            let upper = u16::from_le_bytes(bytes.try_into().ok()?);
            f64::from(f32::from_bits(u32::from(upper) << 16))
        }
        DType::F16 => {
            let bits = u16::from_le_bytes(bytes.try_into().ok()?);
            let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
            let (exponent, rest) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            sign * match exponent {
                0 => rest * 2f64.powi(-24),
                31 if rest == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + rest / 1024.0) * 2f64.powi(exponent - 15),
            }
        }
        DType::I64 => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::U64 => u64::from_le_bytes(bytes.try_into().ok()?) as f64,
        DType::I32 => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        DType::U32 => f64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        DType::I16 => f64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        DType::U16 => f64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        DType::I8 => f64::from(i8::from_le_bytes(bytes.try_into().ok()?)),
        DType::U8 | DType::Bool => f64::from(*bytes.first()?),
        _ => return None,
    })
}
