"""What the real converter writes for a repository's tokenizer.

The classes of llama.cpp's convert_hf_to_gguf.py run their own `set_vocab` on a folder without
weights; what they hand to gguf-py's writer is told as crates/vocab/examples/vocab_dump.rs tells
ours. Needs torch, transformers, numpy, sentencepiece and a llama.cpp source tree.
"""

import hashlib
import json
import logging
import os
import struct
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def use(llama_cpp):
    """Makes the tree's modules importable."""
    for path in (str(llama_cpp), str(Path(llama_cpp) / "gguf-py")):
        if path not in sys.path:
            sys.path.insert(0, path)
    logging.disable(logging.CRITICAL)


def told_list(kind, items):
    if kind == "str":
        items = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
        raw = b"".join(struct.pack("<Q", len(item)) + item for item in items)
    elif kind == "u8":
        raw = bytes(items)
    else:
        raw = struct.pack(f"<{len(items)}{'f' if kind == 'f32' else 'i'}", *items)
    return {"list": kind, "n": len(items), "sha256": hashlib.sha256(raw).hexdigest()}


def told(value):
    """A GGUFValue."""
    name, item = value.type.name, value.value
    if name == "ARRAY":
        if isinstance(item, (bytes, bytearray)):
            return told_list("u8", item)
        first = item[0]
        if isinstance(first, (str, bytes, bytearray)):
            return told_list("str", item)
        if isinstance(first, float):
            return told_list("f32", item)
        return told_list("i32", [int(one) for one in item])
    return {{"UINT32": "u32", "BOOL": "bool", "STRING": "str"}[name]: item}


def model_of(folder, class_name):
    """A converter of this class that knows the folder and has a writer, and nothing else."""
    import gguf
    from conversion import get_model_class
    from conversion.base import ModelBase

    folder = Path(folder)
    cls = get_model_class(class_name)
    hparams = ModelBase.load_hparams(folder, False)
    if "text_config" in hparams:
        hparams = {**hparams, **hparams["text_config"]}
    if class_name in ("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"):
        cls = cls.Ministral3Model
    model = cls.__new__(cls)
    model.dir_model = folder
    model.hparams = hparams
    model.hf_arch = model.origin_hf_arch = class_name
    model.is_mistral_format = False
    model.fname_out = folder
    model._ssm_layers = []
    model.gguf_writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[cls.model_arch])
    if class_name == "NomicBertModel":
        model._tokenizer_is_xlmroberta = model._is_tokenizer_xlmroberta()
    return model


def pairs(folder, class_name, pre=None):
    """Keys and values in order. `pre` takes the place of the fingerprint's name."""
    model = model_of(folder, class_name)
    if pre is not None:
        model.get_vocab_base_pre = lambda tokenizer: pre
    model.set_vocab()
    keys = model.gguf_writer.kv_data[0]
    return [[key, told(value)] for key, value in keys.items() if key.startswith("tokenizer.")]


def fingerprint(folder):
    """SHA-256 of the check text's ids, as the converter takes it."""
    import re

    from conversion import base
    from transformers import AutoTokenizer

    text = Path(base.__file__).read_text(encoding="utf-8")
    check = eval(re.search(r"chktxt = ('.*')\n", text).group(1))  # the converter's own literal
    ids = AutoTokenizer.from_pretrained(folder).encode(check)
    return hashlib.sha256(str(ids).encode()).hexdigest()


def dump(rows):
    return "[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n ]"
