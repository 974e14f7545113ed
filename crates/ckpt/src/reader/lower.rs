//! From a tensor's record to tensors: bounds, strides, byte order, parts.

use super::build::{Build, Kind};
use super::flip::{Flip, flipped};
use super::forest::{Forest, Node};
use super::numpy;
use crate::container::{Form, Storages};
use crate::error::CkptError;
use crate::wire::{self, StorageClass, TorchType};
use ir::{
    ByteOrder, DType, Limits, Object, Payload, Region, Result, Shape, Strides, Tensor, TensorSpec,
    View,
};

/// One tensor that a record gives, and its name within the record: empty, or `.indices`.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) suffix: &'static str,
    pub(crate) spec: TensorSpec,
    pub(crate) payload: Payload,
    /// The object of the checkpoint's tree that this part stands for.
    pub(crate) own: Option<Node>,
}

/// What a record gives.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub(crate) parts: Vec<Part>,
    /// What it was, where the parts do not tell: a kind for the report, and words.
    pub(crate) was: Vec<(&'static str, String)>,
    /// A note for other readers: key and JSON.
    pub(crate) note: Option<(&'static str, serde_json::Value)>,
    /// Why there are no parts.
    pub(crate) nothing: Option<String>,
}

/// A storage, resolved.
pub(crate) struct Storage {
    pub(crate) region: Region,
    pub(crate) class: StorageClass,
    pub(crate) byte_order: ByteOrder,
}

/// Where a view lies in its storage: all in elements.
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) shape: Vec<u64>,
    pub(crate) strides: Vec<u64>,
}

/// Reads sizes or strides: a tuple, a list, or a `torch.Size`.
pub(crate) fn dims(forest: &Forest, node: Node) -> Result<Vec<u64>> {
    let sized = match forest.call(node) {
        Some(("torch", "Size", _)) => forest.arg(node, 0),
        _ => Some(node),
    };
    let items = sized.and_then(|node| forest.sequence(node));
    let items = items.ok_or_else(|| CkptError::tensor("its sizes are no tuple"))?;
    items
        .iter()
        .map(|&id| natural(forest, node.with(id), "a size or stride"))
        .collect()
}

pub(super) fn natural(forest: &Forest, node: Node, what: &str) -> Result<u64> {
    match forest.get(node) {
        Object::Int(n) => {
            u64::try_from(*n).map_err(|_| CkptError::tensor(format!("{what} of {n}")).into())
        }
        _ => Err(CkptError::tensor(format!("{what} that is no number")).into()),
    }
}

impl Forest {
    /// The tensors of a record.
    pub(crate) fn lower(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let mut out = match build.kind {
            Kind::Dense(version) => self.dense(build, version, limits)?,
            Kind::Quantized => self.quantized(build, limits)?,
            Kind::Sparse => self.sparse(build, limits)?,
            Kind::Nested => self.ragged(build, limits)?,
            Kind::Empty => self.empty(build),
            Kind::Array => self.array(build, limits)?,
            Kind::DeviceArray => self.device_array(build, limits)?,
            Kind::Storage => {
                let storage = self.storage(first(build)?)?;
                let dtype = storage.class.dtype();
                let numel = storage.region.len() / storage.class.width();
                let place = Place {
                    offset: 0,
                    shape: vec![numel],
                    strides: vec![1],
                };
                let mut out = Lowered::default();
                let part = view(&storage, dtype, &place, limits, &mut out.was)?;
                out.parts.push(Part {
                    own: build.own,
                    ..part
                });
                let what = "a storage without a tensor, read as one dimension".to_owned();
                out.was.push(("storage", what));
                out
            }
            Kind::NumberList => self.number_list(build)?,
            Kind::Numbered => self.numbered(build, limits)?,
        };
        if let Some(class) = &build.subclass {
            out.was
                .push(("subclass", format!("a {class}: kept as a plain tensor")));
        }
        Ok(out)
    }

