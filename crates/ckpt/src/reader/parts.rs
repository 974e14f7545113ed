//! Tensors that are kept as several: sparse, nested, quantized.
//!
//! | record | parts |
//! |---|---|
//! | sparse COO | `NAME.indices`, `NAME.values` |
//! | sparse CSR, BSR | `NAME.crow_indices`, `NAME.col_indices`, `NAME.values` |
//! | sparse CSC, BSC | `NAME.ccol_indices`, `NAME.row_indices`, `NAME.values` |
//! | nested | `NAME.values`, `NAME.sizes`, `NAME.strides`, `NAME.offsets` |
//! | quantized per tensor | `NAME`; scale and zero point in the note `quant.NAME` |
//! | quantized per channel | `NAME`, `NAME.scales`, `NAME.zero_points`; the axis in the note |
//!
//! Layout and shape of a sparse tensor are in the note `sparse.NAME`. Notes are JSON in the
//! metadata namespace [`ir::ns::NOTE`].

use super::build::{Build, Kind};
use super::forest::{Forest, Node};
use super::lower::{Lowered, Part, dims, first, natural, view};
use super::numpy;
use crate::error::CkptError;
use crate::wire;
use ir::{DType, Limits, Object, Payload, Region, Result, TensorSpec, View};

impl Forest {
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

    pub(super) fn sparse(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
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

    pub(super) fn ragged(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
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

    pub(super) fn quantized(&mut self, build: &Build, limits: &Limits) -> Result<Lowered> {
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
