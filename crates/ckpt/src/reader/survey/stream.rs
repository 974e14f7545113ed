//! Pickles one after the other: the legacy stream, plain pickles, and what follows them.

use super::{Expected, Surveyor, does_something, join};
use crate::container::{self, run_stream};
use crate::pickle::{self, opcode};
use bytes::Bytes;
use ir::{AnomalyKind, Object, Region};

/// Bytes searched for a pickle where none is due.
const SEARCH: u64 = 4 << 20;
/// Places tried in them.
const TRIES: usize = 256;

impl Surveyor<'_> {
    /// A stream that begins with a pickle.
    pub(super) fn stream(&mut self, region: &Region, place: &str, expected: Expected) {
        let first = pickle::run(region, 0, "pickle", &mut self.budget);
        if container::is_magic(&first) {
            self.legacy(region, place, first);
            return self.zip_behind(region, place);
        }
        let perhaps = expected == Expected::Perhaps;
        if perhaps && !does_something(&first) && !first.complete() {
            return;
        }
        let (end, complete) = (first.end, first.complete());
        let first_place = join(place, "pickle 1");
        let name = if place.is_empty() {
            &first_place
        } else {
            place
        };
        self.keep(first, name, expected);
        self.rest(region, end, place, complete);
        self.zip_behind(region, place);
    }

    /// torch takes a file that does not begin as a zip for a stream; others look at its end.
    fn zip_behind(&mut self, region: &Region, place: &str) {
        if container::ends_as_zip(region).unwrap_or(false) {
            let what = "the file is a pickle to one reader and a zip archive to another";
            self.odd(AnomalyKind::HiddenPayload, place, what);
            self.zip(region, &join(place, "zip at the end"));
        }
    }

    fn legacy(&mut self, region: &Region, place: &str, first: pickle::Outcome) {
        let (stream, error) = run_stream(region, first, &mut self.budget);
        let sound = error.is_none();
        if let Some(error) = error {
            self.error(error);
        }
        for (mut outcome, slot) in stream.pickles.into_iter().zip(container::SLOTS) {
            // Its error was handed over by `run_stream`; the missing root tells that it broke.
            if outcome.objects.root().is_none() && outcome.error.is_none() {
                outcome.error = Some(crate::CkptError::cut(slot, "it breaks off").into());
            }
            self.keep(outcome, &join(place, slot), Expected::Yes);
        }
        self.rest(region, stream.end, place, sound);
    }

    /// What follows the last thing a loader reads: more pickles, after zeros or junk.
    pub(super) fn rest(&mut self, region: &Region, from: u64, place: &str, sound: bool) {
        let mut at = from;
        let mut directly = sound;
        let mut tries = TRIES;
        let mut ahead = Bytes::new();
        let stop = region.len().min(from.saturating_add(SEARCH));
        for n in 2.. {
            let zeros = zeros(region, at, &mut ahead);
            directly = directly && zeros == 0;
            at += zeros;
            // With nothing left of the limits, every further try would only fail.
            if at >= region.len() || self.spent() || !self.counts_pickle(place) {
                return;
            }
            let found = if directly {
                self.trailing(region, at, &mut ahead, n, place)
            } else {
                None
            };
            if let Some(end) = found {
                at = end.max(at + 1);
                continue;
            }
            ahead = Bytes::new();
            if let Some(end) = self.search(region, at, stop, &mut tries, place) {
                at = end;
                directly = true;
            } else {
                if sound {
                    let what = format!("{} bytes follow", region.len() - at);
                    self.odd(AnomalyKind::HiddenBytes, byte(place, at), what);
                }
                return;
            }
        }
    }

    /// A pickle right behind another one.
    fn trailing(
        &mut self,
        region: &Region,
        at: u64,
        ahead: &mut Bytes,
        n: usize,
        place: &str,
    ) -> Option<u64> {
        let read = std::mem::take(ahead);
        let mut outcome = pickle::run_behind(region, at, read, "pickle", &mut self.budget);
        if !outcome.complete() && !does_something(&outcome) {
            return None;
        }
        let end = outcome.end;
        *ahead = std::mem::take(&mut outcome.ahead);
        if is_plain(&outcome) {
            return Some(end);
        }
        let here = join(place, &format!("pickle {n} at byte {at}"));
        // Several whole pickles in a row are a stream that some program wrote: each is judged.
        if !outcome.complete() {
            let what = "a broken pickle behind the one a loader reads";
            self.odd(AnomalyKind::TrailingPickle, here.clone(), what);
        }
        self.keep(outcome, &here, Expected::Perhaps);
        Some(end)
    }

    /// Searches for something that runs. Answers where it ended.
    fn search(
        &mut self,
        region: &Region,
        from: u64,
        stop: u64,
        tries: &mut usize,
        place: &str,
    ) -> Option<u64> {
        const WINDOW: u64 = 64 << 10;
        const OVERLAP: u64 = 512;
        let mut at = from;
        while at < stop {
            let len = (stop - at).min(WINDOW);
            let window = region.bytes(at, usize::try_from(len).ok()?).ok()?;
            for i in starts(&window) {
                *tries = tries.checked_sub(1)?;
                let begin = at + i as u64;
                let here = join(place, &format!("pickle at byte {begin}"));
                if let Some(end) = self.attempt(region, begin, &here) {
                    let what = "a pickle where none is due";
                    self.odd(AnomalyKind::HiddenPayload, here, what);
                    return Some(end.max(begin + 1));
                }
            }
            if len <= OVERLAP {
                return None;
            }
            at += len - OVERLAP;
            if at + OVERLAP >= stop {
                return None;
            }
        }
        None
    }
}

