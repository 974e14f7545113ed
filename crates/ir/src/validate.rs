//! The check of the invariants stated at the head of this crate.

use crate::graph::Training;
use crate::{
    AttributeValue, DType, Error, Fault, Function, GraphBody, Initializer, Limits, Model, Object,
    Payload, Result, SparseTensor, Tensor, TensorId, ValueId, View,
};
use std::collections::HashSet;

impl Model {
    /// Checks every invariant; a writer may trust a model that passed.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        Limits::check("tensors", self.tensors.len() as u64, limits.tensors)?;
        for tensor in &self.tensors {
            check_tensor(tensor, limits)
                .map_err(|error| error.at(format!("tensor {:?}", tensor.name)))?;
        }
        self.check_expansion(limits)?;
        if let Some(objects) = &self.objects {
            for (id, node) in objects.iter() {
                if let Object::Tensor(tensor) = node.object {
                    self.check_id(tensor, || format!("object {}", id.index()))?;
                }
                if objects
                    .children(id)
                    .any(|child| child.index() >= objects.len())
                {
                    return Err(invalid(format!(
                        "object {} names one that is not there",
                        id.index()
                    )));
                }
            }
            if objects
                .root()
                .is_some_and(|root| root.index() >= objects.len())
            {
                return Err(invalid("the root object is not there".to_owned()));
            }
        }
        if let Some(graph) = &self.graph {
            self.check_body(&graph.body, limits.depth)?;
            for Function {
                name,
                body,
                defaults,
                ..
            } in &graph.functions
            {
                let checked = self.check_body(body, limits.depth).and_then(|()| {
                    defaults
                        .iter()
                        .try_for_each(|a| self.check_attribute(&a.value, limits.depth))
                });
                checked.map_err(|error| error.at(format!("function {name:?}")))?;
            }
            for remark in &graph.remarks {
                self.check_id(remark.tensor, || "a remark".to_owned())?;
            }
            for Training {
                initialization,
                algorithm,
                ..
            } in &graph.training
            {
                for body in initialization.iter().chain(algorithm) {
                    self.check_body(body, limits.depth)?;
                }
            }
        }
        Ok(())
    }

    /// Tensors may share what holds them, so that a small file could ask for very much.
    fn check_expansion(&self, limits: &Limits) -> Result<()> {
        let mut sources = HashSet::new();
        let (mut held, mut size) = (0u64, 0u64);
        for tensor in &self.tensors {
            if let Payload::Stored(View { region, .. }) = &tensor.payload {
                if sources.insert(region.source_key()) {
                    held = held.saturating_add(region.source_len());
                }
                size = size.saturating_add(tensor.spec.byte_len().unwrap_or(0));
            }
        }
        limits.check_expanded("bytes of tensors that share what holds them", held, size)
    }

    fn check_id(&self, id: TensorId, by: impl Fn() -> String) -> Result<()> {
        match self.tensors.get(id) {
            Some(_) => Ok(()),
            None => Err(invalid(format!(
                "{} names a tensor that is not there",
                by()
            ))),
        }
    }

    fn check_sparse(&self, sparse: &SparseTensor) -> Result<()> {
        self.check_id(sparse.values, || "a sparse tensor".to_owned())?;
        self.check_id(sparse.indices, || "a sparse tensor".to_owned())
    }

    fn check_body(&self, body: &GraphBody, depth: u64) -> Result<()> {
        if depth == 0 {
            return Err(invalid(format!("graph {:?} nests too deep", body.name)));
        }
        let there = |id: &ValueId| id.index() < body.values.len();
        let ends = body.inputs.iter().chain(&body.outputs).all(there);
        let nodes = body
            .nodes
            .iter()
            .all(|n| n.inputs.iter().chain(&n.outputs).flatten().all(there));
        if !ends || !nodes {
            return Err(invalid(format!(
                "graph {:?} names a value that is not there",
                body.name
            )));
        }
        for initializer in &body.initializers {
            let value = match initializer {
                Initializer::Dense(value, tensor) => {
                    self.check_id(*tensor, || format!("graph {:?}", body.name))?;
                    value
                }
                Initializer::Sparse(value, sparse) => {
                    self.check_sparse(sparse)?;
                    value
                }
            };
            if !there(value) {
                return Err(invalid(format!(
                    "an initializer of {:?} has no value",
                    body.name
                )));
            }
        }
        for node in &body.nodes {
            for attribute in &node.attributes {
                self.check_attribute(&attribute.value, depth)?;
            }
        }
        Ok(())
    }

    fn check_attribute(&self, value: &AttributeValue, depth: u64) -> Result<()> {
        match value {
            AttributeValue::Tensor(id) => self.check_id(*id, || "an attribute".to_owned()),
            AttributeValue::Tensors(ids) => ids
                .iter()
                .try_for_each(|id| self.check_id(*id, || "an attribute".to_owned())),
            AttributeValue::Sparse(sparse) => self.check_sparse(sparse),
            AttributeValue::Sparses(list) => list.iter().try_for_each(|s| self.check_sparse(s)),
            other => {
                let mut bodies = other.bodies().iter();
                bodies.try_for_each(|body| self.check_body(body, depth - 1))
            }
        }
    }
}

