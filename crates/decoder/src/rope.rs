//! Rotary frequencies: what positions are multiplied by before cosine and sine.
//!
//! | `rope_type` | |
//! |---|---|
//! | `default` | `theta ^ (-2i / n)` |
//! | `linear` | divided by `factor` |
//! | `llama3` | long waves divided by `factor`, short ones not, smooth in between |
//! | `yarn` | divided by `factor` from one dimension on, a ramp before it; cosines are scaled |
//! | `longrope` | divided by a list of factors, another one beyond the first context; the same |
//! | others | refused |
//!
//! Each step is rounded to F32 where transformers' `modeling_rope_utils.py` does so.

use crate::error::DecoderError;
use crate::settings::{Config, single};
use ir::Result;
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// The frequencies of a model, or of its layers of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// One for each pair of turned dimensions.
    pub(crate) frequencies: Vec<f32>,
    /// Those that hold once any position is at least this.
    pub(crate) beyond: Option<(u64, Vec<f32>)>,
    /// What cosines and sines are multiplied by.
    pub(crate) factor: f32,
}

/// Reads the part of a configuration that is about rope. `partial` is whether the family's class
/// turns a part of the dimensions. In the others what scales reads how many turn all the same, and
/// then the class fails: an error here too.
pub(crate) fn rope(
    part: &Map<String, Value>,
    all: Config<'_>,
    head_dim: u64,
    partial: bool,
) -> Result<Rope> {
    let config = Config::part(part);
    let kind = config.text("rope_type").or_else(|| config.text("type"));
    let kind = kind.unwrap_or("default");
    let theta = config.number("rope_theta")?.unwrap_or(10_000.0);
    let share = config.number("partial_rotary_factor")?;
    let share = share.filter(|_| partial || kind != "default");
    let share = share.unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked below
    let turned = (head_dim as f64 * share) as u64;
    let fits = turned == head_dim || partial && (2..head_dim).contains(&turned);
    if theta <= 0.0 || !fits || !turned.is_multiple_of(2) {
        let why = format!("turns {turned} of {head_dim} dimensions, by a base of {theta}");
        return Err(Config::bad("rope", why).into());
    }
    let waves = waves(theta, turned);
    let plain = |frequencies| Rope {
        frequencies,
        beyond: None,
        factor: 1.0,
    };
    Ok(match kind {
        "default" => plain(waves.iter().map(|wave| wave.recip()).collect()),
        "linear" => {
            let factor = single(needed(config, "factor")?);
            plain(waves.iter().map(|wave| wave.recip() / factor).collect())
        }
        "llama3" => plain(llama3(&waves, config, all)?),
        // Phi 3 once called it su, and for a while yarn: then it has the lists.
        "yarn" if config.get("short_factor").is_none() => yarn(&waves, theta, config, all)?,
        "longrope" | "su" | "yarn" => longrope(&waves, config, all)?,
        other => {
            let what = format!("rope of the type {other:?}");
            return Err(DecoderError::Feature { what }.into());
        }
    })
}

/// `theta ^ (2i / n)`.
fn waves(theta: f64, turned: u64) -> Vec<f32> {
    let at = |i: u64| f64::from(single((2 * i) as f64) / single(turned as f64));
    let base = f64::from(single(theta));
    (0..turned / 2).map(|i| single(base.powf(at(i)))).collect()
}

fn needed(config: Config<'_>, key: &str) -> Result<f64> {
    match config.number(key)? {
        Some(n) if n > 0.0 => Ok(n),
        Some(n) => Err(Config::bad(key, format!("is {n}, rope needs more than 0")).into()),
        None => Err(Config::bad(key, "is missing, rope needs it").into()),
    }
}

/// How long sequences were before the model was taught longer ones.
fn first_context(config: Config<'_>, all: Config<'_>) -> Result<u64> {
    match config.count("original_max_position_embeddings")? {
        Some(n) => Ok(n),
        None => all.needed(&["max_position_embeddings"]),
    }
}

