//! TorchScript code, read only for which attributes of a class are parameters and buffers.

use std::collections::HashMap;

/// A class of TorchScript code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScriptClass {
    /// Whether it is a module: `class Linear(Module):`.
    pub(crate) module: bool,
    pub(crate) parameters: Vec<String>,
    pub(crate) buffers: Vec<String>,
}

/// The classes of an archive's code, by qualified name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    classes: HashMap<String, ScriptClass>,
}

impl Script {
    /// The class of a global's module and name.
    pub(crate) fn class(&self, module: &str, name: &str) -> Option<&ScriptClass> {
        self.classes.get(&format!("{module}.{name}"))
    }

    /// Reads one file of code; `module` is its dotted name.
    pub(crate) fn read(&mut self, module: &str, code: &str) {
        let mut here: Option<&mut ScriptClass> = None;
        for line in code.lines() {
            if let Some(head) = line.strip_prefix("class ") {
                let end = head.find(['(', ':']).unwrap_or(head.len());
                let (name, rest) = head.split_at(end);
                let class = ScriptClass {
                    module: rest.starts_with("(Module)"),
                    ..ScriptClass::default()
                };
                let slot = self.classes.entry(format!("{module}.{}", name.trim()));
                here = Some(slot.insert_entry(class).into_mut());
            } else if let Some(class) = &mut here {
                if let Some(list) = line.strip_prefix("  __parameters__ = ") {
                    class.parameters = names(list);
                } else if let Some(list) = line.strip_prefix("  __buffers__ = ") {
                    class.buffers = names(list);
                }
            }
        }
    }
}

/// `["weight", "bias", ]`
fn names(list: &str) -> Vec<String> {
    list.trim_matches(['[', ']', ' '])
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_declarations() {
        let mut script = Script::default();
        let code = "class A(Module):\n  __parameters__ = [\"w\", \"b\", ]\n  __buffers__ = []\n\
                    class B(NamedTuple):\n  x : Tensor\n";
        script.read("__torch__.net", code);
        let a = script.class("__torch__.net", "A").unwrap();
        assert!(a.module && a.parameters == ["w", "b"] && a.buffers.is_empty());
        assert!(!script.class("__torch__.net", "B").unwrap().module);
    }
}
