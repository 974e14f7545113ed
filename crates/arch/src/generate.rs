//! Tensors that are made of the config: what some models scale their rotary frequencies with.

use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::table::Generate;
use ir::Result;
use serde_json::Value;

/// The values of `extra`, if its condition holds.
pub(crate) fn values(extra: &Generate, scope: &Scope<'_>) -> Result<Option<Vec<f32>>> {
    let fail = |why: String| ArchError::BadValue {
        what: extra.gguf.clone(),
        why,
    };
    if !truthy(&extra.when.eval(scope).map_err(fail)?) {
        return Ok(None);
    }
    if let Some(("llama3", args)) = extra.values.as_call()
        && args.is_empty()
    {
        return llama3(scope).map(Some).map_err(|why| fail(why).into());
    }
    let list = extra.values.eval(scope).map_err(fail)?;
    let Value::Array(items) = &list else {
        return Err(fail(format!("`{}` is {list}, not a list", extra.values)).into());
    };
    #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
    let numbers: Option<Vec<f32>> = items.iter().map(|v| v.as_f64().map(|v| v as f32)).collect();
    let numbers = numbers.ok_or_else(|| fail("an item is not a number".to_owned()))?;
    Ok(Some(numbers))
}

/// How many dimensions a head may have: real ones have up to 512. Steps of two stay exact in F32.
const MAX_DIM: f64 = 65_536.0;

/// Llama 3's smoothing: frequencies of long waves are divided by a factor, those of short ones
/// are left alone, and in between it goes over smoothly.
///
/// Every step is rounded as the reference rounds it: torch reckons with F32 tensors and Python
/// numbers, whose products with a tensor are F32 too.
fn llama3(scope: &Scope<'_>) -> Result<Vec<f32>, String> {
    let number = |text: &str| -> Result<f64, String> {
        let value = crate::expr::Expr::parse(text)?.eval(scope)?;
        value.as_f64().ok_or_else(|| format!("`{text}` is {value}"))
    };
    let base = number("rope.rope_theta ?? 10000.0")?;
    let dim = number("head_dim ?? hidden_size // num_attention_heads")?;
    // transformers loads no model without these three.
    let given = |key: &str| {
        let why = |_| format!("rope_scaling of type llama3 has no {key}");
        number(&format!("rope.{key}")).map_err(why)
    };
    let factor = given("factor")?;
    let low = given("low_freq_factor")?;
    let high = given("high_freq_factor")?;
    let context = number("rope.original_max_position_embeddings ?? 8192")?;
    if dim.is_nan() || dim > MAX_DIM {
        return Err(format!(
            "the heads have {dim} dimensions, over the limit of {MAX_DIM}"
        ));
    }
    Ok(llama3_factors(base, dim, factor, low, high, context))
}

/// See [`llama3`]. One factor for two of the `dim` dimensions, which the caller has bounded.
#[allow(clippy::cast_possible_truncation)] // F32 is what torch reckons in
pub(crate) fn llama3_factors(
    base: f64,
    dim: f64,
    factor: f64,
    low: f64,
    high: f64,
    context: f64,
) -> Vec<f32> {
    let (low_wave, high_wave) = (context / low, context / high);
    let mut factors = Vec::new();
    let mut at = 0.0f32;
    while f64::from(at) < dim {
        let exponent = at / dim as f32;
        // A number divided by a tensor is, in torch, the tensor's reciprocal times the number.
        let frequency = 1.0 / f64::from(base as f32).powf(f64::from(exponent)) as f32;
        let wave = (1.0 / frequency) * (2.0 * std::f64::consts::PI) as f32;
        factors.push(if f64::from(wave) < high_wave {
            1.0
        } else if f64::from(wave) > low_wave {
            factor as f32
        } else {
            let smooth = ((1.0 / wave) * context as f32 - low as f32) / (high - low) as f32;
            1.0 / ((1.0 - smooth) / factor as f32 + smooth)
        });
        at += 2.0;
    }
    factors
}
