//! What a configuration says, checked: sizes, windows, rope and factors of one model.
//!
//! A key that is not there stands for the default of its class, and there are two places for those.
//! `arch` has filled in what GGUF keys need too, by its tables' `[[config]]` of the model type:
//! numbers of heads, `head_dim`, `max_position_embeddings`, the epsilon, caps, scales, granite's
//! factors, the window of most, and all about rope. What only a graph needs is a field of
//! [`Family`]: the activation, whether the head is tied, which layers have a window. So a size, an
//! epsilon or a scale that is missing here is an error, and never guessed.

use crate::error::DecoderError;
use crate::family::{Family, Windows};
use crate::rope::{Rope, rope};
use ir::Result;
use serde_json::{Map, Value};

/// Most layers: the largest models have under 200.
const LAYERS_MAX: u64 = 4096;
/// Largest size of anything else: shapes are products of two of these and stay in 64 bits.
const SIZE_MAX: u64 = 1 << 24;

/// One model's numbers.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hidden: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) head_dim: u64,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    pub(crate) tied: bool,
    pub(crate) layers: Vec<Layer>,
    /// At most two: of layers that see all, of those with a window.
    pub(crate) ropes: Vec<Rope>,
    /// Caps on scores and logits, by a scaled tangent.
    pub(crate) score_cap: Option<f32>,
    pub(crate) logit_cap: Option<f32>,
    /// Factors; `None` for one.
    pub(crate) embedding_factor: Option<f32>,
    pub(crate) residual_factor: Option<f32>,
    pub(crate) logit_divisor: Option<f32>,
}

/// One layer's numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// How many positions it sees, the current one included.
    pub(crate) window: Option<u64>,
    /// Which rope turns it.
    pub(crate) rope: Option<usize>,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
}

/// What stands between the matrices of the part after attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    Gelu,
    GeluTanh,
    Relu,
}

/// A configuration, read key by key.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    values: &'a Map<String, Value>,
    /// The only keys that are looked at; `None` for all.
    keys: Option<&'static [&'static [&'static str]]>,
}

impl<'a> Config<'a> {
    /// The configuration of a model, as its family's class reads it.
    fn of(family: &Family, values: &'a Map<String, Value>) -> Self {
        let keys = Some(family.keys);
        Self { values, keys }
    }

    /// A part of a configuration, all of it.
    pub(crate) fn part(values: &'a Map<String, Value>) -> Self {
        Self { values, keys: None }
    }

    /// Whether a key is looked at.
    fn reads(self, key: &str) -> bool {
        let mut lists = self.keys.into_iter().flatten();
        self.keys.is_none() || lists.any(|list| list.contains(&key))
    }

    /// A value that is there, maybe null.
    fn given(self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|_| self.reads(key))
    }

    /// A value that is there and not null.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.given(key).filter(|value| !value.is_null())
    }

    pub(crate) fn bad(key: &str, why: impl Into<String>) -> DecoderError {
        let (key, why) = (key.to_owned(), why.into());
        DecoderError::BadConfig { key, why }
    }

    /// A count of at least one.
    pub(crate) fn count(self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let fits = |n: &u64| (1..=SIZE_MAX).contains(n);
        // Some configurations write 4096.0.
        let n = value.as_u64().or_else(|| whole(value.as_f64()?));
        let why = || format!("is {value}, not a count from 1 to {SIZE_MAX}");
        let n = n.filter(fits).ok_or_else(|| Self::bad(key, why()))?;
        Ok(Some(n))
    }

    pub(crate) fn needed(self, keys: &[&str]) -> Result<u64> {
        for key in keys {
            if let Some(n) = self.count(key)? {
                return Ok(n);
            }
        }
        Err(self.missing(keys).into())
    }

    pub(crate) fn number(self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64().filter(|n| n.is_finite()) {
            Some(n) => Ok(Some(n)),
            None => Err(Self::bad(key, format!("is {value}, not a number")).into()),
        }
    }

    fn needed_number(self, keys: &[&str]) -> Result<f64> {
        for key in keys {
            if let Some(n) = self.number(key)? {
                return Ok(n);
            }
        }
        Err(self.missing(keys).into())
    }

    /// Of several names that families have for one thing, the one of this family is missing.
    fn missing(self, keys: &[&str]) -> DecoderError {
        let own = keys.iter().find(|key| self.reads(key));
        Self::bad(own.or(keys.first()).unwrap_or(&""), "is missing")
    }

    /// A number as computed with, if it is not one.
    fn factor(self, key: &str) -> Result<Option<f32>> {
        let n = self.number(key)?.map(single);
        Ok(n.filter(|n| n.to_bits() != 1.0f32.to_bits()))
    }

    pub(crate) fn flag(self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    pub(crate) fn text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }
}

