//! TorchScript: the code of a compiled model, which runs when it is loaded or called.
//!
//! TorchScript can do little besides arithmetic, but PyTorch registers a few operators that touch
//! files, and `torch.jit.load` runs `__setstate__` methods. Printed code spells operators
//! `torch.relu(x)` or `ops.namespace.name(x)`; nothing else of `torch` and `ops` is ever written.

use crate::ledger::Ledger;
use crate::rules;

/// Operators of PyTorch and of its own libraries that read or write files or talk to others.
const FILE_OPS: &[&str] = &[
    "torch.from_file",
    "torch.load",
    "torch.save",
    "ops.aten.from_file",
    "ops.aten.save",
    "ops.image.read_file",
    "ops.image.write_file",
    "ops.prim.rpc_async",
    "ops.prim.rpc_remote",
    "ops.prim.rpc_sync",
    "ops.torchaudio.sox_io_load_audio_file",
    "ops.torchaudio.sox_io_save_audio_file",
    "ops.video_reader.read_video_from_file",
    "ops.video_reader.probe_video_from_file",
];

/// Namespaces of operators that come with PyTorch and its libraries.
const NAMESPACES: &[&str] = &[
    "_caffe2",
    "_quantized",
    "aten",
    "fb",
    "image",
    "inductor",
    "mkldnn",
    "mkldnn_prepacked",
    "nnapi",
    "onednn",
    "prepacked",
    "prim",
    "prims",
    "profiler",
    "quantized",
    "quantized_decomposed",
    "rnn",
    "sparse",
    "tensorexpr",
    "tensorrt",
    "torch_cluster",
    "torch_scatter",
    "torch_sparse",
    "torch_spline_conv",
    "torchaudio",
    "torchtext",
    "torchvision",
    "torch_tensorrt",
    "vulkan_prepacked",
    "xnnpack",
];

/// Judges the text of TorchScript code.
pub(crate) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let mut tokens = Tokens { text, at: 0 }.peekable();
    let mut before = None;
    while let Some((at, token)) = tokens.next() {
        let starts = matches!(token, "torch" | "ops") && before != Some(".");
        before = Some(token);
        if !starts {
            continue;
        }
        let mut path = token.to_owned();
        while tokens.next_if(|(_, t)| *t == ".").is_some() {
            match tokens.next_if(|(_, t)| is_word(t)) {
                Some((_, part)) => {
                    path.push('.');
                    path.push_str(part);
                    before = Some(part);
                }
                None => break,
            }
        }
        // Where a long text was cut, the last path may be the beginning of one.
        if tokens.peek().is_some() {
            judge_path(&path, at as u64, ledger);
        }
    }
}

/// Whether an operator reads or writes files or talks to others, by its path from `torch` or `ops`.
pub(crate) fn touches_files(path: &str) -> bool {
    FILE_OPS.contains(&path)
}

/// Whether a namespace of operators comes with PyTorch or its libraries.
pub(crate) fn is_ours(namespace: &str) -> bool {
    NAMESPACES.contains(&namespace)
}

fn judge_path(path: &str, at: u64, ledger: &mut Ledger<'_>) {
    if touches_files(path) {
        ledger.note(rules::TORCHSCRIPT_FILE_ACCESS, path, at, String::new);
        return;
    }
    let mut parts = path.split('.');
    match (parts.next(), parts.next()) {
        (_, None) => ledger.note(rules::TORCHSCRIPT_ALIAS, path, at, String::new),
        (Some("ops"), Some(space)) if !is_ours(space) => {
            ledger.note(rules::TORCHSCRIPT_CUSTOM_OP, path, at, String::new);
        }
        _ => {}
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words and signs of a text in Python's manner, without blanks, strings and comments.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = rest.chars().next()?;
            let len = match first {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' | '\'' => string_len(rest, first),
                c if c.is_whitespace() || c == '\\' => c.len_utf8(),
                _ if is_word(rest) => rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            let start = self.at;
            self.at += len;
            let skip = first.is_whitespace() || matches!(first, '#' | '"' | '\'' | '\\');
            if !skip {
                return rest.get(..len).map(|token| (start, token));
            }
        }
    }
}

/// The length of a string literal that starts `text`, quotes included; a line's, if it never ends.
///
/// As TorchScript's lexer finds it (`matchString` in `lexer.h`): a backslash takes the next
/// character with it, between three quotes too.
fn string_len(text: &str, quote: char) -> usize {
    let triple: String = [quote; 3].iter().collect();
    let quotes = if text.starts_with(&triple) { 3 } else { 1 };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(quotes) {
        let ends = || quotes == 1 || text.get(at..).is_some_and(|r| r.starts_with(&triple));
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' if quotes == 1 => return at,
            c if c == quote && ends() => return at + quotes,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut ledger = Ledger::new("code/__torch__.py");
        judge(text, &mut ledger);
        let all = ledger.close().into_iter();
        all.map(|f| format!("{} {} {}", f.rule, f.what, f.where_))
            .collect()
    }

    #[test]
    fn printed_code_of_an_honest_model_says_nothing() {
        let text = r#"
class Net(Module):
  __parameters__ = ["weight", "bias", ]
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    # torch.save is only a word in a comment
    _0 = torch.add(torch.conv2d(x, self.weight), 1, alpha=1)
    _1 = "torch.save(x)"
    _2 = ops.quantized.linear(x, self.packed, 0.5, 0)
    _3 = ops.prim.data(x)
    return torch.relu_(_0)
"#;
        assert_eq!(findings(text), Vec::<String>::new());
    }

    #[test]
    fn operators_that_touch_files_are_found_however_they_are_spaced() {
        assert_eq!(
            findings("  torch . save(x, \"/tmp/y\")\n  y = ops.aten.from_file('a')\n"),
            [
                "torchscript-file-access torch.save code/__torch__.py, byte 2",
                "torchscript-file-access ops.aten.from_file code/__torch__.py, byte 34",
            ]
        );
        assert_eq!(
            findings("t = torch\nops.evil.run(x)\nself.torch.y(x)"),
            [
                "torchscript-alias torch code/__torch__.py, byte 4",
                "torchscript-custom-op ops.evil.run code/__torch__.py, byte 10",
            ]
        );
    }

    #[test]
    fn strings_end_where_torchscript_ends_them() {
        // An escaped quote or backslash, then the end: the call is one.
        for text in [
            r#"_9 = ["""\"""", torch.save(x, "/tmp/y")]"#,
            r"_9 = (''' \\''', torch.save(x, '/tmp/y'))",
            r"_9 = ['\'', torch.save(x, '/tmp/y')]",
        ] {
            assert_eq!(findings(text).len(), 1, "{text}");
        }
        // Here the string goes on, and the call is only words in it.
        for text in [
            r#"_9 = ["""\""", torch.save(x, "/tmp/y")"""]"#,
            r"_9 = ['\', torch.save(x)']",
        ] {
            assert_eq!(findings(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn any_text_comes_to_an_end() {
        for text in [
            "'", "\"\\", "'''", "\"\"\"a", "torch.", "é.torch", "#", "\\", "",
        ] {
            findings(text);
        }
    }
}
