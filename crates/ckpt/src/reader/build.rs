//! Which objects are tensors: the calls PyTorch and numpy write for them.

use super::forest::{Forest, Node};
use super::numpy;
use crate::wire;
use ir::Object;

/// Wrappers around wrappers that are looked through.
const WRAPPERS: usize = 32;

/// What kind of record a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `(storage, offset, size, stride, …)`; the number is the version of the function.
    Dense(u8),
    Quantized,
    Sparse,
    /// A tensor of ragged parts.
    Nested,
    /// Shape and type, no numbers.
    Empty,
    /// A numpy array.
    Array,
    /// A numpy array that a torch function makes a tensor.
    DeviceArray,
    /// A storage that no tensor wraps.
    Storage,
    /// A storage written as a list of numbers.
    NumberList,
    /// A tensor of the old tar form, named by number.
    Numbered,
}

/// A tensor's record.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) kind: Kind,
    /// The arguments of the function that builds it; for other kinds the object itself.
    pub(crate) args: Vec<Node>,
    /// The last object of the checkpoint's own tree on the way to it: the one whose place the
    /// tensor takes in the tree.
    pub(crate) own: Option<Node>,
    /// A class that wraps it, other than `Parameter`.
    pub(crate) subclass: Option<String>,
}

impl Build {
    /// Whether it counts as a tensor when a state dict is looked for.
    pub(crate) fn is_tensor(&self) -> bool {
        !matches!(self.kind, Kind::Storage | Kind::NumberList)
    }
}

/// The kind of a torch function that builds a tensor.
fn builder(module: &str, name: &str) -> Option<Kind> {
    if module != "torch._utils" {
        return None;
    }
    Some(match name {
        "_rebuild_tensor" => Kind::Dense(1),
        "_rebuild_tensor_v2" => Kind::Dense(2),
        "_rebuild_tensor_v3" => Kind::Dense(3),
        "_rebuild_qtensor" => Kind::Quantized,
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => Kind::Sparse,
        "_rebuild_nested_tensor" => Kind::Nested,
        "_rebuild_meta_tensor_no_storage" | "_rebuild_wrapper_subclass" => Kind::Empty,
        "_rebuild_device_tensor_from_numpy" | "_rebuild_xla_tensor" => Kind::DeviceArray,
        _ => return None,
    })
}

/// Functions whose first argument is what they give, as far as numbers go.
fn wraps_first(module: &str, name: &str) -> bool {
    matches!(
        (module, name),
        (
            "torch._utils",
            "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
                | "_rebuild_device_tensor_from_cpu_tensor"
        ) | ("torch.jit._pickle", "restore_type_tag")
    )
}

/// Classes whose instances were saved with a state that holds storage and shape.
fn is_tensor_class(module: &str, name: &str) -> bool {
    matches!(
        (module, name),
        (
            "torch.nn.parameter",
            "Parameter" | "Buffer" | "UninitializedParameter"
        ) | ("torch.autograd.variable" | "torch.autograd", "Variable")
            | ("torch" | "torch._tensor" | "torch.tensor", "Tensor")
    ) || wire::tensor_class(module, name).is_some()
}

impl Forest {
    /// The record of a tensor, if the object is one.
    pub(crate) fn build(&self, node: Node) -> Option<Build> {
        let mut here = node;
        let mut own = None;
        let mut subclass = None;
        for _ in 0..WRAPPERS {
            if here.doc == 0 {
                own = Some(here);
            }
            let done = |kind, args| {
                Some(Build {
                    kind,
                    args,
                    own,
                    subclass: subclass.clone(),
                })
            };
            if let Object::Persistent(id) = *self.get(here) {
                let numbered = self.objects(here.doc).int(id).is_some();
                let kind = if numbered {
                    Kind::Numbered
                } else if self.storage_id(here).is_ok() {
                    Kind::Storage
                } else {
                    return None;
                };
                return done(kind, vec![here]);
            }
            let (module, name, call) = self.call(here)?;
            let args = || self.args(here).iter().map(|&id| here.with(id)).collect();
            if let Some(kind) = builder(module, name) {
                return done(kind, args());
            }
            if wraps_first(module, name) {
                here = self.arg(here, 0)?;
            } else if (module, name) == ("torch.storage", "_load_from_bytes") {
                here = self.loaded(here)?;
            } else if matches!(module, "torch._tensor" | "torch.tensor")
                && matches!(name, "_rebuild_from_type" | "_rebuild_from_type_v2")
            {
                let [function, class, inner] = [0, 1, 2].map(|n| self.arg(here, n));
                let (function, inner) = (function?, inner?);
                let objects = self.objects(here.doc);
                if let Some((module, name)) = class.and_then(|class| objects.global(class.id)) {
                    let plain = is_tensor_class(module, name);
                    if !plain {
                        subclass = Some(format!("{module}.{name}"));
                    }
                }
                let (module, name) = objects.global(function.id)?;
                let items = self.sequence(inner)?;
                if let Some(kind) = builder(module, name) {
                    let args = items.iter().map(|&id| here.with(id)).collect();
                    return Some(Build {
                        kind,
                        args,
                        own,
                        subclass,
                    });
                }
                if !wraps_first(module, name) {
                    return None;
                }
                here = here.with(*items.first()?);
            } else if numpy::is_array(self, here) {
                return done(Kind::Array, vec![here]);
            } else if wire::storage_class(module, name).is_some() {
                let list = self.arg(here, 0)?;
                self.sequence(list)?;
                return done(Kind::NumberList, vec![here]);
            } else if is_tensor_class(module, name) {
                let state = call.states().last().map(|&id| here.with(id));
                let items = state.and_then(|state| self.sequence(state));
                match items.unwrap_or_default() {
                    [_, _, _, _] => {
                        let args = items.unwrap_or_default();
                        return done(
                            Kind::Dense(1),
                            args.iter().map(|&id| here.with(id)).collect(),
                        );
                    }
                    [data, _, _, _, _] => here = here.with(*data),
                    _ => here = self.arg(here, 0)?,
                }
            } else {
                return None;
            }
        }
        None
    }
}
