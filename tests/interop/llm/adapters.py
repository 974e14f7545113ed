"""Random LoRA adapters, and what the real convert_lora_to_gguf.py makes of them.

As a program it converts a list of jobs in one process, because starting one takes longer than the work:

    python adapters.py LLAMA_CPP < jobs.json

A job is {"adapter", "base", "out", "type"}; what went wrong is written to OUT with `.error` behind it.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

PREFIX = "base_model.model."


def values(name, shape, kind="float32", scale=0.1):
    import numpy as np
    import torch
    seed = np.frombuffer(f"lora/{name}".encode(), np.uint8).astype(np.uint32)
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32) * scale
    return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, kind))


def factors(module, rows, columns, rank, kinds=("float32", "float32"), embedding=False):
    """The two tensors of a module; of an embedding's, A has a column for each token."""
    names = [f"{PREFIX}{module}.lora_embedding_{x}" if embedding else f"{PREFIX}{module}.lora_{x}.weight"
             for x in "AB"]
    shapes = [(rank, rows), (columns, rank)] if embedding else [(rank, columns), (rows, rank)]
    return {name: values(name, shape, kind) for name, shape, kind in zip(names, shapes, kinds)}


def write(folder, tensors, pickled=False, card="", **config):
    """PEFT's folder."""
    import torch
    from safetensors.torch import save_file
    folder = Path(folder)
    folder.mkdir(parents=True)
    if pickled:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    known = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0,
             "bias": "none", "base_model_name_or_path": None, "inference_mode": True}
    known["target_modules"] = sorted({name.split(".lora_")[0].rsplit(".", 1)[1] for name in tensors if ".lora_" in name})
    (folder / "adapter_config.json").write_text(json.dumps({**known, **config}))
    if card:
        (folder / "README.md").write_text(card)
    return folder


def main(tree, jobs):
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    sys.path.insert(0, tree)
    script = os.path.join(tree, "convert_lora_to_gguf.py")
    for job in jobs:
        sys.argv = [script, job["adapter"], "--base", job["base"], "--outfile", job["out"], "--outtype", job["type"]]
        try:
            runpy.run_path(script, run_name="__main__")
        except (Exception, SystemExit) as error:  # one job must not hide the others
            with open(job["out"] + ".error", "w") as file:
                file.write(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
