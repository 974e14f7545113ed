//! Objects as one line of text that looks like Python, short whatever the object is.

use ir::{Blob, Call, Object, ObjectId, Objects, PatchKind};
use std::fmt::Write as _;

/// How deep containers and calls are shown inside each other.
const MAX_DEPTH: u8 = 8;
/// How many items of one container are shown.
const MAX_ITEMS: usize = 64;

/// An object in Python's manner: `builtins.exec("print('hello')")`.
///
/// The text is one line of at most `max_chars` characters, with `…` where something is left out,
/// and safe to print: control characters and those that reorder text are escaped. Cyclic and huge
/// objects cost no more than what is shown of them.
///
/// ```
/// use ir::{Object, Objects};
///
/// let mut objects = Objects::new();
/// let name = objects.push(Object::Str("weight".into()), 0).unwrap();
/// let shape = objects.push(Object::Int(3), 8).unwrap();
/// let dict = objects.push(Object::Dict(vec![(name, shape)].into()), 10).unwrap();
/// assert_eq!(weightbridge_scan::render(&objects, dict, 80), r#"{"weight": 3}"#);
/// assert_eq!(weightbridge_scan::render(&objects, dict, 7), r#"{"weig…"#);
/// ```
pub fn render(objects: &Objects, id: ObjectId, max_chars: usize) -> String {
    let mut page = Page::new(max_chars);
    let mut steps = vec![Step::Show(id, 0)];
    while let Some(step) = steps.pop() {
        if page.is_full() {
            break;
        }
        match step {
            Step::Say(text) => page.push_str(text),
            Step::Show(id, depth) => show(objects, id, depth, &mut page, &mut steps),
        }
    }
    page.text
}

/// What is still to be written, the next last.
enum Step {
    Say(&'static str),
    Show(ObjectId, u8),
}

/// Text that ends with `…` once it is full.
pub(crate) struct Page {
    text: String,
    left: usize,
    full: bool,
}

impl Page {
    pub(crate) fn new(max_chars: usize) -> Self {
        Self {
            text: String::new(),
            left: max_chars,
            full: false,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn push(&mut self, c: char) {
        if self.full {
            return;
        }
        if self.left == 0 {
            self.text.pop();
            self.text.push('…');
            self.full = true;
            return;
        }
        self.text.push(c);
        self.left -= 1;
    }

    pub(crate) fn push_str(&mut self, text: &str) {
        for c in text.chars() {
            self.push(c);
            if self.full {
                break;
            }
        }
    }

    /// A character as it may be printed anywhere.
    pub(crate) fn push_escaped(&mut self, c: char) {
        match c {
            '\n' => self.push_str("\\n"),
            '\r' => self.push_str("\\r"),
            '\t' => self.push_str("\\t"),
            c if wording::deceives(c) => {
                let mut escape = String::new();
                let code = u32::from(c);
                // Writing to a `String` cannot fail.
                let _ = match code {
                    0..=0xff => write!(escape, "\\x{code:02x}"),
                    0x100..=0xffff => write!(escape, "\\u{code:04x}"),
                    _ => write!(escape, "\\U{code:08x}"),
                };
                self.push_str(&escape);
            }
            c => self.push(c),
        }
    }

    fn push_quoted(&mut self, text: &str) {
        self.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                self.push('\\');
            }
            self.push_escaped(c);
            if self.full {
                return;
            }
        }
        self.push('"');
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.push_str("b\"");
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => {
                    self.push('\\');
                    self.push(char::from(byte));
                }
                b'\n' | b'\r' | b'\t' | 0x20..=0x7e => self.push_escaped(char::from(byte)),
                _ => self.push_str(&format!("\\x{byte:02x}")),
            }
            if self.full {
                return;
            }
        }
        self.push('"');
    }

    fn push_blob(&mut self, blob: &Blob) {
        let wanted = self.left.saturating_add(1).min(4096);
        match blob.head(wanted) {
            Ok(head) if head.len() as u64 == blob.len() || head.len() >= self.left => {
                self.push_bytes(&head);
            }
            _ => self.push_str(&format!("<{} bytes>", blob.len())),
        }
    }
}

