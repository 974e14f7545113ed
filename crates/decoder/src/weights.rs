//! The weights: found by name, held against the configuration, entered into the graph once.

use crate::emit::Emit;
use crate::error::DecoderError;
use crate::family::Family;
use ir::{DType, Initializer, Record, Result, Shape, Tensor, TensorId, TensorTable, ValueId};
use std::collections::{BTreeMap, HashMap};

/// Buffers that old repositories saved among their weights; all are made anew by the graph.
const BUFFERS: [&str; 3] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
/// Names of the head.
const HEADS: [&str; 2] = ["lm_head", "language_model.lm_head"];

/// The weights of a model.
pub(crate) struct Weights<'a> {
    family: &'static Family,
    table: &'a TensorTable,
    /// What stands before the names of the decoder's tensors.
    base: &'static str,
    /// The type floats will be stored in, where that is not their own.
    storage: Option<DType>,
    /// The values of tensors that are in the graph.
    used: BTreeMap<TensorId, ValueId>,
    /// The same in another type.
    casts: HashMap<(TensorId, DType), ValueId>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(
        family: &'static Family,
        table: &'a TensorTable,
        storage: Option<DType>,
    ) -> Result<Self> {
        let names = family.names;
        let has = |base: &&&str| {
            let name = format!("{base}{}.weight", names.embedding);
            table.id_of(&name).is_some()
        };
        let base = names.bases.iter().find(has).ok_or_else(|| {
            let base = names.bases.first().unwrap_or(&"");
            DecoderError::Missing {
                family: family.name,
                name: format!("{base}{}.weight", names.embedding),
            }
        })?;
        Ok(Self {
            family,
            table,
            base,
            storage,
            used: BTreeMap::new(),
            casts: HashMap::new(),
        })
    }

    /// A path in the decoder, as the tensors below it are named.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}{below}", self.base)
    }

    /// The head's path, where it is not the embedding. A configuration that says `tied` beside a
    /// head of other values is wrong, and transformers believes the head.
    pub(crate) fn head(&self, tied: bool) -> Result<Option<&'static str>> {
        let has = |path: &&&str| self.id(&format!("{path}.weight")).is_some();
        match HEADS.iter().find(has) {
            Some(own) => Ok((!self.is_embedding(own, tied)?).then_some(*own)),
            None if tied => Ok(None),
            None => Err(self.missing("lm_head.weight").into()),
        }
    }

    /// Whether the head's weight is the embedding's: in the very same place, or, where it is said
    /// to be, stored twice.
    fn is_embedding(&self, head: &str, tied: bool) -> Result<bool> {
        let embedding = self.path(&format!("{}.weight", self.family.names.embedding));
        let (embedding, one) = self.tensor(&embedding)?;
        let (head, other) = self.tensor(&format!("{head}.weight"))?;
        let ties = self.table.ties();
        if ties.get(head.index()) == ties.get(embedding.index()) {
            return Ok(true);
        }
        Ok(tied && same_bytes(one, other)?)
    }

    fn id(&self, name: &str) -> Option<TensorId> {
        self.table.id_of(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.id(name).is_some()
    }

    pub(crate) fn shape(&self, name: &str) -> Result<&'a Shape> {
        Ok(&self.tensor(name)?.1.spec.shape)
    }

    fn tensor(&self, name: &str) -> Result<(TensorId, &'a Tensor)> {
        let found = self.id(name).and_then(|id| Some((id, self.table.get(id)?)));
        Ok(found.ok_or_else(|| self.missing(name))?)
    }

    fn missing(&self, name: &str) -> DecoderError {
        let (family, name) = (self.family.name, name.to_owned());
        DecoderError::Missing { family, name }
    }

    /// The value of a weight, in the type `to`, after its shape was held against `shape`.
    pub(crate) fn value(
        &mut self,
        emit: &mut Emit,
        name: &str,
        shape: &[u64],
        to: DType,
    ) -> Result<ValueId> {
        let id = self.stored(emit, name, shape)?;
        let (tensor, found) = self.tensor(name)?;
        if self.dtype(found) == to {
            return Ok(id);
        }
        if let Some(cast) = self.casts.get(&(tensor, to)) {
            return Ok(*cast);
        }
        let cast = emit.cast(id, to)?;
        self.casts.insert((tensor, to), cast);
        Ok(cast)
    }

    /// The value of a weight as it is stored.
    pub(crate) fn stored(&mut self, emit: &mut Emit, name: &str, shape: &[u64]) -> Result<ValueId> {
        let (id, tensor) = self.tensor(name)?;
        if tensor.spec.shape[..] != *shape {
            let name = name.to_owned();
            return Err(DecoderError::Shape {
                name,
                found: tensor.spec.shape.clone(),
                expected: Shape::new(shape),
            }
            .into());
        }
        let floats = [DType::F16, DType::BF16, DType::F32, DType::F64];
        let blocks = matches!(tensor.dtype(), DType::Block(_));
        if !floats.contains(&tensor.dtype()) && !blocks {
            let (name, dtype) = (name.to_owned(), tensor.dtype());
            return Err(DecoderError::Type { name, dtype }.into());
        }
        if let Some(value) = self.used.get(&id) {
            return Ok(*value);
        }
        let value = emit.value(name.to_owned(), None)?;
        self.used.insert(id, value);
        Ok(value)
    }

    /// The type a weight will be stored in.
    pub(crate) fn dtype_of(&self, name: &str) -> Result<DType> {
        Ok(self.dtype(self.tensor(name)?.1))
    }

    fn dtype(&self, tensor: &Tensor) -> DType {
        match tensor.dtype() {
            // Blocks are numbers of F32 where they are taken.
            DType::Block(_) => DType::F32,
            dtype => self.storage.unwrap_or(dtype),
        }
    }

    /// The tensors of the graph, in the source's order, entered as its initializers; and what
    /// became of the others.
    pub(crate) fn finish(self, emit: &mut Emit) -> Result<(TensorTable, Vec<Record>)> {
        let (mut table, mut records, mut left) = (TensorTable::new(), Vec::new(), Vec::new());
        let mut others = 0usize;
        for (id, tensor) in self.table.ids() {
            let name = tensor.name.as_str();
            if let Some(value) = self.used.get(&id) {
                let id = table.push(tensor.clone())?;
                emit.body.initializers.push(Initializer::Dense(*value, id));
            } else if BUFFERS.iter().any(|end| name.ends_with(end)) {
                let why = "a buffer that is computed anew, not a weight";
                records.push(Record::dropped("buffer", name, why).wanted());
            } else if HEADS.iter().any(|head| name == format!("{head}.weight")) {
                let why = "the head is the embedding, which stands once";
                records.push(Record::carried("tied", name, why));
            } else if self.base.is_empty() || name.starts_with(self.base) && !self.sideways(name) {
                left.push(name.to_owned());
            } else {
                others += 1;
            }
        }
        if !left.is_empty() {
            let count = left.len();
            left.truncate(8);
            return Err(DecoderError::Leftover {
                family: self.family.name,
                count,
                names: left,
            }
            .into());
        }
        if others > 0 {
            let what = format!("{others} tensors outside {}*", self.base);
            let why = "the graph is the text decoder's";
            records.push(Record::dropped("not-in-graph", what, why));
        }
        Ok((table, records))
    }

    /// Whether a tensor below the decoder's path is of another part: `model.vision_tower.…` beside
    /// `model.layers.…`.
    fn sideways(&self, name: &str) -> bool {
        let names = self.family.names;
        let first = name[self.base.len()..].split('.').next().unwrap_or("");
        let parts = [
            names.embedding,
            names.positions,
            names.final_norm,
            names.layers,
        ];
        !parts.contains(&first)
            && ["vision", "audio", "multi_modal"]
                .iter()
                .any(|p| first.starts_with(p))
    }
}

/// Whether two tensors are the same, read piece by piece up to the first difference.
fn same_bytes(one: &Tensor, other: &Tensor) -> Result<bool> {
    /// Elements read at once: 8 MiB at most.
    const PIECE: u64 = 1 << 20;
    let elements = one.spec.elements().unwrap_or(0);
    if one.spec != other.spec || one.dtype().element_bytes().is_none() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < elements {
        let end = elements.min(at.saturating_add(PIECE));
        let len = one.dtype().byte_len(end - at).unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(0);
        left.resize(len, 0);
        right.resize(len, 0);
        one.read(at..end, &mut left)?;
        other.read(at..end, &mut right)?;
        if left != right {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}
