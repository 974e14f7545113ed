//! What is known of a name: harmless, dangerous, or neither.
//!
//! The answer is found by the first of these that fits, so that what nobody has thought of lands on
//! the safe side:
//!
//! 1. names that stand in the tables of harmless ones, exactly as written;
//! 2. paths (`serialization.os.system`): whoever walks from one module into another hides
//!    something; only paths through classes can be honest;
//! 3. names that are dangerous wherever they are found, and names in modules known to be dangerous;
//! 4. anything else of Python's own modules;
//! 5. classes of libraries whose classes checkpoints hold;
//! 6. anything else of well-known libraries: classes are unknown, functions must not be called;
//! 7. anything else: unknown.

use crate::conditions::Condition;
use crate::distributions::is_distribution;
use crate::rules::{self, Rule};
use crate::tables::classes::CLASS_MODULES;
use crate::tables::dangerous::{ANYWHERE, BORROWED, DANGEROUS, Danger, REEXPORTED, SOFT};
use crate::tables::harmless::HARMLESS;
use crate::tables::kept::{self, LONE_CLASSES};
use crate::tables::libraries::LIBRARIES;
use crate::tables::stdlib::STANDARD;
use crate::weights_only;
use std::borrow::Cow;

/// How long a name or a module may be: the longest known to us has some 120 characters.
const MAX_NAME: usize = 1024;

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Builds a value, whatever its arguments.
    Harmless,
    /// Builds a value if its arguments are of the right kind.
    Conditional(Condition),
    /// A class of a kind that checkpoints hold: harmless without arguments.
    KnownClass,
    /// A class of a module that is dangerous otherwise: harmless without arguments, perhaps.
    Guarded(Rule),
    /// A class of a library.
    LibraryClass {
        /// Whether the library is one whose constructors no checkpoint calls with text.
        core: bool,
    },
    /// A function of a library.
    LibraryFunction,
    /// A class nobody knows.
    UnknownClass,
    /// A function nobody knows.
    UnknownFunction,
    /// Dangerous, even if it is only imported.
    Dangerous(Rule),
}

/// What is known of `module.name`.
pub(crate) fn standing(module: &str, name: &str) -> Standing {
    if module.len().max(name.len()) > MAX_NAME {
        return Standing::Dangerous(rules::MODULE_ATTRIBUTE_PATH);
    }
    let module = canonical(module);
    let module = module.as_ref();
    if is_torchscript(module) {
        return Standing::Harmless;
    }
    if let Some(condition) = Condition::of(module, name) {
        return Standing::Conditional(condition);
    }
    if is_listed(module, name) || is_self_named(module, name) {
        return Standing::Harmless;
    }
    if kept::has(LONE_CLASSES, module, name) || is_distribution(module, name) {
        return Standing::KnownClass;
    }
    let standard = is_standard(module);
    let library = !standard && is_in(LIBRARIES, first_part(module));
    let mut parts = name.split('.');
    let last = parts.next_back().unwrap_or_default();
    let path: Vec<&str> = parts.collect();
    if let Some(rule) = known_danger(module, name) {
        return rule;
    }
    if name
        .split('.')
        .any(|part| part.is_empty() || is_dunder(part))
    {
        return Standing::Dangerous(rules::MODULE_ATTRIBUTE_PATH);
    }
    let through_classes = path.iter().all(|part| is_class_like(part));
    if !path.is_empty() && (standard || !through_classes) {
        return Standing::Dangerous(rules::MODULE_ATTRIBUTE_PATH);
    }
    if let Some(rule) = anywhere(last) {
        return Standing::Dangerous(rule);
    }
    if !path.is_empty() && !is_class_like(last) {
        return if library || class_module(module) {
            Standing::LibraryFunction
        } else {
            Standing::UnknownFunction
        };
    }
    if standard {
        return Standing::Dangerous(rules::STANDARD_LIBRARY);
    }
    match (is_class_like(last), library) {
        (true, _) if class_module(module) => match home_of(module, last) {
            Some(home) => standing(home, last),
            None if is_borrowed(module, last) => Standing::LibraryClass { core: true },
            None => Standing::KnownClass,
        },
        (true, true) => Standing::LibraryClass {
            core: matches!(first_part(module), "torch" | "numpy"),
        },
        (true, false) => Standing::UnknownClass,
        (false, true) => Standing::LibraryFunction,
        (false, false) => Standing::UnknownFunction,
    }
}

/// Packages under the name they had before or have since, and the name they have in the tables.
const RENAMED: [(&str, &str); 6] = [
    ("__builtin__", "builtins"),
    ("copy_reg", "copyreg"),
    ("exceptions", "builtins"),
    ("lightning_fabric", "lightning.fabric"),
    ("numpy._core", "numpy.core"),
    ("pytorch_lightning", "lightning.pytorch"),
];

