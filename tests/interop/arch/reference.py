#!/usr/bin/env python3
"""Reference facts of architectures: what llama.cpp's converter makes of small models.

For each architecture in models.py a model of a few kilobytes is made with transformers, its
weights are replaced by numbers that follow from their names (see `pattern`), and the real
conversion code is run on it: the classes of convert_hf_to_gguf.py, with only the tokenizer step
left out, which is not this crate's work. What the converter gave its writer is kept as JSON:
config, source tensors, keys in order, tensors in order with type, shape and SHA-256 of their
values as F32.

    python reference.py --llama-cpp DIR --out DIR [NAME ...]

Needs torch, transformers, safetensors, numpy, sentencepiece. The crate's tests read the JSON and
make the same source tensors themselves, so they need none of this.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def pattern(name, shape, dtype):
    """256 values between -0.5 and 0.5, exact in every float type, that follow from the name."""
    n = int(np.prod(shape, dtype=np.int64))
    seed = np.uint32(zlib.crc32(name.encode()))
    index = np.arange(n, dtype=np.uint32)
    with np.errstate(over="ignore"):
        mixed = (index ^ seed) * np.uint32(2654435761)
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    byte = (mixed >> np.uint32(24)).astype(np.int64)
    if dtype in ("U8",):
        return byte.astype(np.uint8).reshape(shape)
    return ((byte - 128) / 256.0).astype(np.float32).reshape(shape)


def write_weights(folder, names):
    """Replaces every weight of a saved model by the pattern; answers name, dtype, shape in order."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 1, files
    out, listed = {}, []
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8", torch.int64: "I64"}
    with safe_open(files[0], "pt") as f:
        for name in f.keys():
            tensor = f.get_tensor(name)
            kind = kinds[tensor.dtype]
            if kind == "I64":
                out[name] = tensor
                continue
            values = torch.from_numpy(pattern(name, tuple(tensor.shape), kind))
            out[name] = values.to(tensor.dtype).contiguous()
    if names:
        out = names(out)
    save_file(out, files[0], metadata={"format": "pt"})
    with safe_open(files[0], "pt") as f:
        for name in f.keys():
            tensor = f.get_tensor(name)
            if tensor.dtype == torch.int64:
                continue
            listed.append([name, kinds[tensor.dtype], list(tensor.shape)])
    return listed


def run(reference, folder, outtype):
    """Keys and tensors as the converter hands them to its writer."""
    import gguf
    from conversion import get_model_class, get_model_architecture  # type: ignore
    from conversion.base import ModelBase, ModelType  # type: ignore

    ftypes = {
        "f32": gguf.LlamaFileType.ALL_F32,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "bf16": gguf.LlamaFileType.MOSTLY_BF16,
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        "auto": gguf.LlamaFileType.GUESSED,
    }
    hparams = ModelBase.load_hparams(folder, False)
    arch = get_model_architecture(hparams, ModelType.TEXT)
    cls = get_model_class(arch)
    out = folder.parent / "out.gguf"
    model = cls(folder, ftypes[outtype], out, eager=False)
    target = getattr(model, "impl", model)
    for one in {id(model): model, id(target): target}.values():
        one.set_vocab = lambda one=one: None
    target.prepare_tensors()
    target.prepare_metadata(vocab_only=False)
    writer = target.gguf_writer
    keys = []
    for key, value in writer.kv_data[0].items():
        kind = value.type.name
        sub = value.sub_type.name if getattr(value, "sub_type", None) else None
        if kind == "ARRAY" and sub is None:
            sub = gguf.GGUFValueType.get_type(value.value[0]).name
        keys.append([key, kind if sub is None else f"{kind}[{sub}]", value.value])
    tensors = []
    for name, info in writer.tensors[0].items():
        data = info.tensor
        if hasattr(data, "to_eager"):
            data = data.to_eager(data) if callable(getattr(data, "to_eager")) else data
        data = np.ascontiguousarray(np.asarray(data))
        row = [name, info.dtype.name, [int(d) for d in info.shape], hashlib.sha256(data.tobytes()).hexdigest()]
        if name.endswith("ssm_a") and outtype == "f32":
            # exp's last bit depends on the processor: beside the exact hash one without the last bits.
            row.append(hashlib.sha256(((data.view(np.uint32) + 8) >> 4).tobytes()).hexdigest())
        tensors.append(row)
    return target, keys, tensors


