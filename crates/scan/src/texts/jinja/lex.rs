//! Jinja's own way to split a template: which of it is text, and the tokens of its blocks.
//!
//! With the default delimiters and without line statements, as chat templates are compiled. Where
//! Jinja would refuse the template, the rest is still split, so that it is judged.

/// A token of a block. All are slices of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
    /// A string literal, its quotes and escapes as they stand.
    Text(&'a str),
    Sign(&'a str),
}

/// What comes next in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text outside of blocks, raw blocks included.
    Data(&'a str),
    /// `{{`, or `{%` if it is a statement.
    Open {
        statement: bool,
    },
    Token(Token<'a>),
    Close,
}

/// Splits a template. Each part comes with its byte offset.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// How the block that it is in closes.
    close: Option<&'static str>,
    /// The brackets that are open in it.
    open: Vec<u8>,
    /// A string, comment or raw block has no end: there are none behind it either. Without these
    /// each of a million would be looked for up to the end of the text.
    endless_string: bool,
    endless_comment: bool,
    endless_raw: bool,
}

const SIGNS: &[&str] = &["//", "**", "==", "!=", ">=", "<="];

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            close: None,
            open: Vec::new(),
            endless_string: false,
            endless_comment: false,
            endless_raw: false,
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes so many bytes.
    fn take(&mut self, len: usize) -> (usize, &'a str) {
        let (start, rest) = (self.at, self.rest());
        let len = len.min(rest.len());
        self.at += len;
        (start, rest.get(..len).unwrap_or(rest))
    }

    fn outside(&mut self) -> Option<(usize, Part<'a>)> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return None;
            }
            let sign = rest
                .as_bytes()
                .windows(2)
                .position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"));
            match sign {
                Some(0) => {}
                before => {
                    let (start, data) = self.take(before.unwrap_or(rest.len()));
                    return Some((start, Part::Data(data)));
                }
            }
            if rest.starts_with("{#") {
                self.comment();
                continue;
            }
            if let Some(len) = tag(rest, "raw", false)
                && !self.endless_raw
            {
                let inside = rest.get(len..).unwrap_or_default();
                if inside.is_empty() {
                    self.at += len;
                    return None;
                }
                if let Some((data, all)) = raw(inside) {
                    let start = self.at + len;
                    self.at = start + all;
                    if data.is_empty() {
                        continue;
                    }
                    return Some((start, Part::Data(data)));
                }
                self.endless_raw = true;
            }
            let statement = rest.starts_with("{%");
            self.close = Some(if statement { "%}" } else { "}}" });
            self.open.clear();
            let trimmed = matches!(rest.as_bytes().get(2), Some(b'-' | b'+'));
            let (start, _) = self.take(2 + usize::from(trimmed));
            return Some((start, Part::Open { statement }));
        }
    }

    fn comment(&mut self) {
        let inside = self.rest().get(2..).unwrap_or_default();
        let end = if self.endless_comment {
            None
        } else {
            inside.find("#}")
        };
        self.endless_comment = end.is_none();
        self.at += 2 + end.map_or(0, |end| end + 2);
    }

    fn inside(&mut self, close: &'static str) -> Option<(usize, Part<'a>)> {
        let rest = self.rest();
        let blank = rest.find(|c| !is_space(c)).unwrap_or(rest.len());
        self.take(blank);
        let rest = self.rest();
        let first = rest.chars().next()?;
        // `}` closes the block only when no bracket is open.
        if self.open.is_empty() {
            let trim = usize::from(first == '-' || (first == '+' && close == "%}"));
            if rest.get(trim..).is_some_and(|r| r.starts_with(close)) {
                self.close = None;
                let (start, _) = self.take(trim + 2);
                return Some((start, Part::Close));
            }
        }
        let token = match first {
            '0'..='9' => {
                // `x.1.5` is two attributes.
                let whole = self.text.as_bytes().get(..self.at);
                let whole = whole.is_some_and(|before| before.ends_with(b"."));
                let (start, number) = self.take(number(rest, whole));
                return Some((start, Part::Token(Token::Number(number))));
            }
            '"' | '\'' if !self.endless_string => {
                if let Some(len) = string(rest) {
                    let (start, text) = self.take(len);
                    return Some((start, Part::Token(Token::Text(text))));
                }
                self.endless_string = true;
                self.take(1)
            }
            c if is_word(c) => {
                let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (start, word) = self.take(len);
                return Some((start, Part::Token(Token::Word(word))));
            }
            _ if SIGNS.iter().any(|sign| rest.starts_with(sign)) => self.take(2),
            c => {
                match c {
                    '(' | '[' | '{' => self.open.push(0),
                    ')' | ']' | '}' => {
                        self.open.pop();
                    }
                    _ => {}
                }
                self.take(c.len_utf8())
            }
        };
        Some((token.0, Part::Token(Token::Sign(token.1))))
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = (usize, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.close {
            Some(close) => self.inside(close),
            None => self.outside(),
        }
    }
}

