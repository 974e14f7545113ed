//! A message under construction: its bytes, with tensors in their places that stay where they are.
//!
//! A message in a message has its length before it, so lengths are known from the innermost out;
//! a tensor counts its bytes without having them.

use ir::Tensor;

/// A part of a message.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Bytes(Vec<u8>),
    Tensor(&'a Tensor),
}

/// The parts of a message, and their length.
#[derive(Debug, Default)]
pub(super) struct Rope<'a> {
    parts: Vec<Part<'a>>,
    len: u64,
}

impl<'a> Rope<'a> {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn into_parts(self) -> Vec<Part<'a>> {
        self.parts
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if let Some(Part::Bytes(last)) = self.parts.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.parts.push(Part::Bytes(bytes.to_vec()));
        }
    }

    fn varint(&mut self, mut n: u64) {
        let mut bytes = [0; 10];
        let mut len = 0;
        for byte in &mut bytes {
            *byte = n.to_le_bytes()[0] | 0x80;
            n >>= 7;
            len += 1;
            if n == 0 {
                *byte &= 0x7f;
                break;
            }
        }
        self.raw(bytes.get(..len).unwrap_or_default());
    }

    fn key(&mut self, number: u32, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    /// An integer or enum, zero too.
    pub(super) fn int(&mut self, number: u32, value: i64) {
        self.key(number, 0);
        self.varint(value.cast_unsigned());
    }

    pub(super) fn float(&mut self, number: u32, value: f32) {
        self.key(number, 5);
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, 2);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    /// Text, unless it is empty.
    pub(super) fn some_text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.text(number, text);
        }
    }

    pub(super) fn message(&mut self, number: u32, message: Self) {
        self.key(number, 2);
        self.varint(message.len);
        for part in message.parts {
            match part {
                Part::Bytes(bytes) => self.raw(&bytes),
                Part::Tensor(tensor) => self.push(tensor),
            }
        }
    }

    /// The little-endian bytes of a tensor.
    pub(super) fn tensor(&mut self, number: u32, tensor: &'a Tensor) {
        self.key(number, 2);
        self.varint(tensor.byte_len());
        self.push(tensor);
    }

    fn push(&mut self, tensor: &'a Tensor) {
        self.len = self.len.saturating_add(tensor.byte_len());
        if tensor.byte_len() > 0 {
            self.parts.push(Part::Tensor(tensor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{GraphProto, ModelProto, TensorProto};
    use ir::{DType, PatternCompute};
    use prost::Message;

    #[test]
    fn lengths_count_what_is_not_there() {
        let data = PatternCompute::tensor("w", DType::U8, [200]);
        let mut tensor = Rope::new();
        tensor.text(8, "w");
        tensor.tensor(9, &data);
        let mut graph = Rope::new();
        graph.message(5, tensor);
        let mut model = Rope::new();
        model.int(1, -3);
        model.message(7, graph);
        let planned = model.len();
        let mut bytes = Vec::new();
        for part in model.into_parts() {
            match part {
                Part::Bytes(part) => bytes.extend(part),
                Part::Tensor(tensor) => bytes.extend(tensor.read_all().unwrap()),
            }
        }
        assert_eq!(bytes.len() as u64, planned);
        let tensor = TensorProto {
            name: Some("w".to_owned()),
            raw_data: Some(data.read_all().unwrap().into()),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            initializer: vec![tensor],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(-3),
            graph: Some(graph),
            ..ModelProto::default()
        };
        assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), model);
    }
}
