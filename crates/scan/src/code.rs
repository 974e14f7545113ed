//! Code that a file brings along: recognising it, and showing it.

use crate::computed;
use crate::objects::DETAIL_CHARS;
use crate::render::render;
use ir::{Call, Object, ObjectId, Objects};
use std::borrow::Cow;
use std::collections::HashMap;

/// How much of a text is searched for code.
const MAX_SEARCHED: usize = 1 << 16;

/// What the texts among a call's arguments read like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// There is text.
    pub(crate) text: bool,
    /// Some of it reads like code or a command.
    pub(crate) code: bool,
    /// Some of it reads like a path or an address.
    pub(crate) place: bool,
}

impl Signs {
    fn add(&mut self, other: Self) {
        self.text |= other.text;
        self.code |= other.code;
        self.place |= other.place;
    }
}

/// Searches arguments, each only once: a pickle may hand the same long text to every call.
#[derive(Default)]
pub(crate) struct Texts {
    by_args: HashMap<(ObjectId, Option<ObjectId>), Signs>,
    by_text: HashMap<ObjectId, Signs>,
}

/// What is at most this long is searched again rather than remembered.
const CHEAP: usize = 64;

impl Texts {
    /// What the texts among the arguments read like: the arguments themselves, those given by
    /// keyword, and the items of those that are lists.
    pub(crate) fn signs(&mut self, objects: &Objects, call: &Call) -> Signs {
        let none = call.kwargs().is_none()
            && objects
                .sequence(call.args)
                .is_some_and(<[ObjectId]>::is_empty);
        if none {
            return Signs::default();
        }
        let key = (call.args, call.kwargs());
        if let Some(signs) = self.by_args.get(&key) {
            return *signs;
        }
        let keywords = call.kwargs().and_then(|kwargs| objects.pairs(kwargs));
        let keywords = keywords.unwrap_or_default().iter().map(|(_, value)| value);
        let args = objects.sequence(call.args).unwrap_or_default();
        let mut signs = Signs::default();
        let mut looked_at = 0;
        for arg in args.iter().chain(keywords).take(64) {
            let inner = objects.sequence(*arg).unwrap_or_default();
            for id in inner.iter().take(64).chain([arg]) {
                looked_at += 1;
                signs.add(self.of_text(objects, *id));
            }
        }
        if looked_at > CHEAP {
            self.by_args.insert(key, signs);
        }
        signs
    }

    fn of_text(&mut self, objects: &Objects, id: ObjectId) -> Signs {
        if let Some(signs) = self.by_text.get(&id) {
            return *signs;
        }
        let signs = match text_of(objects, id) {
            Some(text) => read(&text),
            None => Signs {
                text: matches!(objects.get(id), Object::WildStr(_) | Object::Bytes(_)),
                ..Signs::default()
            },
        };
        let len = match objects.get(id) {
            Object::Str(text) => text.len(),
            Object::Bytes(_) | Object::ByteArray(_) => usize::MAX,
            _ => 0,
        };
        if len > CHEAP {
            self.by_text.insert(id, signs);
        }
        signs
    }
}

/// The beginning of a text or of bytes.
fn text_of(objects: &Objects, id: ObjectId) -> Option<Cow<'_, str>> {
    match objects.get(id) {
        Object::Str(text) => {
            let mut end = text.len().min(MAX_SEARCHED);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.get(..end).map(Cow::Borrowed)
        }
        Object::Bytes(blob) | Object::ByteArray(blob) => {
            let head = blob.head(MAX_SEARCHED).ok()?;
            Some(Cow::Owned(String::from_utf8_lossy(&head).into_owned()))
        }
        _ => None,
    }
}

/// Signs of Python code and of shell commands.
const CODE_SIGNS: &[&str] = &[
    "__import__",
    "__builtins__",
    "__globals__",
    "__subclasses__",
    "import os",
    "import sys",
    "import subprocess",
    "import socket",
    "os.system",
    "os.popen",
    "subprocess.",
    "/bin/sh",
    "/bin/bash",
    "cmd.exe",
    "powershell",
];

/// Signs that long texts, a vocabulary say, may hold by chance.
const SHORT_CODE_SIGNS: &[&str] = &[
    "exec(",
    "eval(",
    "compile(",
    "open(",
    "getattr(",
    "lambda:",
    "sh -c",
    "cmd /c",
    "curl ",
    "wget ",
    "touch ",
    "rm -",
    "nc -",
    "chmod ",
    "python -c",
    "python3 -c",
    "| sh",
    "|sh",
    "| bash",
    "$(",
    "&& ",
    ">/dev/",
    "> /dev/",
];

/// How long a text is that holds no code by chance.
const SHORT: usize = 4096;

fn read(text: &str) -> Signs {
    let short = if text.len() <= SHORT {
        SHORT_CODE_SIGNS
    } else {
        &[]
    };
    let found = |sign: &&str| text.contains(*sign);
    Signs {
        text: true,
        code: CODE_SIGNS.iter().any(found) || short.iter().any(found),
        place: text.starts_with(['/', '~'])
            || text.contains("../")
            || text.contains("..\\")
            || text.contains("://")
            || text.get(1..3) == Some(":\\"),
    }
}

/// A call as a detail: one line, and below it the code it brings along, if that has several lines.
pub(crate) fn explain(objects: &Objects, id: ObjectId, call: &Call) -> String {
    let mut text = render(objects, id, DETAIL_CHARS);
    let args = objects.sequence(call.args).unwrap_or_default();
    if objects.global(call.callee) == Some(("pickle", "Unpickler.find_class"))
        && let Some(name) = computed::name(objects, args)
    {
        text.push_str("\n    which is ");
        text.extend(name.chars().filter(|c| !wording::deceives(*c)));
    }
    for code in args.iter().take(8).filter_map(|arg| text_of(objects, *arg)) {
        if code.trim_end().contains('\n') && !code.contains('\0') {
            push_block(&mut text, &code);
        }
    }
    text
}

/// Appends lines of code as they are, each behind a bar, with nothing in them that a terminal obeys.
fn push_block(text: &mut String, code: &str) {
    let mut left = DETAIL_CHARS;
    for line in code.lines() {
        text.push_str("\n    | ");
        for c in line.chars() {
            if left == 0 {
                text.push('…');
                return;
            }
            left -= 1;
            match c {
                '\t' => text.push_str("    "),
                c if wording::deceives(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
    }
}
