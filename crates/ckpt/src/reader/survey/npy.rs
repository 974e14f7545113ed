//! numpy files: of objects, their data is a pickle; and others may follow one in the same file.
//!
//! See numpy's `format.py`: a magic, two bytes of version, a length, and a dictionary in Python's
//! spelling with `descr`, `fortran_order` and `shape`.

use super::{Expected, Surveyor, join};
use crate::container::begins_tar;
use crate::pickle;
use ir::{AnomalyKind, Region};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of a header. numpy itself reads no more than 10,000 unless it is told to.
const HEADER: usize = 1 << 20;
/// Arrays in one file, one behind the other, that are looked at.
const ARRAYS: usize = 10_000;
/// Lists within lists of a header.
const NESTED: u8 = 32;

/// What a header says of the data behind it.
enum Data {
    /// A pickle.
    Objects,
    /// This many bytes.
    Plain(u64),
    /// A description that is not understood here: it may be a pickle.
    Unknown,
}

impl Surveyor<'_> {
    /// An array, and whatever lies behind it: `np.load` and `pickle.load` read on from there when
    /// they are called again for the same open file.
    pub(super) fn npy(&mut self, region: &Region, place: &str) {
        let mut at = 0;
        for n in 1..=ARRAYS {
            let here = match n {
                1 => place.to_owned(),
                _ => join(place, &format!("array {n} at byte {at}")),
            };
            let Some(end) = region.tail(at).ok().and_then(|one| self.array(&one, &here)) else {
                return;
            };
            at += end;
            let head = region.bytes(at, 6.min(left(region, at)));
            if !head.is_ok_and(|head| *head == *MAGIC) {
                return self.behind(region, at, place);
            }
        }
        let what = format!("more than {ARRAYS} arrays in one file");
        self.odd(AnomalyKind::Unreadable, place, what);
    }

    /// What follows an array and is none.
    fn behind(&mut self, region: &Region, at: u64, place: &str) {
        let Ok(head) = region.bytes(at, 512.min(left(region, at))) else {
            return;
        };
        let packed: [&[u8]; 6] = [
            b"PK\x03\x04",
            b"\x1f\x8b",
            b"\x78",
            b"BZh",
            b"\xfd7zXZ",
            b"\x5d\0",
        ];
        let opened = packed.iter().any(|magic| head.starts_with(magic)) || begins_tar(&head);
        if let (true, Ok(tail)) = (opened, region.tail(at)) {
            let here = join(place, &format!("byte {at}"));
            let what = format!("{} bytes follow the array", tail.len());
            self.odd(AnomalyKind::HiddenBytes, here.clone(), what);
            return self.region(&tail, &here);
        }
        self.rest(region, at, place, true);
    }

    /// One array. Answers where it ends, if that is known and nothing behind it was looked at.
    fn array(&mut self, region: &Region, place: &str) -> Option<u64> {
        let mut unreadable = |what: &str| {
            self.odd(AnomalyKind::Unreadable, join(place, "numpy header"), what);
        };
        let Ok(head) = region.bytes(0, 12.min(left(region, 0))) else {
            unreadable("it is cut short");
            return None;
        };
        let (len, at) = match *head {
            [_, _, _, _, _, _, 1, _, a, b, ..] => (u64::from(u16::from_le_bytes([a, b])), 10),
            [_, _, _, _, _, _, 2 | 3, _, a, b, c, d] => {
                (u64::from(u32::from_le_bytes([a, b, c, d])), 12)
            }
            _ => {
                unreadable("it is cut short, or of an unknown version");
                return None;
            }
        };
        let text = usize::try_from(len)
            .ok()
            .filter(|len| *len <= HEADER)
            .and_then(|n| region.bytes(at, n).ok());
        let Some(text) = text else {
            unreadable("it is cut short, or longer than any");
            return None;
        };
        let start = at + len;
        let here = join(place, "objects of the numpy array");
        match data(&text) {
            Data::Plain(bytes) => start.checked_add(bytes).filter(|end| *end < region.len()),
            Data::Objects => {
                let data = region.tail(start).ok()?;
                let outcome = pickle::run(&data, 0, &here, &mut self.budget);
                let (end, complete) = (outcome.end, outcome.complete());
                self.keep(outcome, &here, Expected::Yes);
                if !complete {
                    self.rest(&data, end, &here, false);
                    return None;
                }
                start.checked_add(end).filter(|end| *end < region.len())
            }
            Data::Unknown => {
                let data = region.tail(start).ok()?;
                let end = self.attempt(&data, 0, &here).unwrap_or(0);
                self.rest(&data, end, &here, false);
                None
            }
        }
    }
}

