#!/usr/bin/env python3
"""There and back: does transformers load the repository that comes back, and give the same logits?

For each architecture of models.py that transformers has a class for, a small model with random
weights is saved, taken to GGUF's names and values and back by the example `arch_dump`, loaded with
the class its new config.json names, and run beside the original on eight tokens.

    cargo build -p weightbridge-arch --example arch_dump
    python back.py --dump TARGET/debug/examples/arch_dump [NAME ...]

Needs torch and transformers. Prints a line for each and exits 1 if any differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Where our values cannot be the original's, and why.
ALLOWED = {
    "mamba": 1e-5,  # exp and ln of the decay: the last bit
    "mamba2": 1e-5,
    "qwen35": 1e-5,
    "qwen35moe": 1e-5,
    "qwen3next": 1e-5,
}
# What GGUF does not keep, so that the small models must have what all real ones have.
REAL = {"qwen3moe": {"norm_topk_prob": True}, "glm4moe": {"num_nextn_predict_layers": 0},
        "gemma2-bf16": {"query_pre_attn_scalar": 16}, "gemma3": {"query_pre_attn_scalar": 32},
        "gemma3-old": {"query_pre_attn_scalar": 32}, "embeddinggemma": {"query_pre_attn_scalar": 32}}
# Only a part of these is a text model: the rest stays behind, or there is no way back.
# (A BERT classifier's pooler is not in GGUF.)
PARTS = {"gemma3-vlm", "qwen2vl", "qwen3vl", "qwen3vlmoe", "bert-classes"}


def compare(spec, dump):
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as tmp:
        there, back = Path(tmp) / "hf", Path(tmp) / "back"
        torch.manual_seed(0)
        arguments = dict(spec["config"], **REAL.get(spec["name"], {}))
        model = getattr(transformers, spec["class"])(getattr(transformers, spec["config_class"])(**arguments)).float()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (0 if parameter.ndim > 1 else 0.1))
        model.save_pretrained(there)
        for name, text in spec.get("files", {}).items():
            (there / name).parent.mkdir(exist_ok=True)
            (there / name).write_text(text if isinstance(text, str) else json.dumps(text))
        done = subprocess.run([dump, str(there), "f32", "--back", str(back)], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line and not line.startswith(("thread", "note:"))]
            return None, lines[0][:150]
        config = json.loads((back / "config.json").read_text())
        cls = getattr(transformers, config["architectures"][0])
        other, info = cls.from_pretrained(back, output_loading_info=True, dtype=torch.float32)
        missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
        ids = torch.tensor([[3, 14, 15, 9, 2, 65, 35, 79]])
        with torch.no_grad():
            a, b = model.eval()(input_ids=ids)[0], other.eval()(input_ids=ids)[0]
        if a.shape != b.shape:
            return None, f"{cls.__name__} gives {list(b.shape)}, not {list(a.shape)}"
        if missing:
            return None, f"missing {missing[:4]}"
        return (a - b).abs().max().item(), cls.__name__


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dump", required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    import models
    import transformers

    transformers.logging.set_verbosity_error()
    failed = 0
    for spec in models.MODELS:
        if "class" not in spec or spec["name"] in PARTS or args.names and spec["name"] not in args.names:
            continue
        try:
            difference, what = compare(spec, args.dump)
        except Exception as error:  # one architecture must not hide the others
            difference, what = None, f"{type(error).__name__}: {str(error)[:200]}"
        good = difference is not None and difference <= ALLOWED.get(spec["name"], 0.0)
        failed += not good
        print(f"{spec['name']}: {'equal' if good else 'DIFFERS'} {'' if difference is None else difference} {what}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