def make(reference, spec, out):
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp) / spec.get("folder", "hf")
        folder.mkdir()
        torch.manual_seed(0)
        if "tensors" in spec:
            from safetensors.torch import save_file

            kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "U8": torch.uint8}
            made = {n: torch.zeros(s, dtype=kinds[k]) for n, k, s in list(spec["tensors"])}
            save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
            config = spec["config"]
        else:
            config_cls = getattr(transformers, spec["config_class"])
            config = config_cls(**spec["config"])
            model = getattr(transformers, spec["class"])(config)
            model = model.to(getattr(torch, spec.get("dtype", "float32")))
            model.save_pretrained(folder, safe_serialization=True)
            config = json.loads((folder / "config.json").read_text())
        for key in spec.get("forget", []):
            config.pop(key, None)
        config.pop("transformers_version", None)
        config.update(spec.get("override", {}))
        (folder / "config.json").write_text(json.dumps(config))
        for name, text in spec.get("files", {}).items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text if isinstance(text, str) else json.dumps(text))
        (folder / "generation_config.json").unlink(missing_ok=True)
        source = write_weights(folder, spec.get("names"))
        _, keys, tensors = run(reference, folder, "f32")
        types = {}
        for outtype in ("f16", "bf16", "q8_0", "auto"):
            _, other, typed = run(reference, folder, outtype)
            assert [t[0] for t in typed] == [t[0] for t in tensors]
            types[outtype] = "".join(letter(t[1]) for t in typed)
            file_type = [k[2] for k in other if k[0] == "general.file_type"]
            types[outtype + "_file_type"] = int(file_type[0]) if file_type else None
        result = {
            "name": spec["name"],
            "table": spec.get("table", spec["name"]),
            "repo": spec.get("repo", {}),
            "config": config,
            "source": source,
            "keys": [[k, t, plain(v)] for k, t, v in keys],
            "tensors": tensors,
            "types": types,
        }
    path = out / f"{spec['name']}.json"
    path.write_text(dump(result))
    return path


def letter(kind):
    return {"F32": "f", "F16": "h", "BF16": "b", "Q8_0": "q", "MXFP4": "m"}[kind]


def plain(value):
    if isinstance(value, (np.generic,)):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "value") and not isinstance(value, (int, float, str, bool)):
        return value.value
    if isinstance(value, bytes):
        return value.decode()
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def dump(result):
    """One line for each tensor and key: small, and fit for review."""
    lines = ["{"]
    for i, (key, value) in enumerate(result.items()):
        comma = "," if i + 1 < len(result) else ""
        if isinstance(value, list):
            body = ",\n".join("  " + json.dumps(item) for item in value)
            lines.append(f' "{key}": [\n{body}\n ]{comma}')
        else:
            lines.append(f' "{key}": {json.dumps(value)}{comma}')
    return "\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-cpp", required=True)
    parser.add_argument("--out", default=str(HERE.parents[2] / "testdata" / "arch"))
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    sys.path.insert(0, args.llama_cpp)
    sys.path.insert(0, str(Path(args.llama_cpp) / "gguf-py"))
    sys.path.insert(0, str(HERE))
    logging.disable(logging.CRITICAL)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import models

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for spec in models.MODELS:
        if args.names and spec["name"] not in args.names:
            continue
        try:
            path = make(args.llama_cpp, spec, out)
            print(f"{spec['name']}: {path.stat().st_size} bytes", flush=True)
        except Exception as error:  # one architecture must not hide the others
            failed += 1
            print(f"{spec['name']}: FAILED {type(error).__name__}: {error}", flush=True)
            if os.environ.get("TRACE"):
                raise
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