    pub(super) fn storage(&mut self, node: Node) -> Result<Storage> {
        // A storage may be wrapped in bytes, or be a list of numbers.
        if let Object::Call(_) = self.get(node) {
            let build = self.build(node);
            return match build {
                Some(build) if build.kind == Kind::Storage => self.storage(first(&build)?),
                Some(build) if build.kind == Kind::NumberList => {
                    let (region, class) = self.numbers(first(&build)?)?;
                    Ok(Storage {
                        region,
                        class,
                        byte_order: ByteOrder::Little,
                    })
                }
                _ => Err(CkptError::tensor("its storage is no storage").into()),
            };
        }
        let id = self.storage_id(node)?;
        let doc = self
            .docs
            .get_mut(node.doc)
            .ok_or_else(|| CkptError::tensor("its storage is in no file"))?;
        let mut region = doc.storages.get(&id.key, id.class, id.numel)?;
        if let Some((_, offset, len)) = &id.view {
            let width = id.class.width();
            let part = offset
                .checked_mul(width)
                .zip(len.checked_mul(width))
                .and_then(|(offset, len)| region.slice(offset, len).ok());
            region = part.ok_or_else(|| {
                CkptError::tensor(format!(
                    "elements {offset} to {} of a storage of {}",
                    offset.saturating_add(*len),
                    id.numel
                ))
            })?;
        }
        Ok(Storage {
            region,
            class: id.class,
            byte_order: doc.byte_order,
        })
    }

    pub(super) fn place(&self, build: &Build) -> Result<Place> {
        let [offset, shape, strides] = [1, 2, 3].map(|n| build.args.get(n).copied());
        let missing = || CkptError::tensor("its record lacks offset, size or stride");
        Ok(Place {
            offset: natural(self, offset.ok_or_else(missing)?, "a storage offset")?,
            shape: dims(self, shape.ok_or_else(missing)?)?,
            strides: dims(self, strides.ok_or_else(missing)?)?,
        })
    }

    /// The element type a `torch.dtype` global names.
    fn dtype_of(&self, node: Node) -> Result<TorchType> {
        let global = self.objects(node.doc).global(node.id);
        let found = match global {
            Some(("torch", name)) => wire::dtype(name),
            _ => None,
        };
        found.ok_or_else(|| {
            let what = match global {
                Some((module, name)) => format!("{module}.{name} is no element type known here"),
                None => "its element type is no name".to_owned(),
            };
            CkptError::Unsupported {
                place: String::new(),
                what,
                help: "Convert it to another type with the PyTorch that wrote it",
            }
            .into()
        })
    }

    fn dense(&mut self, build: &Build, version: u8, limits: &Limits) -> Result<Lowered> {
        let mut out = Lowered::default();
        let record = first(build)?;
        // Python's functions take no more and no fewer; the readers of TorchScript leave what is more.
        let expected = match version {
            1 => 4..=4,
            2 => 6..=7,
            _ => 7..=8,
        };
        let by_python = self
            .docs
            .get(record.doc)
            .is_some_and(|doc| doc.form != Form::TorchScript);
        if by_python && !expected.contains(&build.args.len()) {
            let what = format!(
                "the call that builds it has {} arguments, expected {} to {}",
                build.args.len(),
                expected.start(),
                expected.end()
            );
            return Err(CkptError::tensor(what).into());
        }
        let storage = self.storage(record)?;
        let (dtype, flags) = if version == 3 {
            let dtype = build.args.get(6).copied();
            let dtype = dtype.ok_or_else(|| CkptError::tensor("its record lacks the type"))?;
            (self.dtype_of(dtype)?, build.args.get(7))
        } else {
            (storage.class.dtype(), build.args.get(6))
        };
        let place = self.place(build)?;
        let part = view(&storage, dtype, &place, limits, &mut out.was)?;
        if dtype.kind == wire::Kind::Pairs && place.shape.is_empty() {
            out.note = Some(("lone_pair", true.into()));
        }
        // Version 1 has neither; a parameter says it in the call around this one.
        if version > 1 && build.args.get(4).is_some_and(|&grad| self.is_true(grad)) {
            out.note = Some(("requires_grad", true.into()));
        }
        let flag = |key: &str| {
            flags
                .and_then(|&flags| {
                    let value = self.objects(flags.doc).lookup(flags.id, key)?;
                    Some(self.is_true(flags.with(value)))
                })
                .unwrap_or(false)
        };
        let flips = [
            flag("conj").then_some(Flip::Conjugate),
            flag("neg").then_some(Flip::Negative),
        ];
        let mut payload = part.payload;
        for flip in flips.into_iter().flatten() {
            let tensor = Tensor {
                name: String::new(),
                spec: part.spec.clone(),
                payload,
            };
            payload = flipped(tensor, flip)
                .ok_or_else(|| CkptError::tensor("a sign bit on numbers without sign"))?;
        }
        out.parts.push(Part {
            payload,
            own: build.own,
            ..part
        });
        Ok(out)
    }

