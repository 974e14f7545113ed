"""A model repository to GGUF: weightbridge beside `cp && sync`, convert_hf_to_gguf.py and llama-quantize.

    benches/repository.py FOLDER --llama-cpp DIR [--runs N] [--threads 2] [--skip-reference]

FOLDER gets a llama repository of 1.16 GB in fp16 (10 layers, hidden 2048, 32000 tokens) and one whose
weights are small and whose tokenizer has 151,936 rows, both made once, and the outputs. DIR is
llama.cpp's tree of the PyPI source package llama-cpp-python. Run it with the Python of the interop
environment.

Wall time and peak memory are of whole processes, outputs synced to disk. Runs go in turn; medians are
printed. "Tokenizer" is a conversion less one of the same weights under `--as container`.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROGRAM = os.environ.get("WEIGHTBRIDGE") or str(ROOT / "target/release/weightbridge")
LLM = ROOT / "tests/interop/llm"
PEER = ROOT / "tests/interop/recipe/llama_ref.py"
sys.path.insert(0, str(LLM))


def weights(rows, hidden, inner, layers, heads):
    yield "model.embed_tokens.weight", (rows, hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "mlp.down_proj.weight", (hidden, inner)
        yield p + "mlp.gate_proj.weight", (inner, hidden)
        yield p + "mlp.up_proj.weight", (inner, hidden)
        yield p + "post_attention_layernorm.weight", (hidden,)
        for part in "koqv":
            yield p + f"self_attn.{part}_proj.weight", (hidden, hidden)
            if heads and part != "o":
                yield p + f"self_attn.{part}_proj.bias", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not heads:
        yield "lm_head.weight", (rows, hidden)


def make(folder, kind, architecture, model_type, rows, hidden, inner, layers, biases, models):
    import torch
    import vocab
    from safetensors.torch import save_file
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    vocab.write(kind, folder, models)
    torch.manual_seed(7)
    made = {name: (torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02).half()
            for name, shape in weights(rows, hidden, inner, layers, biases)}
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(architectures=[architecture], model_type=model_type, vocab_size=rows, hidden_size=hidden,
                  intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=hidden // 64,
                  num_key_value_heads=hidden // 64, max_position_embeddings=2048, rms_norm_eps=1e-5,
                  hidden_act="silu", tie_word_embeddings=biases, torch_dtype="float16")
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def made(folder, *recipe):
    """In a process of its own: children are born with the memory of this one, which must stay small."""
    process = multiprocessing.get_context("spawn").Process(target=make, args=(folder, *recipe))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{folder} could not be made")
    return folder


def measure(command, *outputs):
    for output in outputs:
        Path(output).unlink(missing_ok=True)
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} failed with status {status}: {errors.decode()[-500:]}")
    os.sync()
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--llama-cpp", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--skip-reference", action="store_true")
    arguments = parser.parse_args()
    models, folder, threads = arguments.llama_cpp / "models", arguments.folder, arguments.threads
    big = made(folder / "big", "llama2", "LlamaForCausalLM", "llama", 32000, 2048, 5632, 10, False, models)
    wide = made(folder / "wide", "qwen2", "Qwen2ForCausalLM", "qwen2", 151936, 64, 128, 1, True, models)
    stored = big / "model.safetensors"
    out = {name: folder / f"{name}.out.gguf" for name in ("copy", "ours", "theirs", "quantized", "wide")}
    convert = lambda source, target, *more: [
        PROGRAM, "convert", "-q", "--overwrite", "--threads", threads, source, target, *more]
    reference = lambda source, target: [sys.executable, LLM / "converter.py", arguments.llama_cpp, source, target, "f16"]
    steps = {
        "cp and sync of the weights": lambda: measure(["sh", "-c", f"cp '{stored}' '{out['copy']}' && sync '{out['copy']}'"], out["copy"]),
        "weightbridge to F16": lambda: measure(convert(big, out["ours"], "--dtype", "f16"), out["ours"]),
        "weightbridge to Q4_K_M": lambda: measure(
            convert(big, out["quantized"], "--dtype", "f16", "--quantize", "Q4_K_M"), out["quantized"]),
        "weightbridge, 151,936 tokens": lambda: measure(convert(wide, out["wide"], "--dtype", "f16"), out["wide"]),
        "the same as container": lambda: measure(
            convert(wide, out["wide"], "--dtype", "f16", "--as", "container"), out["wide"]),
    }
    if not arguments.skip_reference:
        steps |= {
            "convert_hf_to_gguf.py to F16": lambda: measure(reference(big, out["theirs"]), out["theirs"]),
            "llama-quantize to Q4_K_M": lambda: measure(
                [sys.executable, PEER, out["theirs"], out["quantized"], "Q4_K_M", threads], out["quantized"]),
            "convert_hf_to_gguf.py, 151,936 tokens": lambda: measure(reference(wide, out["wide"]), out["wide"]),
        }
    seen = {name: [] for name in steps}
    for _ in range(arguments.runs):
        for name, step in steps.items():
            seen[name].append(step())
    figure = {name: tuple(statistics.median(run[i] for run in runs) for i in (0, 1)) for name, runs in seen.items()}
    print(f"| {stored.stat().st_size / 1e9:.2f} GB fp16, {threads} threads, medians of {arguments.runs} | s | peak MiB |")
    print("|---|---|---|")
    for name, (seconds, memory) in figure.items():
        print(f"| {name} | {seconds:.2f} | {memory:.0f} |")
    copy, ours = figure["cp and sync of the weights"][0], figure["weightbridge to F16"][0]
    print(f"\nF16: {ours:.2f} s; at most 1.2 x {copy:.2f} + 0.3 = {1.2 * copy + 0.3:.2f} s")
    tokenizer = figure["weightbridge, 151,936 tokens"][0] - figure["the same as container"][0]
    print(f"Tokenizer of 151,936 rows: {tokenizer:.2f} s")
    if not arguments.skip_reference:
        two = figure["convert_hf_to_gguf.py to F16"][0] + figure["llama-quantize to Q4_K_M"][0]
        print(f"Q4_K_M: {two / figure['weightbridge to Q4_K_M'][0]:.1f} times faster than the two steps")
    for path in out.values():
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
