//! Tensors in a pickle: the call that rebuilds one, and the storage it names.
//!
//! ```text
//! torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)
//! torch._utils._rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype)
//! storage = persistent id ('storage', CLASS, KEY, LOCATION, numel)
//! ```
//!
//! The first form is for the types that have a storage class of their own; the types that came
//! after TypedStorage take the second, an `UntypedStorage`, whose `numel` counts bytes
//! (`torch.storage._new_dtypes`).

use super::error::WriteError;
use super::pickle::{Memo, Pickle, op};
use crate::wire::{LONE_PAIR, REQUIRES_GRAD};
use ir::{DType, Metadata, Payload, Result, Tensor, TensorId, TensorTable, ns};
use std::collections::{HashMap, HashSet};

/// How PyTorch names an element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A storage class of module `torch`.
    Typed(&'static str),
    /// A dtype of module `torch`, over bytes.
    Untyped(&'static str),
}

fn form(dtype: DType) -> Option<Form> {
    Some(match dtype {
        DType::F64 => Form::Typed("DoubleStorage"),
        DType::F32 => Form::Typed("FloatStorage"),
        DType::F16 => Form::Typed("HalfStorage"),
        DType::BF16 => Form::Typed("BFloat16Storage"),
        DType::I64 => Form::Typed("LongStorage"),
        DType::I32 => Form::Typed("IntStorage"),
        DType::I16 => Form::Typed("ShortStorage"),
        DType::I8 => Form::Typed("CharStorage"),
        DType::U8 => Form::Typed("ByteStorage"),
        DType::Bool => Form::Typed("BoolStorage"),
        DType::C64 => Form::Typed("ComplexFloatStorage"),
        DType::C128 => Form::Typed("ComplexDoubleStorage"),
        DType::U16 => Form::Untyped("uint16"),
        DType::U32 => Form::Untyped("uint32"),
        DType::U64 => Form::Untyped("uint64"),
        DType::F8E4M3 => Form::Untyped("float8_e4m3fn"),
        DType::F8E5M2 => Form::Untyped("float8_e5m2"),
        DType::F8E4M3Fnuz => Form::Untyped("float8_e4m3fnuz"),
        DType::F8E5M2Fnuz => Form::Untyped("float8_e5m2fnuz"),
        DType::F8E8M0 => Form::Untyped("float8_e8m0fnu"),
        DType::F4E2M1 => Form::Untyped("float4_e2m1fn_x2"),
        DType::C32 => Form::Untyped("complex32"),
        DType::BC32 => Form::Untyped("bcomplex32"),
        DType::Bits8 => Form::Untyped("bits8"),
        DType::Bits16 => Form::Untyped("bits16"),
        DType::Bits1x8 => Form::Untyped("bits1x8"),
        DType::Bits2x4 => Form::Untyped("bits2x4"),
        DType::Bits4x2 => Form::Untyped("bits4x2"),
        _ => return None,
    })
}

/// Whether PyTorch has a type.
pub(super) fn has_dtype(dtype: DType) -> bool {
    form(dtype).is_some()
}

/// The storages of one archive, numbered as the pickle first names them.
pub(super) struct Storages<'a> {
    table: &'a TensorTable,
    /// For each tensor the one whose bytes it shares: [`TensorTable::ties`].
    firsts: &'a [TensorId],
    /// Names of tensors that require a gradient.
    trained: HashSet<&'a str>,
    /// Names of pairs of numbers that are tensors without dimensions.
    lone: HashSet<&'a str>,
    written: HashSet<TensorId>,
    keys: HashMap<TensorId, Memo>,
    order: Vec<TensorId>,
    storage_word: Option<Memo>,
    cpu_word: Option<Memo>,
}

impl<'a> Storages<'a> {
    pub(super) fn new(
        table: &'a TensorTable,
        firsts: &'a [TensorId],
        metadata: &'a Metadata,
    ) -> Self {
        let noted = |prefix| {
            let keys = metadata.of(ns::NOTE);
            keys.filter_map(move |(key, _)| key.strip_prefix(prefix))
        };
        Self {
            trained: noted(REQUIRES_GRAD).collect(),
            lone: noted(LONE_PAIR).collect(),
            table,
            firsts,
            written: HashSet::new(),
            keys: HashMap::new(),
            order: Vec::new(),
            storage_word: None,
            cpu_word: None,
        }
    }