fn llama3(waves: &[f32], config: Config<'_>, all: Config<'_>) -> Result<Vec<f32>> {
    let factor = single(needed(config, "factor")?);
    let low = needed(config, "low_freq_factor")?;
    let high = needed(config, "high_freq_factor")?;
    let context = first_context(config, all)? as f64;
    let (long, short) = (single(context / low), single(context / high));
    let turn = single(2.0 * PI);
    Ok(waves
        .iter()
        .map(|wave| {
            let frequency = wave.recip();
            let length = frequency.recip() * turn;
            if length > long {
                frequency / factor
            } else if length < short {
                frequency
            } else {
                let ahead = length.recip() * single(context) - single(low);
                let smooth = ahead / single(high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        })
        .collect())
}

fn yarn(waves: &[f32], theta: f64, config: Config<'_>, all: Config<'_>) -> Result<Rope> {
    let context = first_context(config, all)? as f64;
    let factor = match config.number("factor")? {
        Some(_) => needed(config, "factor")?,
        None => all.needed(&["max_position_embeddings"])? as f64 / context,
    };
    let turned = 2.0 * waves.len() as f64;
    let rotations = |key: &str, default: f64| -> Result<f64> {
        Ok(config.number(key)?.filter(|n| *n > 0.0).unwrap_or(default))
    };
    // The dimension that turns so many times within the first context.
    let dimension =
        |rotations: f64| turned * (context / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let mut low = dimension(rotations("beta_fast", 32.0)?);
    let mut high = dimension(rotations("beta_slow", 1.0)?);
    // Read beside the parts of layer types, where there are such, as transformers does.
    let outer = all.get("rope_all").and_then(Value::as_object);
    if outer.and_then(|all| Config::part(all).flag("truncate")) != Some(false) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(turned - 1.0));
    #[allow(clippy::float_cmp)] // only where they are the very same there is no ramp
    if low == high {
        high += 0.001;
    }
    let frequencies = waves.iter().enumerate().map(|(i, wave)| {
        let ramp = ((single(i as f64) - single(low)) / single(high - low)).clamp(0.0, 1.0);
        let kept = 1.0 - ramp;
        (single(factor) * wave).recip() * (1.0 - kept) + wave.recip() * kept
    });
    let scaled = |times: f64| {
        if factor > 1.0 {
            0.1 * times * factor.ln() + 1.0
        } else {
            1.0
        }
    };
    let given = |key: &str| config.number(key).map(|n| n.filter(|n| *n != 0.0));
    let scale = match (
        config.number("attention_factor")?,
        given("mscale")?,
        given("mscale_all_dim")?,
    ) {
        (Some(scale), ..) => scale,
        (None, Some(one), Some(all)) => scaled(one) / scaled(all),
        _ => scaled(1.0),
    };
    Ok(Rope {
        frequencies: frequencies.collect(),
        beyond: None,
        factor: single(scale),
    })
}

fn longrope(waves: &[f32], config: Config<'_>, all: Config<'_>) -> Result<Rope> {
    let context = first_context(config, all)?;
    let factor = match config.number("factor")? {
        Some(factor) => factor,
        None => all.needed(&["max_position_embeddings"])? as f64 / context as f64,
    };
    let scale = match config.number("attention_factor")? {
        Some(scale) => scale,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (context as f64).ln()).sqrt(),
    };
    let divided = |key: &str| -> Result<Vec<f32>> {
        let list = config.get(key).and_then(Value::as_array);
        let list = list.map_or(&[][..], Vec::as_slice);
        let factors: Option<Vec<f32>> = list.iter().map(|v| v.as_f64().map(single)).collect();
        let factors = factors.filter(|list| list.len() == waves.len());
        let why = || format!("is no list of {} numbers", waves.len());
        let factors = factors.ok_or_else(|| Config::bad(key, why()))?;
        let divided = factors.iter().zip(waves);
        Ok(divided
            .map(|(factor, wave)| (factor * wave).recip())
            .collect())
    };
    Ok(Rope {
        frequencies: divided("short_factor")?,
        beyond: Some((context, divided("long_factor")?)),
        factor: single(scale),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(part: &Value) -> Result<Rope> {
        let all = json!({"max_position_embeddings": 64});
        rope(
            part.as_object().unwrap(),
            Config::part(all.as_object().unwrap()),
            8,
            true,
        )
    }

    #[test]
    fn frequencies_fall_and_scaling_only_slows() {
        let plain = made(&json!({})).unwrap();
        assert_eq!(plain.frequencies, [1.0, 0.1, 0.01, 0.001]);
        let half = made(&json!({"partial_rotary_factor": 0.5})).unwrap();
        assert_eq!(half.frequencies, [1.0, 0.01]);
        let linear = made(&json!({"rope_type": "linear", "factor": 2})).unwrap();
        assert_eq!(linear.frequencies[..1], [0.5]);
        let llama = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 64});
        let llama = made(&llama).unwrap();
        assert_eq!(llama.frequencies[..1], [1.0]);
        assert_eq!(llama.frequencies[3..], [plain.frequencies[3] / 8.0]);
        let yarn = json!({"rope_type": "yarn", "factor": 4});
        let yarn = made(&yarn).unwrap();
        assert!((yarn.factor - 1.138_629_4).abs() < 1e-6);
        assert!((yarn.frequencies[3] * 4.0 / plain.frequencies[3] - 1.0).abs() < 1e-6);
        let long = json!({"rope_type": "longrope", "original_max_position_embeddings": 32,
            "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]});
        let long = made(&long).unwrap();
        assert_eq!(long.frequencies, plain.frequencies);
        assert_eq!(long.beyond.unwrap().0, 32);
        assert!((long.factor - 1.2f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for part in [
            json!({"rope_type": "dynamic", "factor": 2}),
            json!({"rope_type": "linear"}),
            json!({"rope_type": "linear", "factor": 0}),
            json!({"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}),
            json!({"partial_rotary_factor": 2.0}),
            json!({"rope_theta": -1}),
        ] {
            assert!(made(&part).is_err(), "{part}");
        }
    }
}