/// What Python takes for blank: what Rust does, and four separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a tag of one word, `{% raw %}`, that begins here. `plus` says whether it may
/// close with `+%}`.
fn tag(text: &str, word: &str, plus: bool) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.trim_start_matches(is_space).strip_prefix(word)?;
    let inner = inner.trim_start_matches(is_space);
    let signed = inner.strip_prefix('-');
    let signed = signed.or_else(|| inner.strip_prefix('+').filter(|_| plus));
    let after = signed.unwrap_or(inner).strip_prefix("%}")?;
    Some(text.len() - after.len())
}

/// The text of a raw block, and the length of it and of its end.
fn raw(inside: &str) -> Option<(&str, usize)> {
    inside.match_indices("{%").find_map(|(at, _)| {
        let end = tag(inside.get(at..)?, "endraw", true)?;
        Some((inside.get(..at)?, at + end))
    })
}

/// The length of a string literal, if it ends.
fn string(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = *bytes.first()?;
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The length of a number: `12`, `1_000`, `0x5f`, `1.5`, `1e9`. An underscore belongs to it only
/// between digits: `1__class__` is a number and a name. `whole` says that it has no fraction.
fn number(text: &str, whole: bool) -> usize {
    let digits = |from: usize, radix: u32| {
        let rest = text.get(from..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_digit(radix) && c != '_');
        let all = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let all = all.split_once("__").map_or(all, |(before, _)| before);
        all.trim_end_matches('_').len()
    };
    let bytes = text.as_bytes();
    let radix = match bytes {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 10,
    };
    if radix != 10 {
        let len = digits(2, radix);
        return if len == 0 { 1 } else { 2 + len };
    }
    let mut end = digits(0, 10);
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if !whole && bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end += 1 + digits(end + 1, 10);
    }
    if !whole && matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        if is_digit(end + 1 + signed) {
            end += 1 + signed + digits(end + 1 + signed, 10);
        }
    }
    end.max(1)
}

/// What a string literal stands for: Python's escapes, names of characters included.
pub(super) fn value(literal: &str) -> String {
    let inner = literal.get(1..literal.len().saturating_sub(1));
    let inner = inner.unwrap_or_default();
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        let (digits, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (2, 8),
            'N' => {
                let rest = chars.as_str();
                if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}'))
                {
                    value.push(named(name));
                    chars = after.chars();
                }
                continue;
            }
            other => {
                match other {
                    '\n' => {}
                    '\\' | '\'' | '"' => value.push(other),
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    'r' => value.push('\r'),
                    'a' => value.push('\x07'),
                    'b' => value.push('\x08'),
                    'f' => value.push('\x0c'),
                    'v' => value.push('\x0b'),
                    other => value.extend(['\\', other]),
                }
                continue;
            }
        };
        let mut number = if radix == 8 {
            escape.to_digit(8).unwrap_or(0)
        } else {
            0
        };
        for _ in 0..digits {
            let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(radix)) else {
                break;
            };
            number = number.wrapping_mul(radix).wrapping_add(digit);
            chars.next();
        }
        value.push(char::from_u32(number).unwrap_or('\u{fffd}'));
    }
    value
}