/// A name or other short text from a file, safe to print and at most `max_chars` long.
pub(crate) fn printable(text: &str, max_chars: usize) -> String {
    let mut page = Page::new(max_chars);
    for c in text.chars() {
        page.push_escaped(c);
        if page.is_full() {
            break;
        }
    }
    page.into_text()
}

fn show(objects: &Objects, id: ObjectId, depth: u8, page: &mut Page, steps: &mut Vec<Step>) {
    let deeper = depth.saturating_add(1);
    let nested = matches!(
        objects.get(id),
        Object::List(_)
            | Object::Tuple(_)
            | Object::Set(_)
            | Object::FrozenSet(_)
            | Object::Dict(_)
            | Object::Call(_)
            | Object::Persistent(_)
            | Object::Patch(_)
    );
    if nested && depth >= MAX_DEPTH {
        page.push('…');
        return;
    }
    match objects.get(id) {
        Object::None => page.push_str("None"),
        Object::Bool(true) => page.push_str("True"),
        Object::Bool(false) => page.push_str("False"),
        Object::Int(n) => page.push_str(&n.to_string()),
        Object::BigInt(bytes) => page.push_str(&format!("<int of {} bytes>", bytes.len())),
        Object::Float(n) => page.push_str(&format!("{n:?}")),
        Object::Str(text) => page.push_quoted(text),
        Object::WildStr(bytes) => page.push_quoted(&String::from_utf8_lossy(bytes)),
        Object::Bytes(blob) => page.push_blob(blob),
        Object::ByteArray(blob) => {
            page.push_str("bytearray(");
            page.push_blob(blob);
            page.push(')');
        }
        Object::List(items) => list(items, "[", "]", deeper, page, steps),
        Object::Tuple(items) => {
            let close = if items.len() == 1 { ",)" } else { ")" };
            list(items, "(", close, deeper, page, steps);
        }
        Object::Set(items) => list(items, "{", "}", deeper, page, steps),
        Object::FrozenSet(items) => list(items, "frozenset({", "})", deeper, page, steps),
        Object::Dict(pairs) => dict(pairs, "{", "}", deeper, page, steps),
        Object::Global(global) => {
            let (module, name) = (global.module.chars(), global.name.chars());
            for c in module.chain(['.']).chain(name) {
                page.push_escaped(c);
                if page.is_full() {
                    break;
                }
            }
        }
        Object::Extension(code) => page.push_str(&format!("extension({code})")),
        Object::Call(call) => show_call(objects, call, deeper, steps),
        Object::Persistent(pid) => {
            page.push_str("persistent(");
            steps.push(Step::Say(")"));
            steps.push(Step::Show(*pid, deeper));
        }
        Object::OutOfBand => page.push_str("<out-of-band buffer>"),
        Object::Patch(patch) => {
            let (open, close) = match patch.kind {
                PatchKind::Build => (".__setstate__(", ")"),
                PatchKind::SetItems => (".update(", ")"),
                PatchKind::Append => (".extend([", "])"),
                PatchKind::Add => (".update({", "})"),
            };
            let mut todo = vec![Step::Show(patch.target, deeper), Step::Say(open)];
            push_items(&patch.values, deeper, &mut todo);
            todo.push(Step::Say(close));
            steps.extend(todo.into_iter().rev());
        }
        Object::Tensor(_) => page.push_str("<tensor>"),
    }
}

