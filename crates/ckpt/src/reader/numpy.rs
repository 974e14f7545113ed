//! numpy arrays and scalars in pickles.
//!
//! An array is `_reconstruct(ndarray, (0,), b'b')` with a state of
//! `(version, shape, dtype, is_fortran, data)`, or since protocol 5
//! `_frombuffer(data, dtype, shape, order)`. A dtype is `dtype('f4', False, True)` with a state
//! whose second part is the byte order. See numpy's `methods.c` (`array_reduce`) and
//! `descriptor.c` (`arraydescr_reduce`).

use super::forest::{Forest, Node};
use crate::error::CkptError;
use ir::{ByteOrder, DType, MetaValue, Object, Region, Result};

/// An array, found but not read.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) byte_order: ByteOrder,
    pub(crate) shape: Vec<u64>,
    /// Strides in elements, where not row-major.
    pub(crate) strides: Option<Vec<u64>>,
    pub(crate) data: Region,
}

fn core(module: &str, part: &str) -> bool {
    ["numpy.core.", "numpy._core."]
        .iter()
        .any(|prefix| module.strip_prefix(prefix) == Some(part))
}

/// The parts of an array's record: dtype, shape, data, order (`C`, `F`, or axes of a transpose).
struct Parts {
    dtype: Node,
    shape: Node,
    data: Node,
    fortran: bool,
    axes: Option<Node>,
}

fn parts(forest: &Forest, node: Node) -> Option<Parts> {
    let (module, name, call) = forest.call(node)?;
    if core(module, "multiarray") && name == "_reconstruct" {
        let state = node.with(*call.states().last()?);
        let items = forest.sequence(state)?;
        let [shape, dtype, fortran, data] = match items {
            [_, rest @ ..] if items.len() == 5 => rest.first_chunk::<4>(),
            _ => items.first_chunk::<4>(),
        }
        .copied()?
        .map(|id| node.with(id));
        return Some(Parts {
            dtype,
            shape,
            data,
            fortran: forest.is_true(fortran),
            axes: None,
        });
    }
    if core(module, "numeric") && name == "_frombuffer" {
        let [data, dtype, shape] = [0, 1, 2].map(|n| forest.arg(node, n));
        let order = forest.arg(node, 3).and_then(|arg| forest.str(arg));
        return Some(Parts {
            dtype: dtype?,
            shape: shape?,
            data: data?,
            fortran: order == Some("F"),
            axes: forest.arg(node, 4).filter(|_| order == Some("K")),
        });
    }
    None
}

/// Whether a call gives an array of numbers.
pub(crate) fn is_array(forest: &Forest, node: Node) -> bool {
    parts(forest, node).is_some_and(|parts| dtype(forest, parts.dtype).is_some())
}

/// The element type and byte order of a dtype record, if its elements are numbers.
pub(crate) fn dtype(forest: &Forest, node: Node) -> Option<(DType, ByteOrder)> {
    let (module, name, call) = forest.call(node)?;
    if (module, name) != ("numpy", "dtype") {
        return None;
    }
    let kind = forest.arg(node, 0)?;
    let (kind, mut order) = match forest.objects(node.doc).global(kind.id) {
        Some(("ml_dtypes", name)) => (name, ""),
        Some(_) => return None,
        None => {
            let text = forest.str(kind)?;
            let bare = text.trim_start_matches(['<', '>', '|', '=']);
            (bare, text.strip_suffix(bare).unwrap_or_default())
        }
    };
    let dtype = match kind {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" | "?" => DType::Bool,
        "c8" => DType::C64,
        "c16" => DType::C128,
        "bfloat16" => DType::BF16,
        "float8_e4m3fn" => DType::F8E4M3,
        "float8_e5m2" => DType::F8E5M2,
        "float8_e4m3fnuz" => DType::F8E4M3Fnuz,
        "float8_e5m2fnuz" => DType::F8E5M2Fnuz,
        "float8_e8m0fnu" => DType::F8E8M0,
        _ => return None,
    };
    let state = call.states().last().map(|&id| node.with(id));
    let state = state
        .and_then(|state| forest.sequence(state))
        .unwrap_or_default();
    if let Some(told) = state.get(1).and_then(|&id| forest.str(node.with(id))) {
        order = told;
    }
    // "=" is the order of the machine that wrote it, which nobody knows: nearly all are little.
    let order = if order == ">" {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    };
    Some((dtype, order))
}

