//! Names that are harmless with some arguments only.
//!
//! Each of these is in real checkpoints, and each can do harm: `getattr` names the member of an
//! enum, or fetches `os.system`. So the arguments decide, and the arguments must be plain: what
//! these names do with a value that is itself made by a call cannot be known.

use crate::rules::{self, Rule};

/// A name whose arguments decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `getattr(class, "Member")`: an enum's member, a nested class, an unbound method.
    GetAttr,
    /// `type(None)`, `type(Ellipsis)`: how Python pickles the types of its singletons.
    TypeOfSingleton,
    /// `operator.getitem(typing.Union, (int, str))`: how Python pickles type annotations.
    GetItem,
    /// `functools.partial(class)`: a callable kept with arguments; what it calls is judged.
    Partial,
    /// `copyreg._reconstructor(class, object, None)`: how protocols 0 and 1 make instances.
    Reconstructor,
    /// `copyreg.__newobj__(class, …)`: the same in words of a later protocol.
    NewObj,
    /// `torch.storage._load_from_bytes(b"…")`: a nested checkpoint, which the reader opens too.
    LoadFromBytes,
    /// `_codecs.encode("…", "latin1")`: how protocol 2 writes bytes.
    Encode,
    /// A function that calls the first of its arguments, which must be a known name.
    CallsFirst,
    /// `logging.getLogger("name")`: how loggers are pickled. The logger is shared by the process.
    GetLogger,
}

impl Condition {
    /// The condition on `module.name`, if there is one.
    pub(crate) fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("builtins", "getattr") => Self::GetAttr,
            ("builtins", "type") => Self::TypeOfSingleton,
            ("operator" | "_operator", "getitem") => Self::GetItem,
            ("functools" | "_functools", "partial") => Self::Partial,
            ("copyreg", "_reconstructor") => Self::Reconstructor,
            ("copyreg", "__newobj__" | "__newobj_ex__") => Self::NewObj,
            ("torch.storage", "_load_from_bytes") => Self::LoadFromBytes,
            ("_codecs", "encode") => Self::Encode,
            ("torch._tensor" | "torch.tensor", "_rebuild_from_type" | "_rebuild_from_type_v2")
            | ("jax._src.array", "_reconstruct_array")
            | ("pandas.core.indexes.base", "_new_Index") => Self::CallsFirst,
            ("logging", "getLogger") => Self::GetLogger,
            _ => return None,
        })
    }

    /// The rule for what it does when the condition does not hold.
    pub(crate) fn rule(self) -> Rule {
        match self {
            Self::LoadFromBytes => rules::NESTED_PICKLE,
            Self::GetLogger => rules::STATE_POISONING,
            _ => rules::INDIRECTION,
        }
    }

    /// Whether it may lie around uncalled or be handed to another call: as a class or function it
    /// cannot do more there than its callers, which are judged.
    pub(crate) fn may_be_held(self) -> bool {
        matches!(self, Self::Partial | Self::Encode | Self::GetLogger)
    }
}
