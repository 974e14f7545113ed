"""Every key of a config that transformers' code of a class reads is one that the architecture's table knows.

A key that a table neither reads nor lists as `fixed` would be lost on the way to GGUF without a word. The code is
read as text: `config.KEY` wherever it stands. What changes no number of the text model is listed here, with why.
"""

import re
import tomllib
from pathlib import Path

import pytest

models = Path(pytest.importorskip("transformers").__file__).parent / "models"
TABLES = Path(__file__).resolve().parents[2] / "crates" / "arch" / "tables"

HARMLESS = {
    "training": """attention_dropout attention_probs_dropout_prob attn_pdrop classifier_dropout embd_pdrop embedding_dropout
        hidden_dropout hidden_dropout_prob initializer_cutoff_factor initializer_range mlp_dropout
        pretraining_tp projector_dropout resid_pdrop residual_dropout router_aux_loss_coef router_jitter_noise
        sparse_pred_ignore_index sparse_prediction""",
    "how it is run": """attention_softmax_in_fp32 chunk_size_feed_forward deterministic_flash_attn dtype get_text_config
        output_attentions output_hidden_states output_router_logits problem_type reorder_and_upcast_attn
        return_dict scale_attention_softmax_in_fp32 slow_but_exact use_cache""",
    "told by the tensors, or by a key of another name": """attention_out_bias conv_bias decoder_bias decoder_sparse_step ffn_hidden_size mlp_layer_types mlp_only_layers
        moe_layers norm_bias num_ln_in_parallel_attn qk_layernorm use_bias""",
    "of heads that GGUF has no place for": """add_cross_attention classifier_activation classifier_bias is_encoder_decoder num_labels summary_first_dropout
        summary_last_dropout summary_proj_to_labels summary_use_proj""",
    # Windows of these classes hang on `use_sliding_window`, which their tables read.
    "windows": "layer_types",
    "of the parts that see and hear": """attention_chunk_size attention_context_left attention_context_right attention_invalid_logits_value
        attention_logit_cap audio_config audio_token_id conv_kernel_size depth embed_dim fullatt_block_indexes
        gradient_clipping image_size image_token_id in_channels kv_sharing_modes mlp_ratio mm_tokens_per_image
        num_channels num_heads num_position_embeddings out_hidden_size output_proj_dims patch_size
        pixel_shuffle_ratio pooling_kernel_size position_embedding_size projector_input_dim projector_output_dim
        residual_weight spatial_merge_size standardize subsampling_conv_channels temporal_patch_size text_config
        use_clipped_linears video_token_id vision_config window_size""",
    "read as `rope`": "rope_parameters",
}
KNOWN = {key for keys in HARMLESS.values() for key in keys.split()}
OF_AUDIO = {"gemma4": {"hidden_act"}}


def cases():
    for path in sorted(TABLES.glob("*.toml")):
        for row in tomllib.loads(path.read_text()).get("config", []):
            kind = row["model_type"].replace("-", "_")
            kind = kind if (models / kind).is_dir() else kind.removesuffix("_text")
            code = models / kind / f"modeling_{kind}.py"
            if code.exists():
                yield pytest.param(path, code, id=f"{path.stem}-{kind}")


@pytest.mark.parametrize("table, code", cases())
def test_no_key_is_unknown(table, code):
    said = set(re.findall(r"\w+", table.read_text() + (TABLES / "base.toml").read_text()))
    read = {key for key in re.findall(r"\bconfig\.([a-zA-Z]\w*)", code.read_text())}
    unknown = read - said - KNOWN - OF_AUDIO.get(table.stem, set())
    assert not unknown, f"{table.name} neither reads nor fixes {sorted(unknown)}"


def test_there_are_such_classes():
    assert len(list(cases())) > 40
