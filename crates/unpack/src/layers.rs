//! Which tensors belong together, by the suffixes a method gives them.

use crate::awq::awq;
use crate::bitnet::bitnet;
use crate::scaled::{Scaling, scaled};
use crate::settings::Settings;
use crate::{UnpackError, bnb, gptq, nvfp4, packed};
use ir::{DType, Model, Record, Result, Tensor, TensorTable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Replaces the packed weights of `model` by the floats they stand for. `settings` is the
/// configuration's `quantization_config`.
///
/// A weight that keeps its name keeps its place; one that has none yet is put after all others, as
/// the reference converter does.
///
/// # Errors
/// A method that is not known, a part that is missing or has another shape than its fellows.
pub fn unpack(model: &mut Model, settings: &Value) -> Result<()> {
    let settings = Settings(settings);
    let Some(method) = Method::of(settings)? else {
        return Ok(());
    };
    let mut work = Work {
        table: &model.tensors,
        settings,
        gone: BTreeSet::new(),
        changed: BTreeMap::new(),
        added: Vec::new(),
    };
    for tensor in &model.tensors {
        method.step(&mut work, tensor)?;
    }
    let n = work.changed.len() + work.added.len();
    let Work {
        gone,
        mut changed,
        added,
        ..
    } = work;
    let mut table = TensorTable::new();
    for tensor in &model.tensors {
        if let Some(tensor) = changed.remove(&tensor.name) {
            table.push(tensor)?;
        } else if !gone.contains(&tensor.name) {
            table.push(tensor.clone())?;
        }
    }
    for tensor in added {
        table.push(tensor)?;
    }
    if n > 0 {
        let weights = if n == 1 {
            "1 weight".to_owned()
        } else {
            format!("{n} weights")
        };
        let why = "computed from its codes and scales as they are written";
        let what = format!("{weights} quantized by {}", method.name());
        model
            .provenance
            .records
            .push(Record::changed("unpacked", what, why).wanted());
    }
    model.tensors = table;
    Ok(())
}

/// A method with the settings that decide between layouts.
enum Method {
    Fp8,
    Fbgemm,
    Modelopt,
    Compressed { format: Packing, group: Value },
    Gptq,
    Awq,
    BitsAndBytes,
    Bitnet,
}

/// Layouts of compressed-tensors.
enum Packing {
    Scaled,
    Packed,
    Nvfp4,
}

impl Method {
    /// `None` for a model whose tensors are as they should be.
    fn of(settings: Settings<'_>) -> Result<Option<Self>> {
        let named = settings.text("quant_method");
        let is = |key: &str| settings.get(key).and_then(Value::as_bool) == Some(true);
        let unnamed = if is("load_in_8bit") || is("load_in_4bit") {
            // Before the methods had names.
            Some("bitsandbytes")
        } else if settings.get("w_bit").is_some() {
            Some("awq")
        } else if settings.get("bits").is_some() {
            Some("gptq")
        } else {
            None
        };
        let Some(name) = named.or(unnamed) else {
            return Ok(None);
        };
        Ok(Some(match name {
            // Two tensors that fit ggml's blocks as they are.
            "mxfp4" => return Ok(None),
            "fp8" => Self::Fp8,
            "fbgemm_fp8" => Self::Fbgemm,
            "modelopt" => Self::Modelopt,
            "compressed-tensors" | "compressed_tensors" => Self::compressed(settings)?,
            "gptq" => Self::Gptq,
            "awq" => Self::Awq,
            "bitsandbytes" => Self::BitsAndBytes,
            "bitnet" => Self::Bitnet,
            other => {
                let method = other.to_owned();
                return Err(UnpackError::Method { method }.into());
            }
        }))
    }

    fn compressed(settings: Settings<'_>) -> Result<Self> {
        let groups = settings.get("config_groups").and_then(Value::as_object);
        let mut weights = groups
            .into_iter()
            .flatten()
            .filter_map(|(_, group)| group.get("weights"));
        let Some(group) = weights.next() else {
            return Err(settings.wrong("config_groups", "at least one group with \"weights\""));
        };
        // Which layer is of which group is told by patterns over class names, which files do not hold.
        if weights.any(|other| other != group) {
            return Err(settings.wrong("config_groups", "groups that pack weights alike"));
        }
        let name = settings.text("format").unwrap_or_default();
        let format = match name {
            // The last is what was compressed by leaving zeros out, or not at all.
            "float-quantized" | "int-quantized" | "naive-quantized" | "dense" => Packing::Scaled,
            "pack-quantized" => Packing::Packed,
            "nvfp4-pack-quantized" => Packing::Nvfp4,
            other => {
                let method = format!("compressed-tensors, {other:?}");
                return Err(UnpackError::Method { method }.into());
            }
        };
        let group = group.clone();
        Ok(Self::Compressed { format, group })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Fp8 => "fp8",
            Self::Fbgemm => "fbgemm_fp8",
            Self::Modelopt => "modelopt",
            Self::Compressed { .. } => "compressed-tensors",
            Self::Gptq => "gptq",
            Self::Awq => "awq",
            Self::BitsAndBytes => "bitsandbytes",
            Self::Bitnet => "bitnet",
        }
    }

    /// What one tensor of the source leads to.
    fn step(&self, work: &mut Work<'_>, tensor: &Tensor) -> Result<()> {
        match self {
            Self::Fp8 => work.fp8(tensor),
            Self::Fbgemm => work.fbgemm(tensor),
            Self::Modelopt => work.modelopt(tensor),
            Self::Compressed { format, group } => work.compressed(tensor, format, Settings(group)),
            Self::Gptq => work.gptq(tensor),
            Self::Awq => work.awq(tensor),
            Self::BitsAndBytes => work.bits_and_bytes(tensor),
            Self::Bitnet => work.bitnet(tensor),
        }
    }
}