fn whole(n: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // compared with what it was
    let count = n as u64;
    #[allow(clippy::float_cmp)] // whole or not
    let same = count as f64 == n;
    same.then_some(count)
}

/// Rounds to what graphs compute with.
#[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
pub(crate) fn single(n: f64) -> f32 {
    n as f32
}

/// Reads a configuration for a family: its class's keys, and no others. See the module's head for
/// what is expected to be filled in.
pub(crate) fn settings(family: &Family, values: &Map<String, Value>) -> Result<Settings> {
    let config = Config::of(family, values);
    refuse(config)?;
    let hidden = config.needed(&["hidden_size", "n_embd"])?;
    let heads = config.needed(&["num_attention_heads", "n_head"])?;
    let kv_heads = config.count("num_key_value_heads")?.unwrap_or(heads);
    let head_dim = config.count("head_dim")?.unwrap_or(hidden / heads);
    if head_dim == 0 || !heads.is_multiple_of(kv_heads) {
        let why = format!("{heads} heads for {kv_heads} of keys in {hidden} numbers");
        return Err(Config::bad("num_attention_heads", why).into());
    }
    let count = config.needed(&["num_hidden_layers", "n_layer"])?;
    if count > LAYERS_MAX {
        let why = format!("is {count}, over {LAYERS_MAX}");
        return Err(Config::bad("num_hidden_layers", why).into());
    }
    let ropes = ropes(family, config, head_dim)?;
    let scaled = family.scaled_embedding.then(|| single(root(hidden)));
    Ok(Settings {
        hidden,
        heads,
        kv_heads,
        head_dim,
        epsilon: single(config.needed_number(&["rms_norm_eps", "layer_norm_epsilon"])?),
        activation: activation(family, config)?,
        tied: config.flag("tie_word_embeddings").unwrap_or(family.tied),
        layers: layers(family, config, count, head_dim, ropes.len())?,
        ropes,
        score_cap: config.number("attn_logit_softcapping")?.map(single),
        logit_cap: config.number("final_logit_softcapping")?.map(single),
        embedding_factor: match scaled {
            Some(factor) => Some(factor),
            None => config.factor("embedding_multiplier")?,
        },
        residual_factor: config.factor("residual_multiplier")?,
        logit_divisor: config.factor("logits_scaling")?,
    })
}

fn root(n: u64) -> f64 {
    (n as f64).sqrt()
}

/// What would make another model of it than the graph is.
fn refuse(config: Config<'_>) -> Result<()> {
    let causal = |value: &Value| *value == Value::Bool(true);
    let both = config.flag("use_bidirectional_attention") == Some(true);
    // Whatever is there and not true, null too, lets transformers' masks look ahead.
    let what = if both || !config.given("is_causal").is_none_or(causal) {
        "attention in both directions"
    } else if config.flag("add_cross_attention") == Some(true) {
        "cross attention"
    } else if config.get("per_layer_config").is_some() {
        "a per_layer_config: layers of their own sizes"
    } else if config.get("quantization_config").is_some() {
        "weights that are quantized already"
    } else {
        return Ok(());
    };
    let what = what.to_owned();
    Err(DecoderError::Feature { what }.into())
}

