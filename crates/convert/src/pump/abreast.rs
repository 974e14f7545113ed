//! Several files in one pass: tensors of one name are computed side by side.
//!
//! A job is one range of elements of a tensor in every file that has it. Its steps are so short
//! that what was read for the first file is still in the cache for the next (see
//! [`crate::recipe::ShareCompute`]); so each source is read, and its blocks dequantized, once.
//! Whatever is not computed, or stands alone, is poured as ever.

use crate::recipe::STEP;
use ir::{Body, Context, OutFile, Piece, Result, Tensor};
use std::collections::HashMap;
use std::ops::Range;

/// A tensor in one of the files.
struct Lane<'a> {
    file: usize,
    offset: u64,
    tensor: &'a Tensor,
}

/// A range of elements, in every file.
pub(super) struct Job<'a> {
    lanes: std::sync::Arc<[Lane<'a>]>,
    elements: Range<u64>,
    step: u64,
}

/// Jobs for tensors that are computed in several files, and for each file the pieces left.
pub(super) fn split<'a>(
    files: &[(&OutFile, &[Piece<'a>])],
    chunk: u64,
) -> (Vec<Job<'a>>, Vec<Vec<Piece<'a>>>) {
    let mut apart: Vec<Vec<Piece<'a>>> = files.iter().map(|_| Vec::new()).collect();
    let mut groups: Vec<Vec<Lane<'a>>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (file, (_, pieces)) in files.iter().enumerate() {
        for piece in *pieces {
            let tensor = match piece.body {
                Body::Tensor(tensor) if !piece.crc && tensor.as_plain().is_none() => tensor,
                _ => {
                    if let Some(rest) = apart.get_mut(file) {
                        rest.push(piece.clone());
                    }
                    continue;
                }
            };
            let lane = Lane {
                file,
                offset: piece.offset,
                tensor,
            };
            let at = *by_name.entry(&tensor.name).or_insert(groups.len());
            match groups.get_mut(at) {
                Some(lanes) if lanes[0].tensor.spec.shape == tensor.spec.shape => lanes.push(lane),
                _ => groups.push(vec![lane]),
            }
        }
    }
    let jobs = groups.into_iter().flat_map(|lanes| jobs(lanes, chunk));
    (jobs.collect(), apart)
}

fn jobs(lanes: Vec<Lane<'_>>, chunk: u64) -> impl Iterator<Item = Job<'_>> {
    let lanes: std::sync::Arc<[Lane<'_>]> = lanes.into();
    let shape = lanes.first().map(|lane| &lane.tensor.spec.shape);
    let row = shape.map_or(1, ir::Shape::row_len).max(1);
    let elements = shape.and_then(ir::Shape::elements).unwrap_or(0);
    // Whole rows, since weights by importance come by the row.
    let step = (STEP / row).max(1).saturating_mul(row);
    let bytes: u64 = lanes
        .iter()
        .map(|lane| lane.tensor.dtype().byte_len(step).unwrap_or(chunk))
        .max()
        .unwrap_or(chunk);
    let span = (chunk / bytes.max(1)).max(1).saturating_mul(step);
    (0..elements.div_ceil(span)).map(move |i| Job {
        lanes: lanes.clone(),
        elements: i * span..elements.min((i + 1) * span),
        step,
    })
}

impl Job<'_> {
    /// Computes and writes the range, a step at a time in file after file.
    pub(super) fn run(
        &self,
        files: &[(&OutFile, &[Piece<'_>])],
        buffer: &mut Vec<u8>,
        cx: &Context,
    ) -> Result<()> {
        let mut at = self.elements.start;
        while at < self.elements.end {
            let end = self.elements.end.min(at.saturating_add(self.step));
            for lane in self.lanes.iter() {
                let Some((file, _)) = files.get(lane.file) else {
                    continue;
                };
                let dtype = lane.tensor.dtype();
                let len = dtype.byte_len(end - at).unwrap_or(0);
                super::resize(buffer, len)?;
                lane.tensor.read(at..end, buffer)?;
                let offset = lane.offset.saturating_add(dtype.byte_len(at).unwrap_or(0));
                file.write_at(offset, buffer)?;
                cx.progress.advance(len);
            }
            at = end;
        }
        for lane in self.lanes.iter() {
            if let Some((file, _)) = files.get(lane.file) {
                let bytes = |n| lane.tensor.dtype().byte_len(n).unwrap_or(0);
                let start = bytes(self.elements.start);
                let len = bytes(self.elements.end).saturating_sub(start);
                super::write_back(file, lane.offset.saturating_add(start), len);
            }
        }
        Ok(())
    }
}