/// The table in the making.
struct Work<'a> {
    table: &'a TensorTable,
    settings: Settings<'a>,
    /// Parts that became something else, or that no result needs.
    gone: BTreeSet<String>,
    changed: BTreeMap<String, Tensor>,
    added: Vec<Tensor>,
}

impl<'a> Work<'a> {
    fn find(&self, base: &str, suffix: &str) -> Option<&'a Tensor> {
        self.table.by_name(&format!("{base}{suffix}"))
    }

    /// A part that must be there.
    fn need(&self, base: &str, suffix: &str, beside: &Tensor) -> Result<&'a Tensor> {
        self.find(base, suffix).ok_or_else(|| {
            UnpackError::Missing {
                weight: beside.name.clone(),
                part: format!("{base}{suffix}"),
            }
            .into()
        })
    }

    fn drop(&mut self, name: &str) {
        self.gone.insert(name.to_owned());
    }

    fn drop_all(&mut self, base: &str, suffixes: &[&str]) {
        for suffix in suffixes {
            self.gone.insert(format!("{base}{suffix}"));
        }
    }

    /// `weight` times `scale`, in the weight's place.
    fn scale(&mut self, weight: &Tensor, scale: &Tensor, scaling: Scaling) -> Result<()> {
        let tensor = scaled("fp8", weight, scale, None, scaling)?;
        self.changed.insert(weight.name.clone(), tensor);
        self.drop(&scale.name);
        Ok(())
    }

    fn fp8(&mut self, tensor: &Tensor) -> Result<()> {
        let name = &tensor.name;
        // Scales of activations and caches, which a runtime measures anew.
        let activations = [
            "activation_scale",
            ".qscale_act",
            ".input_scale",
            ".k_scale",
            ".v_scale",
            ".output_scale",
        ];
        if activations.iter().any(|end| name.ends_with(end)) {
            self.drop(name);
            return Ok(());
        }
        let block = self.settings.block("weight_block_size")?;
        let found = if let Some(weight) = name.strip_suffix("_scale_inv") {
            Some(self.need(weight, "", tensor)?)
        } else if let Some(base) = name.strip_suffix(".qscale_weight") {
            Some(self.need(base, ".weight", tensor)?)
        } else if let Some(weight) = name
            .strip_suffix("_scale")
            .filter(|w| w.ends_with(".weight"))
        {
            // What those write who also measure activations.
            Some(self.need(weight, "", tensor)?)
        } else {
            None
        };
        match found {
            Some(weight) => self.scale(
                weight,
                tensor,
                Scaling {
                    block,
                    factor: None,
                },
            ),
            None => Ok(()),
        }
    }

    fn fbgemm(&mut self, tensor: &Tensor) -> Result<()> {
        if tensor.name.ends_with(".input_scale_ub") {
            self.drop(&tensor.name);
        }
        match tensor.name.strip_suffix("_scale") {
            Some(weight) if weight.ends_with("weight") => {
                let weight = self.need(weight, "", tensor)?;
                self.scale(weight, tensor, Scaling::default())
            }
            _ => Ok(()),
        }
    }

    fn modelopt(&mut self, tensor: &Tensor) -> Result<()> {
        let name = &tensor.name;
        let unused = [".input_scale", ".k_scale", ".v_scale", ".weight_scale_2"];
        if unused.iter().any(|end| name.ends_with(end)) {
            self.drop(name);
            return Ok(());
        }
        let Some(weight) = name
            .strip_suffix("_scale")
            .filter(|w| w.ends_with(".weight"))
        else {
            return Ok(());
        };
        let Some(found) = self.find(weight, "") else {
            self.drop(name);
            return Ok(());
        };
        if let Some(second) = self
            .find(weight, "_scale_2")
            .filter(|_| found.dtype() == DType::U8)
        {
            let tensor = nvfp4::nvfp4(weight.to_owned(), [found, tensor, second], false)?;
            self.drop(name);
            self.changed.insert(weight.to_owned(), tensor);
            return Ok(());
        }
        self.scale(found, tensor, Scaling::default())
    }

    fn compressed(&mut self, tensor: &Tensor, format: &Packing, group: Settings<'_>) -> Result<()> {
        let name = &tensor.name;
        let caches = [
            ".input_scale",
            ".input_zero_point",
            ".k_scale",
            ".v_scale",
            ".output_scale",
        ];
        if caches.iter().any(|end| name.ends_with(end)) {
            self.drop(name);
            return Ok(());
        }
        match format {
            Packing::Scaled => {
                let Some(weight) = name
                    .strip_suffix("_scale")
                    .filter(|w| w.ends_with(".weight"))
                else {
                    return Ok(());
                };
                let found = self.need(weight, "", tensor)?;
                let block = group.block("block_structure")?;
                let zero = self.find(weight, "_zero_point");
                let label = "compressed-tensors";
                let made = scaled(
                    label,
                    found,
                    tensor,
                    zero,
                    Scaling {
                        block,
                        factor: None,
                    },
                )?;
                self.drop_all(weight, &["_scale", "_zero_point", "_g_idx"]);
                self.changed.insert(weight.to_owned(), made);
            }
            Packing::Packed => {
                let Some(base) = name.strip_suffix("_packed") else {
                    return Ok(());
                };
                let parts = packed::Parts {
                    packed: tensor,
                    scale: self.need(base, "_scale", tensor)?,
                    shape: self.need(base, "_shape", tensor)?,
                    zero: self.find(base, "_zero_point"),
                    g_idx: self.find(base, "_g_idx"),
                };
                let made = packed::packed(base.to_owned(), &parts, group)?;
                self.added.push(made);
                let parts = ["_packed", "_scale", "_shape", "_zero_point", "_g_idx"];
                self.drop_all(base, &parts);
            }
            Packing::Nvfp4 => {
                let Some(base) = name.strip_suffix("_packed") else {
                    return Ok(());
                };
                let scale = self.need(base, "_scale", tensor)?;
                let global = self.need(base, "_global_scale", tensor)?;
                self.added.push(nvfp4::nvfp4(
                    base.to_owned(),
                    [tensor, scale, global],
                    true,
                )?);
                self.drop_all(base, &["_packed", "_scale", "_global_scale"]);
                let module = base.strip_suffix("weight").unwrap_or(base);
                self.drop(&format!("{module}input_global_scale"));
            }
        }
        Ok(())
    }

    fn gptq(&mut self, tensor: &Tensor) -> Result<()> {
        let Some(base) = tensor.name.strip_suffix(".qweight") else {
            return Ok(());
        };
        let parts = gptq::Parts {
            qweight: tensor,
            qzeros: self.need(base, ".qzeros", tensor)?,
            scales: self.need(base, ".scales", tensor)?,
            g_idx: self.find(base, ".g_idx"),
        };
        self.added
            .push(gptq::gptq(format!("{base}.weight"), &parts, self.settings)?);
        self.drop_all(base, &[".qweight", ".qzeros", ".scales", ".g_idx"]);
        Ok(())
    }

    fn awq(&mut self, tensor: &Tensor) -> Result<()> {
        let Some(base) = tensor.name.strip_suffix(".qweight") else {
            return Ok(());
        };
        let zeros = self.need(base, ".qzeros", tensor)?;
        let scales = self.need(base, ".scales", tensor)?;
        let name = format!("{base}.weight");
        self.added
            .push(awq(name, [tensor, zeros, scales], self.settings)?);
        self.drop_all(base, &[".qweight", ".qzeros", ".scales"]);
        Ok(())
    }

    fn bits_and_bytes(&mut self, tensor: &Tensor) -> Result<()> {
        let name = &tensor.name;
        if name.ends_with(".weight_format") {
            self.drop(name);
        } else if let Some(base) = name.strip_suffix(".SCB") {
            let weight = self.need(base, ".weight", tensor)?;
            // 1 / 127 as the library writes it.
            let scaling = Scaling {
                block: None,
                factor: Some(7.874_016e-3),
            };
            let made = scaled("bitsandbytes", weight, tensor, None, scaling)?;
            self.changed.insert(weight.name.clone(), made);
            self.drop(name);
        } else if let Some((weight, _)) = name.split_once(".quant_state.bitsandbytes__") {
            let nested = match self.find(weight, ".nested_absmax") {
                Some(absmax) => Some([self.need(weight, ".nested_quant_map", tensor)?, absmax]),
                None => None,
            };
            let parts = bnb::Parts {
                weight: self.need(weight, "", tensor)?,
                map: self.need(weight, ".quant_map", tensor)?,
                absmax: self.need(weight, ".absmax", tensor)?,
                state: tensor,
                nested,
            };
            let made = bnb::bnb(&parts)?;
            self.changed.insert(weight.to_owned(), made);
            let parts = [
                ".quant_map",
                ".absmax",
                ".nested_absmax",
                ".nested_quant_map",
            ];
            self.drop_all(weight, &parts);
            self.drop(name);
        }
        Ok(())
    }

    fn bitnet(&mut self, tensor: &Tensor) -> Result<()> {
        let Some(weight) = tensor
            .name
            .strip_suffix("_scale")
            .filter(|w| w.ends_with(".weight"))
        else {
            return Ok(());
        };
        let found = self.need(weight, "", tensor)?;
        self.changed
            .insert(weight.to_owned(), bitnet(found, tensor)?);
        self.drop(&tensor.name);
        Ok(())
    }
}
