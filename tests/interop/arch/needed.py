#!/usr/bin/env python3
"""Tensors without which llama.cpp does not load a model.

For each small model of testdata/arch, whose GGUF keys and tensors the real converter gave
(reference.py), a file of zeros is written with gguf-py, once whole and once without each of its
tensors, and the released library is asked to load it. What it loads without goes, by model, into
testdata/arch/needed/without.json: the crate's tests ask for all others.

    python needed.py --llama-cpp DIR --out FILE [NAME ...]

Needs numpy and the libraries that ../llm/runtime.py finds. Files have no tokenizer, which llama.cpp
allows.
"""

import argparse
import ctypes as C
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
GOLDENS = HERE.parents[2] / "testdata/arch"
sys.path.insert(0, str(HERE.parent / "llm"))


def write(path, golden, without=None):
    """The file of a golden, of zeros, with or without one tensor."""
    import gguf
    keys = {key: (kind, value) for key, kind, value in golden["keys"]}
    arch = keys.pop("general.architecture")[1]
    writer = gguf.GGUFWriter(path, arch)
    for key, (kind, value) in keys.items():
        if kind.startswith("ARRAY["):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType[kind])
    rows = {name: shape for name, _, shape, *_ in golden["tensors"]}["token_embd.weight"][0]
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    if f"{arch}.vocab_size" not in keys:
        writer.add_uint32(f"{arch}.vocab_size", rows)
    types = {name: shape for name, _, shape, *_ in golden["tensors"]}.get("token_types.weight")
    if types:
        writer.add_uint32("tokenizer.ggml.token_type_count", types[0])
    for name, kind, shape, *_ in golden["tensors"]:
        if name == without:
            continue
        if kind == "MXFP4":
            raw = np.zeros((*shape[:-1], shape[-1] // 32 * 17), np.uint8)
            writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
        else:
            writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def loads(path, answer):
    """Runs in a process of its own: the library may end it."""
    import runtime
    run = runtime.Runtime()
    params = run.lib.llama_model_default_params()
    params.gpu_layers = 0
    model = run.lib.llama_model_load_from_file(os.fsencode(path), params)
    answer.put((bool(model), "".join(run.lines[-3:])))


def loaded(golden, folder, without=None):
    path = folder / "model.gguf"
    write(path, golden, without)
    answer = multiprocessing.Queue()
    process = multiprocessing.Process(target=loads, args=(path, answer))
    process.start()
    process.join(60)
    return answer.get() if not process.exitcode else (False, f"ended with {process.exitcode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    sys.path.insert(0, f"{args.llama_cpp}/gguf-py")
    found = {}
    for file in sorted(GOLDENS.glob("*.json")):
        golden = json.loads(file.read_text())
        if "source" not in golden or args.names and file.stem not in args.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            whole, why = loaded(golden, Path(folder))
            if not whole:
                print(f"{file.stem}: not loaded whole, left out: {why}", file=sys.stderr)
                continue
            without = [name for name, *_ in golden["tensors"] if loaded(golden, Path(folder), name)[0]]
        found[file.stem] = without
        print(file.stem, len(golden["tensors"]), without, flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
