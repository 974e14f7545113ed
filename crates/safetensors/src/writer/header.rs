//! The header of a file to be written, as the reference library renders it.

use super::Strings;
use crate::StError;
use crate::wire::{LENGTH_LEN, METADATA_KEY, PADDING, dtype_to_wire};
use ir::{Payload, Result, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A tensor and its place in the buffer.
pub(super) struct Place<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) begin: u64,
    pub(super) end: u64,
    dtype: Dtype,
}

impl<'a> Place<'a> {
    /// A place for a tensor, not laid out yet.
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self> {
        let cannot = |why: String, help| StError::CannotWrite {
            name: tensor.name.clone(),
            why,
            help,
        };
        if tensor.name == METADATA_KEY {
            let why = "the format keeps this name for its metadata".to_owned();
            return Err(cannot(why, "Give it another name with --rename").into());
        }
        if matches!(tensor.payload, Payload::Strings(_)) {
            let why = "the format has no tensors of strings".to_owned();
            return Err(cannot(why, "Leave it out with --drop").into());
        }
        let dtype = dtype_to_wire(tensor.dtype()).ok_or_else(|| {
            let why = format!("the format has no type {}", tensor.dtype());
            cannot(why, "Choose a type it has with --dtype")
        })?;
        tensor.spec.require_byte_len(&tensor.name)?;
        Ok(Self {
            tensor,
            begin: 0,
            end: 0,
            dtype,
        })
    }

    pub(super) fn name(&self) -> &'a str {
        &self.tensor.name
    }
}

/// Sorts the tensors as the reference does, gives each its place, and answers the buffer's length.
///
/// The library's types stand in the order of their alignment, and are sorted from the last to the
/// first, so every tensor is aligned to its elements in the file; ties go by name.
pub(super) fn lay_out(places: &mut [Place<'_>]) -> Result<u64> {
    places.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name().cmp(b.name())));
    let mut at = 0u64;
    for place in places {
        place.begin = at;
        at = at
            .checked_add(place.tensor.byte_len())
            .ok_or_else(|| StError::CannotWrite {
                name: place.name().to_owned(),
                why: "the tensors up to it take more bytes than 64 bits count".to_owned(),
                help: "Write fewer tensors",
            })?;
        place.end = at;
    }
    Ok(at)
}

/// The header with the length before it and the padding after it.
pub(super) fn render(places: &[Place<'_>], strings: Strings) -> Result<Vec<u8>> {
    let mut out = vec![0; 8];
    let header = Header { places, strings };
    serde_json::to_writer(&mut out, &header).map_err(|error| StError::Refused {
        why: error.to_string(),
    })?;
    let padded = out.len().next_multiple_of(8);
    out.resize(padded, PADDING);
    let n = out.len() as u64 - LENGTH_LEN;
    if let Some(length) = out.first_chunk_mut() {
        *length = n.to_le_bytes();
    }
    Ok(out)
}

struct Header<'a> {
    places: &'a [Place<'a>],
    strings: Strings,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let narrow = |n: u64| usize::try_from(n).map_err(serde::ser::Error::custom);
        let mut map = serializer.serialize_map(None)?;
        if !self.strings.is_empty() {
            map.serialize_entry(METADATA_KEY, &self.strings)?;
        }
        for place in self.places {
            let shape: Result<_, S::Error> = place
                .tensor
                .spec
                .shape
                .iter()
                .map(|dim| narrow(*dim))
                .collect();
            let info = TensorInfo {
                dtype: place.dtype,
                shape: shape?,
                data_offsets: (narrow(place.begin)?, narrow(place.end)?),
            };
            map.serialize_entry(place.name(), &info)?;
        }
        map.end()
    }
}