/// The character of a name in `\N{…}`, as far as names of attributes have them.
fn named(name: &str) -> char {
    let name = name.to_ascii_uppercase();
    let letter = |rest: &str| {
        let mut chars = rest.chars();
        chars
            .next()
            .filter(|c| c.is_ascii_uppercase() && chars.as_str().is_empty())
    };
    if let Some(c) = name.strip_prefix("LATIN SMALL LETTER ").and_then(letter) {
        return c.to_ascii_lowercase();
    }
    if let Some(c) = name.strip_prefix("LATIN CAPITAL LETTER ").and_then(letter) {
        return c;
    }
    match name.as_str() {
        "LOW LINE" => '_',
        "FULL STOP" => '.',
        "PERCENT SIGN" => '%',
        "LEFT CURLY BRACKET" => '{',
        "RIGHT CURLY BRACKET" => '}',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of all blocks, a `;` behind each block, and the text outside in angle brackets.
    fn split(text: &str) -> String {
        let parts = Lexer::new(text).map(|(_, part)| match part {
            Part::Data(data) => format!("<{data}>"),
            Part::Open { .. } => String::new(),
            Part::Close => ";".to_owned(),
            Part::Token(
                Token::Word(it) | Token::Number(it) | Token::Text(it) | Token::Sign(it),
            ) => it.to_owned(),
        });
        parts
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn blocks_end_where_jinja_ends_them() {
        for (text, parts) in [
            (
                "a{{ {'a':{'b':1}}.c }}b",
                "<a> { 'a' : { 'b' : 1 } } . c ; <b>",
            ),
            ("{%- if x[{1:{}}] -%}b", "if x [ { 1 : { } } ] ; <b>"),
            ("{% raw %}{#{% endraw %}{{ x }}", "<{#> x ;"),
            (
                "{%-raw -%} ' {{ \" {%+ endraw +%}{{ 'x' }}",
                "< ' {{ \" > 'x' ;",
            ),
            ("{%\x1craw%}{{{%endraw%}b", "<{{> <b>"),
            ("{# {{ ' #}{{ x }}{#-#}b", "x ; <b>"),
            ("{{ '}}' ~ \"\\\"}}\" }}b", "'}}' ~ \"\\\"}}\" ; <b>"),
            ("{{ '''' }}{{ x }}", "'' '' ; x ;"),
            (
                "{{ 1.__class__ + 1.5e3 // 0x5f }}",
                "1 . __class__ + 1.5e3 // 0x5f ;",
            ),
            ("{%- set x = 5 % 3 %}b", "set x = 5 % 3 ; <b>"),
        ] {
            assert_eq!(split(text), parts, "{text}");
        }
    }

    #[test]
    fn what_jinja_refuses_is_split_to_its_end() {
        for (text, parts) in [
            ("{# a {{ x }}", "<{# a> x ;"),
            ("{% raw %}{{ x }}", "raw ; x ;"),
            ("{{ 'a }}b", "' a ; <b>"),
            ("{{ )} }}", ") } ;"),
        ] {
            let parts = parts.replace("<{# a>", "< a >");
            assert_eq!(split(text), parts, "{text}");
        }
        for text in [
            "{{", "{%", "{#", "{{'", "{{ \\", "{", "é{{é", "{{}}{{", "", "{{'\\",
        ] {
            split(text);
        }
    }

    #[test]
    fn strings_are_resolved() {
        for (literal, text) in [
            (r"'\x5f\137c\u005f\'\q'", r"__c_'\q"),
            (r"'\N{LOW LINE}\N{latin small letter c}'", "_c"),
            (r"'\N'", ""),
            (r"'\x'", "\0"),
        ] {
            assert_eq!(value(literal), text, "{literal}");
        }
    }
}
