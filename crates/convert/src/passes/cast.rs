//! `--dtype`: every float tensor in another float type.

use crate::ConvertError;
use crate::recipe::{DequantizeCompute, QuantizeCompute};
use ir::{Compute, DType, Model, Payload, Record, Result, Tensor, TensorSpec, TensorTable};
use quant::CastStats;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What element type float tensors shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DTypeChoice {
    /// As they are.
    #[default]
    Keep,
    /// This one.
    To(DType),
}

/// Counts of what casts did, filled while the data is pulled and read when all is written.
#[derive(Debug, Default)]
pub struct CastCounts(Mutex<Vec<Arc<Counted>>>);

#[derive(Debug)]
struct Counted {
    name: String,
    label: String,
    overflowed: AtomicU64,
    underflowed: AtomicU64,
}

impl CastCounts {
    /// A record for each tensor in which values overflowed or became zero.
    pub fn records(&self) -> Vec<Record> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        for counted in list.iter() {
            let over = counted.overflowed.load(Ordering::Relaxed);
            let under = counted.underflowed.load(Ordering::Relaxed);
            let mut parts = Vec::new();
            if over > 0 {
                parts.push(format!("{over} values became infinite"));
            }
            if under > 0 {
                parts.push(format!("{under} values became zero"));
            }
            if !parts.is_empty() {
                let why = format!("{}: {}", counted.label, parts.join(", "));
                records.push(Record::changed("cast-range", &counted.name, why).flag("--dtype"));
            }
        }
        records
    }
}

/// Casts one tensor when pulled.
struct CastCompute {
    spec: TensorSpec,
    input: [Tensor; 1],
    counted: Arc<Counted>,
}

impl CastCompute {
    fn new(tensor: Tensor, to: DType) -> Self {
        let counted = Counted {
            name: tensor.name.clone(),
            label: format!("{} to {to}", tensor.dtype()),
            overflowed: AtomicU64::new(0),
            underflowed: AtomicU64::new(0),
        };
        Self {
            spec: TensorSpec {
                dtype: to,
                shape: tensor.spec.shape.clone(),
            },
            input: [tensor],
            counted: Arc::new(counted),
        }
    }
}

