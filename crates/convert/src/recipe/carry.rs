//! The ways out of blocks for targets that have none: as numbers, or as bytes with a note.

use super::DequantizeCompute;
use crate::DTypeChoice;
use crate::passes::retype;
use ir::{
    Capabilities, DType, MetaValue, MetadataKinds, Model, Record, Result, Shape, Tensor,
    TensorSpec, TensorTable, ns,
};
use std::sync::Arc;

/// `--dtype` for tensors of blocks: their numbers, in that type where it is one blocks become
/// directly, else in `F32`, from which the cast goes on. Only of tensors that are `wanted` so.
pub(crate) fn dequantize(
    model: &mut Model,
    choice: DTypeChoice,
    records: &mut Vec<Record>,
    wanted: impl Fn(&Tensor) -> bool,
) -> Result<()> {
    let DTypeChoice::To(to) = choice else {
        return Ok(());
    };
    let to = match to {
        DType::F16 | DType::BF16 => to,
        float if float.is_float() => DType::F32,
        _ => return Ok(()),
    };
    let mut counts: Vec<(DType, u64)> = Vec::new();
    let mut table = TensorTable::new();
    // Tied tensors share one computation, so that they stay tied.
    let ties = model.tensors.ties();
    let mut made: Vec<Option<Arc<DequantizeCompute>>> = vec![None; model.tensors.len()];
    for ((id, tensor), first) in model.tensors.ids().zip(ties) {
        let readable = match tensor.dtype() {
            DType::Block(format) => quant::can_dequantize(format),
            _ => false,
        };
        if !readable || !wanted(tensor) {
            table.push(tensor.clone())?;
            continue;
        }
        match counts.iter_mut().find(|row| row.0 == tensor.dtype()) {
            Some(row) => row.1 += 1,
            None => counts.push((tensor.dtype(), 1)),
        }
        let shared = made.get(first.index()).cloned().flatten();
        // Whoever asks for numbers gets those that are there, finite or not.
        let compute =
            shared.unwrap_or_else(|| Arc::new(DequantizeCompute::new(tensor.clone(), to, false)));
        if let Some(slot) = made.get_mut(id.index()) {
            *slot = Some(Arc::clone(&compute));
        }
        table.push(Tensor::computed(&tensor.name, compute))?;
    }
    model.tensors = table;
    for (from, n) in counts {
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let why = match to {
            DType::F32 => format!("to {to}: every value is kept"),
            _ => format!("to {to}: rounded to nearest, ties to even"),
        };
        let record = Record::changed("dequantized", format!("{n} {from} {tensors}"), why);
        records.push(record.flag("--dtype").wanted());
    }
    Ok(())
}

/// `--keep-blocks`: blocks that the target has no type for as `U8`, a row of bytes for each row,
/// with notes from which [`restore`](crate::restore) makes blocks of them again.
pub(crate) fn keep_blocks(
    model: &mut Model,
    target: &'static str,
    capabilities: &Capabilities,
    holds: impl Fn(DType) -> bool,
    records: &mut Vec<Record>,
) -> Result<()> {
    if !holds(DType::U8) || capabilities.metadata == MetadataKinds::None {
        return Ok(());
    }
    let mut table = TensorTable::new();
    for tensor in std::mem::take(&mut model.tensors).into_tensors() {
        let Some(spec) = as_bytes(&tensor.spec).filter(|_| !holds(tensor.dtype())) else {
            table.push(tensor)?;
            continue;
        };
        let name = &tensor.name;
        for (kind, value) in [
            ("dtype", tensor.dtype().name().to_owned()),
            ("shape", tensor.spec.shape.to_string()),
        ] {
            let key = format!("{kind}.{name}");
            model.metadata.set(ns::NOTE, key, MetaValue::text(value));
        }
        let why = format!(
            "{target} has no {}: its blocks carried as {} {}, noted in the metadata",
            tensor.dtype(),
            spec.dtype,
            spec.shape
        );
        records.push(Record::carried("reinterpreted", name, why));
        table.push(retype(&tensor, spec))?;
    }
    model.tensors = table;
    Ok(())
}

/// The bytes of blocks: the same outer dimensions, and a row's bytes.
fn as_bytes(spec: &TensorSpec) -> Option<TensorSpec> {
    let DType::Block(format) = spec.dtype else {
        return None;
    };
    let (row_len, outer) = spec.shape.split_last()?;
    let row = DType::Block(format).byte_len(*row_len)?;
    let shape: Shape = outer.iter().copied().chain([row]).collect();
    Some(TensorSpec::new(DType::U8, shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::restore_types;
    use crate::quantize;
    use crate::recipe::{FileType, QuantizeOptions};
    use ir::{Aliasing, BlockFormat, ModelBuilder, Packing};

    fn floats(n: usize) -> Vec<u8> {
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.01;
        (0..n).flat_map(|i| value(i).to_le_bytes()).collect()
    }

    fn model() -> Model {
        ModelBuilder::new()
            .tensor("blk.0.ffn_up.weight", DType::F32, [2, 256], floats(512))
            .tensor("blk.0.ffn_norm.weight", DType::F32, [256], floats(256))
            .tensor("token_embd.weight", DType::F32, [3, 96], floats(288))
            .metadata(ns::GGUF, "general.file_type", MetaValue::U32(0))
            .build()
            .unwrap()
    }

    #[test]
    fn blocks_travel_as_bytes_or_as_numbers() {
        let options = QuantizeOptions::default();
        let blocks = quantize(model(), FileType::Q4_K_M, &options, None)
            .unwrap()
            .model;
        let capabilities = Capabilities {
            dtype: |dtype| !matches!(dtype, DType::Block(_)),
            max_rank: None,
            max_name_bytes: None,
            graph: false,
            objects: false,
            aliasing: Aliasing::Note,
            metadata: MetadataKinds::Strings,
            shards: true,
            packing: Packing::Bytes,
            ordered: true,
        };
        let mut bytes = blocks.clone();
        keep_blocks(
            &mut bytes,
            "test",
            &capabilities,
            capabilities.dtype,
            &mut Vec::new(),
        )
        .unwrap();
        let carried = bytes.tensors.by_name("blk.0.ffn_up.weight").unwrap();
        assert_eq!(carried.spec, TensorSpec::new(DType::U8, [2, 144]));
        restore_types(&mut bytes).unwrap();
        let mut numbers = blocks.clone();
        let to = DTypeChoice::To(DType::F16);
        dequantize(&mut numbers, to, &mut Vec::new(), |_| true).unwrap();
        for tensor in &blocks.tensors {
            let back = bytes.tensors.by_name(&tensor.name).unwrap();
            assert_eq!(back.spec, tensor.spec);
            assert_eq!(back.read_all().unwrap(), tensor.read_all().unwrap());
            let number = numbers.tensors.by_name(&tensor.name).unwrap();
            let block = matches!(tensor.dtype(), DType::Block(_));
            assert_eq!(number.dtype(), if block { DType::F16 } else { DType::F32 });
        }
        let spec = TensorSpec::new(DType::Block(BlockFormat::Q8_0), [4, 2, 64]);
        assert_eq!(
            as_bytes(&spec),
            Some(TensorSpec::new(DType::U8, [4, 2, 68]))
        );
    }
}