fn check_tensor(tensor: &Tensor, limits: &Limits) -> Result<()> {
    Limits::check(
        "bytes of a name",
        tensor.name.len() as u64,
        limits.name_bytes,
    )?;
    Limits::check("dimensions", tensor.spec.shape.len() as u64, limits.rank)?;
    match &tensor.payload {
        Payload::Strings(list) => {
            if tensor.dtype() != DType::Str || tensor.spec.elements() != Some(list.len() as u64) {
                return Err(invalid(format!(
                    "{} strings for type {} and shape {}",
                    list.len(),
                    tensor.spec.dtype,
                    tensor.spec.shape
                )));
            }
        }
        Payload::Computed(compute) => {
            tensor.spec.require_byte_len(&tensor.name)?;
            if *compute.spec() != tensor.spec {
                return Err(invalid(format!(
                    "its spec says {} {}, its computation {} {}",
                    tensor.spec.dtype,
                    tensor.spec.shape,
                    compute.spec().dtype,
                    compute.spec().shape
                )));
            }
        }
        Payload::Stored(view) => {
            tensor.spec.require_byte_len(&tensor.name)?;
            let ranks = view
                .strides
                .as_ref()
                .is_none_or(|s| s.len() == tensor.spec.shape.len());
            if !ranks {
                return Err(invalid(
                    "it has strides for another number of dimensions".to_owned(),
                ));
            }
            let extent = view.extent_bytes(&tensor.spec).ok_or_else(|| {
                invalid("its strides reach further than 64 bits count".to_owned())
            })?;
            view.region.slice(view.offset, extent)?;
        }
    }
    Ok(())
}

fn invalid(what: String) -> Error {
    Fault::Invalid { what }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteOrder, ModelBuilder, Region, Strides, TensorSpec, View};

    fn model_of(spec: TensorSpec, view: View) -> Model {
        let mut model = Model::default();
        model.tensors.push(Tensor::stored("t", spec, view)).unwrap();
        model
    }

    #[test]
    fn views_stay_in_their_region() {
        let view = |strides: Option<Vec<u64>>| View {
            region: Region::memory(vec![0; 24]),
            offset: 8,
            strides: strides.map(Strides::new),
            byte_order: ByteOrder::Little,
        };
        let spec = TensorSpec::new(DType::F32, [2, 2]);
        let check = |v| model_of(spec.clone(), v).validate(&Limits::default());
        assert!(check(view(None)).is_ok());
        assert!(check(view(Some(vec![1, 2]))).is_ok());
        assert!(check(view(Some(vec![2, 2]))).is_err());
        assert!(check(view(Some(vec![2]))).is_err());
        assert!(check(view(Some(vec![u64::MAX, 1]))).is_err());
    }

    #[test]
    fn ids_resolve() {
        let mut model = ModelBuilder::new()
            .tensor("a", DType::U8, [2], vec![1, 2])
            .build()
            .unwrap();
        assert!(model.validate(&Limits::default()).is_ok());
        let mut objects = crate::Objects::new();
        let (id, _) = model.tensors.ids().next().unwrap();
        objects.push(Object::Tensor(id), 0).unwrap();
        model.objects = Some(objects);
        assert!(model.validate(&Limits::default()).is_ok());
        model.tensors = crate::TensorTable::new();
        assert!(model.validate(&Limits::default()).is_err());
    }
}
