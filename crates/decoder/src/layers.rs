//! Linear layers, norms, activations: the parts every family is put together from.
//!
//! What flows between layers is `[batch * sequence, hidden]`, the two dimensions of `Gemm`.

use crate::build::Builder;
use crate::emit::{attribute, float, int, signed};
use crate::family::{Mlp, Norm};
use crate::settings::Activation;
use ir::{AttributeValue, DType, Result, ValueId};

impl Builder<'_> {
    /// `x · weightᵀ + bias`, the bias only where there is one. `Gemm` takes the matrix as it is
    /// stored, whichever way that is.
    pub(crate) fn linear(
        &mut self,
        x: ValueId,
        path: &str,
        into: u64,
        out: u64,
    ) -> Result<ValueId> {
        self.within(path);
        let shape = if self.family.conv1d {
            [into, out]
        } else {
            [out, into]
        };
        let name = format!("{path}.weight");
        let mut inputs = vec![x, self.weight(&name, &shape)?];
        let bias = format!("{path}.bias");
        if self.weights.has(&bias) {
            inputs.push(self.weight(&bias, &[out])?);
        }
        let transposed = i64::from(!self.family.conv1d);
        self.emit
            .node("Gemm", &inputs, vec![int("transB", transposed)])
    }

    /// A weight in the type that is computed with.
    pub(crate) fn weight(&mut self, name: &str, shape: &[u64]) -> Result<ValueId> {
        self.weights
            .value(&mut self.emit, name, shape, self.compute)
    }

    /// A norm over the last dimension. Sums are in F32, whatever the type.
    pub(crate) fn norm(&mut self, x: ValueId, path: &str, size: u64) -> Result<ValueId> {
        self.within(path);
        let name = format!("{path}.weight");
        let attributes = vec![
            int("axis", -1),
            float("epsilon", self.settings.epsilon),
            int("stash_type", 1),
        ];
        match self.family.norm {
            Norm::Rms => {
                let weight = self.weight(&name, &[size])?;
                self.emit.node("RMSNormalization", &[x, weight], attributes)
            }
            Norm::RmsPlusOne => {
                let weight = self
                    .weights
                    .value(&mut self.emit, &name, &[size], DType::F32)?;
                let one = self.emit.number(1.0, DType::F32)?;
                let weight = self.emit.node("Add", &[weight, one], Vec::new())?;
                let x = self.widened(x)?;
                let y = self
                    .emit
                    .node("RMSNormalization", &[x, weight], attributes)?;
                self.narrowed(y)
            }
            Norm::Layer => {
                let weight = self.weight(&name, &[size])?;
                let bias = self.weight(&format!("{path}.bias"), &[size])?;
                let inputs = [x, weight, bias];
                self.emit.node("LayerNormalization", &inputs, attributes)
            }
        }
    }

    /// A norm, if the family has one there.
    pub(crate) fn norm_if(&mut self, x: ValueId, layer: &str, name: &str) -> Result<ValueId> {
        if name.is_empty() {
            return Ok(x);
        }
        self.norm(x, &format!("{layer}.{name}"), self.settings.hidden)
    }

    /// In F32.
    pub(crate) fn widened(&mut self, x: ValueId) -> Result<ValueId> {
        if self.compute == DType::F32 {
            return Ok(x);
        }
        self.emit.cast(x, DType::F32)
    }

    /// From F32 back to the type that is computed with.
    pub(crate) fn narrowed(&mut self, x: ValueId) -> Result<ValueId> {
        if self.compute == DType::F32 {
            return Ok(x);
        }
        self.emit.cast(x, self.compute)
    }

    /// Times a number, unless there is none.
    pub(crate) fn times(&mut self, x: ValueId, factor: Option<f32>) -> Result<ValueId> {
        let Some(factor) = factor else {
            return Ok(x);
        };
        let factor = self.emit.number(factor, self.compute)?;
        self.emit.node("Mul", &[x, factor], Vec::new())
    }

    /// `cap · tanh(x / cap)`, unless there is no cap.
    pub(crate) fn capped(&mut self, x: ValueId, cap: Option<f32>, of: DType) -> Result<ValueId> {
        let Some(cap) = cap else {
            return Ok(x);
        };
        let cap = self.emit.number(cap, of)?;
        let x = self.emit.node("Div", &[x, cap], Vec::new())?;
        let x = self.emit.node("Tanh", &[x], Vec::new())?;
        self.emit.node("Mul", &[x, cap], Vec::new())
    }

    fn activated(&mut self, x: ValueId) -> Result<ValueId> {
        let tanh = attribute("approximate", AttributeValue::Str("tanh".into()));
        match self.settings.activation {
            Activation::Silu => {
                let gate = self.emit.node("Sigmoid", &[x], Vec::new())?;
                self.emit.node("Mul", &[x, gate], Vec::new())
            }
            Activation::Gelu => self.emit.node("Gelu", &[x], Vec::new()),
            Activation::GeluTanh => self.emit.node("Gelu", &[x], vec![tanh]),
            Activation::Relu => self.emit.node("Relu", &[x], Vec::new()),
        }
    }

    /// The part of a layer after attention.
    pub(crate) fn mlp(&mut self, x: ValueId, layer: &str) -> Result<ValueId> {
        let names = self.family.names;
        let path = format!("{layer}.{}", names.mlp);
        let hidden = self.settings.hidden;
        let to = |name: &str| format!("{path}.{name}");
        let (y, inner) = match self.family.mlp {
            Mlp::Gated => {
                let inner = self.outputs(&to(names.up))?;
                let gate = self.linear(x, &to(names.gate), hidden, inner)?;
                let up = self.linear(x, &to(names.up), hidden, inner)?;
                (self.gated(&path, gate, up)?, inner)
            }
            Mlp::FusedGate => {
                let both = self.outputs(&to(names.fused_gate))?;
                let inner = both / 2;
                let parts = self.linear(x, &to(names.fused_gate), hidden, both)?;
                let [gate, up] = self.split(parts, [inner, both - inner])?;
                (self.gated(&path, gate, up)?, inner)
            }
            Mlp::Plain => {
                let inner = self.outputs(&to(names.up))?;
                let up = self.linear(x, &to(names.up), hidden, inner)?;
                self.within(&path);
                (self.activated(up)?, inner)
            }
        };
        self.linear(y, &to(names.down), inner, hidden)
    }

    fn gated(&mut self, path: &str, gate: ValueId, up: ValueId) -> Result<ValueId> {
        self.within(path);
        let gate = self.activated(gate)?;
        self.emit.node("Mul", &[gate, up], Vec::new())
    }

    /// How many results a linear layer has, by its weight: configurations may leave it out.
    fn outputs(&self, path: &str) -> Result<u64> {
        let shape = self.weights.shape(&format!("{path}.weight"))?;
        let axis = usize::from(self.family.conv1d);
        Ok(shape.get(axis).copied().unwrap_or(0))
    }

    /// Cut along the last dimension.
    pub(crate) fn split<const N: usize>(
        &mut self,
        x: ValueId,
        sizes: [u64; N],
    ) -> Result<[ValueId; N]> {
        let list = self.emit.list(&sizes.map(signed))?;
        self.emit.nodes("Split", &[x, list], vec![int("axis", -1)])
    }

    /// What follows belongs to the module of this path.
    pub(crate) fn within(&mut self, path: &str) {
        self.emit.within(&crate::build::module(path));
    }
}
