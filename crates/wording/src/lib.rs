//! Text for people: sizes, counts, and names that cannot deceive.
//!
//! Terminals and pages say the same thing in the same words; only the space between the digits of a
//! number differs, which is why every figure here takes it.

#![forbid(unsafe_code)]

/// `13.5 GB`: bytes by powers of a thousand.
pub fn bytes(n: u64, space: char) -> String {
    scaled(n, &["kB", "MB", "GB", "TB", "PB", "EB"], "B", space)
}

/// `6.74 B` of parameters: thousands, millions, billions.
pub fn many(n: u64, space: char) -> String {
    scaled(n, &["K", "M", "B", "T", "Q"], "", space)
        .trim_end()
        .to_owned()
}

/// `1 tensor`, `2 tensors`.
pub fn count(n: u64, thing: &str, space: char) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(n, space))
}

/// `1 234 567`.
pub fn thousands(n: u64, space: char) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(space);
        }
        out.push(c);
    }
    out
}

/// The text with everything spelled out that a terminal obeys or a reader does not see: names in
/// files are a stranger's. Newlines are the caller's.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && deceives(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and those that hide or reorder what stands beside them: Unicode's default
/// ignorables, marks of direction, separators of lines and paragraphs, and tags.
pub fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn scaled(n: u64, units: &[&str], one: &str, space: char) -> String {
    let mut value = n as f64;
    let mut unit = one;
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if n < 1000 {
        format!("{n}{space}{unit}")
    } else if value < 9.995 {
        format!("{value:.2}{space}{unit}")
    } else {
        format!("{value:.1}{space}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable() {
        assert_eq!(bytes(999, ' '), "999 B");
        assert_eq!(bytes(9_999_999, ' '), "10.0 MB");
        assert_eq!(bytes(13_500_000_000, '_'), "13.5_GB");
        assert_eq!(many(6_740_000_000, ' '), "6.74 B");
        assert_eq!(many(42, ' '), "42");
        assert_eq!(thousands(1_234_567, '_'), "1_234_567");
        assert_eq!(count(1, "tensor", ' '), "1 tensor");
        assert_eq!(count(2000, "tensor", '_'), "2_000 tensors");
    }

    #[test]
    fn names_cannot_deceive() {
        assert_eq!(printable("a\x1b[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(
            printable("a\u{200b}\u{e0041}\nb"),
            "a\\u{200b}\\u{e0041}\nb"
        );
        assert_eq!(printable("größe 重み"), "größe 重み");
    }
}