impl Compute for CastCompute {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.counted.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        with_scratch(input, elements, |bytes| {
            let mut stats = CastStats::default();
            quant::cast(input.dtype(), self.spec.dtype, bytes, out, &mut stats)
                .map_err(ConvertError::Cast)?;
            if stats.overflowed > 0 {
                self.counted
                    .overflowed
                    .fetch_add(stats.overflowed, Ordering::Relaxed);
            }
            if stats.underflowed > 0 {
                self.counted
                    .underflowed
                    .fetch_add(stats.underflowed, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

thread_local! {
    /// One input buffer a thread, so that a chunk costs no allocation.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads elements of `input` into this thread's buffer and hands it to `work`.
fn with_scratch(
    input: &Tensor,
    elements: Range<u64>,
    work: impl FnOnce(&[u8]) -> Result<()>,
) -> Result<()> {
    let len = input
        .dtype()
        .byte_len(elements.end - elements.start)
        .unwrap_or(0);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    // Taken, not borrowed: a computation below may want the buffer too, and gets a fresh one.
    let mut buffer = SCRATCH.take();
    buffer.resize(len, 0);
    let done = input
        .read(elements, &mut buffer)
        .and_then(|()| work(&buffer));
    SCRATCH.set(buffer);
    done
}

/// Gives each tensor the type beside it: plain floats by a cast, blocks by ggml's kernels.
pub fn to_types(
    tensors: impl IntoIterator<Item = (Tensor, DType)>,
    counts: &CastCounts,
) -> Result<TensorTable> {
    let mut list = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut table = TensorTable::new();
    for (tensor, to) in tensors {
        let from = tensor.dtype();
        table.push(if from == to {
            tensor
        } else if matches!(from, DType::Block(_)) && to == DType::F32 {
            numbers(tensor)
        } else if matches!(from, DType::Block(_)) || matches!(to, DType::Block(_)) {
            let name = tensor.name.clone();
            let compute = QuantizeCompute::new(tensor, to, None, false, None);
            Tensor::computed(name, Arc::new(compute))
        } else if quant::can_cast(from, to) {
            let compute = CastCompute::new(tensor, to);
            list.push(Arc::clone(&compute.counted));
            Tensor::computed(compute.counted.name.clone(), Arc::new(compute))
        } else {
            let tensor = tensor.name;
            return Err(ConvertError::NoCast { tensor, from, to }.into());
        })?;
    }
    Ok(table)
}

/// The numbers that blocks stand for.
pub(crate) fn numbers(blocks: Tensor) -> Tensor {
    let name = blocks.name.clone();
    let compute = DequantizeCompute::new(blocks, DType::F32, false);
    Tensor::computed(name, Arc::new(compute))
}

/// Casts every float tensor to `choice`.
pub(crate) fn cast(
    model: &mut Model,
    choice: DTypeChoice,
    counts: &CastCounts,
    records: &mut Vec<Record>,
) -> Result<()> {
    let DTypeChoice::To(to) = choice else {
        return Ok(());
    };
    let mut by_type: Vec<(DType, u64)> = Vec::new();
    let mut table = TensorTable::new();
    let mut counted_list = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Tied tensors share one computation, so that they stay tied.
    let ties = model.tensors.ties();
    let mut made: Vec<Option<Payload>> = vec![None; model.tensors.len()];
    for ((id, tensor), first) in model.tensors.ids().zip(ties) {
        let from = tensor.dtype();
        if from == to || !quant::can_cast(from, to) {
            table.push(tensor.clone())?;
            continue;
        }
        let payload = if let Some(payload) = made.get(first.index()).cloned().flatten() {
            payload
        } else {
            let compute = CastCompute::new(tensor.clone(), to);
            counted_list.push(Arc::clone(&compute.counted));
            Payload::Computed(Arc::new(compute))
        };
        if let Some(slot) = made.get_mut(id.index()) {
            *slot = Some(payload.clone());
        }
        let spec = TensorSpec {
            dtype: to,
            shape: tensor.spec.shape.clone(),
        };
        table.push(Tensor {
            name: tensor.name.clone(),
            spec,
            payload,
        })?;
        match by_type.iter_mut().find(|(dtype, _)| *dtype == from) {
            Some((_, n)) => *n += 1,
            None => by_type.push((from, 1)),
        }
    }
    for (from, n) in by_type {
        let widening = widens(from, to);
        let why = if widening {
            "every value is kept"
        } else {
            "rounded to nearest, ties to even"
        };
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let record = Record::changed(
            "cast",
            format!("{n} {from} {tensors}"),
            format!("to {to}: {why}"),
        );
        // Asked for by --dtype, so not a loss that --strict should refuse.
        records.push(record.flag("--dtype").wanted());
    }
    model.tensors = table;
    Ok(())
}

/// Whether every value of `from` is a value of `to`.
fn widens(from: DType, to: DType) -> bool {
    let small = !matches!(from, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
    match to {
        DType::F64 => true,
        DType::F32 => from != DType::F64,
        DType::BF16 => small,
        DType::F16 => small && from != DType::F8E8M0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::ModelBuilder;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn casts_floats_counts_losses_and_leaves_integers() {
        let mut model = ModelBuilder::new()
            .tensor("w", DType::F32, [4], f32s(&[1.0, 1e6, 1e-9, -2.5]))
            .tensor("i", DType::I64, [1], 7i64.to_le_bytes().to_vec())
            .build()
            .unwrap();
        let counts = CastCounts::default();
        let mut records = Vec::new();
        cast(
            &mut model,
            DTypeChoice::To(DType::F16),
            &counts,
            &mut records,
        )
        .unwrap();
        let w = model.tensors.by_name("w").unwrap();
        let bits: Vec<u16> = w
            .read_all()
            .unwrap()
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect();
        assert_eq!(bits, [0x3c00, 0x7c00, 0, 0xc100]);
        assert_eq!(model.tensors.by_name("i").unwrap().dtype(), DType::I64);
        assert_eq!(records.len(), 1);
        let lost = counts.records();
        assert_eq!(lost.len(), 1);
        assert!(
            lost[0]
                .why
                .contains("1 values became infinite, 1 values became zero")
        );
        assert_eq!(w.history(), "F32 to F16 ← memory@0");
    }
}
