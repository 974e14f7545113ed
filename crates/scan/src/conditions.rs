//! Names that are harmless with some arguments only.
//!
//! Each of these is in real checkpoints, and each can do harm: `getattr` names the member of an
//! enum, or fetches `os.system`. So the arguments decide, and the arguments must be plain: what
//! these names do with a value that is itself made by a call cannot be known.

use crate::calls::{self, callee_name, full_name, holds_any, name_of};
use crate::code::explain;
use crate::objects::Bench;
use crate::rules::{self, Rule};
use crate::standing::{self, Standing, first_part, is_class_like};
use crate::tables::kept::{self, KEPT};
use crate::tables::loaders::{LOADERS, loads};
use ir::{Call, CallKind, Object, ObjectId, Objects};

/// A name whose arguments decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// `numpy.random._pickle.__generator_ctor("PCG64", __bit_generator_ctor)`: the second is called
    /// with the first.
    CallsSecond,
    /// `tokenizers.models.BPE.__new__(BPE)` and a state: with arguments, the constructor opens files.
    Bare,
    /// `mmengine.config.Config(settings, text)`: a third argument names a file to open.
    Config,
    /// `torch.ScriptObject` with a state of PyTorch's own packed weights.
    ScriptObject,
    /// `joblib.numpy_pickle.NumpyArrayWrapper`: the reader takes out the arrays that joblib writes. What
    /// is left is made by hand, and its class reads whatever pickle lies behind it.
    ArrayWrapper,
    /// `numpy.log1p`, `f_classif`: functions that a model keeps, and that nobody calls while it is loaded.
    Kept,
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
            // `newObj` is `class.__new__(class)`.
            ("copyreg", "__newobj__" | "__newobj_ex__")
            | (
                "sklearn.metrics._dist_metrics"
                | "sklearn.neighbors._ball_tree"
                | "sklearn.neighbors._dist_metrics"
                | "sklearn.neighbors._kd_tree"
                | "sklearn.neighbors.ball_tree"
                | "sklearn.neighbors.dist_metrics"
                | "sklearn.neighbors.kd_tree",
                "newObj",
            ) => Self::NewObj,
            ("torch.storage", "_load_from_bytes") => Self::LoadFromBytes,
            ("_codecs", "encode") => Self::Encode,
            ("torch._tensor" | "torch.tensor", "_rebuild_from_type" | "_rebuild_from_type_v2")
            | ("jax._src.array", "_reconstruct_array")
            | ("pandas.core.indexes.base", "_new_Index")
            | ("pandas.core.indexes.interval", "_new_IntervalIndex")
            | ("pandas.core.indexes.period", "_new_PeriodIndex") => Self::CallsFirst,
            (
                "numpy.random._pickle",
                "__bit_generator_ctor" | "__generator_ctor" | "__randomstate_ctor",
            ) => Self::CallsSecond,
            ("tokenizers.models", "BPE" | "Unigram" | "WordLevel" | "WordPiece") => Self::Bare,
            ("mmcv.utils.config" | "mmengine.config.config" | "mmengine.config", "Config") => {
                Self::Config
            }
            ("torch" | "torch._C", "ScriptObject") => Self::ScriptObject,
            ("joblib.numpy_pickle", "NumpyArrayWrapper") => Self::ArrayWrapper,
            _ if kept::has(KEPT, module, name) => Self::Kept,
            ("logging", "getLogger") => Self::GetLogger,
            _ => return None,
        })
    }

    /// The rule for what it does when the condition does not hold.
    pub(crate) fn rule(self) -> Rule {
        match self {
            Self::LoadFromBytes | Self::ArrayWrapper => rules::NESTED_PICKLE,
            Self::Bare | Self::Config => rules::FILE_ACCESS,
            Self::Kept => rules::LIBRARY_FUNCTION,
            Self::ScriptObject => rules::UNKNOWN_GLOBAL,
            Self::GetLogger => rules::STATE_POISONING,
            _ => rules::INDIRECTION,
        }
    }

    /// Whether it may lie around uncalled or be handed to another call: as a class or function it
    /// cannot do more there than its callers, which are judged.
    pub(crate) fn may_be_held(self) -> bool {
        matches!(
            self,
            Self::Partial
                | Self::ArrayWrapper
                | Self::Kept
                | Self::Encode
                | Self::GetLogger
                | Self::Bare
                | Self::Config
                | Self::CallsSecond
        )
    }

    /// Whether it is a class whose instances are harmless without its constructor.
    fn is_class(self) -> bool {
        matches!(self, Self::Bare | Self::Config)
    }
}