/// The array a call gives.
pub(crate) fn array(forest: &mut Forest, node: Node) -> Result<Array> {
    let bad = |what: &str| CkptError::tensor(format!("a numpy array {what}"));
    let parts = parts(forest, node).ok_or_else(|| bad("without its state"))?;
    let (dtype, byte_order) =
        dtype(forest, parts.dtype).ok_or_else(|| bad("whose elements are no numbers"))?;
    let mut shape = super::lower::dims(forest, parts.shape)?;
    let data = forest
        .bytes(parts.data)
        .ok_or_else(|| bad("whose data is no byte string"))?;
    let elements = ir::Shape::new(shape.clone()).elements();
    let wanted = elements.and_then(|n| dtype.byte_len(n));
    if wanted != Some(data.len()) {
        return Err(bad(&format!(
            "of type {dtype} and shape {shape:?} that holds {} bytes",
            data.len()
        ))
        .into());
    }
    let mut strides = None;
    if parts.fortran && shape.len() > 1 {
        let mut step = 1u64;
        let steps = shape.iter().map(|&dim| {
            let here = step;
            step = step.saturating_mul(dim.max(1));
            here
        });
        strides = Some(steps.collect());
    }
    if let Some(axes) = parts.axes {
        let axes = super::lower::dims(forest, axes)?;
        let steps = ir::Shape::new(shape.clone()).row_major_strides();
        let steps = steps.ok_or_else(|| bad("whose shape does not fit 64 bits"))?;
        let pick = |from: &[u64]| -> Option<Vec<u64>> {
            let mut seen = vec![false; axes.len()];
            axes.iter()
                .map(|&axis| {
                    let axis = usize::try_from(axis).ok()?;
                    let slot = seen.get_mut(axis)?;
                    (!std::mem::replace(slot, true)).then(|| from.get(axis).copied())?
                })
                .collect()
        };
        let turned = pick(&shape)
            .zip(pick(&steps))
            .filter(|_| axes.len() == shape.len());
        let (new_shape, new_strides) = turned.ok_or_else(|| bad("whose axes are no order"))?;
        shape = new_shape;
        strides = Some(new_strides);
    }
    Ok(Array {
        dtype,
        byte_order,
        shape,
        strides,
        data,
    })
}

/// The value of a numpy scalar, `scalar(dtype, data)`.
pub(crate) fn scalar(forest: &mut Forest, node: Node) -> Option<MetaValue> {
    let (module, name, _) = forest.call(node)?;
    if !(core(module, "multiarray") && name == "scalar") {
        return None;
    }
    let (dtype, order) = dtype(forest, forest.arg(node, 0)?)?;
    let data = forest.arg(node, 1)?;
    let region = forest.bytes(data)?;
    let len = usize::try_from(region.len()).ok().filter(|&n| n <= 16)?;
    let mut raw = region.bytes(0, len).ok()?.to_vec();
    if order == ByteOrder::Big {
        raw.reverse();
    }
    let value = match (dtype, raw.as_slice()) {
        (DType::Bool, &[b]) => MetaValue::Bool(b != 0),
        (DType::U8, &[b]) => MetaValue::U8(b),
        (DType::I8, &[b]) => MetaValue::I8(b.cast_signed()),
        (DType::U16, raw) => MetaValue::U16(u16::from_le_bytes(raw.try_into().ok()?)),
        (DType::I16, raw) => MetaValue::I16(i16::from_le_bytes(raw.try_into().ok()?)),
        (DType::U32, raw) => MetaValue::U32(u32::from_le_bytes(raw.try_into().ok()?)),
        (DType::I32, raw) => MetaValue::I32(i32::from_le_bytes(raw.try_into().ok()?)),
        (DType::U64, raw) => MetaValue::U64(u64::from_le_bytes(raw.try_into().ok()?)),
        (DType::I64, raw) => MetaValue::I64(i64::from_le_bytes(raw.try_into().ok()?)),
        (DType::F32, raw) => MetaValue::F32(f32::from_le_bytes(raw.try_into().ok()?)),
        (DType::F64, raw) => MetaValue::F64(f64::from_le_bytes(raw.try_into().ok()?)),
        _ => return None,
    };
    Some(value)
}

/// Whether an object is a number of Python, for lists of numbers.
pub(crate) fn number(object: &Object) -> Option<f64> {
    match *object {
        Object::Int(n) => Some(n as f64),
        Object::Float(x) => Some(x),
        Object::Bool(b) => Some(f64::from(u8::from(b))),
        _ => None,
    }
}
