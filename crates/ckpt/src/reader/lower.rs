//! From a tensor's record to tensors: bounds, strides, byte order, parts.

use super::build::{Build, Kind};
use super::flip::{Flip, flipped};
use super::forest::{Forest, Node};
use super::numpy;
use crate::container::Storages;
use crate::error::CkptError;
use crate::wire::{self, StorageClass, TorchType};
use ir::{
    ByteOrder, DType, Limits, Object, Payload, Region, Result, Shape, Strides, Tensor, TensorSpec,
    View,
};

/// A tensor may be expanded from a storage to this many bytes whatever the storage's size.
const ALWAYS: u64 = 16 << 20;

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
struct Storage {
    region: Region,
    class: StorageClass,
    byte_order: ByteOrder,
}

/// Where a view lies in its storage: all in elements.
struct Place {
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
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

fn natural(forest: &Forest, node: Node, what: &str) -> Result<u64> {
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

    fn storage(&mut self, node: Node) -> Result<Storage> {
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

    fn place(&self, build: &Build) -> Result<Place> {
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
        let storage = self.storage(first(build)?)?;
        let (dtype, flags) = if version == 3 {
            let dtype = build.args.get(6).copied();
            let dtype = dtype.ok_or_else(|| CkptError::tensor("its record lacks the type"))?;
            (self.dtype_of(dtype)?, build.args.get(7))
        } else {
            (storage.class.dtype(), build.args.get(6))
        };
        let part = view(&storage, dtype, &self.place(build)?, limits, &mut out.was)?;
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

    /// The one dense tensor an argument is.
    fn inner(&mut self, node: Node, suffix: &'static str, limits: &Limits) -> Result<Part> {
        let build = self.build(node);
        let build = build.filter(|b| matches!(b.kind, Kind::Dense(_) | Kind::Array));
        let build = build.ok_or_else(|| {
            CkptError::tensor(format!(
                "its part {} is no tensor",
                suffix.trim_start_matches('.')
            ))
        })?;
        let part = self.lower(&build, limits)?.parts.pop();
        let part = part.ok_or_else(|| CkptError::tensor("a part without numbers"))?;
        Ok(Part { suffix, ..part })
    }

    fn sparse(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let layout = first(build)?;
        let layout = match self.call(layout) {
            Some(("torch.serialization", "_get_layout", _)) => {
                self.arg(layout, 0).and_then(|arg| self.str(arg))
            }
            _ => self
                .objects(layout.doc)
                .global(layout.id)
                .map(|(_, name)| name),
        };
        let layout = layout.unwrap_or_default();
        let layout = layout.strip_prefix("torch.").unwrap_or(layout).to_owned();
        let names: &[&'static str] = match layout.as_str() {
            "sparse_coo" => &[".indices", ".values"],
            "sparse_csr" | "sparse_bsr" => &[".crow_indices", ".col_indices", ".values"],
            "sparse_csc" | "sparse_bsc" => &[".ccol_indices", ".row_indices", ".values"],
            other => {
                return Err(CkptError::Unsupported {
                    place: String::new(),
                    what: format!("tensors of layout {other:?}"),
                    help: "Make it dense with the PyTorch that wrote it",
                }
                .into());
            }
        };
        let data = build.args.get(1).copied();
        let data = data.ok_or_else(|| CkptError::tensor("a sparse tensor without parts"))?;
        let items = self.sequence(data).unwrap_or_default().to_vec();
        let mut out = Lowered::default();
        for (&suffix, &id) in names.iter().zip(&items) {
            out.parts.push(self.inner(data.with(id), suffix, limits)?);
        }
        let shape = items.get(names.len()).map(|&id| dims(self, data.with(id)));
        let shape = shape.ok_or_else(|| CkptError::tensor("a sparse tensor without a shape"))??;
        let listed = names.join(" and NAME");
        out.was.push((
            "sparse",
            format!("a {layout} tensor of shape {shape:?}: kept as its parts NAME{listed}"),
        ));
        let coalesced = items.get(3).map(|&id| self.is_true(data.with(id)));
        let mut note = serde_json::json!({"layout": layout, "shape": shape});
        if let (Some(map), Some(coalesced), 2) = (note.as_object_mut(), coalesced, names.len()) {
            map.insert("coalesced".to_owned(), coalesced.into());
        }
        out.note = Some(("sparse", note));
        Ok(out)
    }

    fn ragged(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let mut out = Lowered::default();
        for (suffix, &arg) in [".values", ".sizes", ".strides", ".offsets"]
            .into_iter()
            .zip(&build.args)
        {
            out.parts.push(self.inner(arg, suffix, limits)?);
        }
        let what = "a nested tensor: kept as its parts NAME.values, .sizes, .strides, .offsets";
        out.was.push(("nested", what.to_owned()));
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

    fn quantized(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
        let mut out = Lowered::default();
        let storage = self.storage(first(build)?)?;
        let dtype = storage.class.dtype();
        if !matches!(dtype.kind, wire::Kind::Quantized | wire::Kind::Packed) {
            let what = format!("a quantized tensor over a storage of {}", dtype.name);
            return Err(CkptError::tensor(what).into());
        }
        let place = self.place(build)?;
        let part = view(&storage, dtype, &place, limits, &mut out.was)?;
        out.parts.push(Part {
            own: build.own,
            ..part
        });
        let bad = || CkptError::tensor("a quantized tensor without its scale");
        let params = build.args.get(4).copied().ok_or_else(bad)?;
        let items: Vec<Node> = self
            .sequence(params)
            .ok_or_else(bad)?
            .iter()
            .map(|&id| params.with(id))
            .collect();
        let scheme = items
            .first()
            .and_then(|&s| self.objects(s.doc).global(s.id));
        let mut scheme = scheme.map(|(_, name)| name.to_owned()).ok_or_else(bad)?;
        let mut note = serde_json::Map::new();
        let what = match *items.as_slice() {
            [_, scale, zero] => {
                let scale = numpy::number(self.get(scale)).ok_or_else(bad)?;
                let Object::Int(zero) = *self.get(zero) else {
                    return Err(bad().into());
                };
                note.insert("scale".to_owned(), scale.into());
                note.insert("zero_point".to_owned(), zero.into());
                format!("scale {scale} and zero point {zero} are in the metadata")
            }
            [_, scales, zeros, axis] => {
                let axis = natural(self, axis, "a channel axis")?;
                let axis_len = usize::try_from(axis).ok().and_then(|i| place.shape.get(i));
                let float = scheme.ends_with("float_qparams");
                let scales = self.per_channel(scales, ".scales", float, limits)?;
                let zeros = self.per_channel(zeros, ".zero_points", float, limits)?;
                for part in [&scales, &zeros] {
                    if part.spec.elements().as_ref() != axis_len {
                        let what = format!(
                            "{} values a channel for axis {axis} of shape {:?}",
                            part.spec.shape, place.shape
                        );
                        return Err(CkptError::tensor(what).into());
                    }
                }
                // torch writes the name of the other scheme for these.
                if zeros.spec.dtype.is_float() && !float {
                    scheme.push_str("_float_qparams");
                }
                out.parts.extend([scales, zeros]);
                note.insert("axis".to_owned(), axis.into());
                format!("channels along axis {axis} in NAME.scales and NAME.zero_points")
            }
            _ => return Err(bad().into()),
        };
        note.insert("scheme".to_owned(), scheme.clone().into());
        note.insert("dtype".to_owned(), dtype.name.into());
        if dtype.kind == wire::Kind::Packed {
            note.insert("shape".to_owned(), place.shape.clone().into());
        }
        out.note = Some(("quant", note.into()));
        let carrier = dtype.dtype;
        out.was.push((
            "quantized",
            format!(
                "{} ({scheme}): kept as {carrier} numbers, {what}",
                dtype.name
            ),
        ));
        Ok(out)
    }

    /// Scales or zero points: a tensor, or a list of numbers.
    fn per_channel(
        &mut self,
        node: Node,
        suffix: &'static str,
        float: bool,
        limits: &Limits,
    ) -> Result<Part> {
        let Some(items) = self.sequence(node) else {
            return self.inner(node, suffix, limits);
        };
        let dtype = match (float, suffix) {
            (true, _) => DType::F32,
            (false, ".scales") => DType::F64,
            (false, _) => DType::I64,
        };
        let mut bytes = Vec::new();
        for &id in items {
            super::flip::encode(self.get(node.with(id)), dtype, &mut bytes)
                .ok_or_else(|| CkptError::tensor("a scale that is no number"))?;
        }
        Ok(Part {
            suffix,
            spec: TensorSpec::new(dtype, [items.len() as u64]),
            payload: Payload::Stored(View::contiguous(Region::memory(bytes))),
            own: None,
        })
    }
}

impl StorageClass {
    /// The type of its elements; bytes where it has none.
    fn dtype(self) -> TorchType {
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

fn first(build: &Build) -> Result<Node> {
    let first = build.args.first().copied();
    first.ok_or_else(|| CkptError::tensor("its record has no arguments").into())
}

/// A view of a storage, checked against its bounds.
fn view(
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
    let most = have.saturating_mul(limits.expansion).saturating_add(ALWAYS);
    Limits::check(
        "bytes of a tensor expanded from its storage",
        byte_len,
        most,
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
            match dims.last_mut() {
                Some(last) => *last = last.saturating_mul(2),
                None => dims.push(2),
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
