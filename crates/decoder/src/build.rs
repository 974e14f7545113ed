//! From weights and configuration to the graph.

use crate::attention::Cache;
use crate::emit::{Emit, int, tensor};
use crate::family::Family;
use crate::settings::{Settings, settings};
use crate::weights::Weights;
use ir::{About, DType, Graph, Record, Result, TensorTable, ValueId};
use serde_json::{Map, Value};

/// The operator set the graph is written in: the first with `Attention`, `RotaryEmbedding` and
/// `RMSNormalization`.
const OPSET: i64 = 23;
/// The version of the format that came with it (ONNX 1.18).
const IR_VERSION: i64 = 11;

/// What a graph is built from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The family.
    pub family: &'static Family,
    /// The weights, under the names of the repository.
    pub tensors: &'a TensorTable,
    /// The configuration as `arch` gives it (its `Configuration::values`): under the names of the
    /// class, with those of its defaults filled in that GGUF keys need too, and all about rope
    /// under `rope` and `rope_all`. The defaults that only a graph needs are the family's own, so
    /// a file's `config.json` itself is not enough. Keys that the family does not list are not
    /// looked at.
    pub config: &'a Map<String, Value>,
    /// The type the weights will be stored in; `None` for the type each has. The caller casts
    /// them, in the table this crate answers. Tensors of blocks stay blocks: their values are F32
    /// where the graph takes them, which whoever writes blocks into graphs has to keep.
    pub storage: Option<DType>,
    /// The type that is computed with: `F32` or `F16`.
    pub compute: DType,
}

/// A decoder.
#[derive(Debug)]
pub struct Decoder {
    /// The graph; its initializers are all tensors of the table.
    pub graph: Graph,
    /// The weights it computes with, untouched, in the source's order.
    pub tensors: TensorTable,
    /// What is not in it, and why.
    pub records: Vec<Record>,
}

/// What the parts write with.
pub(crate) struct Builder<'a> {
    pub(crate) family: &'static Family,
    pub(crate) settings: Settings,
    pub(crate) weights: Weights<'a>,
    pub(crate) emit: Emit,
    pub(crate) compute: DType,
}

/// Builds the graph of a decoder: `input_ids`, `attention_mask`, `position_ids` and the cache in,
/// `logits` and the cache out, batch and sequence of any size.
pub fn decoder(request: Request<'_>) -> Result<Decoder> {
    let family = request.family;
    let mut builder = Builder {
        family,
        settings: settings(family, request.config)?,
        weights: Weights::new(family, request.tensors, request.storage)?,
        emit: Emit::default(),
        compute: request.compute,
    };
    builder.whole()?;
    let Builder {
        weights, mut emit, ..
    } = builder;
    let (tensors, records) = weights.finish(&mut emit)?;
    let mut body = emit.body;
    family.name.clone_into(&mut body.name);
    let graph = Graph {
        opsets: vec![(String::new(), OPSET)],
        body,
        about: About {
            ir_version: Some(IR_VERSION),
            producer: "weightbridge".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..About::default()
        },
        ..Graph::default()
    };
    Ok(Decoder {
        graph,
        tensors,
        records,
    })
}

/// The path of a module as nodes have it: `/` between modules, the number of a layer behind a dot.
pub(crate) fn module(path: &str) -> String {
    let mut made = String::with_capacity(path.len());
    for part in path.split('.') {
        let number = part.bytes().all(|b| b.is_ascii_digit());
        if !made.is_empty() {
            made.push(if number { '.' } else { '/' });
        }
        made.push_str(part);
    }
    made
}

