"""The peer's figures: PyTorch and safetensors doing what `weightbridge convert` does.

    bench_peer.py make CHECKPOINT               writes about 1.1 GB of fp16, 93 tensors
    bench_peer.py run MODE SOURCE TARGET [N]    times a mode N times (5), prints JSON

Modes: `mmap` (torch.load mapped, then save_file), `plain` (torch.load, then save_file),
`list` (names and shapes by mapping; TARGET is ignored), `cp` (`cp A B && sync B`).
Each run is a process of its own; wall, CPU and peak memory are of that whole process, and
`inside` is the work without the imports. The libraries' own output is not synced to disk.
"""

import json
import os
import statistics
import subprocess
import sys
import time

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
    print(json.dumps({"path": path, "tensors": len(state), "bytes": os.path.getsize(path)}))


def work(mode, source, target):
    """One run, in a process of its own; prints the seconds after the imports."""
    import torch
    from safetensors.torch import save_file

    start = time.perf_counter()
    state = torch.load(source, map_location="cpu", weights_only=True, mmap=mode != "plain")
    if mode == "list":
        assert [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    else:
        save_file(state, target, metadata={"format": "pt"})
    print(time.perf_counter() - start)


def measure(mode, source, target):
    if os.path.exists(target):
        os.unlink(target)
    command = (["sh", "-c", 'cp "$1" "$2" && sync "$2"', "cp", source, target] if mode == "cp"
               else [sys.executable, __file__, "work", mode, source, target])
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{mode} failed with status {status}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024,
            "inside": float(output) if output.strip() else wall}


def run(mode, source, target, times):
    runs = [measure(mode, source, target) for _ in range(times)]
    middle = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    print(json.dumps({"mode": mode, "bytes": os.path.getsize(source), "runs": len(runs),
                      "median": middle, "all": runs}))


def main(arguments):
    if arguments[:1] == ["make"] and len(arguments) == 2:
        make(arguments[1])
    elif arguments[:1] == ["work"] and len(arguments) == 4:
        work(*arguments[1:])
    elif arguments[:1] == ["run"] and len(arguments) in (4, 5):
        run(*arguments[1:4], int(arguments[4]) if len(arguments) == 5 else 5)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
