"""weightbridge beside `cp` and beside the Python libraries, in turn on the same file.

    benches/checkpoint.py FOLDER [--runs N] [--without-peers]

FOLDER gets a checkpoint of 1.14 GB fp16 in 93 tensors (made once, by torch.save) and the outputs;
it should lie on the disk to be measured. Run it with the Python of the interop environment
(`tests/interop/run --venv-only` makes it); `cargo build --release` first.

Every row is a process of its own; wall time, CPU time and peak memory are of that whole process.
The rows take turns, so that a slow minute of the machine falls on all alike, and the figures are
medians. Our outputs are synced to disk, as are those of `cp A B && sync B`; the peers' are not.
"""

import os
import subprocess
import sys

import turns
from turns import COPY, ours

LAYERS, WIDTH, HIDDEN, KEY_VALUE, WORDS = 10, 2048, 5632, 256, 32000


def shapes():
    yield "model.embed_tokens.weight", (WORDS, WIDTH)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        yield at + "self_attn.q_proj.weight", (WIDTH, WIDTH)
        yield at + "self_attn.k_proj.weight", (KEY_VALUE, WIDTH)
        yield at + "self_attn.v_proj.weight", (KEY_VALUE, WIDTH)
        yield at + "self_attn.o_proj.weight", (WIDTH, WIDTH)
        yield at + "mlp.gate_proj.weight", (HIDDEN, WIDTH)
        yield at + "mlp.up_proj.weight", (HIDDEN, WIDTH)
        yield at + "mlp.down_proj.weight", (WIDTH, HIDDEN)
        yield at + "input_layernorm.weight", (WIDTH,)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (WORDS, WIDTH)


def make(path):
    import torch

    generator = torch.Generator().manual_seed(20)
    state = {name: torch.randn(shape, generator=generator).mul_(0.02).half()
             for name, shape in shapes()}
    torch.save(state, path)


def work(mode, source, target):
    """One run of a peer, in a process of its own."""
    import torch
    from safetensors.torch import save_file

    state = torch.load(source, map_location="cpu", weights_only=True, mmap=mode != "plain")
    if mode == "list":
        assert [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    else:
        save_file(state, target, metadata={"format": "pt"})


def peer(mode):
    return [sys.executable, __file__, "--work", mode, "{source}", "{target}.safetensors"]


ROWS = [
    # label, command, the label its ratio is taken of
    COPY,
    (".pt to .safetensors", ours("convert", "-q", "{source}", "{target}.safetensors"), COPY[0]),
    (".pt to .safetensors, 1 thread",
     ours("convert", "-q", "--threads", "1", "{source}", "{target}.safetensors"), COPY[0]),
    (".pt to .safetensors, bf16",
     ours("convert", "-q", "--dtype", "bf16", "{source}", "{target}.safetensors"), COPY[0]),
    (".safetensors to .pt", ours("convert", "-q", "{tensors}", "{target}.pt"), COPY[0]),
    ("inspect --json", ours("inspect", "--json", "{source}"), None),
    ("scan", ours("scan", "{source}"), None),
    ("torch mmap + safetensors (not synced)", peer("mmap"), COPY[0]),
    ("torch + safetensors (not synced)", peer("plain"), COPY[0]),
    ("torch mmap, list the tensors", peer("list"), None),
]


def main():
    if sys.argv[1:2] == ["--work"]:
        return work(*sys.argv[2:])
    arguments, wanted = turns.asked(__doc__)
    paths = {key: os.path.join(arguments.folder, name) for key, name in
             (("source", "bench.pt"), ("tensors", "bench.safetensors"), ("target", "out"))}
    if not os.path.exists(paths["source"]):
        make(paths["source"])
    if not os.path.exists(paths["tensors"]):
        subprocess.run([turns.PROGRAM, "convert", "-q", paths["source"], paths["tensors"]], check=True)
    turns.table(f"{os.path.getsize(paths['source']) / 1e9:.2f} GB", wanted(ROWS), paths, arguments.runs)


if __name__ == "__main__":
    main()
