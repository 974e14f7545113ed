//! Numbers written as text, read as CPython's C unpickler reads them.
//!
//! That unpickler hands the line to `strtol`, `PyLong_FromString` and `PyOS_string_to_double`, so
//! it takes `0x10`, octal with a leading zero, underscores, and anything after a NUL byte.
//! `pickletools`, and the scanners built on it, call `int()` and `float()` instead and stop or
//! read another number. Both readings are told apart here: [`Parsed::odd`].

/// Python refuses decimal texts beyond this many digits (`sys.int_info.default_max_str_digits`).
const MAX_DIGITS: usize = 4300;

/// A Python integer or truth value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Number {
    Bool(bool),
    Int(i64),
    /// Two's complement, least significant byte first.
    Big(Vec<u8>),
}

/// A number, and whether other parsers read its text differently.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed<T> {
    pub(crate) value: T,
    pub(crate) odd: bool,
}

/// `INT`: the line without its line feed.
pub(crate) fn int(line: &[u8]) -> Option<Parsed<Number>> {
    let text = until_nul(line);
    let value = match strtol(text) {
        Some((x, [])) => {
            // "I00\n" and "I01\n" are how protocol 0 writes False and True.
            if line.len() == 2 && (x == 0 || x == 1) {
                Number::Bool(x == 1)
            } else {
                Number::Int(x)
            }
        }
        _ => py_long(text, 0)?,
    };
    let theirs = match line {
        b"00" => Some(Number::Int(0)),
        b"01" => Some(Number::Int(1)),
        _ => py_long(line, 10),
    };
    let ours = match &value {
        Number::Bool(b) => Number::Int((*b).into()),
        other => other.clone(),
    };
    Some(Parsed {
        odd: theirs != Some(ours),
        value,
    })
}

/// `LONG`: the line without its line feed.
pub(crate) fn long(line: &[u8]) -> Option<Parsed<Number>> {
    let bare = line.strip_suffix(b"L").unwrap_or(line);
    let value = py_long(until_nul(bare), 0)?;
    Some(Parsed {
        odd: py_long(bare, 10).as_ref() != Some(&value),
        value,
    })
}

/// `FLOAT`: the line without its line feed.
pub(crate) fn float(line: &[u8]) -> Option<Parsed<f64>> {
    let text = until_nul(line);
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    // "inf" may be written; a number too large for a float is an error.
    let written = text.iter().any(|b| b.eq_ignore_ascii_case(&b'i'));
    let value = parse(text).filter(|value| written || !value.is_infinite())?;
    let odd = text.len() != line.len();
    Some(Parsed { value, odd })
}

/// The same by the unpickler that is written in Python, of which joblib makes its own. It calls `float()`:
/// that takes spaces around a number, underscores in it, and numbers too large.
pub(crate) fn loose_float(line: &[u8]) -> Option<Parsed<f64>> {
    let space = |c: &u8| c.is_ascii_whitespace() || *c == b'\x0b';
    let start = line.iter().position(|c| !space(c))?;
    let end = line.iter().rposition(|c| !space(c))?;
    let bare = line.get(start..=end)?;
    let between = |at: usize| {
        let beside = [at.checked_sub(1), Some(at + 1)];
        let digit = |at: Option<usize>| bare.get(at?).map(u8::is_ascii_digit);
        beside.into_iter().all(|at| digit(at) == Some(true))
    };
    let joined = bare.iter().enumerate();
    let joined: Vec<u8> = joined
        .filter(|(at, c)| **c != b'_' || !between(*at))
        .map(|(_, c)| *c)
        .collect();
    let value = std::str::from_utf8(&joined).ok()?.parse().ok()?;
    Some(Parsed { value, odd: true })
}

/// An index of the memo: `PyLong_FromString` in base 10.
pub(crate) fn index(line: &[u8]) -> Option<u64> {
    match py_long(until_nul(line), 10)? {
        Number::Int(n) => n.try_into().ok(),
        _ => None,
    }
}

/// Two's complement bytes, least significant first: `LONG1` and `LONG4`.
pub(crate) fn from_twos_complement(bytes: &[u8]) -> Number {
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let mut kept = bytes;
    while let Some((&last, head)) = kept.split_last() {
        let sign_kept = head.last().is_some_and(|&b| (b >= 0x80) == negative);
        if last != fill || !(sign_kept || head.is_empty() && !negative) {
            break;
        }
        kept = head;
    }
    if kept.len() <= 8 {
        let mut wide = [fill; 8];
        for (slot, &byte) in wide.iter_mut().zip(kept) {
            *slot = byte;
        }
        return Number::Int(i64::from_le_bytes(wide));
    }
    Number::Big(kept.to_vec())
}

