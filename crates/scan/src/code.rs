//! Code that a file brings along: recognising it, and showing it.

use crate::objects::DETAIL_CHARS;
use crate::render::{is_unprintable, render};
use ir::{Call, Object, ObjectId, Objects};
use std::borrow::Cow;

/// How much of a text is searched for code.
const MAX_SEARCHED: usize = 1 << 16;

/// What a text is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Code and commands.
    Code,
    /// Those, and paths and addresses.
    Anything,
}

/// Whether any text among the arguments reads like that.
pub(crate) fn args_read_like(objects: &Objects, call: &Call, reading: Reading) -> bool {
    arguments(objects, call)
        .filter_map(|id| text_of(objects, id))
        .any(|text| reads_like(&text, reading))
}

/// Whether there is text among the arguments.
pub(crate) fn has_text(objects: &Objects, call: &Call) -> bool {
    arguments(objects, call).any(|id| {
        matches!(
            objects.get(id),
            Object::Str(_) | Object::WildStr(_) | Object::Bytes(_) | Object::ByteArray(_)
        )
    })
}

/// The arguments, the keyword arguments, and the items of those that are lists.
fn arguments(objects: &Objects, call: &Call) -> impl Iterator<Item = ObjectId> {
    let keywords = call.kwargs.and_then(|kwargs| objects.pairs(kwargs));
    let keywords = keywords.unwrap_or_default().iter().map(|(_, value)| value);
    let args = objects.sequence(call.args).unwrap_or_default();
    let nested = args.iter().chain(keywords).take(64).flat_map(|arg| {
        let inner = objects.sequence(*arg).unwrap_or_default();
        inner.iter().take(64).copied().chain([*arg])
    });
    nested.take(1024)
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

fn reads_like(text: &str, reading: Reading) -> bool {
    let short = if text.len() <= SHORT {
        SHORT_CODE_SIGNS
    } else {
        &[]
    };
    if CODE_SIGNS
        .iter()
        .chain(short)
        .any(|sign| text.contains(sign))
    {
        return true;
    }
    let place = text.starts_with(['/', '~'])
        || text.contains("../")
        || text.contains("..\\")
        || text.contains("://")
        || text.get(1..3) == Some(":\\");
    reading == Reading::Anything && place
}

/// A call as a detail: one line, and below it the code it brings along, if that has several lines.
pub(crate) fn explain(objects: &Objects, id: ObjectId, call: &Call) -> String {
    let mut text = render(objects, id, DETAIL_CHARS);
    let args = objects.sequence(call.args).unwrap_or_default();
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
                c if is_unprintable(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
    }
}
