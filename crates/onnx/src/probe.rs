//! Telling ONNX, which has no magic number, by the fields it begins with.

use ir::{Peek, Score};

/// `ModelProto.ir_version`, the first field every exporter writes.
const IR_VERSION: u64 = 1;
/// `ModelProto.graph` and `ModelProto.opset_import`: one of them is in every model.
const GRAPH: u64 = 7;
const OPSET_IMPORT: u64 = 8;
/// The highest field of `ModelProto` with room for those to come.
const HIGHEST: u64 = 64;

/// Recognises a `ModelProto` by its fields: an IR version there can be, a graph or an operator set,
/// and no field with another wire type than its own.
pub fn probe(peek: &Peek) -> Score {
    match fields(&peek.head, peek.len) {
        Some(true) => Score::new(70, "the fields of an ONNX ModelProto"),
        // Cut short, damaged or hostile: its reader can say what of it.
        _ if peek.extension() == "onnx" && begins(&peek.head) => {
            Score::new(40, "named .onnx and begins like a ModelProto")
        }
        _ if peek.extension() == "onnx" => Score::new(10, "named .onnx"),
        _ => Score::no(),
    }
}

/// Whether the first field is an IR version there can be.
fn begins(mut bytes: &[u8]) -> bool {
    varint(&mut bytes) == Some(IR_VERSION << 3)
        && varint(&mut bytes).is_some_and(|version| (1..=64).contains(&version))
}

/// Whether the fields are a model's; `None` for bytes that are no protobuf at all.
fn fields(mut bytes: &[u8], len: u64) -> Option<bool> {
    let (mut version, mut body) = (false, false);
    let mut left = len;
    while !(bytes.is_empty() || version && body) {
        let before = bytes.len() as u64;
        let key = varint(&mut bytes)?;
        let (field, wire) = (key >> 3, key & 7);
        if field == 0 || field > HIGHEST {
            return None;
        }
        let skip = match (field, wire) {
            (IR_VERSION, 0) => {
                version = (1..=64).contains(&varint(&mut bytes)?);
                0
            }
            (GRAPH | OPSET_IMPORT, 2) => {
                body = true;
                varint(&mut bytes)?
            }
            (IR_VERSION | GRAPH | OPSET_IMPORT, _) => return None,
            (_, 0) => varint(&mut bytes).map(|_| 0)?,
            (_, 1) => 8,
            (_, 2) => varint(&mut bytes)?,
            (_, 5) => 4,
            _ => return None,
        };
        left = left
            .checked_sub(before - bytes.len() as u64)?
            .checked_sub(skip)?;
        // What is skipped may reach past what a probe sees; the model goes on there.
        bytes = usize::try_from(skip)
            .ok()
            .and_then(|skip| bytes.get(skip..))
            .unwrap_or_default();
    }
    Some(version && body)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{GraphProto, ModelProto, OperatorSetIdProto};
    use prost::Message;

    fn points(head: Vec<u8>) -> u8 {
        let len = head.len() as u64;
        let name = "model.bin".to_owned();
        probe(&Peek {
            name,
            head,
            tail: Vec::new(),
            len,
            entries: Vec::new(),
            region: None,
        })
        .points
    }

    #[test]
    fn models_are_told_and_others_are_not() {
        let model = ModelProto {
            ir_version: Some(10),
            producer_name: Some("test".to_owned()),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(21),
            }],
            graph: Some(GraphProto {
                name: Some("g".to_owned()),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let bytes = model.encode_to_vec();
        assert_eq!(points(bytes.clone()), 70);
        for cut in 0..bytes.len() {
            let _ = points(bytes[..cut].to_vec());
        }
        for other in [
            &b"PK\x03\x04"[..],
            b"GGUF\x03\0\0\0",
            b"\x80\x02}.",
            b"hello",
            b"",
        ] {
            assert_eq!(points(other.to_vec()), 0);
        }
    }
}