fn show_call(objects: &Objects, call: &Call, depth: u8, steps: &mut Vec<Step>) {
    let mut todo = vec![Step::Show(call.callee, depth), Step::Say("(")];
    match objects.sequence(call.args) {
        Some(args) => push_items(args, depth, &mut todo),
        None => todo.extend([Step::Say("*"), Step::Show(call.args, depth)]),
    }
    if let Some(kwargs) = call.kwargs() {
        todo.extend([Step::Say(", **"), Step::Show(kwargs, depth)]);
    }
    todo.push(Step::Say(")"));
    for state in call.states().iter().take(MAX_ITEMS) {
        todo.push(Step::Say(".__setstate__("));
        todo.extend([Step::Show(*state, depth), Step::Say(")")]);
    }
    if !call.items().is_empty() {
        todo.push(Step::Say(".extend(["));
        push_items(call.items(), depth, &mut todo);
        todo.push(Step::Say("])"));
    }
    if !call.pairs().is_empty() {
        todo.push(Step::Say(".update({"));
        push_pairs(call.pairs(), depth, &mut todo);
        todo.push(Step::Say("})"));
    }
    steps.extend(todo.into_iter().rev());
}

fn list(
    items: &[ObjectId],
    open: &'static str,
    close: &'static str,
    depth: u8,
    page: &mut Page,
    steps: &mut Vec<Step>,
) {
    page.push_str(open);
    let mut todo = Vec::new();
    push_items(items, depth, &mut todo);
    todo.push(Step::Say(close));
    steps.extend(todo.into_iter().rev());
}

fn dict(
    pairs: &[(ObjectId, ObjectId)],
    open: &'static str,
    close: &'static str,
    depth: u8,
    page: &mut Page,
    steps: &mut Vec<Step>,
) {
    page.push_str(open);
    let mut todo = Vec::new();
    push_pairs(pairs, depth, &mut todo);
    todo.push(Step::Say(close));
    steps.extend(todo.into_iter().rev());
}

fn push_items(items: &[ObjectId], depth: u8, todo: &mut Vec<Step>) {
    for (at, item) in items.iter().take(MAX_ITEMS).enumerate() {
        if at > 0 {
            todo.push(Step::Say(", "));
        }
        todo.push(Step::Show(*item, depth));
    }
    if items.len() > MAX_ITEMS {
        todo.push(Step::Say(", …"));
    }
}

fn push_pairs(pairs: &[(ObjectId, ObjectId)], depth: u8, todo: &mut Vec<Step>) {
    for (at, (key, value)) in pairs.iter().take(MAX_ITEMS).enumerate() {
        if at > 0 {
            todo.push(Step::Say(", "));
        }
        todo.extend([
            Step::Show(*key, depth),
            Step::Say(": "),
            Step::Show(*value, depth),
        ]);
    }
    if pairs.len() > MAX_ITEMS {
        todo.push(Step::Say(", …"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;

    #[test]
    fn calls_look_like_python() {
        let mut b = Builder::new();
        let code = b.str("import os\nos.system(\"id\")\u{1b}[2J\u{202e}");
        let call = b.reduce("builtins", "exec", &[code]);
        assert_eq!(
            render(&b.objects, call, 200),
            r#"builtins.exec("import os\nos.system(\"id\")\x1b[2J\u202e")"#
        );
        assert_eq!(render(&b.objects, call, 12), "builtins.ex…");
        let one = b.int(1);
        let kwargs = b.dict(&[("shell", one)]);
        let new = b.call(ir::CallKind::NewEx(kwargs), "subprocess", "Popen", &[one]);
        b.build(new, kwargs);
        assert_eq!(
            render(&b.objects, new, 200),
            r#"subprocess.Popen(1, **{"shell": 1}).__setstate__({"shell": 1})"#
        );
    }

    #[test]
    fn cycles_and_crowds_stay_short() {
        let mut b = Builder::new();
        let list = b.push(Object::List(ir::Ids::new()));
        if let Some(Object::List(items)) = b.objects.get_mut(list) {
            *items = vec![list; 1_000_000].into();
        }
        let text = render(&b.objects, list, 400);
        assert_eq!(text.chars().count(), 400);
        let blob = b.push(Object::Bytes(Box::new(Blob::Held(
            vec![0u8; 1 << 20].into(),
        ))));
        assert_eq!(render(&b.objects, blob, 30).chars().count(), 30);
    }
}