/// Judges a call whose arguments decide.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call, condition: Condition) {
    let objects = bench.objects;
    let args = objects.sequence(call.args).unwrap_or_default();
    let first = args.first().copied();
    let only = if let [only] = args { Some(*only) } else { None };
    let untouched = call.is_untouched();
    let (rule, subject) = match condition {
        // What these give is shared by the whole process.
        Condition::GetAttr | Condition::TypeOfSingleton | Condition::GetItem if !untouched => {
            (Some(rules::STATE_POISONING), String::new())
        }
        Condition::GetAttr => match attribute(bench, id, args) {
            Some((rule, subject)) => (Some(rule), subject),
            None => (None, String::new()),
        },
        Condition::TypeOfSingleton => {
            let singleton = only.is_some_and(|arg| {
                matches!(objects.get(arg), Object::None)
                    || matches!(
                        objects.global(arg),
                        Some(("builtins", "Ellipsis" | "NotImplemented"))
                    )
            });
            ((!singleton).then_some(rules::INDIRECTION), String::new())
        }
        Condition::GetItem => {
            let generic = first
                .and_then(|arg| objects.global(arg))
                .is_some_and(|(m, n)| {
                    matches!(
                        &*standing::canonical(m),
                        "typing" | "typing_extensions" | "builtins"
                    ) && standing::is_listed(&standing::canonical(m), n)
                });
            let fine = generic && args.len() == 2;
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::Partial => {
            let states = call.states().iter().filter_map(|state| {
                let parts = objects.sequence(*state)?;
                parts.first().copied()
            });
            // Handed to a call, it may be called there, with what it keeps.
            let handed = bench.uses.handed(id);
            let fine = first
                .into_iter()
                .chain(states)
                .all(|callee| may_be_kept(objects, callee, handed))
                && first.is_some();
            let opens = kept(objects, call).filter(|_| fine);
            (
                opens.or((!fine).then_some(rules::INDIRECTION)),
                String::new(),
            )
        }
        Condition::Reconstructor => {
            let base = args.get(1).and_then(|base| objects.global(*base));
            let base = base.is_some_and(|(m, n)| standing::standing(m, n) == Standing::Harmless);
            let fine = args.len() == 3 && base && first.is_some_and(|c| makes_class(objects, c));
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::NewObj => {
            let fine = first.is_some_and(|class| makes_class(objects, class));
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::LoadFromBytes => {
            // What is set on its result is set on an object that is judged without it.
            let fine = untouched && only.is_some_and(|arg| is_constant_bytes(objects, arg));
            ((!fine).then_some(rules::NESTED_PICKLE), String::new())
        }
        Condition::Encode => {
            let fine = match args {
                [text] => is_text(objects, *text),
                [text, codec] => {
                    is_text(objects, *text) && objects.str(*codec).is_some_and(is_plain_codec)
                }
                _ => false,
            };
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::CallsFirst => {
            // `_rebuild_from_type_v2(function, class, …)`
            let typed =
                name_of(objects, call.callee).is_some_and(|(_, name)| name.contains("from_type"));
            let class = !typed || args.get(1).is_some_and(|id| objects.global(*id).is_some());
            let builds = first.is_some_and(|callee| is_builder(objects, callee));
            let fine = untouched && class && builds;
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::CallsSecond => {
            let own = |id: &ObjectId| {
                let name = objects.global(*id);
                name.is_some_and(|(module, _)| module == "numpy.random._pickle")
            };
            let named = call.kwargs().and_then(|named| objects.pairs(named));
            let fine = objects.sequence(call.args).is_some()
                && args.len() <= 2
                && args.get(1).is_none_or(own)
                && named.is_none_or(<[_]>::is_empty);
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::Bare | Condition::Config => {
            let fine = match call.kind {
                CallKind::New | CallKind::NewEx(_) if condition == Condition::Config => true,
                CallKind::NewEx(_) => false,
                _ => args.len() <= if condition == Condition::Config { 2 } else { 0 },
            };
            ((!fine).then_some(condition.rule()), String::new())
        }
        Condition::ScriptObject => {
            let fine = args.is_empty() && call.states().iter().all(|s| is_packed(objects, *s));
            ((!fine).then_some(rules::UNKNOWN_GLOBAL), String::new())
        }
        Condition::ArrayWrapper | Condition::Kept => (Some(condition.rule()), String::new()),
        Condition::GetLogger => {
            let named = only.is_some_and(|arg| objects.str(arg).is_some());
            let fine = named && untouched;
            ((!fine).then_some(rules::STATE_POISONING), String::new())
        }
    };
    if let Some(rule) = rule {
        let at = bench.at(id);
        let more = || explain(objects, id, call);
        if subject.is_empty() {
            let what = || callee_name(objects, call);
            bench.ledger.note_of(call.callee, rule, what, at, more);
        } else {
            bench.ledger.note(rule, &subject, at, more);
        }
    }
}

/// The rule for a `getattr`, and what it fetches.
fn attribute(bench: &Bench<'_>, id: ObjectId, args: &[ObjectId]) -> Option<(Rule, String)> {
    let objects = bench.objects;
    let fetch = |rule| Some((rule, String::new()));
    let [target, attribute] = *args else {
        return fetch(rules::INDIRECTION);
    };
    let Some(attribute) = objects.str(attribute) else {
        return fetch(rules::INDIRECTION);
    };
    let used = bench.uses.called(id) || bench.uses.handed(id);
    if let Some((module, name)) = name_of(objects, id) {
        let subject = full_name(module, &name);
        let base = name
            .strip_suffix(attribute)
            .and_then(|n| n.strip_suffix('.'));
        let listed =
            base.is_some_and(|base| standing::standing(module, base) == Standing::Harmless);
        let rule = match standing::standing(module, &name) {
            Standing::Harmless | Standing::KnownClass => return None,
            Standing::Conditional(Condition::Kept) if !used => return None,
            Standing::LibraryClass { .. } | Standing::UnknownClass if listed => return None,
            Standing::LibraryClass { .. } | Standing::UnknownClass => rules::UNKNOWN_GLOBAL,
            // What is called is judged there, and with its arguments.
            Standing::LibraryFunction | Standing::UnknownFunction if bench.uses.called(id) => {
                return None;
            }
            Standing::LibraryFunction if used => rules::LIBRARY_FUNCTION,
            Standing::UnknownFunction if used => rules::UNKNOWN_CALL,
            Standing::LibraryFunction | Standing::UnknownFunction => rules::ATTRIBUTE_LOOKUP,
            Standing::Dangerous(_) | Standing::Conditional(_) | Standing::Guarded(_) => {
                rules::INDIRECTION
            }
        };
        return Some((rule, subject));
    }
    // A bound method: of an instance of some class that may be in a checkpoint, and left alone.
    let own = is_schedule(objects, target, attribute)
        || is_lazy(objects, target, attribute)
        || is_generation(objects, target, attribute);
    if own && !used {
        return None;
    }
    let instance = match objects.get(target) {
        Object::Call(made) => name_of(objects, made.callee).is_some_and(|(module, name)| {
            matches!(
                standing::standing(module, &name),
                Standing::KnownClass
                    | Standing::UnknownClass
                    | Standing::LibraryClass { core: false }
            )
        }),
        _ => false,
    };
    if instance && !used && !attribute.starts_with("__") {
        return fetch(rules::ATTRIBUTE_LOOKUP);
    }
    fetch(rules::INDIRECTION)
}

/// The rule for a class that is kept to be called with a text, and loads what it is named. A state
/// takes the place of what the call was handed.
fn kept(objects: &Objects, call: &Call) -> Option<Rule> {
    let states = call.states().iter().map(|state| (*state, None));
    let mut all = states.chain([(call.args, call.kwargs())]);
    all.find_map(|(parts, named)| {
        let parts = objects.sequence(parts)?;
        let (module, name) = name_of(objects, *parts.first()?)?;
        let todo: Vec<ObjectId> = parts.iter().skip(1).copied().chain(named).collect();
        let Some(rule) = loads(LOADERS, module, &name) else {
            // Of other classes a word is an option; more may be a file.
            let known = standing::standing(module, &name) == Standing::KnownClass;
            let tells = |object: &Object| calls::gives_text(objects, object) && !is_word(object);
            return (known && holds_any(objects, todo, tells)).then_some(rules::CLASS_ARGUMENTS);
        };
        let tells = |object: &Object| calls::is_text(object) || matches!(object, Object::Call(_));
        holds_any(objects, todo, tells).then_some(rule)
    })
}

/// Whether a text is a word that names an option.
fn is_word(object: &Object) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    matches!(object, Object::Str(text) if text.len() <= 64 && text.chars().all(plain))
}

/// Whether a callable kept for later is a name that may be called at all, and called unseen.
fn may_be_kept(objects: &Objects, callee: ObjectId, unseen: bool) -> bool {
    name_of(objects, callee).is_some_and(|(module, name)| match standing::standing(module, &name) {
        Standing::Harmless | Standing::KnownClass => true,
        Standing::Conditional(Condition::Kept)
        | Standing::UnknownClass
        | Standing::UnknownFunction
        | Standing::LibraryClass { core: false } => !unseen,
        _ => false,
    })
}

/// Whether it is a class, or may be one, whose instances are made without its constructor.
fn makes_class(objects: &Objects, class: ObjectId) -> bool {
    name_of(objects, class).is_some_and(|(module, name)| match standing::standing(module, &name) {
        Standing::Conditional(condition) => condition.is_class(),
        Standing::Dangerous(_) | Standing::LibraryFunction => false,
        _ => true,
    })
}

/// Whether it builds a tensor, an array or an index when another function calls it.
fn is_builder(objects: &Objects, callee: ObjectId) -> bool {
    objects.global(callee).is_some_and(|(module, name)| {
        let module = standing::canonical(module);
        let last = name.rsplit('.').next().unwrap_or(name);
        let rebuilds = name.starts_with("_rebuild_")
            || matches!(name, "_reconstruct" | "_frombuffer")
            || is_class_like(last);
        let home = matches!(first_part(&module), "jax" | "numpy" | "pandas" | "torch");
        rebuilds && home && standing::standing(&module, name) == Standing::Harmless
    })
}

fn is_text(objects: &Objects, id: ObjectId) -> bool {
    matches!(objects.get(id), Object::Str(_) | Object::WildStr(_))
}

/// Whether a method is one of those that `CyclicLR` keeps of itself.
fn is_schedule(objects: &Objects, target: ObjectId, attribute: &str) -> bool {
    let cyclic = match objects.get(target) {
        Object::Call(made) => {
            objects.global(made.callee) == Some(("torch.optim.lr_scheduler", "CyclicLR"))
        }
        _ => false,
    };
    let methods = [
        "_exp_range_scale_fn",
        "_triangular2_scale_fn",
        "_triangular_scale_fn",
    ];
    cyclic && methods.contains(&attribute)
}

/// Whether a method is one of those that PyTorch's lazy modules hook into themselves: they look at
/// the first input, and make the parameters in its shape.
fn is_lazy(objects: &Objects, target: ObjectId, attribute: &str) -> bool {
    let lazy = match objects.get(target) {
        Object::Call(made) if made.kind == CallKind::New => name_of(objects, made.callee),
        _ => None,
    };
    let lazy = lazy.is_some_and(|(module, name)| {
        let part = module.strip_prefix("torch.nn.modules.");
        let part =
            part.filter(|part| matches!(*part, "batchnorm" | "conv" | "instancenorm" | "linear"));
        part.is_some() && name.starts_with("Lazy") && is_class_like(&name)
    });
    lazy && matches!(attribute, "_infer_parameters" | "_lazy_load_hook")
}

/// Whether a method is one of those of a transformer that PEFT's models keep of it.
fn is_generation(objects: &Objects, target: ObjectId, attribute: &str) -> bool {
    let model = match objects.get(target) {
        Object::Call(made) if made.kind == CallKind::New => name_of(objects, made.callee),
        _ => None,
    };
    let methods = [
        "_prepare_encoder_decoder_kwargs_for_generation",
        "prepare_inputs_for_generation",
    ];
    model.is_some_and(|(module, _)| module.starts_with("transformers.models."))
        && methods.contains(&attribute)
}

/// Whether the state of a C++ object is that of packed weights: what else is registered under such
/// names, in PyTorch or by whoever loaded a library, is not known here.
fn is_packed(objects: &Objects, state: ObjectId) -> bool {
    let Some([_, class]) = objects.sequence(state) else {
        return false;
    };
    objects.str(*class).is_some_and(|class| {
        let own = class.strip_prefix("__torch__.torch.classes.");
        own.is_some_and(|own| PACKED.contains(&own))
    })
}

/// Classes of PyTorch's that unpack weights from tensors and numbers.
const PACKED: &[&str] = &[
    "quantized.Conv2dPackedParamsBase",
    "quantized.Conv3dPackedParamsBase",
    "quantized.EmbeddingPackedParamsBase",
    "quantized.LinearPackedParamsBase",
    "rnn.CellParamsBase",
    "sparse.LinearPackedParamsBase",
    "xnnpack.Conv2dOpContext",
    "xnnpack.LinearOpContext",
    "xnnpack.TransposeConv2dOpContext",
];

fn is_plain_codec(codec: &str) -> bool {
    let folded = codec.to_ascii_lowercase().replace(['_', ' '], "-");
    matches!(
        folded.as_str(),
        "latin1"
            | "latin-1"
            | "iso-8859-1"
            | "iso8859-1"
            | "l1"
            | "ascii"
            | "us-ascii"
            | "utf8"
            | "utf-8"
    )
}

/// Bytes that stand in the pickle as they are, so that the reader can open them.
fn is_constant_bytes(objects: &Objects, id: ObjectId) -> bool {
    match objects.get(id) {
        Object::Bytes(_) | Object::ByteArray(_) => true,
        Object::Call(call) => {
            let encodes = objects.global(call.callee) == Some(("_codecs", "encode"));
            encodes
                && objects
                    .sequence(call.args)
                    .is_some_and(|args| args.first().is_some_and(|text| is_text(objects, *text)))
        }
        _ => false,
    }
}
