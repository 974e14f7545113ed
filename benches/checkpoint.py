"""weightbridge beside `cp` and beside the Python libraries, in turn on the same file.

    benches/checkpoint.py FOLDER [--runs N] [--without-peers]

FOLDER gets a checkpoint of 1.14 GB fp16 in 93 tensors (made once, by torch.save) and the outputs;
it should lie on the disk to be measured. Run it with the Python of the interop environment
(`tests/interop/run --venv-only` makes it); `cargo build --release` first.

Every row is a process of its own; wall time, CPU time and peak memory are of that whole process.
The rows take turns, so that a slow minute of the machine falls on all alike, and the figures are
medians. Our outputs are synced to disk, as are those of `cp A B && sync B`; the peers' are not.
"""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import time

PROGRAM = os.environ.get("WEIGHTBRIDGE") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "target", "release", "weightbridge")

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


def ours(*arguments):
    return [PROGRAM, *arguments]


ROWS = [
    # label, command, the label its ratio is taken of
    ("cp A B && sync B", ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "cp", "{source}", "{target}.copy"], None),
    (".pt to .safetensors", ours("convert", "-q", "{source}", "{target}.safetensors"), "cp A B && sync B"),
    (".pt to .safetensors, 1 thread",
     ours("convert", "-q", "--threads", "1", "{source}", "{target}.safetensors"), "cp A B && sync B"),
    (".pt to .safetensors, bf16",
     ours("convert", "-q", "--dtype", "bf16", "{source}", "{target}.safetensors"), "cp A B && sync B"),
    (".safetensors to .pt", ours("convert", "-q", "{tensors}", "{target}.pt"), "cp A B && sync B"),
    ("inspect --json", ours("inspect", "--json", "{source}"), None),
    ("scan", ours("scan", "{source}"), None),
    ("torch mmap + safetensors (not synced)", peer("mmap"), "cp A B && sync B"),
    ("torch + safetensors (not synced)", peer("plain"), "cp A B && sync B"),
    ("torch mmap, list the tensors", peer("list"), None),
]


def measure(command, paths):
    for path in glob.glob(glob.escape(paths["target"]) + ".*"):
        os.unlink(path)
    os.sync()
    command = [part.format(**paths) for part in command]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{command} failed with status {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def bench(folder, runs, peers):
    paths = {key: os.path.join(folder, name) for key, name in
             (("source", "bench.pt"), ("tensors", "bench.safetensors"), ("target", "out"))}
    if not os.path.exists(paths["source"]):
        make(paths["source"])
    if not os.path.exists(paths["tensors"]):
        subprocess.run([PROGRAM, "convert", "-q", paths["source"], paths["tensors"]], check=True)
    rows = [row for row in ROWS if peers or "--work" not in row[1]]
    seen = {label: [] for label, _, _ in rows}
    for turn in range(runs + 1):
        for label, command, _ in rows:
            figures = measure(command, paths)
            if turn > 0:  # the first turn fills the page cache
                seen[label].append(figures)
    middle = {label: [statistics.median(column) for column in zip(*figures)]
              for label, figures in seen.items()}
    print(f"| {os.path.getsize(paths['source']) / 1e9:.2f} GB, {runs} runs, medians | wall | against cp | CPU | peak |")
    print("|---|---|---|---|---|")
    for label, _, base in rows:
        wall, cpu, peak = middle[label]
        # A ratio of each turn's pair, then the median: what the machine did in between drops out.
        ratio = ""
        if base:
            pairs = zip(seen[label], seen[base])
            ratio = f"{statistics.median(a[0] / b[0] for a, b in pairs):.2f}"
        time_text = f"{wall:.2f} s" if wall > 0.1 else f"{wall * 1000:.1f} ms"
        cpu_text = f"{cpu:.2f} s" if cpu > 0.1 else f"{cpu * 1000:.1f} ms"
        print(f"| {label} | {time_text} | {ratio} | {cpu_text} | {peak:.0f} MiB |")
    for path in glob.glob(glob.escape(paths["target"]) + ".*"):
        os.unlink(path)


def main():
    if sys.argv[1:2] == ["--work"]:
        return work(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args()
    bench(arguments.folder, arguments.runs, not arguments.without_peers)


if __name__ == "__main__":
    main()