fn activation(family: &Family, config: Config<'_>) -> Result<Activation> {
    let keys = ["hidden_act", "hidden_activation", "activation_function"];
    let name = keys.iter().find_map(|key| config.text(key));
    Ok(match name.unwrap_or(family.activation) {
        "gelu" if family.gelu != "gelu" => Activation::GeluTanh,
        "silu" | "swish" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => {
            let what = format!("the activation {other:?}");
            return Err(DecoderError::Feature { what }.into());
        }
    })
}

/// The ropes of layers that see all and of those with a window.
fn ropes(family: &Family, config: Config<'_>, head_dim: u64) -> Result<Vec<Rope>> {
    if !family.rope {
        return Ok(Vec::new());
    }
    let empty = Map::new();
    let part = |name: &str| config.get(name).and_then(Value::as_object);
    let all = part("rope").unwrap_or(&empty);
    let mut list = vec![rope(all, config, head_dim, family.partial_rope)?];
    if family.local_rope {
        let mut plain = Map::new();
        if let Some(theta) = all.get("rope_theta") {
            plain.insert("rope_theta".to_owned(), theta.clone());
        }
        let local = part("rope_all").and_then(|all| all.get("sliding_attention"));
        let local = local.and_then(Value::as_object).unwrap_or(&plain);
        list.push(rope(local, config, head_dim, family.partial_rope)?);
    }
    Ok(list)
}

/// What scores are multiplied by.
fn scale(config: Config<'_>, head_dim: u64) -> Result<f64> {
    if let Some(factor) = config.number("attention_multiplier")? {
        return Ok(factor);
    }
    if config.flag("scale_attn_weights") == Some(false) {
        return Ok(1.0);
    }
    let key = "query_pre_attn_scalar";
    if !config.reads(key) {
        return Ok(root(head_dim).recip());
    }
    let scalar = config.needed_number(&[key])?;
    if scalar <= 0.0 {
        return Err(Config::bad(key, format!("is {scalar}, not more than 0")).into());
    }
    Ok(scalar.powf(-0.5))
}

fn layers(
    family: &Family,
    config: Config<'_>,
    count: u64,
    head_dim: u64,
    ropes: usize,
) -> Result<Vec<Layer>> {
    let on = config.flag("use_sliding_window") == Some(true);
    let off = family.windows == Windows::None || family.windows == Windows::Late && !on;
    let window = match config.given("sliding_window") {
        _ if off => None,
        None => family.window,
        Some(_) => config.count("sliding_window")?,
    };
    let first = config.number("max_window_layers")?.unwrap_or(28.0);
    let each = config.count("sliding_window_pattern")?;
    let scale = scale(config, head_dim)?;
    let by_layer = config.flag("scale_attn_by_inverse_layer_idx") == Some(true);
    let mut list = Vec::new();
    for i in 0..count {
        let turned = turned(family, config, i)?;
        let narrow = match (listed(config, i)?, family.windows) {
            (Some(listed), _) => listed,
            (None, Windows::None) => false,
            (None, Windows::All) => true,
            (None, Windows::Late) => i as f64 >= first,
            (None, Windows::Unturned) => on && !turned,
            (None, Windows::Pattern(n)) => !(i + 1).is_multiple_of(each.unwrap_or(n)),
        };
        if narrow && window.is_none() && config.get("layer_types").is_some() {
            let why = "is missing or off, and layer_types has layers with a window";
            return Err(Config::bad("sliding_window", why).into());
        }
        let rope = usize::from(narrow && ropes > 1);
        list.push(Layer {
            window: window.filter(|_| narrow),
            rope: (turned && rope < ropes).then_some(rope),
            scale: single(if by_layer {
                scale / (i as f64 + 1.0)
            } else {
                scale
            }),
        });
    }
    Ok(list)
}

/// Whether rope turns a layer.
fn turned(family: &Family, config: Config<'_>, i: u64) -> Result<bool> {
    let Some(each) = family.unturned else {
        return Ok(true);
    };
    if let Some(list) = config.get("no_rope_layers").and_then(Value::as_array) {
        let at = usize::try_from(i).unwrap_or(usize::MAX);
        return Ok(list.get(at).is_none_or(|on| on != 0));
    }
    let each = config.count("no_rope_layer_interval")?.unwrap_or(each);
    Ok(!(i + 1).is_multiple_of(each))
}

