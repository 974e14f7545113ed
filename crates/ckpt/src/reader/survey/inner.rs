//! Byte strings within a pickle that hold pickles themselves.

use super::{Surveyor, join};
use crate::container::is_pickle_start;
use crate::reader::bytes::bytes_of;
use ir::{Object, ObjectId, Objects, Region};

/// Byte strings looked at in one pickle.
const MOST: usize = 10_000;
/// Calls looked through for the bytes that reach a loader.
const WRAPPED: u8 = 4;

/// Functions that load what their bytes hold.
fn loads(module: &str, name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let loader = matches!(
        last,
        "loads"
            | "load"
            | "_load"
            | "_load_from_bytes"
            | "read_pickle"
            | "decompress"
            | "Unpickler"
            | "unpickle"
            | "legacy_load"
            | "_legacy_load"
            | "jit_load"
            | "load_state"
            | "restore"
    );
    loader && module != "json"
}

impl Surveyor<'_> {
    /// Looks into byte strings: into all that begin as a pickle or an archive does, and into
    /// whatever is handed to a function that loads.
    pub(super) fn inner(&mut self, objects: &Objects, place: &str) {
        let mut found: Vec<(ObjectId, u64, String, Region)> = Vec::new();
        for (id, node) in objects.iter() {
            if found.len() >= MOST {
                break;
            }
            match &node.object {
                Object::Call(_) => {
                    let Some((module, name, call)) = objects.named_call(id) else {
                        continue;
                    };
                    if loads(module, name) {
                        let to = format!("bytes given to {module}.{name} at byte {}", node.at);
                        for (arg, bytes) in given(objects, call.args, WRAPPED) {
                            found.push((arg, node.at, to.clone(), bytes));
                        }
                    } else if (module, name) == ("_codecs", "encode") {
                        let bytes = bytes_of(objects, id).filter(begins);
                        if let Some(bytes) = bytes {
                            found.push((id, node.at, format!("bytes at byte {}", node.at), bytes));
                        }
                    }
                }
                Object::Bytes(blob) | Object::ByteArray(blob) => {
                    let bytes = Some(blob.region()).filter(begins);
                    if let Some(bytes) = bytes {
                        found.push((id, node.at, format!("bytes at byte {}", node.at), bytes));
                    }
                }
                _ => {}
            }
        }
        // Each once, named by the loader it reaches if there is one.
        found.sort_by_key(|(id, at, to, _)| (*id, to.starts_with("bytes at"), *at));
        found.dedup_by_key(|(id, ..)| *id);
        found.sort_by_key(|(_, at, ..)| *at);
        for (_, _, to, bytes) in found {
            self.region(&bytes, &join(place, &to));
        }
    }
}

/// Whether bytes begin as something that can hold a pickle.
fn begins(bytes: &Region) -> bool {
    let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(16);
    bytes.bytes(0, len).is_ok_and(|head| {
        is_pickle_start(&head) || head.starts_with(b"PK\x03\x04") || head.starts_with(b"\x93NUMPY")
    })
}

/// The byte strings among arguments, also within calls such as `BytesIO(…)`.
fn given(objects: &Objects, args: ObjectId, depth: u8) -> Vec<(ObjectId, Region)> {
    let mut out = Vec::new();
    for &arg in objects.sequence(args).unwrap_or_default() {
        if let Some(bytes) = bytes_of(objects, arg) {
            // The node that holds the bytes, so that one string is looked at once.
            out.push((arg, bytes));
        } else if let (Object::Call(call), Some(depth)) = (objects.get(arg), depth.checked_sub(1)) {
            out.extend(given(objects, call.args, depth));
        }
    }
    out
}
