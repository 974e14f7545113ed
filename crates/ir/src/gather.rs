//! Reading stored views: contiguous, byte-swapped, strided.
//!
//! A strided view is read box by box. A box that lies densely in its source is fetched with one
//! read and picked apart in memory; a sparse one is halved along the dimension that spreads it
//! most. So a transposed matrix costs few reads, never the whole storage in memory, and never a
//! read an element unless the elements truly lie far apart.

use crate::{ByteOrder, Fault, Result, Strides, TensorSpec, View};
use std::ops::Range;

/// A box is fetched at once only while its source span is at most this many bytes.
const SPAN_MAX: u64 = 1 << 20;
/// Below this a span is fetched whole however sparse it is: one read costs as much as these bytes.
const SPAN_CHEAP: u64 = 16 << 10;

/// Reads `elements` of a stored tensor into `out`, little-endian and row-major.
pub(crate) fn read(
    view: &View,
    spec: &TensorSpec,
    elements: Range<u64>,
    out: &mut [u8],
) -> Result<()> {
    match view
        .strides
        .as_ref()
        .filter(|strides| !strides.is_row_major(&spec.shape))
    {
        None => {
            let skipped = spec
                .dtype
                .byte_len(elements.start)
                .and_then(|b| b.checked_add(view.offset));
            let offset = skipped.ok_or(Fault::OutOfRegion {
                offset: elements.start,
                wanted: out.len() as u64,
                len: view.region.len(),
            })?;
            view.region.read_at(offset, out)?;
        }
        Some(strides) => read_strided(view, spec, strides, elements, out)?,
    }
    if view.byte_order == ByteOrder::Big {
        swap(out, spec.dtype.swap_width());
    }
    Ok(())
}

fn swap(bytes: &mut [u8], width: u32) {
    match width {
        2 => bytes
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .for_each(|n| n.reverse()),
        4 => bytes
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .for_each(|n| n.reverse()),
        8 => bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .for_each(|n| n.reverse()),
        _ => {}
    }
}

/// One dimension of a box: how many steps, how far apart in the source, how far apart in `out`.
/// All in elements.
#[derive(Clone, Copy)]
struct Axis {
    len: u64,
    source: u64,
    target: u64,
}

impl Axis {
    fn spread(self) -> u64 {
        (self.len - 1).saturating_mul(self.source)
    }
}

/// A box of a strided view still to be read.
struct Tile {
    /// First element in the source, counted from the view's offset.
    source: u64,
    /// First element in `out`.
    target: u64,
    axes: Vec<Axis>,
}

fn read_strided(
    view: &View,
    spec: &TensorSpec,
    strides: &Strides,
    elements: Range<u64>,
    out: &mut [u8],
) -> Result<()> {
    let Some(width) = spec.dtype.element_bytes() else {
        return Err(Fault::Unsupported {
            what: format!(
                "strided views of {}, whose elements are not whole bytes",
                spec.dtype
            ),
        }
        .into());
    };
    if elements.is_empty() {
        return Ok(());
    }
    let mut scratch = Vec::new();
    let mut tiles = tiles_of(spec, strides, elements);
    while let Some(tile) = tiles.pop() {
        let span = tile
            .axes
            .iter()
            .fold(1u64, |n, axis| n.saturating_add(axis.spread()));
        let count: u64 = tile.axes.iter().map(|axis| axis.len).product();
        let span_bytes = span.saturating_mul(u64::from(width));
        let dense = count.saturating_mul(2) >= span || span_bytes <= SPAN_CHEAP;
        if span == 1 || (dense && span_bytes <= SPAN_MAX) {
            fetch(view, &tile, u64::from(width), span_bytes, &mut scratch, out)?;
        } else {
            let (low, high) = halve(tile);
            tiles.push(high);
            tiles.push(low);
        }
    }
    Ok(())
}