impl Builder<'_> {
    fn whole(&mut self) -> Result<()> {
        const ROWS: [&str; 2] = ["batch_size", "sequence_length"];
        const TOTAL: &str = "total_sequence_length";
        let all = ["batch_size", TOTAL];
        let ids = self.emit.input("input_ids", tensor(DType::I64, &ROWS))?;
        let mask = self
            .emit
            .input("attention_mask", tensor(DType::I64, &all))?;
        let positions = self.emit.input("position_ids", tensor(DType::I64, &ROWS))?;
        let layers = self.settings.layers.clone();
        let heads = self.settings.kv_heads.to_string();
        let size = self.settings.head_dim.to_string();
        let cache = |length: &str| tensor(self.compute, &["batch_size", &heads, length, &size]);
        let (before, after) = (cache("past_sequence_length"), cache(TOTAL));
        let mut past = Vec::new();
        for i in 0..layers.len() {
            let [key, value] = ["key", "value"].map(|part| format!("past_key_values.{i}.{part}"));
            let key = self.emit.input(&key, before.clone())?;
            let value = self.emit.input(&value, before.clone())?;
            past.push(Cache { key, value });
        }
        let mut places = self.places(ids, mask, positions)?;
        let mut x = self.embedded(ids, positions)?;
        let mut present = Vec::new();
        for (i, (layer, past)) in layers.iter().zip(past).enumerate() {
            let names = self.family.names;
            let path = self.weights.path(&format!("{}.{i}", names.layers));
            let norms = self.family.norms;
            let attention = format!("{path}.{}", names.attention);
            let y = self.norm_if(x, &path, norms.before_attention)?;
            let (y, cache) = self.attention(y, &attention, layer, past, &mut places)?;
            let y = self.norm_if(y, &path, norms.after_attention)?;
            x = self.residual(x, y, &path)?;
            let y = self.norm_if(x, &path, norms.before_mlp)?;
            let y = self.mlp(y, &path)?;
            let y = self.norm_if(y, &path, norms.after_mlp)?;
            x = self.residual(x, y, &path)?;
            present.push(cache);
        }
        let last = self.weights.path(self.family.names.final_norm);
        let x = self.norm(x, &last, self.settings.hidden)?;
        let (logits, words) = self.logits(x, places.rows)?;
        let dims = ["batch_size", "sequence_length", &words.to_string()];
        self.emit
            .output(logits, "logits", tensor(self.compute, &dims));
        for (i, cache) in present.into_iter().enumerate() {
            let [key, value] = ["key", "value"].map(|part| format!("present.{i}.{part}"));
            self.emit.output(cache.key, &key, after.clone());
            self.emit.output(cache.value, &value, after.clone());
        }
        Ok(())
    }

    fn residual(&mut self, x: ValueId, y: ValueId, path: &str) -> Result<ValueId> {
        self.within(path);
        let y = self.times(y, self.settings.residual_factor)?;
        self.emit.node("Add", &[x, y], Vec::new())
    }

    /// The name and the rows of the embedding.
    fn embedding(&self) -> Result<(String, u64)> {
        let path = self.weights.path(self.family.names.embedding);
        let name = format!("{path}.weight");
        let rows = self.weights.shape(&name)?.first().copied();
        Ok((name, rows.unwrap_or(0)))
    }

    /// Rows are looked up in the stored type, so that a table is never cast whole for a few rows.
    fn looked_up(&mut self, name: &str, rows: u64, ids: ValueId) -> Result<ValueId> {
        self.within(name.trim_end_matches(".weight"));
        let hidden = self.settings.hidden;
        let table = self.weights.stored(&mut self.emit, name, &[rows, hidden])?;
        let x = self.emit.node("Gather", &[table, ids], Vec::new())?;
        if self.weights.dtype_of(name)? == self.compute {
            return Ok(x);
        }
        self.emit.cast(x, self.compute)
    }

    fn embedded(&mut self, ids: ValueId, positions: ValueId) -> Result<ValueId> {
        let (name, rows) = self.embedding()?;
        let mut x = self.looked_up(&name, rows, ids)?;
        x = self.times(x, self.settings.embedding_factor)?;
        let learned = self.family.names.positions;
        if !learned.is_empty() {
            let name = self.weights.path(&format!("{learned}.weight"));
            let rows = self.weights.shape(&name)?.first().copied().unwrap_or(0);
            let y = self.looked_up(&name, rows, positions)?;
            x = self.emit.node("Add", &[x, y], Vec::new())?;
        }
        let flat = [-1, crate::emit::signed(self.settings.hidden)];
        let flat = self.emit.list(&flat)?;
        self.emit.node("Reshape", &[x, flat], Vec::new())
    }

    /// `[batch, sequence, words]`, and how many words there are.
    fn logits(&mut self, x: ValueId, rows: ValueId) -> Result<(ValueId, u64)> {
        let (embedding, mut words) = self.embedding()?;
        let hidden = self.settings.hidden;
        let mut inputs = vec![x];
        self.emit.within("lm_head");
        if let Some(head) = self.weights.head(self.settings.tied)? {
            let name = format!("{head}.weight");
            words = self.weights.shape(&name)?.first().copied().unwrap_or(0);
            inputs.push(self.weight(&name, &[words, hidden])?);
            let bias = format!("{head}.bias");
            if self.weights.has(&bias) {
                inputs.push(self.weight(&bias, &[words])?);
            }
        } else {
            inputs.push(self.weight(&embedding, &[words, hidden])?);
        }
        // The head is a linear layer in every family, also where the others are Conv1D.
        let y = self.emit.node("Gemm", &inputs, vec![int("transB", 1)])?;
        let divisor = self.settings.logit_divisor.map(f32::recip);
        let y = self.times(y, divisor)?;
        let y = self.capped(y, self.settings.logit_cap, self.compute)?;
        Ok((self.emit.node("Reshape", &[y, rows], Vec::new())?, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecoderError, family};
    use ir::{Initializer, Limits, Model, ModelBuilder, PatternCompute};
    use serde_json::json;

    /// One layer of a llama with two heads over one of keys.
    fn llama(dtype: DType) -> Model {
        let mut model = ModelBuilder::new();
        for (name, shape) in [
            ("model.embed_tokens.weight", &[10, 8][..]),
            ("model.norm.weight", &[8]),
            ("model.layers.0.input_layernorm.weight", &[8]),
            ("model.layers.0.post_attention_layernorm.weight", &[8]),
            ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
            ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
            ("model.layers.0.self_attn.v_proj.bias", &[4]),
            ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
            ("model.layers.0.mlp.gate_proj.weight", &[6, 8]),
            ("model.layers.0.mlp.up_proj.weight", &[6, 8]),
            ("model.layers.0.mlp.down_proj.weight", &[8, 6]),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]),
            ("model.vision_tower.weight", &[3]),
        ] {
            model = model.push(PatternCompute::tensor(name, dtype, shape.to_vec()));
        }
        model.build().unwrap()
    }

    fn made(model: &Model, compute: DType) -> Result<Decoder> {
        let config = json!({"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
            "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": true});
        decoder(Request {
            family: family("llama", "llama").unwrap(),
            tensors: &model.tensors,
            config: config.as_object().unwrap(),
            storage: None,
            compute,
        })
    }

    fn ops(decoder: &Decoder, op: &str) -> usize {
        let nodes = decoder.graph.body.nodes.iter();
        nodes.filter(|node| node.op == op).count()
    }

    #[test]
    fn weights_stay_and_stand_once() {
        let model = llama(DType::F32);
        let made = made(&model, DType::F32).unwrap();
        assert_eq!(made.tensors.len(), 12);
        assert_eq!(made.graph.body.initializers.len(), 12);
        assert_eq!((ops(&made, "Gemm"), ops(&made, "Attention")), (8, 1));
        // Of the mask and of positions, none of a weight.
        assert_eq!(ops(&made, "Cast"), 2);
        assert_eq!(made.records.len(), 2);
        let names: Vec<_> = made.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(
            names[..2],
            ["model.embed_tokens.weight", "model.norm.weight"]
        );
        let whole = Model {
            tensors: made.tensors,
            graph: Some(made.graph),
            ..Model::default()
        };
        whole.validate(&Limits::default()).unwrap();
    }

    #[test]
    fn a_head_of_its_own_is_believed() {
        let head = |bytes: Vec<u8>| {
            let mut model = ModelBuilder::new();
            for tensor in &llama(DType::F32).tensors {
                model = model.push(tensor.clone());
            }
            let model = model.tensor("lm_head.weight", DType::F32, [10, 8], bytes);
            let made = made(&model.build().unwrap(), DType::F32).unwrap();
            made.tensors.id_of("lm_head.weight").is_some()
        };
        let embedding: Vec<u8> = (0..320).map(PatternCompute::byte).collect();
        assert!(!head(embedding));
        assert!(head(vec![0; 320]));
    }

    #[test]
    fn every_value_is_made_before_it_is_taken() {
        let made = made(&llama(DType::BF16), DType::F32).unwrap();
        // Eleven weights, and the rows of the embedding that were looked up.
        assert_eq!(ops(&made, "Cast"), 2 + 12 + 1);
        let body = &made.graph.body;
        let mut there: Vec<ValueId> = body.inputs.clone();
        for initializer in &body.initializers {
            let Initializer::Dense(value, _) = initializer else {
                panic!("sparse");
            };
            there.push(*value);
        }
        for node in &body.nodes {
            for input in node.inputs.iter().flatten() {
                assert!(there.contains(input), "{}", node.name);
            }
            there.extend(node.outputs.iter().flatten());
        }
        let mut names: Vec<_> = body.values.iter().map(|value| &value.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), body.values.len());
    }

    #[test]
    fn a_weight_more_or_less_or_of_another_shape_is_refused() {
        // One tensor under another name, or of another shape; an empty name for none.
        let refused = |of: &str, to: &str, dims: &[u64]| {
            let mut model = ModelBuilder::new();
            for tensor in &llama(DType::F32).tensors {
                let (mut name, mut shape) = (tensor.name.as_str(), tensor.spec.shape.to_vec());
                if name == of {
                    (name, shape) = (to, dims.to_vec());
                }
                if !name.is_empty() {
                    model = model.push(PatternCompute::tensor(name, DType::F32, shape));
                }
            }
            made(&model.build().unwrap(), DType::F32).unwrap_err()
        };
        let up = "model.layers.0.mlp.up_proj.weight";
        let gone = refused(up, "", &[]);
        assert!(gone.to_string().contains(up), "{gone}");
        let other = refused(up, up, &[6, 9]);
        let shape = matches!(other.downcast_ref(), Some(DecoderError::Shape { .. }));
        assert!(shape, "{other}");
        let norm = "model.layers.0.self_attn.q_norm.weight";
        let more = refused("model.vision_tower.weight", norm, &[4]);
        let left = matches!(more.downcast_ref(), Some(DecoderError::Leftover { .. }));
        assert!(left, "{more}");
    }

    #[test]
    fn modules_have_slashes_and_numbers_dots() {
        assert_eq!(
            module("model.layers.0.mlp.up_proj"),
            "model/layers.0/mlp/up_proj"
        );
    }
}
