//! Tensors whose rows are decoded when they are pulled.

use crate::UnpackError;
use crate::read::size;
use ir::{Compute, DType, Limits, Result, Shape, Tensor, TensorSpec};
use quant::CastStats;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Longest row that is decoded: a chunk of the output holds at least one. Real rows are a tenth.
const COLUMNS_MAX: u64 = 1 << 22;

/// A method's decoder. Rows are those of the result, all its leading dimensions as one.
pub(crate) trait Rows: Send + Sync + 'static {
    /// The parts.
    fn inputs(&self) -> &[Tensor];

    /// A word for people.
    fn label(&self) -> &'static str;

    /// Decodes whole rows to `out`, which has exactly their length.
    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()>;
}

struct Decoded<R> {
    spec: TensorSpec,
    columns: u64,
    rows: R,
}

/// The tensor that `rows` decodes, of F32 or a type its values are rounded to.
pub(crate) fn decoded(
    name: String,
    dtype: DType,
    shape: impl Into<Shape>,
    rows: impl Rows,
) -> Result<Tensor> {
    let shape = shape.into();
    let Some(columns) = shape.last().copied().filter(|n| *n > 0) else {
        let what = format!("a weight of shape {shape} has no rows");
        return Err(UnpackError::Value { tensor: name, what }.into());
    };
    Limits::check("columns of a packed weight", columns, COLUMNS_MAX)
        .map_err(|error| error.at(format!("tensor {name:?}")))?;
    let spec = TensorSpec::new(dtype, shape);
    // Checked here, so that nothing below can overflow.
    TensorSpec {
        dtype: DType::F64,
        ..spec.clone()
    }
    .require_byte_len(&name)?;
    Ok(Tensor::computed(
        name,
        Arc::new(Decoded {
            spec,
            columns,
            rows,
        }),
    ))
}

thread_local! {
    /// One buffer of decoded rows a thread, so that a chunk costs no large allocation.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl<R: Rows> Compute for Decoded<R> {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        self.rows.inputs()
    }

    fn label(&self) -> &str {
        self.rows.label()
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let first = elements.start / self.columns;
        let last = elements.end.div_ceil(self.columns);
        // Taken, not borrowed: an input may be computed too, and gets a fresh one.
        let mut values = SCRATCH.take();
        values.clear();
        values.resize(size((last - first) * self.columns), 0.0);
        let done = self.rows.rows(first..last, &mut values).and_then(|()| {
            let skip = size(elements.start - first * self.columns);
            let n = size(elements.end - elements.start);
            store(
                self.spec.dtype,
                values.get(skip..skip + n).unwrap_or(&[]),
                out,
            )
        });
        SCRATCH.set(values);
        done
    }
}

/// Values as little-endian bytes of `dtype`.
pub(crate) fn store(dtype: DType, values: &[f32], out: &mut [u8]) -> Result<()> {
    if dtype == DType::F32 {
        for (value, slot) in values.iter().zip(out.as_chunks_mut().0) {
            *slot = value.to_le_bytes();
        }
        return Ok(());
    }
    let wide: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let mut stats = CastStats::default();
    quant::cast(DType::F32, dtype, &wide, out, &mut stats).map_err(|error| {
        let what = error.to_string();
        ir::Error::from(ir::Fault::Unsupported { what })
    })
}