    fn empty(&self, build: &Build) -> Lowered {
        // (dtype, size, …) or (class, dtype, size, …)
        let shape = build.args.iter().find_map(|&arg| dims(self, arg).ok());
        let shape = shape.map_or(String::new(), |shape| format!(" of shape {shape:?}"));
        Lowered {
            nothing: Some(format!(
                "a tensor{shape} on no device: the file has its type and shape and no numbers"
            )),
            ..Lowered::default()
        }
    }

    fn array(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let array = numpy::array(self, first(build)?)?;
        Limits::check("dimensions", array.shape.len() as u64, limits.rank)?;
        let spec = TensorSpec::new(array.dtype, array.shape);
        let strides = array.strides.map(Strides::new);
        let view = View {
            region: array.data,
            offset: 0,
            strides: strides.filter(|strides| !strides.is_row_major(&spec.shape)),
            byte_order: array.byte_order,
        };
        Ok(Lowered {
            parts: vec![Part {
                suffix: "",
                spec,
                payload: Payload::Stored(view),
                own: build.own,
            }],
            was: vec![("numpy", "a numpy array, read as a tensor".to_owned())],
            ..Lowered::default()
        })
    }

    fn device_array(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let inner = Build {
            kind: Kind::Array,
            ..build.clone()
        };
        if !self
            .build(first(build)?)
            .is_some_and(|b| b.kind == Kind::Array)
        {
            return Err(CkptError::tensor("a device tensor that is no numpy array").into());
        }
        let mut out = self.array(&inner, limits)?;
        let told = build
            .args
            .get(1)
            .map(|&dtype| self.dtype_of(dtype))
            .transpose()?;
        if let (Some(told), Some(part)) = (told, out.parts.first())
            && told.dtype != part.spec.dtype
        {
            let what = format!("torch.{} saved as {}", told.name, part.spec.dtype);
            out.was.push(("dtype", what));
        }
        Ok(out)
    }

    fn numbered(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let node = first(build)?;
        let key = match *self.get(node) {
            Object::Persistent(id) => self.objects(node.doc).int(id),
            _ => None,
        };
        let doc = self.docs.get(node.doc);
        let tensor = match doc.map(|doc| &doc.storages) {
            Some(Storages::Tensors(table)) => key.and_then(|key| table.get(&key)),
            _ => None,
        };
        let tensor = tensor
            .ok_or_else(|| CkptError::tensor("a persistent id that names no tensor of the file"))?;
        let storage = Storage {
            region: tensor.storage.clone(),
            class: tensor.class,
            byte_order: doc.map(|doc| doc.byte_order).unwrap_or_default(),
        };
        let place = Place {
            offset: tensor.offset,
            shape: tensor.shape.clone(),
            strides: tensor.strides.clone(),
        };
        let mut out = Lowered::default();
        let part = view(
            &storage,
            storage.class.dtype(),
            &place,
            limits,
            &mut out.was,
        )?;
        out.parts.push(Part {
            own: build.own,
            ..part
        });
        Ok(out)
    }

    /// The numbers of `torch.FloatStorage([…])`, as very old versions wrote storages.
    fn numbers(&self, node: Node) -> Result<(Region, StorageClass)> {
        let bad = || CkptError::tensor("a storage that is no list of numbers");
        let (module, name, _) = self.call(node).ok_or_else(bad)?;
        let class = wire::storage_class(module, name).ok_or_else(bad)?;
        let list = self.arg(node, 0).ok_or_else(bad)?;
        let items = self.sequence(list).ok_or_else(bad)?;
        let dtype = class.dtype().dtype;
        let mut out = Vec::with_capacity(items.len() * 8);
        for &id in items {
            super::flip::encode(self.get(list.with(id)), dtype, &mut out).ok_or_else(bad)?;
        }
        Ok((Region::memory(out), class))
    }

