//! Moving bytes: the pieces of an output file and who pours them.

use crate::{Context, Error, OutFile, Result, Tensor};
use bytes::Bytes;

/// What stands in a piece of an output file.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// These bytes.
    Bytes(Bytes),
    /// The little-endian, row-major bytes of a tensor.
    Tensor(&'a Tensor),
}

impl Body<'_> {
    /// Exact length in bytes.
    pub fn byte_len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Tensor(tensor) => tensor.byte_len(),
        }
    }
}

/// A piece of an output file: where it stands and what it holds. Pieces do not overlap; bytes
/// between them are zero.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// Absolute offset in the file.
    pub offset: u64,
    /// What stands there.
    pub body: Body<'a>,
    /// Whether the CRC-32 of the bytes is wanted.
    pub crc: bool,
}

/// Pours pieces into a file. All parallelism is behind this trait.
pub trait Pump: Send + Sync {
    /// Writes every piece, and answers the CRC-32 of each that wanted it (0 for the others).
    fn pour(&self, file: &OutFile, pieces: &[Piece<'_>], cx: &Context) -> Result<Vec<u32>>;

    /// Writes the pieces of several files. A pump may do so in one pass over the tensors' sources:
    /// tensors of one name in several files are computed side by side.
    fn pour_all(&self, files: &[(&OutFile, &[Piece<'_>])], cx: &Context) -> Result<()> {
        for (file, pieces) in files {
            self.pour(file, pieces, cx)?;
        }
        Ok(())
    }
}

/// One piece after the other through one small buffer: the plain twin of the parallel pump, and
/// what tests use.
#[derive(Debug, Clone, Copy)]
pub struct SerialPump;

impl Pump for SerialPump {
    fn pour(&self, file: &OutFile, pieces: &[Piece<'_>], cx: &Context) -> Result<Vec<u32>> {
        let mut sums = Vec::with_capacity(pieces.len());
        for piece in pieces {
            cx.cancel.check()?;
            let mut crc = Crc::default();
            match &piece.body {
                Body::Bytes(bytes) => {
                    crc.update(bytes);
                    file.write_at(piece.offset, bytes)?;
                }
                Body::Tensor(tensor) => copy_tensor(file, piece.offset, tensor, &mut crc)?,
            }
            cx.progress.advance(piece.body.byte_len());
            sums.push(if piece.crc { crc.0 } else { 0 });
        }
        Ok(sums)
    }
}

fn copy_tensor(file: &OutFile, offset: u64, tensor: &Tensor, crc: &mut Crc) -> Result<()> {
    const CHUNK: u64 = 64 << 10;
    let (per, bytes) = tensor.dtype().block();
    let elements = tensor.spec.elements().unwrap_or(0);
    let step = (CHUNK / u64::from(bytes.max(1)))
        .max(1)
        .saturating_mul(u64::from(per));
    let mut buffer = Vec::new();
    let (mut at, mut position) = (0, offset);
    while at < elements {
        let end = elements.min(at.saturating_add(step));
        let len = tensor.dtype().byte_len(end - at).unwrap_or(0);
        buffer.resize(usize::try_from(len).map_err(|_| too_long(tensor))?, 0);
        tensor.read(at..end, &mut buffer)?;
        crc.update(&buffer);
        file.write_at(position, &buffer)?;
        position = position.saturating_add(len);
        at = end;
    }
    Ok(())
}

fn too_long(tensor: &Tensor) -> Error {
    crate::Fault::Invalid {
        what: format!("a chunk of tensor {:?} is too long", tensor.name),
    }
    .into()
}

/// CRC-32 (the zip polynomial) a bit at a time: slow, and plainly right.
#[derive(Default)]
struct Crc(u32);

impl Crc {
    fn update(&mut self, bytes: &[u8]) {
        let mut crc = !self.0;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
        }
        self.0 = !crc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        let mut crc = Crc::default();
        crc.update(b"12345");
        crc.update(b"6789");
        assert_eq!(crc.0, 0xcbf4_3926);
    }
}