    /// The tensors whose bytes are the storages, in the order of their keys.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &'a Tensor> {
        self.order.iter().filter_map(|id| self.table.get(*id))
    }

    /// A tensor that was not written. One object under two names is written once.
    pub(super) fn left_out(&self) -> Option<&'a Tensor> {
        let mut ids = self.table.ids();
        let first = |id: TensorId| self.firsts.get(id.index()).copied().unwrap_or(id);
        let missing =
            ids.find(|(id, _)| !self.written.contains(id) && !self.written.contains(&first(*id)));
        missing.map(|(_, tensor)| tensor)
    }

    /// Writes the call that rebuilds a tensor; it is remembered.
    pub(super) fn tensor(&mut self, pickle: &mut Pickle, id: TensorId) -> Result<Memo> {
        let Some(tensor) = self.table.get(id) else {
            let why = "it names a tensor that is not there".to_owned();
            return Err(WriteError::Object {
                index: id.index(),
                why,
            }
            .into());
        };
        let facts = Facts::of(tensor, self.lone.contains(tensor.name.as_str()))?;
        let named = |why: String| WriteError::Tensor {
            name: tensor.name.clone(),
            why,
            help: "This is a bug of weightbridge: please report it",
        };
        let (rebuild, count) = match facts.form {
            Form::Typed(_) => ("_rebuild_tensor_v2", 6),
            Form::Untyped(_) => ("_rebuild_tensor_v3", 7),
        };
        pickle.global("torch._utils", rebuild).map_err(named)?;
        pickle.begin_tuple(count);
        self.storage(pickle, id, &facts)?;
        pickle.int(0);
        pickle.int_tuple(&facts.size);
        pickle.int_tuple(&facts.stride);
        let trained = self.trained.contains(tensor.name.as_str());
        pickle.op(if trained { op::NEWTRUE } else { op::NEWFALSE });
        empty_ordered_dict(pickle).map_err(named)?;
        if let Form::Untyped(dtype) = facts.form {
            pickle.global("torch", dtype).map_err(named)?;
        }
        pickle.end_tuple(count);
        pickle.put();
        pickle.op(op::REDUCE);
        self.written.insert(id);
        Ok(pickle.put())
    }

    fn storage(&mut self, pickle: &mut Pickle, id: TensorId, facts: &Facts) -> Result<()> {
        let first = self.firsts.get(id.index()).copied().unwrap_or(id);
        let (module, class) = match facts.form {
            Form::Typed(class) => ("torch", class),
            Form::Untyped(_) => ("torch.storage", "UntypedStorage"),
        };
        let index = id.index();
        pickle.begin_tuple(5);
        word(&mut self.storage_word, pickle, "storage")?;
        pickle
            .global(module, class)
            .map_err(|why| WriteError::Object { index, why })?;
        if let Some(key) = self.keys.get(&first) {
            pickle.get(*key);
        } else {
            let key = pickle.remembered_text(&self.order.len().to_string())?;
            self.keys.insert(first, key);
            self.order.push(first);
        }
        word(&mut self.cpu_word, pickle, "cpu")?;
        pickle.int(facts.numel);
        pickle.end_tuple(5);
        pickle.put();
        pickle.op(op::BINPERSID);
        Ok(())
    }
}

/// A string that is the same object each time.
fn word(memo: &mut Option<Memo>, pickle: &mut Pickle, text: &str) -> Result<()> {
    match *memo {
        Some(memo) => pickle.get(memo),
        None => *memo = Some(pickle.remembered_text(text)?),
    }
    Ok(())
}

/// `OrderedDict()`, remembered.
pub(super) fn empty_ordered_dict(pickle: &mut Pickle) -> Result<Memo, String> {
    pickle.global("collections", "OrderedDict")?;
    pickle.op(op::EMPTY_TUPLE);
    pickle.op(op::REDUCE);
    Ok(pickle.put())
}

/// A tensor in PyTorch's terms.
struct Facts {
    form: Form,
    size: Vec<i64>,
    stride: Vec<i64>,
    /// Elements of the storage: bytes for an untyped one.
    numel: i64,
}

impl Facts {
    /// The facts of a tensor; `lone` is one that two numbers are all of.
    fn of(tensor: &Tensor, lone: bool) -> Result<Self> {
        let cannot = |why: String, help| WriteError::Tensor {
            name: tensor.name.clone(),
            why,
            help,
        };
        if matches!(tensor.payload, Payload::Strings(_)) {
            let why = "PyTorch has no tensors of strings".to_owned();
            return Err(cannot(why, "Leave it out with --drop").into());
        }
        let dtype = tensor.dtype();
        let form = form(dtype).ok_or_else(|| {
            let why = format!("PyTorch has no type {dtype}");
            cannot(why, "Choose a type it has with --dtype")
        })?;
        let bytes = tensor.spec.require_byte_len(&tensor.name)?;
        let mut dims = tensor.spec.shape.to_vec();
        // Two numbers share a byte, which is the element that PyTorch counts.
        let (per_byte, _) = dtype.block();
        if let Some(last) = dims.last_mut().filter(|_| per_byte > 1) {
            if !last.is_multiple_of(u64::from(per_byte)) {
                let why = format!(
                    "PyTorch packs {per_byte} numbers of {dtype} in a byte along the last \
                     dimension, which is {last}"
                );
                return Err(cannot(why, "Choose another type with --dtype").into());
            }
            *last /= u64::from(per_byte);
            if lone && dims[..] == [1] {
                dims.clear();
            }
        }
        let too_large = || {
            cannot(
                "a dimension does not fit 63 bits".to_owned(),
                "Leave it out with --drop",
            )
        };
        let narrow = |n: u64| i64::try_from(n).map_err(|_| too_large());
        let shape = ir::Shape::new(dims);
        let strides = shape.row_major_strides().ok_or_else(too_large)?;
        let numel = match form {
            Form::Typed(_) => tensor.spec.elements().unwrap_or(0),
            Form::Untyped(_) => bytes,
        };
        Ok(Self {
            form,
            size: shape.iter().map(|n| narrow(*n)).collect::<Result<_, _>>()?,
            stride: strides
                .iter()
                .map(|n| narrow(*n))
                .collect::<Result<_, _>>()?,
            numel: narrow(numel)?,
        })
    }
}