/// The name a module has in the tables: spellings of older and newer Pythons and libraries are
/// folded.
pub(crate) fn canonical(module: &str) -> Cow<'_, str> {
    let renamed = RENAMED.iter().find_map(|(from, to)| {
        let rest = module.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('.')).then_some((*to, rest))
    });
    match renamed {
        Some((to, "")) => Cow::Borrowed(to),
        Some((to, rest)) => Cow::Owned(format!("{to}{rest}")),
        None => Cow::Borrowed(module),
    }
}

/// Whether the exact name is in a table of harmless ones.
pub(crate) fn is_listed(module: &str, name: &str) -> bool {
    weights_only::allows(module, name)
        || HARMLESS
            .binary_search_by(|(m, _)| (*m).cmp(module))
            .ok()
            .and_then(|at| HARMLESS.get(at))
            .is_some_and(|(_, names)| names.binary_search(&name).is_ok())
}

/// Whether a table says something of exactly this name, harmless or dangerous.
pub(crate) fn is_told(module: &str, name: &str) -> bool {
    is_listed(module, name) || dangers_of(module).any(|(_, names, _)| names.contains(&name))
}

/// Whether the table has dangers of a module or of one it lies in, be they all its names or some.
pub(crate) fn is_dangerous_module(module: &str) -> bool {
    let module = canonical(module);
    scopes(&module).any(|scope| dangers_of(scope).any(|(_, names, _)| names.is_empty()))
}

/// A module, and each that it lies in.
fn scopes(module: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(module), |scope| {
        scope.rfind('.').and_then(|dot| scope.get(..dot))
    })
}

/// What the table of dangerous names says of a module itself.
fn dangers_of(module: &str) -> impl Iterator<Item = &'static Danger> {
    let from = DANGEROUS.partition_point(|(m, _, _)| *m < module);
    let rest = DANGEROUS.iter().skip(from);
    rest.take_while(move |(m, _, _)| *m == module)
}

/// Whether it is an object of PyTorch that pickles itself by its full name, `torch.channels_last`,
/// so that the module is whichever has `torch` as an attribute.
fn is_self_named(module: &str, name: &str) -> bool {
    let own = name.strip_prefix("torch.");
    first_part(module) == "torch"
        && own.is_some_and(|own| {
            matches!(
                own,
                "channels_last" | "channels_last_3d" | "contiguous_format" | "preserve_format"
            ) || own.starts_with("per_") && weights_only::allows("torch", own)
        })
}

/// Whether it is a class of a compiled TorchScript model, which Python cannot import.
fn is_torchscript(module: &str) -> bool {
    module == "__torch__" || module.starts_with("__torch__.")
}

fn known_danger(module: &str, name: &str) -> Option<Standing> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let first = first_part(name);
    for scope in scopes(module) {
        for (_, names, rule) in dangers_of(scope) {
            if names.is_empty() {
                let guarded = is_in(SOFT, first_part(module))
                    && is_class_like(last)
                    && anywhere(last).is_none();
                return Some(if guarded {
                    Standing::Guarded(*rule)
                } else {
                    Standing::Dangerous(anywhere(last).unwrap_or(*rule))
                });
            }
            let named = [name, last, first].iter().any(|n| names.contains(n));
            if named && scope.len() == module.len() {
                return Some(Standing::Dangerous(*rule));
            }
        }
    }
    None
}

fn anywhere(name: &str) -> Option<Rule> {
    let at = ANYWHERE.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    ANYWHERE.get(at).map(|(_, rule)| *rule)
}

/// Whether a module belongs to Python itself.
pub(crate) fn is_standard(module: &str) -> bool {
    is_in(STANDARD, first_part(module))
}

fn is_in(table: &[&str], name: &str) -> bool {
    table.binary_search(&name).is_ok()
}

/// The package a module belongs to.
pub(crate) fn first_part(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

/// The module a class comes from that modules of classes have by its import alone. A pickle that an
/// honest program wrote names a class where it is defined.
fn home_of(module: &str, name: &str) -> Option<&'static str> {
    let at = REEXPORTED.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    let home = REEXPORTED.get(at).map(|(_, home)| *home)?;
    // One that has the class's name defines a class of its own: Lightning's `timer.Timer`.
    let own = module.rsplit('.').next().unwrap_or(module);
    if own.starts_with(&name.to_ascii_lowercase()) {
        return None;
    }
    (is_standard(home) || first_part(home) == first_part(module)).then_some(home)
}

/// Whether a module has a class by its import from another package.
fn is_borrowed(module: &str, name: &str) -> bool {
    let at = BORROWED.binary_search_by(|(n, _)| (*n).cmp(name)).ok();
    let home = at.and_then(|at| BORROWED.get(at));
    home.is_some_and(|(_, package)| *package != first_part(module))
}

