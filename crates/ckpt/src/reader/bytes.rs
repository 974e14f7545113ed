//! Byte strings in the spellings of all protocols.

use bytes::Bytes;
use ir::{Object, ObjectId, Objects, Region};

/// Wrappers looked through.
const DEPTH: u8 = 4;

/// The bytes an object stands for: `bytes`, `bytearray`, and the ways old protocols spell them:
/// Latin-1 text, `_codecs.encode(text, 'latin1')`, `bytes()`.
pub(super) fn bytes_of(objects: &Objects, id: ObjectId) -> Option<Region> {
    find(objects, id, DEPTH)
}

fn find(objects: &Objects, id: ObjectId, depth: u8) -> Option<Region> {
    let depth = depth.checked_sub(1)?;
    match objects.get(id) {
        Object::Bytes(blob) | Object::ByteArray(blob) => Some(blob.region()),
        Object::Str(text) => latin1(text),
        Object::Call(_) => {
            let (module, name, call) = objects.named_call(id)?;
            let args = objects.sequence(call.args)?;
            match (module, name) {
                ("_codecs", "encode") => {
                    let codec = args.get(1).and_then(|&id| objects.str(id))?;
                    let known = ["latin1", "latin-1", "iso-8859-1", "raw_unicode_escape"];
                    let text = args.first().and_then(|&id| objects.str(id))?;
                    known.contains(&codec).then(|| latin1(text))?
                }
                ("builtins", "bytes" | "bytearray") => match args.first() {
                    None => Some(Region::memory(Bytes::new())),
                    Some(&inner) => find(objects, inner, depth),
                },
                _ => None,
            }
        }
        _ => None,
    }
}

/// Text as the bytes it has in Latin-1.
fn latin1(text: &str) -> Option<Region> {
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    bytes.map(Region::memory)
}