    fn number_list(&mut self, build: &Build) -> Result<Lowered> {
        let (region, class) = self.numbers(first(build)?)?;
        let shape = vec![region.len() / class.width()];
        Ok(Lowered {
            parts: vec![Part {
                suffix: "",
                spec: TensorSpec::new(class.dtype().dtype, shape),
                payload: Payload::Stored(View::contiguous(region)),
                own: build.own,
            }],
            ..Lowered::default()
        })
    }
}

impl StorageClass {
    /// The type of its elements; bytes where it has none.
    pub(super) fn dtype(self) -> TorchType {
        match self {
            Self::Typed(dtype) => dtype,
            Self::Untyped => TorchType {
                name: "uint8",
                dtype: DType::U8,
                kind: wire::Kind::Plain,
            },
        }
    }
}

pub(super) fn first(build: &Build) -> Result<Node> {
    let first = build.args.first().copied();
    first.ok_or_else(|| CkptError::tensor("its record has no arguments").into())
}

/// A view of a storage, checked against its bounds.
pub(crate) fn view(
    storage: &Storage,
    dtype: TorchType,
    place: &Place,
    limits: &Limits,
    was: &mut Vec<(&'static str, String)>,
) -> Result<Part> {
    let Place {
        offset,
        shape,
        strides,
    } = place;
    let bad = |what: String| CkptError::tensor(what);
    Limits::check("dimensions", shape.len() as u64, limits.rank)?;
    if shape.len() != strides.len() {
        let what = format!("{} sizes and {} strides", shape.len(), strides.len());
        return Err(bad(what).into());
    }
    let part = |dtype, shape: Shape, view| Part {
        suffix: "",
        spec: TensorSpec::new(dtype, shape),
        payload: Payload::Stored(view),
        own: None,
    };
    let have = storage.region.len();
    if dtype.kind == wire::Kind::Packed {
        was.push((
            "packed",
            format!(
                "{} of shape {shape:?}, several a byte: kept as its bytes",
                dtype.name
            ),
        ));
        return Ok(part(
            DType::U8,
            Shape::from([have]),
            View::contiguous(storage.region.clone()),
        ));
    }
    // Bounds are those of elements as torch counts them; a pair of numbers is one.
    let width = dtype.dtype.element_bytes().map_or(1, u64::from);
    let mut shape = Shape::new(shape.clone());
    let strides = Strides::new(strides.clone());
    let elements = shape.elements();
    let byte_len = elements.and_then(|n| n.checked_mul(width));
    let byte_len =
        byte_len.ok_or_else(|| bad(format!("shape {shape} has more bytes than 64 bits count")))?;
    let end = strides
        .extent(&shape)
        .and_then(|n| n.checked_add(*offset))
        .and_then(|n| n.checked_mul(width));
    if byte_len > 0 && end.is_none_or(|end| end > have) {
        return Err(bad(format!(
            "a view of shape {shape} and strides {:?} at element {offset} leaves its storage of \
             {have} bytes",
            &*strides
        ))
        .into());
    }
    limits.check_expanded(
        "bytes of a tensor expanded from its storage",
        have,
        byte_len,
    )?;
    // Of no elements there is nothing to find anywhere.
    let byte_offset = if byte_len == 0 { 0 } else { offset * width };
    let plain = byte_len == 0 || strides.is_row_major(&shape);
    let mut carrier = dtype.dtype;
    match dtype.kind {
        wire::Kind::Bits => was.push((
            "dtype",
            format!("torch.{} kept as {carrier}, bit for bit", dtype.name),
        )),
        wire::Kind::Pairs if plain => {
            let mut dims = shape.to_vec();
            if let Some(last) = dims.last_mut() {
                *last = last.saturating_mul(2);
            } else {
                dims.push(2);
                let what = "a pair without dimensions, kept as a vector of two".to_owned();
                was.push(("shape", what));
            }
            shape = Shape::new(dims);
        }
        wire::Kind::Pairs => {
            carrier = DType::U8;
            let what = format!(
                "torch.{} in pairs that are not in order: kept as U8",
                dtype.name
            );
            was.push(("dtype", what));
        }
        _ => {}
    }
    let view = View {
        region: storage.region.clone(),
        offset: byte_offset,
        strides: (!plain).then_some(strides),
        byte_order: storage.byte_order,
    };
    Ok(part(carrier, shape, view))
}
