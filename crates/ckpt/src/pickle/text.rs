//! Strings of a pickle: escapes of protocol 0, UTF-8 with lone surrogates.

/// A Python string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Plain(String),
    /// With lone surrogates, as Python's `surrogatepass` writes them.
    Wild(Vec<u8>),
}

/// UTF-8 in which lone surrogates are allowed, as `BINUNICODE` holds it.
pub(crate) fn utf8(bytes: &[u8]) -> Option<Text> {
    let mut rest = bytes;
    let mut wild = false;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) if wild => return Some(Text::Wild(bytes.to_vec())),
            Ok(text) => return Some(Text::Plain(text.to_owned())),
            Err(error) => {
                let at = error.valid_up_to();
                match rest.get(at..at + 3) {
                    Some([0xed, 0xa0..=0xbf, 0x80..=0xbf]) => wild = true,
                    _ => return None,
                }
                rest = rest.get(at + 3..)?;
            }
        }
    }
}

/// `UNICODE`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
pub(crate) fn raw_unicode_escape(line: &[u8]) -> Option<Text> {
    let mut out = Vec::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        at += 1;
        if byte != b'\\' {
            push(&mut out, byte.into())?;
            continue;
        }
        let digits = match line.get(at) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            other => {
                out.push(b'\\');
                if let Some(&next) = other {
                    push(&mut out, next.into())?;
                    at += 1;
                }
                continue;
            }
        };
        let hex = std::str::from_utf8(line.get(at + 1..at + 1 + digits)?).ok()?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        push(&mut out, u32::from_str_radix(hex, 16).ok()?)?;
        at += 1 + digits;
    }
    utf8(&out)
}

/// Adds a code point; a surrogate as three bytes of its own.
fn push(out: &mut Vec<u8>, code: u32) -> Option<()> {
    if let Some(c) = char::from_u32(code) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        return Some(());
    }
    let [high, low] = u16::try_from(code).ok()?.to_be_bytes();
    out.extend([
        0xe0 | high >> 4,
        0x80 | (high << 2 & 0x3c) | low >> 6,
        0x80 | low & 0x3f,
    ]);
    Some(())
}

/// `STRING`: quotes around bytes with Python's escapes.
pub(crate) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let (&quote, rest) = line.split_first()?;
    let (&last, body) = rest.split_last()?;
    if quote != last || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let &escape = body.get(at)?;
        at += 1;
        match escape {
            b'\n' => {}
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(b'\r'),
            b'0'..=b'7' => {
                let mut code = u32::from(escape - b'0');
                for _ in 0..2 {
                    match body.get(at) {
                        Some(&digit @ b'0'..=b'7') => code = code * 8 + u32::from(digit - b'0'),
                        _ => break,
                    }
                    at += 1;
                }
                // Beyond \377 Python keeps the low byte.
                out.push(u8::try_from(code & 0xff).ok()?);
            }
            b'x' => {
                let hex = std::str::from_utf8(body.get(at..at + 2)?).ok()?;
                if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(hex, 16).ok()?);
                at += 2;
            }
            other => out.extend([b'\\', other]),
        }
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // beside the results they are compared with
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<Text> {
        Some(Text::Plain(text.to_owned()))
    }

    #[test]
    fn escapes() {
        assert_eq!(
            raw_unicode_escape(b"a\\u0062\\U00000063\xe9"),
            plain("abc\u{e9}")
        );
        assert_eq!(raw_unicode_escape(b"\\\\u0041"), plain("\\\\u0041"));
        assert_eq!(raw_unicode_escape(b"\\n\\"), plain("\\n\\"));
        assert_eq!(raw_unicode_escape(b"\\u12"), None);
        assert_eq!(raw_unicode_escape(b"\\u+123"), None);
        assert_eq!(raw_unicode_escape(b"\\U00110000"), None);
        assert_eq!(
            raw_unicode_escape(b"\\ud83d"),
            Some(Text::Wild(vec![0xed, 0xa0, 0xbd]))
        );
        assert_eq!(quoted(b"'a\\x41\\101\\n\\q\\''").unwrap(), b"aAA\n\\q'");
        for bad in [&b"'a"[..], b"a", b"'", b"", b"'\\x4'", b"'\\'", b"'a\""] {
            assert_eq!(quoted(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn surrogates_pass() {
        assert_eq!(utf8("é".as_bytes()), plain("é"));
        assert!(matches!(utf8(b"a\xed\xa0\xbdb"), Some(Text::Wild(_))));
        assert_eq!(utf8(b"\xc3\x28"), None);
        assert_eq!(utf8(b"\xed\xa0"), None);
    }
}
