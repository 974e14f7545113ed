//! Words, strings and signs of text in Python's manner.

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a number.
    Word(&'a str),
    /// A string, its escapes resolved.
    Text(String),
    /// A sign.
    Sign(char),
    /// The end of a line, outside of brackets or not.
    Line,
}

/// Splits a text. Comments and blanks are left out; each token comes with its byte offset.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (usize, Token<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let first = rest.chars().next()?;
            let start = at;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            match first {
                '#' => at += rest.find('\n').unwrap_or(rest.len()),
                '\n' => {
                    at += 1;
                    return Some((start, Token::Line));
                }
                '"' | '\'' => {
                    let (len, value) = string(rest, first);
                    at += len;
                    return Some((start, Token::Text(value)));
                }
                c if c.is_whitespace() || c == '\\' => at += c.len_utf8(),
                c if is_word(c) => {
                    let len = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                    at += len;
                    return Some((start, Token::Word(rest.get(..len).unwrap_or_default())));
                }
                c => {
                    at += c.len_utf8();
                    return Some((start, Token::Sign(c)));
                }
            }
        }
    })
}

/// The length of a string literal, quotes included, and its value.
fn string(text: &str, quote: char) -> (usize, String) {
    let triple: String = [quote; 3].iter().collect();
    let long = text.starts_with(&triple);
    let open = if long { 3 } else { 1 };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(open).peekable();
    while let Some((at, c)) = chars.next() {
        let rest = text.get(at..).unwrap_or_default();
        match c {
            '\\' => {
                let Some((_, escape)) = chars.next() else {
                    break;
                };
                escaped(escape, &mut chars, &mut value);
            }
            c if c == quote && !long => return (at + 1, value),
            _ if long && rest.starts_with(&triple) => return (at + 3, value),
            c => value.push(c),
        }
    }
    (text.len(), value)
}

/// Resolves one escape.
fn escaped(
    escape: char,
    chars: &mut std::iter::Peekable<impl Iterator<Item = (usize, char)>>,
    value: &mut String,
) {
    let (digits, radix) = match escape {
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='7' => (3, 8),
        'n' => return value.push('\n'),
        't' => return value.push('\t'),
        'r' => return value.push('\r'),
        '\n' => return,
        other => return value.push(other),
    };
    let mut number = if radix == 8 {
        escape.to_digit(8).unwrap_or(0)
    } else {
        0
    };
    let taken = usize::from(radix == 8);
    for _ in taken..digits {
        let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(radix)) else {
            break;
        };
        number = number.wrapping_mul(radix).wrapping_add(digit);
        chars.next();
    }
    value.push(char::from_u32(number).unwrap_or('\u{fffd}'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_resolved() {
        let all = |text| tokens(text).map(|(_, t)| t).collect::<Vec<_>>();
        assert_eq!(
            all(r#"a.b["\x5f\137c\u005f"] # c"#),
            [
                Token::Word("a"),
                Token::Sign('.'),
                Token::Word("b"),
                Token::Sign('['),
                Token::Text("__c_".into()),
                Token::Sign(']'),
            ]
        );
        assert_eq!(
            all("'''a'b''' 'x"),
            [Token::Text("a'b".into()), Token::Text("x".into())]
        );
        for text in ["'\\", "\"\"\"a", "'\\x", "\\", "é'", ""] {
            all(text);
        }
    }
}