fn left(region: &Region, at: u64) -> usize {
    usize::try_from(region.len().saturating_sub(at)).unwrap_or(usize::MAX)
}

/// A value of a header.
enum Value {
    Text(String),
    Int(u64),
    Many(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Word,
}

fn data(header: &[u8]) -> Data {
    // Every type of objects that numpy writes has an O in its description.
    let otherwise = if header.contains(&b'O') {
        Data::Objects
    } else {
        Data::Unknown
    };
    let mut rest = header;
    let Some(Value::Dict(pairs)) = value(&mut rest, NESTED) else {
        return otherwise;
    };
    let get = |name: &str| {
        let named = |(key, _): &&(Value, Value)| matches!(key, Value::Text(key) if key == name);
        pairs.iter().rev().find(named).map(|(_, value)| value)
    };
    let sizes = get("descr").and_then(|descr| item(descr, NESTED));
    let count = get("shape").and_then(product);
    match sizes {
        Some(Item::Objects) => Data::Objects,
        Some(Item::Bytes(size)) => match count.and_then(|count| count.checked_mul(size)) {
            Some(bytes) => Data::Plain(bytes),
            None => otherwise,
        },
        None => otherwise,
    }
}

/// Numbers of a shape, or one, multiplied.
fn product(shape: &Value) -> Option<u64> {
    let dims = match shape {
        Value::Many(dims) => dims.as_slice(),
        one => std::slice::from_ref(one),
    };
    dims.iter().try_fold(1u64, |all, dim| match dim {
        Value::Int(dim) => all.checked_mul(*dim),
        _ => None,
    })
}

/// What one item takes.
#[derive(Clone, Copy)]
enum Item {
    Bytes(u64),
    Objects,
}

impl Item {
    fn times(self, shape: &Value) -> Option<Self> {
        match self {
            Self::Bytes(size) => size.checked_mul(product(shape)?).map(Self::Bytes),
            Self::Objects => Some(Self::Objects),
        }
    }

    fn plus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Bytes(one), Self::Bytes(other)) => one.checked_add(other).map(Self::Bytes),
            _ => Some(Self::Objects),
        }
    }
}

/// What one item of a description takes, if that is understood.
fn item(descr: &Value, depth: u8) -> Option<Item> {
    let depth = depth.checked_sub(1)?;
    match descr {
        Value::Text(text) => one(text),
        // Fields, each with a name, a description and perhaps a shape.
        Value::Many(fields) if fields.iter().all(|f| matches!(f, Value::Many(_))) => {
            fields.iter().try_fold(Item::Bytes(0), |sum, field| {
                let Value::Many(field) = field else {
                    return None;
                };
                sum.plus(match field.as_slice() {
                    [_, inner] => item(inner, depth)?,
                    [_, inner, shape] => item(inner, depth)?.times(shape)?,
                    _ => return None,
                })
            })
        }
        // A description and the shape of each item.
        Value::Many(pair) => match pair.as_slice() {
            [inner, shape] => item(inner, depth)?.times(shape),
            _ => None,
        },
        _ => None,
    }
}

/// The same of a plain description: `<f4`, `|S12`, `<M8[ns]`.
fn one(text: &str) -> Option<Item> {
    let text = text.trim_start_matches(['<', '>', '|', '=']);
    let mut chars = text.chars();
    let kind = chars.next()?;
    let rest = chars.as_str();
    let size = || rest.parse::<u64>().ok();
    match kind {
        'O' => Some(Item::Objects),
        'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'V' => size().map(Item::Bytes),
        'U' => size()?.checked_mul(4).map(Item::Bytes),
        'm' | 'M' if rest == "8" || rest.starts_with("8[") => Some(Item::Bytes(8)),
        _ => None,
    }
}