/// Whether `layer_types` gives a layer a window, if it says.
fn listed(config: Config<'_>, i: u64) -> Result<Option<bool>> {
    let at = usize::try_from(i).unwrap_or(usize::MAX);
    let kinds = config.get("layer_types").and_then(Value::as_array);
    match kinds.and_then(|kinds| kinds.get(at)?.as_str()) {
        None => Ok(None),
        Some("full_attention") => Ok(Some(false)),
        Some("sliding_attention") => Ok(Some(true)),
        Some(other) => {
            let what = format!("layers of the type {other:?}");
            Err(DecoderError::Feature { what }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::family;
    use serde_json::json;

    fn read(table: &str, config: &Value) -> Result<Settings> {
        let kind = config["model_type"].as_str().unwrap_or("");
        settings(family(table, kind).unwrap(), config.as_object().unwrap())
    }

    fn small() -> Value {
        json!({"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4,
            "rms_norm_eps": 1e-5})
    }

    fn windows(table: &str, more: &Value) -> Vec<Option<u64>> {
        let mut config = small();
        config["query_pre_attn_scalar"] = json!(64);
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let made = read(table, &config).unwrap();
        made.layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn windows_are_as_each_family_has_them() {
        let w = Some(8);
        let here = json!({"sliding_window": 8});
        assert_eq!(windows("llama", &here), [None; 4]);
        assert_eq!(windows("gemma2", &here), [w, None, w, None]);
        assert_eq!(windows("gemma3", &here), [w; 4]);
        let mistral = json!({"model_type": "mistral"});
        assert_eq!(windows("llama", &mistral), [Some(4096); 4]);
        let mistral = json!({"model_type": "mistral", "sliding_window": null});
        assert_eq!(windows("llama", &mistral), [None; 4]);
        assert_eq!(windows("qwen2", &here), [None; 4]);
        let late = json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3});
        assert_eq!(windows("qwen2", &late), [None, None, None, w]);
        let listed = json!({"sliding_window": 8, "layer_types":
            ["full_attention", "sliding_attention", "full_attention", "full_attention"]});
        assert_eq!(windows("gemma3", &listed), [None, w, None, None]);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for (key, value) in [
            ("hidden_size", json!(0)),
            ("hidden_size", json!(1u64 << 40)),
            ("num_attention_heads", json!(-4)),
            ("num_attention_heads", json!(128)),
            ("num_key_value_heads", json!(3)),
            ("num_hidden_layers", json!(1_000_000)),
            ("rms_norm_eps", json!("small")),
            ("rms_norm_eps", json!(null)),
            ("hidden_act", json!("mish")),
            ("is_causal", json!(null)),
        ] {
            let mut config = small();
            assert!(read("llama", &config).is_ok());
            config[key] = value;
            assert!(read("llama", &config).is_err(), "{key}");
        }
    }

    #[test]
    fn only_some_classes_turn_a_part_of_the_dimensions() {
        let mut config = small();
        config["rope"] = json!({"rope_type": "default", "partial_rotary_factor": 0.5});
        let pairs = |table| read(table, &config).unwrap().ropes[0].frequencies.len();
        assert_eq!([pairs("llama"), pairs("qwen2"), pairs("phi3")], [8, 8, 4]);
    }

    #[test]
    fn factors_follow_the_family() {
        let mut config = small();
        config["query_pre_attn_scalar"] = json!(64);
        config["attention_multiplier"] = json!(0.5);
        config["residual_multiplier"] = json!(0.25);
        let scale = |table| read(table, &config).unwrap().layers[0].scale;
        assert!((scale("llama") - 0.25).abs() < 1e-7);
        assert!((scale("gemma2") - 0.125).abs() < 1e-7);
        assert!((scale("granite") - 0.5).abs() < 1e-7);
        assert_eq!(read("gemma2", &config).unwrap().embedding_factor, Some(8.0));
        assert_eq!(
            read("granite", &config).unwrap().residual_factor,
            Some(0.25)
        );
    }
}
