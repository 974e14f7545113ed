"""weightbridge quantize beside llama-quantize, in turn on the same file and threads.

    benches/quantize.py FOLDER [--types Q8_0,Q4_K_M] [--runs N] [--threads 2]

FOLDER gets a llama-like F16 GGUF of 1.16 GB (10 layers, hidden 2048; made once, by gguf-py) and the
outputs. llama-quantize is `llama_model_quantize` of the npm package's release libraries, called as
`tests/interop/recipe/llama_ref.py` does. Run it with the Python of the interop environment.

Wall time and peak memory are of whole processes. Each pair runs back to back, ours synced to disk,
llama-quantize's not; the ratio is the median over pairs. Outputs are compared byte for byte.
"""

import argparse
import filecmp
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..")
PROGRAM = os.environ.get("WEIGHTBRIDGE") or os.path.join(ROOT, "target", "release", "weightbridge")
PEER = os.path.join(ROOT, "tests", "interop", "recipe", "llama_ref.py")


def make(path):
    import gguf
    import numpy as np

    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(10)
    writer.add_context_length(2048)
    writer.add_embedding_length(2048)
    writer.add_feed_forward_length(5632)
    writer.add_head_count(32)
    writer.add_head_count_kv(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)

    def add(name, *shape):
        if len(shape) == 1:
            return writer.add_tensor(name, np.ones(shape, dtype=np.float32))
        writer.add_tensor(name, (rng.standard_normal(shape, dtype=np.float32) * 0.02).astype(np.float16))

    add("token_embd.weight", 32000, 2048)
    for layer in range(10):
        at = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{at}{name}.weight", 2048, 2048)
        add(at + "ffn_gate.weight", 5632, 2048)
        add(at + "ffn_up.weight", 5632, 2048)
        add(at + "ffn_down.weight", 2048, 5632)
        add(at + "attn_norm.weight", 2048)
        add(at + "ffn_norm.weight", 2048)
    add("output_norm.weight", 2048)
    add("output.weight", 32000, 2048)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure(command, output):
    if os.path.exists(output):
        os.unlink(output)
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--types", default="Q8_0,Q4_0,Q6_K,Q4_K_M,IQ4_XS")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_args()
    source = os.path.join(arguments.folder, "bench-f16.gguf")
    if not os.path.exists(source):
        make(source)
    ours, theirs = (os.path.join(arguments.folder, name) for name in ("ours.gguf", "theirs.gguf"))
    print(f"| {os.path.getsize(source) / 1e9:.2f} GB F16, {arguments.threads} threads, medians of "
          f"{arguments.runs} | llama-quantize | weightbridge | times faster | peak, theirs / ours | bytes |")
    print("|---|---|---|---|---|---|")
    for file_type in arguments.types.split(","):
        pairs = []
        for _ in range(arguments.runs):
            mine = measure([PROGRAM, "quantize", "-q", "--threads", arguments.threads, source, ours,
                            file_type], ours)
            peer = measure([sys.executable, PEER, source, theirs, file_type, arguments.threads], theirs)
            pairs.append((mine, peer))
        same = "the same" if filecmp.cmp(ours, theirs, shallow=False) else "DIFFERENT"
        middle = lambda which, figure: statistics.median(pair[which][figure] for pair in pairs)
        ratio = statistics.median(peer[0] / mine[0] for mine, peer in pairs)
        print(f"| {file_type} | {middle(1, 0):.2f} s | {middle(0, 0):.2f} s | {ratio:.1f} | "
              f"{middle(1, 1):.0f} / {middle(0, 1):.0f} MiB | {same} |", flush=True)
    for path in (ours, theirs):
        os.unlink(path)


if __name__ == "__main__":
    main()