/// Cuts a range of the row-major order into boxes: a ragged start, whole middles, a ragged end.
fn tiles_of(spec: &TensorSpec, strides: &Strides, elements: Range<u64>) -> Vec<Tile> {
    let shape = &spec.shape;
    // Elements below one step of each dimension. The spec is validated: products fit.
    let mut below = vec![1u64; shape.len()];
    for dim in (1..shape.len()).rev() {
        below[dim - 1] = below[dim].saturating_mul(shape[dim]);
    }
    let mut tiles = Vec::new();
    let mut at = elements.start;
    while at < elements.end {
        // The outermost dimension along which whole steps fit between here and the end.
        let dim = (0..shape.len())
            .find(|&dim| at.is_multiple_of(below[dim]) && below[dim] <= elements.end - at)
            .unwrap_or(shape.len() - 1);
        let index = (at / below[dim]) % shape[dim];
        let steps = ((elements.end - at) / below[dim])
            .min(shape[dim] - index)
            .max(1);
        let mut rest = at;
        let mut source = 0u64;
        for (&below, &stride) in below.iter().zip(strides.iter()) {
            source = source.saturating_add((rest / below).saturating_mul(stride));
            rest %= below;
        }
        let mut axes = vec![Axis {
            len: steps,
            source: strides[dim],
            target: below[dim],
        }];
        for inner in dim + 1..shape.len() {
            axes.push(Axis {
                len: shape[inner],
                source: strides[inner],
                target: below[inner],
            });
        }
        axes.retain(|axis| axis.len > 1);
        tiles.push(Tile {
            source,
            target: at - elements.start,
            axes,
        });
        at += steps.saturating_mul(below[dim]);
    }
    tiles
}

fn halve(mut tile: Tile) -> (Tile, Tile) {
    let widest = (0..tile.axes.len())
        .max_by_key(|&i| tile.axes[i].spread())
        .unwrap_or(0);
    let axis = tile.axes[widest];
    let low_len = axis.len / 2;
    let mut high_axes = tile.axes.clone();
    high_axes[widest].len = axis.len - low_len;
    let high = Tile {
        source: tile
            .source
            .saturating_add(low_len.saturating_mul(axis.source)),
        target: tile.target + low_len * axis.target,
        axes: high_axes,
    };
    tile.axes[widest].len = low_len;
    (tile, high)
}

