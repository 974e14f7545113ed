//! Writing a graph down: values, nodes under paths, constants that stand once.
//!
//! Nodes are named after the modules they come from, `/model/layers.0/mlp/down_proj/Gemm`, and
//! their results `…/Gemm_output_0`, as exporters do: readers find weights by such names.

use ir::{
    Attribute, AttributeValue, DType, Dim, DimSize, Fault, GraphBody, Node, Result, Value, ValueId,
    ValueType,
};
use std::collections::HashMap;

/// A graph under construction.
#[derive(Debug, Default)]
pub(crate) struct Emit {
    pub(crate) body: GraphBody,
    /// The path of the module that is being written, from a slash to a name.
    path: String,
    /// How often a node's name was given.
    given: HashMap<String, u32>,
    /// Constants there are, by what they hold.
    constants: HashMap<String, ValueId>,
}

/// An attribute.
pub(crate) fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value,
        doc: String::new(),
    }
}

/// An attribute of one integer.
pub(crate) fn int(name: &str, value: i64) -> Attribute {
    attribute(name, AttributeValue::Int(value))
}

/// An attribute of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> Attribute {
    attribute(name, AttributeValue::Ints(values.to_vec()))
}

/// An attribute of one float.
pub(crate) fn float(name: &str, value: f32) -> Attribute {
    attribute(name, AttributeValue::Float(value))
}

/// A count as attributes and shapes have them; counts here are far below the limit.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The code that `Cast` has for a type, of those a decoder uses (`TensorProto.DataType`).
fn code(dtype: DType) -> i64 {
    match dtype {
        DType::F16 => 10,
        DType::F64 => 11,
        DType::BF16 => 16,
        DType::I64 => 7,
        DType::Bool => 9,
        _ => 1,
    }
}

/// A tensor type whose dimensions are sizes or names.
pub(crate) fn tensor(dtype: DType, dims: &[&str]) -> ValueType {
    let dim = |text: &&str| Dim {
        size: match text.parse() {
            Ok(n) => DimSize::Known(n),
            Err(_) => DimSize::Named((*text).to_owned()),
        },
        denotation: String::new(),
    };
    ValueType::Tensor(Some(dtype), Some(dims.iter().map(dim).collect()))
}

impl Emit {
    /// What follows belongs to the module of this path.
    pub(crate) fn within(&mut self, path: &str) {
        self.path.clear();
        self.path.push('/');
        self.path.push_str(path);
    }

    /// A value of a name nobody else has.
    pub(crate) fn value(&mut self, name: String, ty: Option<ValueType>) -> Result<ValueId> {
        let value = Value {
            name,
            ty,
            ..Value::default()
        };
        self.body.add_value(value).ok_or_else(|| {
            let what = "more values than 32 bits count".to_owned();
            Fault::Invalid { what }.into()
        })
    }

    /// Something that is fed.
    pub(crate) fn input(&mut self, name: &str, ty: ValueType) -> Result<ValueId> {
        let id = self.value(name.to_owned(), Some(ty))?;
        self.body.inputs.push(id);
        Ok(id)
    }

    /// Gives a result out under this name.
    pub(crate) fn output(&mut self, id: ValueId, name: &str, ty: ValueType) {
        if let Some(value) = self.body.values.get_mut(id.index()) {
            name.clone_into(&mut value.name);
            value.ty = Some(ty);
        }
        self.body.outputs.push(id);
    }

    /// A node of several results.
    pub(crate) fn nodes<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: Vec<Attribute>,
    ) -> Result<[ValueId; N]> {
        let mut name = format!("{}/{op}", self.path);
        let count = self.given.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            name = format!("{name}_{}", *count - 1);
        }
        let results: Vec<ValueId> = (0..N)
            .map(|i| self.value(format!("{name}_output_{i}"), None))
            .collect::<Result<_>>()?;
        self.body.nodes.push(Node {
            name,
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: results.iter().copied().map(Some).collect(),
            attributes,
            ..Node::default()
        });
        results.try_into().map_err(|_| {
            let what = format!("{op} does not have {N} results");
            Fault::Invalid { what }.into()
        })
    }

    /// A node of one result.
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: Vec<Attribute>,
    ) -> Result<ValueId> {
        let [made] = self.nodes(op, inputs, attributes)?;
        Ok(made)
    }

    /// The same numbers in another type.
    pub(crate) fn cast(&mut self, value: ValueId, to: DType) -> Result<ValueId> {
        self.node("Cast", &[value], vec![int("to", code(to))])
    }

    fn constant(&mut self, value: Attribute) -> Result<ValueId> {
        let key = format!("{value:?}");
        if let Some(id) = self.constants.get(&key) {
            return Ok(*id);
        }
        let path = std::mem::replace(&mut self.path, "/constants".to_owned());
        let made = self.node("Constant", &[], vec![value]);
        self.path = path;
        let id = made?;
        self.constants.insert(key, id);
        Ok(id)
    }

    /// A list of integers.
    pub(crate) fn list(&mut self, values: &[i64]) -> Result<ValueId> {
        self.constant(ints("value_ints", values))
    }

    /// An integer.
    pub(crate) fn whole(&mut self, value: i64) -> Result<ValueId> {
        self.constant(int("value_int", value))
    }

    /// A list of numbers.
    pub(crate) fn numbers(&mut self, values: &[f32]) -> Result<ValueId> {
        self.constant(attribute(
            "value_floats",
            AttributeValue::Floats(values.to_vec()),
        ))
    }

    /// A number in the type that is computed with.
    pub(crate) fn number(&mut self, value: f32, dtype: DType) -> Result<ValueId> {
        let id = self.constant(float("value_float", value))?;
        if dtype == DType::F32 {
            return Ok(id);
        }
        let key = format!("{value:?} {dtype}");
        if let Some(id) = self.constants.get(&key) {
            return Ok(*id);
        }
        let path = std::mem::replace(&mut self.path, "/constants".to_owned());
        let made = self.cast(id, dtype);
        self.path = path;
        let id = made?;
        self.constants.insert(key, id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_constants_stand_once() {
        let mut emit = Emit::default();
        emit.within("model");
        let one = emit.number(1.0, DType::F16).unwrap();
        assert_eq!(one, emit.number(1.0, DType::F16).unwrap());
        let a = emit.node("Add", &[one, one], Vec::new()).unwrap();
        let b = emit.node("Add", &[a, one], Vec::new()).unwrap();
        let name = |id| emit.body.value(id).unwrap().name.clone();
        assert_eq!(name(a), "/model/Add_output_0");
        assert_eq!(name(b), "/model/Add_1_output_0");
        assert_eq!(emit.body.nodes.len(), 4);
    }
}