/// Whether there is nothing to judge in a pickle: it ran to its end and made numbers and words.
fn is_plain(outcome: &pickle::Outcome) -> bool {
    let mut objects = outcome.objects.iter();
    outcome.complete()
        && outcome.odd.is_empty()
        && outcome.error.is_none()
        && outcome.crossed.is_none()
        && objects.all(|(_, node)| {
            matches!(
                node.object,
                Object::None
                    | Object::Bool(_)
                    | Object::Int(_)
                    | Object::Float(_)
                    | Object::Str(_)
                    | Object::Tuple(_)
                    | Object::List(_)
                    | Object::Dict(_)
            )
        })
}

fn byte(place: &str, at: u64) -> String {
    join(place, &format!("byte {at}"))
}

/// How many zeros begin at `at`, looked at up to a cap. `ahead` is what was read there already.
fn zeros(region: &Region, at: u64, ahead: &mut Bytes) -> u64 {
    const WINDOW: u64 = 64 << 10;
    if let Some(zeros) = ahead.iter().position(|&b| b != 0) {
        *ahead = ahead.slice(zeros..);
        return zeros as u64;
    }
    let mut here = at + ahead.len() as u64;
    *ahead = Bytes::new();
    while here < region.len() && here - at < SEARCH {
        let len = (region.len() - here).min(WINDOW);
        let Some(window) = usize::try_from(len)
            .ok()
            .and_then(|n| region.bytes(here, n).ok())
        else {
            break;
        };
        match window.iter().position(|&b| b != 0) {
            Some(i) => return here - at + i as u64,
            None => here += len,
        }
    }
    here - at
}

/// Places in a window where a pickle, or the naming of a global, may begin.
fn starts(window: &[u8]) -> Vec<usize> {
    let mut out = Vec::new();
    for (i, &byte) in window.iter().enumerate() {
        let rest = window.get(i..).unwrap_or_default();
        let fits = match byte {
            0x80 => matches!(rest, [_, 0..=5, next, ..] if opcode::exists(*next)),
            opcode::GLOBAL | opcode::INST => names_follow(rest.get(1..).unwrap_or_default()),
            opcode::SHORT_BINUNICODE => short_names_follow(rest),
            _ => false,
        };
        if fits {
            out.push(i);
        }
    }
    out
}

fn is_name(text: &[u8]) -> bool {
    text.len() >= 2
        && text
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        && text.first().is_some_and(|b| !b.is_ascii_digit())
}

/// Two lines that are names.
fn names_follow(text: &[u8]) -> bool {
    let text = text.get(..text.len().min(512)).unwrap_or_default();
    let mut lines = text.splitn(3, |&b| b == b'\n');
    let names = [lines.next(), lines.next()];
    lines.next().is_some() && names.iter().all(|name| name.is_some_and(is_name))
}

/// Two short strings that are names, and `STACK_GLOBAL`, with a `MEMOIZE` after each or not.
fn short_names_follow(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for _ in 0..2 {
        let [opcode::SHORT_BINUNICODE, len, tail @ ..] = rest else {
            return false;
        };
        let Some((name, tail)) = tail.split_at_checked(usize::from(*len)) else {
            return false;
        };
        if !is_name(name) {
            return false;
        }
        rest = tail.strip_prefix(&[opcode::MEMOIZE]).unwrap_or(tail);
    }
    rest.first() == Some(&opcode::STACK_GLOBAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_found() {
        assert_eq!(starts(b"xx\x80\x02}.."), [2]);
        assert_eq!(starts(b"\0cos\nsystem\n(tR."), [1]);
        assert_eq!(starts(b"\x8c\x02os\x94\x8c\x06system\x94\x93"), [0]);
        assert!(starts(b"\x80\x09}. cat\n").is_empty());
    }
}
