//! Diffusion models by the names of their tensors.
//!
//! Loaders of their GGUF files (ComfyUI-GGUF, whose `tools/convert.py` and `loader.py` are the source
//! of these names and signs) read the tensors under the names a checkpoint has, and tell the family
//! by `general.architecture`.

/// One family.
struct Family {
    /// What its loaders look for in `general.architecture`.
    name: &'static str,
    /// Tensors that tell it: all of one of these lists.
    signs: &'static [&'static [&'static str]],
    /// Tensors of the same model in another library's names, which those loaders do not know.
    unless: &'static [&'static str],
}

/// In turn: an earlier family may have the signs of a later one.
const FAMILIES: &[Family] = &[
    Family {
        name: "qwen_image",
        signs: &[&[
            "time_text_embed.timestep_embedder.linear_2.weight",
            "transformer_blocks.0.attn.norm_added_q.weight",
            "transformer_blocks.0.img_mlp.net.0.proj.weight",
        ]],
        unless: &[],
    },
    Family {
        name: "flux",
        signs: &[&["double_blocks.0.img_attn.proj.weight"]],
        unless: &["transformer_blocks.0.attn.norm_added_k.weight"],
    },
    Family {
        name: "sd3",
        signs: &[&["joint_blocks.0.x_block.attn.qkv.weight"]],
        unless: &["transformer_blocks.0.attn.add_q_proj.weight"],
    },
    Family {
        name: "aura",
        signs: &[&["double_layers.3.modX.1.weight"]],
        unless: &["joint_transformer_blocks.3.ff_context.out_projection.weight"],
    },
    Family {
        name: "hidream",
        signs: &[&[
            "caption_projection.0.linear.weight",
            "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight",
        ]],
        unless: &[],
    },
    Family {
        name: "cosmos",
        signs: &[&[
            "blocks.0.mlp.layer1.weight",
            "blocks.0.adaln_modulation_cross_attn.1.weight",
        ]],
        unless: &[],
    },
    Family {
        name: "ltxv",
        signs: &[&[
            "adaln_single.emb.timestep_embedder.linear_2.weight",
            "transformer_blocks.27.scale_shift_table",
            "caption_projection.linear_2.weight",
        ]],
        unless: &[],
    },
    Family {
        name: "hyvid",
        signs: &[&[
            "double_blocks.0.img_attn_proj.weight",
            "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
        ]],
        unless: &[],
    },
    Family {
        name: "wan",
        signs: &[&[
            "blocks.0.self_attn.norm_q.weight",
            "text_embedding.2.weight",
            "head.modulation",
        ]],
        unless: &[],
    },
    Family {
        name: "sdxl",
        signs: &[
            &[
                "down_blocks.0.downsamplers.0.conv.weight",
                "add_embedding.linear_1.weight",
            ],
            &[
                "input_blocks.3.0.op.weight",
                "input_blocks.6.0.op.weight",
                "output_blocks.2.2.conv.weight",
                "output_blocks.5.2.conv.weight",
            ],
            &["label_emb.0.0.weight"],
        ],
        unless: &[],
    },
    Family {
        name: "sd1",
        signs: &[
            &["down_blocks.0.downsamplers.0.conv.weight"],
            &[
                "input_blocks.3.0.op.weight",
                "input_blocks.6.0.op.weight",
                "input_blocks.9.0.op.weight",
                "output_blocks.2.1.conv.weight",
                "output_blocks.5.2.conv.weight",
                "output_blocks.8.2.conv.weight",
            ],
        ],
        unless: &[],
    },
    Family {
        name: "lumina2",
        signs: &[&[
            "cap_embedder.1.weight",
            "context_refiner.0.attention.qkv.weight",
        ]],
        unless: &[],
    },
];

/// What whole checkpoints put before the names of the part that counts; loaders take it away.
const PREFIXES: &[&str] = &["", "model.diffusion_model.", "model.", "net."];

/// The family's name for `general.architecture`, if there is one; `has` tells whether the model has
/// a tensor of that name.
pub fn diffusion_family(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let fits = |family: &Family| {
        PREFIXES.iter().any(|prefix| {
            let has = |name: &&str| has(&format!("{prefix}{name}"));
            family.signs.iter().any(|signs| signs.iter().all(has)) && !family.unless.iter().any(has)
        })
    };
    FAMILIES
        .iter()
        .find(|family| fits(family))
        .map(|family| family.name)
}

/// The names of all families.
pub fn diffusion_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart() {
        let family = |names: &[&str]| diffusion_family(|name| names.contains(&name));
        let unet = "down_blocks.0.downsamplers.0.conv.weight";
        assert_eq!(family(&[unet]), Some("sd1"));
        assert_eq!(
            family(&[unet, "add_embedding.linear_1.weight"]),
            Some("sdxl")
        );
        let flux = "double_blocks.0.img_attn.proj.weight";
        assert_eq!(family(&[flux]), Some("flux"));
        let inside = format!("model.diffusion_model.{flux}");
        assert_eq!(family(&[&inside]), Some("flux"));
        assert_eq!(
            family(&["transformer_blocks.0.attn.norm_added_k.weight"]),
            None
        );
        assert_eq!(family(&["layer1.0.conv1.weight", "fc.weight"]), None);
        for (at, one) in FAMILIES.iter().enumerate() {
            for signs in one.signs {
                let found = family(signs);
                let place = FAMILIES.iter().position(|other| Some(other.name) == found);
                assert!(place.is_some_and(|place| place <= at), "{}", one.name);
            }
        }
    }
}