fn fetch(
    view: &View,
    tile: &Tile,
    width: u64,
    span_bytes: u64,
    scratch: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<()> {
    let offset = tile
        .source
        .checked_mul(width)
        .and_then(|bytes| bytes.checked_add(view.offset))
        .unwrap_or(u64::MAX);
    scratch.resize(usize::try_from(span_bytes).unwrap_or(0), 0);
    view.region.read_at(offset, scratch)?;
    // Walk with the source's fastest axis innermost, so that reads of `scratch` run forward.
    let mut axes = tile.axes.clone();
    axes.sort_by_key(|axis| std::cmp::Reverse((axis.source, axis.target)));
    match width {
        1 => scatter::<1>(&axes, scratch, tile.target, out),
        2 => scatter::<2>(&axes, scratch, tile.target, out),
        4 => scatter::<4>(&axes, scratch, tile.target, out),
        8 => scatter::<8>(&axes, scratch, tile.target, out),
        _ => scatter::<16>(&axes, scratch, tile.target, out),
    }
    Ok(())
}

/// A place in a slice; one that does not fit the machine's words is past any slice's end.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Places the elements of a fetched span; `axes` outermost first.
fn scatter<const W: usize>(axes: &[Axis], span: &[u8], target: u64, out: &mut [u8]) {
    let span = span.as_chunks::<W>().0;
    let out = out.as_chunks_mut::<W>().0;
    let (outer, inner) = match axes.split_last() {
        Some((inner, outer)) => (outer, *inner),
        None => (
            axes,
            Axis {
                len: 1,
                source: 0,
                target: 0,
            },
        ),
    };
    let mut counts = vec![0u64; outer.len()];
    let (mut from, mut to) = (0u64, target);
    loop {
        let (mut f, mut t) = (from, to);
        for _ in 0..inner.len {
            // Both indices were bounded when the tile was cut; a miss would be a bug here.
            if let (Some(slot), Some(element)) = (out.get_mut(index(t)), span.get(index(f))) {
                *slot = *element;
            }
            f += inner.source;
            t += inner.target;
        }
        let mut dim = outer.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            counts[dim] += 1;
            from += outer[dim].source;
            to += outer[dim].target;
            if counts[dim] < outer[dim].len {
                break;
            }
            from -= outer[dim].source * outer[dim].len;
            to -= outer[dim].target * outer[dim].len;
            counts[dim] = 0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // small made-up numbers
mod tests {
    use super::*;
    use crate::{DType, Region, Shape, Tensor};

    /// Reads a strided view element by element: the plain twin.
    fn plain(data: &[u8], offset: usize, shape: &[u64], strides: &[u64], w: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let n: u64 = shape.iter().product();
        for mut i in 0..n {
            let mut at = 0;
            for (dim, &size) in shape.iter().enumerate().rev() {
                at += (i % size) * strides[dim];
                i /= size;
            }
            let at = offset + at as usize * w;
            out.extend_from_slice(&data[at..at + w]);
        }
        out
    }

    fn strided(data: &[u8], dtype: DType, shape: &[u64], strides: &[u64], offset: u64) -> Tensor {
        let view = View {
            region: Region::memory(data.to_vec()),
            offset,
            strides: Some(Strides::new(strides)),
            byte_order: ByteOrder::Little,
        };
        Tensor::stored("t", TensorSpec::new(dtype, Shape::new(shape)), view)
    }

    #[test]
    fn every_range_equals_the_plain_walk() {
        let data: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let cases: &[(&[u64], &[u64])] = &[
            (&[3, 4], &[1, 3]),
            (&[4, 3, 5], &[15, 1, 3]),
            (&[2, 3, 4], &[0, 4, 1]),
            (&[5, 6], &[12, 2]),
            (&[3, 1, 7], &[1, 9, 4]),
            (&[6], &[3]),
            (&[4, 4], &[1, 1]),
        ];
        for (shape, strides) in cases {
            let tensor = strided(&data, DType::F16, shape, strides, 6);
            let whole = plain(&data, 6, shape, strides, 2);
            let n = tensor.spec.elements().unwrap();
            // Miri is a thousand times slower: some of them there.
            let step = if cfg!(miri) { 5 } else { 1 };
            for start in (0..n).step_by(step) {
                for end in (start..=n).step_by(step) {
                    let mut out = vec![0; (end - start) as usize * 2];
                    tensor.read(start..end, &mut out).unwrap();
                    assert_eq!(
                        out,
                        whole[start as usize * 2..end as usize * 2],
                        "{shape:?}"
                    );
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many elements for it")]
    fn a_large_transpose_is_cut_into_tiles() {
        let (rows, cols) = (700u64, 900u64);
        let data: Vec<u8> = (0..rows * cols)
            .flat_map(|i| (i as u32).to_le_bytes())
            .collect();
        let tensor = strided(&data, DType::F32, &[cols, rows], &[1, cols], 0);
        let out = tensor.read_all().unwrap();
        assert_eq!(out, plain(&data, 0, &[cols, rows], &[1, cols], 4));
        let mut part = vec![0; 4 * 1000];
        tensor.read(1234..2234, &mut part).unwrap();
        assert_eq!(part, out[1234 * 4..2234 * 4]);
    }

    #[test]
    fn big_endian_is_swapped_by_part() {
        let view = View {
            region: Region::memory(vec![1, 2, 3, 4, 5, 6, 7, 8]),
            offset: 0,
            strides: None,
            byte_order: ByteOrder::Big,
        };
        let tensor = Tensor::stored("c", TensorSpec::new(DType::C64, [1]), view.clone());
        assert_eq!(tensor.read_all().unwrap(), [4, 3, 2, 1, 8, 7, 6, 5]);
        let bytes = Tensor::stored("b", TensorSpec::new(DType::U8, [8]), view);
        assert!(bytes.as_plain().is_some() && tensor.as_plain().is_none());
    }
}
