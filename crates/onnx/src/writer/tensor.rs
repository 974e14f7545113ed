//! Tensors as messages.

use super::external::Layout;
use super::rope::Rope;
use super::{pairs, types};
use crate::OnnxError;
use crate::wire::field;
use ir::{Payload, Remark, Result, SparseTensor, TensorId, TensorTable};
use std::collections::HashMap;

/// What is written of tensors beside their bytes, and where those go.
pub(super) struct Tensors<'a> {
    pub(super) table: &'a TensorTable,
    pub(super) remarks: HashMap<TensorId, &'a Remark>,
    pub(super) layout: &'a Layout,
}

impl<'a> Tensors<'a> {
    /// A `TensorProto` under `name`; an attribute's has the name it had, or none.
    pub(super) fn message(&self, id: TensorId, name: Option<&str>) -> Result<Rope<'a>> {
        let Some(tensor) = self.table.get(id) else {
            let what = "a tensor of the graph".to_owned();
            return Err(ir::Fault::Invalid { what }.into());
        };
        let at = |error: ir::Error| error.at(format!("tensor {:?}", tensor.name));
        let remark = self.remarks.get(&id);
        let mut out = Rope::new();
        for dim in tensor.spec.shape.iter() {
            let dim = i64::try_from(*dim).map_err(|_| OnnxError::CannotWrite {
                why: format!("its dimension of {dim} is over 63 bits"),
                help: "Leave it out with --drop",
            });
            out.int(field::tensor::DIMS, dim.map_err(|e| at(e.into()))?);
        }
        let code = types::code(tensor.dtype()).map_err(at)?;
        out.int(field::tensor::DATA_TYPE, code);
        let own = remark.and_then(|r| r.name.as_deref());
        out.some_text(
            field::tensor::NAME,
            name.or(own).unwrap_or(tensor.name.as_str()),
        );
        if let Some(remark) = remark {
            out.some_text(field::tensor::DOC, &remark.doc);
        }
        if let Some(entries) = self.layout.entries(id, tensor, name.is_some()) {
            pairs(&mut out, field::tensor::EXTERNAL_DATA, &entries);
            out.int(field::tensor::DATA_LOCATION, 1);
        } else if let Payload::Strings(list) = &tensor.payload {
            for text in list.iter() {
                out.bytes(field::tensor::STRING_DATA, text);
            }
        } else {
            tensor.spec.require_byte_len(&tensor.name)?;
            out.tensor(field::tensor::RAW_DATA, tensor);
        }
        if let Some(remark) = remark {
            pairs(&mut out, field::tensor::METADATA, &remark.metadata);
        }
        Ok(out)
    }

    /// A `SparseTensorProto`; an initializer's values have its name.
    pub(super) fn sparse(&self, sparse: &SparseTensor, name: Option<&str>) -> Result<Rope<'a>> {
        let mut out = Rope::new();
        let own = self.remarks.get(&sparse.values);
        let own = own.and_then(|remark| remark.name.as_deref());
        let values = self.message(sparse.values, name.or(own).or(Some("")))?;
        out.message(field::sparse::VALUES, values);
        let own = self.remarks.get(&sparse.indices);
        let own = own.and_then(|remark| remark.name.as_deref());
        let indices = self.message(sparse.indices, own.or(Some("")))?;
        out.message(field::sparse::INDICES, indices);
        for dim in &sparse.dims {
            out.int(field::sparse::DIMS, i64::try_from(*dim).unwrap_or(i64::MAX));
        }
        Ok(out)
    }
}