/// A large integer as text: in decimal, or its size where it is very large.
pub(crate) fn show(big: &[u8]) -> String {
    const SHOWN: usize = 128;
    if big.len() > SHOWN {
        return format!("an integer of {} bytes", big.len());
    }
    let negative = big.last().is_some_and(|&b| b >= 0x80);
    let mut magnitude = big.to_vec();
    if negative {
        negate(&mut magnitude);
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|&b| b != 0) {
        let mut rest = 0u32;
        for byte in magnitude.iter_mut().rev() {
            rest = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(rest / 10).unwrap_or_default();
            rest %= 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap_or('0'));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    if negative {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

/// Two's complement of the opposite sign. Of the lowest number it is the magnitude, unsigned.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (sum, over) = (!*byte).overflowing_add(carry.into());
        *byte = sum;
        carry = over;
    }
}

fn until_nul(line: &[u8]) -> &[u8] {
    line.split(|&b| b == 0).next().unwrap_or_default()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn trim_start(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|&&b| is_space(b)).count();
    text.get(n..).unwrap_or_default()
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// C's `strtol` with base 0: the value and what follows it. `None` where it overflows. Text with
/// no number in it is 0 with all of it left over.
fn strtol(text: &[u8]) -> Option<(i64, &[u8])> {
    let (negative, body) = sign(trim_start(text));
    let digit_at = |i: usize, base: u32| body.get(i).and_then(|&b| char::from(b).to_digit(base));
    let (base, start) = match body {
        [b'0', b'x' | b'X', ..] if digit_at(2, 16).is_some() => (16, 2),
        [b'0', ..] => (8, 0),
        _ => (10, 0),
    };
    let mut value = 0i64;
    let mut i = start;
    while let Some(digit) = digit_at(i, base) {
        value = value.checked_mul(base.into())?;
        value = if negative {
            value.checked_sub(digit.into())?
        } else {
            value.checked_add(digit.into())?
        };
        i += 1;
    }
    if i == 0 {
        return Some((0, text));
    }
    Some((value, body.get(i..).unwrap_or_default()))
}

/// `PyLong_FromString` of a whole text: surrounding space, a sign, a prefix where base 0 allows
/// one, single underscores between digits.
fn py_long(text: &[u8], base: u32) -> Option<Number> {
    let (negative, body) = sign(trim_start(text));
    let end = body
        .iter()
        .rposition(|&b| !is_space(b))
        .map_or(0, |i| i + 1);
    let body = body.get(..end)?;
    let prefix = match body {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 10,
    };
    let (radix, digits) = if base == 0 && prefix != 10 {
        let rest = body.get(2..)?;
        (prefix, rest.strip_prefix(b"_").unwrap_or(rest))
    } else {
        (10, body)
    };
    let mut plain = Vec::with_capacity(digits.len());
    let mut after_digit = false;
    for &byte in digits {
        if byte == b'_' {
            if !after_digit {
                return None;
            }
            after_digit = false;
        } else {
            plain.push(char::from(byte).to_digit(radix)?);
            after_digit = true;
        }
    }
    if !after_digit {
        return None;
    }
    if radix == 10 {
        let leading_zero = plain.first() == Some(&0) && plain.iter().any(|&d| d != 0);
        if plain.len() > MAX_DIGITS || (base == 0 && leading_zero) {
            return None;
        }
    }
    Some(from_digits(&plain, radix, negative))
}

/// Digits, most significant first, to a number.
fn from_digits(digits: &[u32], radix: u32, negative: bool) -> Number {
    let mut limbs: Vec<u32> = Vec::new();
    if radix == 10 {
        for &digit in digits {
            let mut carry = u64::from(digit);
            for limb in &mut limbs {
                carry += u64::from(*limb) * 10;
                *limb = low(carry);
                carry >>= 32;
            }
            if carry > 0 {
                limbs.push(low(carry));
            }
        }
    } else {
        // Powers of two go bit by bit, in one pass however long the text.
        let bits = radix.trailing_zeros();
        let (mut held, mut n) = (0u64, 0);
        for &digit in digits.iter().rev() {
            held |= u64::from(digit) << n;
            n += bits;
            if n >= 32 {
                limbs.push(low(held));
                held >>= 32;
                n -= 32;
            }
        }
        limbs.push(low(held));
    }
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    bytes.push(0);
    if negative {
        negate(&mut bytes);
    }
    from_twos_complement(&bytes)
}

fn low(n: u64) -> u32 {
    u32::try_from(n & 0xffff_ffff).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // beside the results they are compared with
mod tests {
    use super::*;

    fn plain(value: i64) -> Option<Parsed<Number>> {
        Some(Parsed {
            value: Number::Int(value),
            odd: false,
        })
    }

    fn odd(value: i64) -> Option<Parsed<Number>> {
        Some(Parsed {
            value: Number::Int(value),
            odd: true,
        })
    }

    #[test]
    fn ints_as_cpython_reads_them() {
        assert_eq!(int(b"12"), plain(12));
        assert_eq!(int(b"-12"), plain(-12));
        assert_eq!(int(b" 12 "), plain(12));
        assert_eq!(int(b"0x10"), odd(16));
        assert_eq!(int(b"010"), odd(8));
        assert_eq!(int(b"0o17"), odd(15));
        assert_eq!(int(b"5\0junk"), odd(5));
        assert_eq!(int(b"\0junk"), odd(0));
        assert_eq!(int(b"1_000"), plain(1000));
        assert_eq!(int(b"00").unwrap().value, Number::Bool(false));
        assert_eq!(int(b"01").unwrap().value, Number::Bool(true));
        assert_eq!(int(b"089"), None);
        assert_eq!(int(b"xyz"), None);
        assert_eq!(int(b"  "), None);
        assert_eq!(int(b"9223372036854775807"), plain(i64::MAX));
        assert_eq!(int(b"-9223372036854775808"), plain(i64::MIN));
        let big = int(b"9223372036854775808").unwrap().value;
        assert_eq!(big, Number::Big(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0]));
    }

    #[test]
    fn longs_floats_and_indices() {
        assert_eq!(long(b"12L"), plain(12));
        assert_eq!(long(b"0x10L"), odd(16));
        assert_eq!(long(b"12"), plain(12));
        assert_eq!(long(b"L"), None);
        assert_eq!(long(b"1__0L"), None);
        assert_eq!(long(b"010L"), None);
        assert!(float(b"1.5").is_some_and(|f| !f.odd && f.value.to_bits() == 1.5f64.to_bits()));
        assert!(float(b"1.5\0x").is_some_and(|f| f.odd));
        assert!(float(b"-inf").is_some_and(|f| f.value.is_infinite()));
        assert!(float(b"nan").is_some_and(|f| f.value.is_nan()));
        for bad in [&b"1.2.3"[..], b"1e999", b" 1", b"1 ", b"", b"0x1p3"] {
            assert!(float(bad).is_none(), "{bad:?}");
        }
        for loose in [&b"1e999"[..], b" 1", b"1 ", b"1_0.5", b"\t1_0\x0b"] {
            assert!(loose_float(loose).is_some_and(|it| it.odd), "{loose:?}");
        }
        for bad in [
            &b"1.2.3"[..],
            b"",
            b" ",
            b"0x1p3",
            b"_1",
            b"1_",
            b"1__0",
            b"1._5",
        ] {
            assert!(loose_float(bad).is_none(), "{bad:?}");
        }
        assert_eq!(index(b"7"), Some(7));
        assert_eq!(index(b"-1"), None);
    }

    #[test]
    fn twos_complement_is_made_short() {
        assert_eq!(from_twos_complement(&[]), Number::Int(0));
        assert_eq!(from_twos_complement(&[0xff]), Number::Int(-1));
        assert_eq!(from_twos_complement(&[0xff, 0]), Number::Int(255));
        assert_eq!(from_twos_complement(&[0; 40]), Number::Int(0));
        assert_eq!(from_twos_complement(&[0xff; 40]), Number::Int(-1));
        let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
        assert_eq!(from_twos_complement(&magic), Number::Big(magic.to_vec()));
        let text = int(b"119547037146038801333356").unwrap().value;
        assert_eq!(text, Number::Big(magic.to_vec()));
        assert_eq!(long(b"0x1950a86a20f9469cfc6cL").unwrap().value, text);
        assert_eq!(show(&magic), "119547037146038801333356");
        assert_eq!(
            show(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            "-2361183241434822606848"
        );
        assert_eq!(show(&[0; 3]), "0");
    }
}