/// Whether the module is one whose classes checkpoints hold.
fn class_module(module: &str) -> bool {
    // The longest entry that could cover the module sorts at or before `module.`; any shorter one
    // is a prefix too, so each level is looked up by itself.
    if is_in(CLASS_MODULES, module) {
        return true;
    }
    let dots = module.match_indices('.').map(|(at, _)| at + 1);
    let whole = format!("{module}.");
    dots.filter_map(|end| whole.get(..end))
        .chain([whole.as_str()])
        .any(|prefix| is_in(CLASS_MODULES, prefix))
}

/// Whether a name looks like a class by Python's custom: a capital letter comes first.
pub(crate) fn is_class_like(name: &str) -> bool {
    let bare = name.trim_start_matches('_');
    bare.starts_with(|c: char| c.is_ascii_uppercase())
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || name.starts_with("__pyx_unpickle_")
}

/// Whether a name is `__like_this__`: Python's own machinery.
fn is_dunder(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{
        Dangerous, Harmless, KnownClass, LibraryClass, LibraryFunction, UnknownClass,
        UnknownFunction,
    };

    #[test]
    fn a_name_is_judged_where_it_stands() {
        let cases = [
            ("collections", "OrderedDict", Harmless),
            ("numpy._core.multiarray", "_reconstruct", Harmless),
            ("numpy.core.multiarray", "scalar", Harmless),
            ("__builtin__", "set", Harmless),
            ("__torch__.torch.nn.modules.linear", "Linear", Harmless),
            ("torch.nn.modules.linear", "Linear", KnownClass),
            ("torch.nn.modules.linear", "_Private", KnownClass),
            ("ultralytics.utils.loss", "BboxLoss", KnownClass),
            ("torch._utils", "torch.channels_last", Harmless),
            ("torch._utils", "torch.per_tensor_affine", Harmless),
            (
                "torch._utils",
                "torch.load",
                Dangerous(rules::MODULE_ATTRIBUTE_PATH),
            ),
            ("my.project", "Model", UnknownClass),
            ("my.project", "Outer.Inner", UnknownClass),
            ("my.project", "build", UnknownFunction),
            ("my.project", "Outer.build", UnknownFunction),
            ("torch.nn.modules.linear", "Linear.forward", LibraryFunction),
            (
                "matplotlib.colors",
                "Colormap",
                LibraryClass { core: false },
            ),
            ("torch.something", "New", LibraryClass { core: true }),
            ("torch.something", "new", LibraryFunction),
            ("builtins", "exec", Dangerous(rules::CODE_EXECUTION)),
            ("os", "system", Dangerous(rules::PROCESS)),
            ("posix", "remove", Dangerous(rules::FILE_ACCESS)),
            (
                "logging.config",
                "_resolve",
                Dangerous(rules::IMPORT_RESOLUTION),
            ),
            ("html", "escape", Dangerous(rules::STANDARD_LIBRARY)),
            (
                "torch.serialization",
                "os.system",
                Dangerous(rules::MODULE_ATTRIBUTE_PATH),
            ),
            (
                "torch.nn",
                "functional.relu",
                Dangerous(rules::MODULE_ATTRIBUTE_PATH),
            ),
            (
                "collections",
                "_sys.modules",
                Dangerous(rules::MODULE_ATTRIBUTE_PATH),
            ),
            (
                "my.project",
                "__builtins__",
                Dangerous(rules::MODULE_ATTRIBUTE_PATH),
            ),
            ("pathlib", "Path.write_text", Dangerous(rules::FILE_ACCESS)),
            (
                "joblib.externals.cloudpickle",
                "subimport",
                Dangerous(rules::IMPORT_RESOLUTION),
            ),
            ("some.vendored", "check_output", Dangerous(rules::PROCESS)),
            (
                "torch.utils.data.dataloader",
                "_IterDataPipeSerializationWrapper",
                Dangerous(rules::NESTED_PICKLE),
            ),
            (
                "transformers.modeling_utils",
                "Thread",
                Dangerous(rules::CODE_EXECUTION),
            ),
            (
                "torch.ao.quantization.observer",
                "Node",
                Dangerous(rules::CODE_EXECUTION),
            ),
            ("my.project", "Thread", UnknownClass),
            ("lightning.pytorch.callbacks.timer", "Timer", KnownClass),
            ("megatron.core.timers", "Timer", KnownClass),
            ("timm.models.tree", "Node", KnownClass),
        ];
        for (module, name, expected) in cases {
            assert_eq!(standing(module, name), expected, "{module}.{name}");
        }
    }

    #[test]
    fn class_prefixes_end_at_dots() {
        assert!(class_module("torch.nn") && class_module("torch.nn.modules.linear"));
        assert!(class_module("ultralytics.utils") && !class_module("ultralytics.utils.files"));
        assert!(!class_module("torch.nnx") && !class_module("torch") && !class_module(""));
    }
}