/// A literal as numpy writes it. What is spelt otherwise is not understood.
fn value(rest: &mut &[u8], depth: u8) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    *rest = rest.trim_ascii_start();
    let (first, tail) = rest.split_first()?;
    match first {
        quote @ (b'\'' | b'"') => {
            let end = tail.iter().position(|b| b == quote || *b == b'\\')?;
            let (text, behind) = tail.split_at_checked(end)?;
            *rest = behind.strip_prefix(&[*quote])?;
            Some(Value::Text(std::str::from_utf8(text).ok()?.to_owned()))
        }
        b'0'..=b'9' => {
            let end = rest.iter().position(|b| !b.is_ascii_digit())?;
            let (digits, behind) = rest.split_at_checked(end)?;
            // Python 2 wrote an L behind long numbers.
            *rest = behind.strip_prefix(b"L").unwrap_or(behind);
            std::str::from_utf8(digits)
                .ok()?
                .parse()
                .ok()
                .map(Value::Int)
        }
        open @ (b'(' | b'[' | b'{') => {
            *rest = tail;
            let close = match open {
                b'(' => b')',
                b'[' => b']',
                _ => b'}',
            };
            let (mut items, mut pairs, mut commas) = (Vec::new(), Vec::new(), 0);
            while !sign(rest, close) {
                let key = value(rest, depth)?;
                if *open == b'{' {
                    if !sign(rest, b':') {
                        return None;
                    }
                    pairs.push((key, value(rest, depth)?));
                } else {
                    items.push(key);
                }
                if sign(rest, b',') {
                    commas += 1;
                } else if !rest.starts_with(&[close]) {
                    return None;
                }
            }
            match (open, items.len(), commas) {
                (b'{', ..) => Some(Value::Dict(pairs)),
                // Only brackets around one value.
                (b'(', 1, 0) => items.pop(),
                _ => Some(Value::Many(items)),
            }
        }
        b'T' | b'F' | b'N' => {
            let end = rest.iter().position(|b| !b.is_ascii_alphabetic())?;
            *rest = rest.get(end..)?;
            Some(Value::Word)
        }
        _ => None,
    }
}

/// Whether a sign is next, which is then taken, and blanks before and behind it.
fn sign(rest: &mut &[u8], sign: u8) -> bool {
    *rest = rest.trim_ascii_start();
    match rest.strip_prefix(&[sign]) {
        Some(tail) => {
            *rest = tail.trim_ascii_start();
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(descr: &str, shape: &str) -> String {
        let header =
            format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}  \n");
        match data(header.as_bytes()) {
            Data::Objects => "objects".to_owned(),
            Data::Plain(n) => n.to_string(),
            Data::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn headers_say_how_long_the_data_is() {
        for (descr, shape, wanted) in [
            ("'<f4'", "(3, 2)", 24),
            ("'|b1'", "()", 1),
            ("'<U5'", "(2,)", 40),
            ("'|S3'", "(4L,)", 12),
            ("'<M8[ns]'", "(2,)", 16),
            ("[('a', '<i4'), ('Open', '<f8', (2,))]", "(10,)", 200),
            ("[('a', [('b', '|u1'), ('', '|V3')])]", "(2,)", 8),
            ("('<f4', (3,))", "(2,)", 24),
            ("'<f4'", "(0, 7)", 0),
        ] {
            assert_eq!(bytes(descr, shape), wanted.to_string(), "{descr} {shape}");
        }
        assert_eq!(bytes("'|O'", "(2,)"), "objects");
        assert_eq!(bytes("[('a', '<i4'), ('b', 'O')]", "(2,)"), "objects");
        for (descr, shape) in [
            ("'object'", "(2,)"),
            ("'float32'", "(2,)"),
            ("'<f4'", "(True,)"),
            ("'<f4'", "(18446744073709551615, 2)"),
            ("'\\x4f'", "(2,)"),
            ("", ""),
        ] {
            assert_eq!(bytes(descr, shape), "unknown", "{descr} {shape}");
        }
        let deep = "(".repeat(10_000);
        assert_eq!(bytes(&deep, "()"), "unknown");
    }

    fn survey(parts: &[&[u8]]) -> ir::Survey {
        let input = ir::Input::from_region("a.npy", Region::memory(parts.concat()));
        ir::Reader::survey(&crate::CkptReader, &input, &ir::Context::default())
    }

    fn npy(descr: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
        let len = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\0", &len[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn what_follows_an_array_is_looked_at() {
        let pickle = b"cposix\nsystem\n(S'id'\ntR.";
        let numbers = npy("<f4", &[1; 8]);
        let objects = npy("|O", pickle);
        for parts in [
            &[&numbers[..], pickle][..],
            &[&numbers, &objects],
            &[&numbers, &numbers, b"\0\0\0", pickle],
            &[&npy("|O", b"]."), &objects],
            &[&npy("object", pickle)],
        ] {
            let found = survey(parts).objects;
            let last = found.last().map(|found| found.objects.len());
            assert!(last > Some(2), "{parts:?}");
        }
        for parts in [&[&numbers[..]][..], &[&numbers, &numbers, &numbers]] {
            let found = survey(parts);
            assert!(found.objects.is_empty() && found.anomalies.is_empty());
        }
        let junk = survey(&[&numbers, b"\xee\xee\xee"]);
        assert_eq!(junk.anomalies[0].kind, AnomalyKind::HiddenBytes);
    }
}
