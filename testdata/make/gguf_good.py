"""Lawful GGUF files: by gguf-py where it can, by llama-gguf-split, by hand where neither can.

The real llama-gguf-split is looked for in WEIGHTBRIDGE_GGUF_SPLIT; where it is missing, the sets it
made are kept as they are (the catalogue too). It is built from the sources that the package
llama-cpp-python carries: tools/gguf-split/gguf-split.cpp against libllama and libggml-base.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import gguf
import numpy
from gguf import GGMLQuantizationType as Q
from gguf import GGUFEndian, GGUFValueType as V, GGUFWriter

import common
from common import finish, raw_bytes, rng
from gguf_bytes import (ARR, BOOL, F32, I32, STR, U8, U16, U32, Out, file, gguf_py, tensor, tools)

GOOD = "gguf/good"
BY_GGUF = tools(gguf_py())
BY_HAND = tools()
BY_SPLIT = "llama-gguf-split of llama-cpp-python 0.3.36"


def put(name, data, note, tool=BY_GGUF, **facts):
    common.put(f"{GOOD}/{name}.gguf", data, note=note, tool=tool, **facts)


def written(fill, arch="llama", tensors=True, **options):
    """The bytes gguf-py writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = GGUFWriter(path, arch, **options)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        if tensors:
            writer.write_tensors_to_file()
        else:
            writer.write_ti_data_to_file()
        writer.close()
        return path.read_bytes()


def normal(*shape, dtype="float32", seed=0):
    return rng(seed + sum(shape)).standard_normal(shape).astype(dtype)


def every_type(writer):
    for kind in Q:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if kind == Q.Q8_1:
            continue  # its size in gguf-py is not ggml's
        if kind == Q.F32:
            writer.add_tensor("f32", normal(2, 4))
        else:
            raw = raw_bytes(2 * 2 * size, seed=kind).reshape(2, 2 * size)
            writer.add_tensor(kind.name.lower(), raw, raw_dtype=kind)


def plain_types(writer):
    for kind in ("float32", "float16", "float64"):
        writer.add_tensor(kind, normal(3, 5, dtype=kind))
    for kind in ("int8", "int16", "int32", "int64"):
        info = numpy.iinfo(kind)
        writer.add_tensor(kind, numpy.array([info.min, -1, 0, 1, info.max], dtype=kind))


SCALARS = {
    V.UINT8: (0, 255), V.INT8: (-128, 127), V.UINT16: (0, 65535), V.INT16: (-32768, 32767),
    V.UINT32: (0, 2**32 - 1), V.INT32: (-2**31, 2**31 - 1), V.UINT64: (0, 2**64 - 1),
    V.INT64: (-2**63, 2**63 - 1), V.FLOAT32: (-0.0, float("inf"), 1e-45, 0.1),
    V.FLOAT64: (-0.0, float("nan"), 5e-324, 0.1), V.BOOL: (False, True),
    V.STRING: ("", "text", "été \U0001f600\n\0end"),
}


def every_value(writer):
    for kind, values in SCALARS.items():
        for number, value in enumerate(values):
            if value != "":  # gguf-py leaves empty strings out
                writer.add_key_value(f"scalar.{kind.name.lower()}.{number}", value, kind)
        writer.add_key_value(f"array.{kind.name.lower()}", list(values), V.ARRAY, sub_type=kind)
    writer.add_tensor("t", normal(3))


VOCAB = ["<unk>", "<s>", "</s>", "▁a", "▁b", "<0x0A>", "c", ""]


def like_llama(writer):
    """The keys of a small llama, in convert_hf_to_gguf.py's order."""
    writer.add_type("model")
    writer.add_name("Tiny")
    writer.add_size_label("1K")
    writer.add_license("mit")
    writer.add_tags(["text-generation", "test"])
    writer.add_languages(["en"])
    writer.add_context_length(128)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv([1])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(VOCAB)
    writer.add_token_scores([float(-n) for n in range(len(VOCAB))])
    writer.add_token_types([2, 3, 3, 1, 1, 6, 1, 5])
    writer.add_token_merges(["▁ a", "▁ b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    writer.add_tensor("token_embd.weight", normal(8, 8, dtype="float16"))
    writer.add_tensor("blk.0.attn_norm.weight", normal(8))
    for name, rows, columns in (("attn_q", 8, 8), ("attn_k", 4, 8), ("attn_v", 4, 8),
                                ("attn_output", 8, 8), ("ffn_gate", 16, 8), ("ffn_up", 16, 8),
                                ("ffn_down", 8, 16), ("ffn_norm", 1, 8)):
        shape = (columns,) if rows == 1 else (rows, columns)
        kind = "float32" if rows == 1 else "float16"
        writer.add_tensor(f"blk.0.{name}.weight", normal(*shape, dtype=kind, seed=rows))
    writer.add_tensor("output_norm.weight", normal(8, seed=3))
    writer.add_tensor("output.weight", normal(8, 8, dtype="float16", seed=4))


def shapes(writer):
    for name, shape in (("one", (1,)), ("two", (2, 3)), ("three", (2, 1, 3)), ("four", (2, 2, 1, 3)),
                        ("ones", (1, 1, 1, 1)), ("empty", (0,)), ("no_rows", (0, 4)),
                        ("no_columns", (3, 0))):
        writer.add_tensor(name, normal(*shape))


def names(writer):
    for number, name in enumerate(("n" * 63, "été.weight", "a b\tc", "UPPER", "0")):
        writer.add_tensor(name, normal(2, seed=number))


def comfy(writer):
    """What ComfyUI-GGUF's tools/convert.py does: rows of 256, the shape in a key before the data."""
    folded, five, square = normal(16, 4, 2, 4), normal(2, 3, 1, 2, 2), normal(4, 4)
    writer.add_array("comfy.gguf.orig_shape.conv.weight", list(folded.shape))
    writer.add_tensor("conv.weight", folded.reshape(2, 256))
    writer.add_array("comfy.gguf.orig_shape.five.weight", list(five.shape))
    writer.add_tensor("five.weight", five.reshape(6, 4))
    writer.add_array("comfy.gguf.orig_shape.same.weight", list(square.shape))
    writer.add_tensor("same.weight", square)
    writer.add_array("comfy.gguf.orig_shape.blocks.weight", [8, 16, 2, 2])
    writer.add_tensor("blocks.weight", raw_bytes(2 * 144).reshape(2, 144), raw_dtype=Q.Q4_K)
    writer.add_array("comfy.gguf.orig_shape.gone.weight", [1, 2])
    writer.add_array("comfy.gguf.orig_shape.wrong.weight", [7, 7])
    writer.add_tensor("wrong.weight", normal(2, 2))


def in_both_orders(name, fill, note, swap=None):
    """A big-endian file; its expected contents are those of the little-endian twin."""
    little = written(fill)
    put(name, little, note)
    big = written(lambda writer: fill(BigEndian(writer, swap)), endianess=GGUFEndian.BIG)
    put(f"{name}_be", big, f"{note}; big endian", twin=f"{GOOD}/{name}.gguf", rewrite=False)


class BigEndian:
    """Hands blocks to a writer with their scales turned round, as gguf_convert_endian.py does."""

    def __init__(self, writer, swap):
        self.writer, self.swap = writer, swap

    def __getattr__(self, name):
        return getattr(self.writer, name)

    def add_tensor(self, name, data, raw_dtype=None):
        if raw_dtype is not None:
            data = data.copy()
            size = gguf.GGML_QUANT_SIZES[raw_dtype][1]
            blocks = data.reshape(-1, size)
            for at in self.swap[raw_dtype]:
                blocks[:, [at, at + 1]] = blocks[:, [at + 1, at]]
        self.writer.add_tensor(name, data, raw_dtype=raw_dtype)


HALVES = {Q.Q4_0: [0], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q6_K: [208], Q.MXFP4: [], Q.NVFP4: []}


def blocks(writer):
    for kind in HALVES:
        size = gguf.GGML_QUANT_SIZES[kind][1]
        writer.add_tensor(kind.name.lower(), raw_bytes(6 * size, kind).reshape(3, -1), raw_dtype=kind)


def plain_for_big(writer):
    plain_types(writer)
    writer.add_key_value("a", [1, 2, 3], V.ARRAY, sub_type=V.INT16)
    writer.add_key_value("b", 2.5, V.FLOAT64)
    writer.add_key_value("s", ["x", "yz"], V.ARRAY, sub_type=V.STRING)


F32_DATA = normal(6).tobytes()
ONE = tensor("t", [3, 2], 0, F32_DATA)
KEYS = [("general.architecture", STR, "test"), ("n", U16, 7), ("list", ARR, (STR, ["a", "bc"]))]


LONG = "a name of the file's own " + "x" * 60


def by_hand():
    put("header_only", file(pad_end=False), "24 bytes: no keys, no tensors", BY_HAND)
    put("nothing", file(), "no keys, no tensors, padded", BY_HAND)
    put("keys_only", file(KEYS, pad_end=False), "keys and no tensors, not padded", BY_HAND)
    put("bare_end", file(KEYS, [ONE], pad_end=False), "no padding behind the last tensor", BY_HAND)
    put("trailing", file(KEYS, [ONE], tail=b"more"), "four bytes behind the last tensor's padding",
        BY_HAND, rewrite=False)
    put("v2", file(KEYS, [ONE], version=2), "version 2", BY_HAND, rewrite=False)
    put("v1", file(KEYS, [ONE], version=1), "version 1: lengths of four bytes", BY_HAND,
        twin=f"{GOOD}/v2.gguf", rewrite=False)
    put("v1_be", file(KEYS, [ONE | {"data": normal(6).astype(">f4").tobytes()}], version=1, big=True),
        "version 1, big endian", BY_HAND, twin=f"{GOOD}/v2.gguf", rewrite=False)
    put("other_types", file(KEYS, [tensor("q2_0", [128, 2], 42, raw_bytes(72).tobytes()),
                                   tensor("q8_1", [64], 9, raw_bytes(72, 1).tobytes())]),
        "Q2_0, which gguf-py 0.19 does not know, and Q8_1, whose size it does not", BY_HAND, skip=True)
    put("scalar", file(KEYS, [tensor("s", [], 0, F32_DATA[:4]), tensor("t", [1, 1], 0, F32_DATA[:4])]),
        "a tensor of no dimensions", BY_HAND)
    put("unnamed", file(KEYS, [tensor("", [6], 0, F32_DATA)]), "a tensor whose name is empty", BY_HAND)
    put("odd_keys", file([("general.architecture", U32, 7), ("general.alignment", U32, 4),
                          ("Ünter-Key /x", U8, 1), (" ", STR, "space"), ("k" * 30_000, U16, 2)], [ONE | {"data": F32_DATA}]),
        "an architecture that is a number, an alignment of 4, keys outside the specification's letters", BY_HAND)
    put("bool_2", file([("b", BOOL, 2), ("c", ARR, (BOOL, [0, 1, 255]))]),
        "booleans that are not 0 or 1", BY_HAND, rewrite=False)
    put("nested", file([("n", ARR, (ARR, [(I32, [1, 2]), (STR, ["a"]), (ARR, [(U8, [])]), (U8, [])])),
                        ("e", ARR, (ARR, []))]),
        "arrays of arrays, which ggml does not load", BY_HAND, skip=True)
    put("not_utf8", file([("latin", STR, b"\xe9t\xe9"), ("list", ARR, (STR, [b"\xff", "a"]))]),
        "values that are not UTF-8", BY_HAND, skip=True)
    put("alignment_1", file([("general.alignment", U32, 1), *KEYS], [ONE, tensor("u", [3], 24, b"abc"), ONE | {"name": "v"}]),
        "nothing is padded", BY_HAND)
    put("alignment_4096", file([*KEYS, ("general.alignment", U32, 4096)], [ONE, ONE | {"name": "v"}]),
        "aligned to pages", BY_HAND)
    put("merged", file([*KEYS, ("split.no", U16, 0), ("split.tensors.count", I32, 1),
                        ("split.count", U16, 0)], [ONE]),
        "keys as llama-gguf-split --merge leaves them", BY_HAND)
    put("set_of_one-00001-of-00001", file([*KEYS, ("split.no", U16, 0), ("split.tensors.count", I32, 1),
                                           ("split.count", U16, 1)], [ONE]),
        "a set of one shard", BY_HAND)
    own = [("weightbridge.dtype.x", STR, "U8"), ("safetensors.head", STR, "embed"),
           ("ckpt.epoch", 11, 3), ("onnx.author", STR, "me"), ("weightbridge.dims.x", U8, 1),
           ("weightbridge.name.t", STR, LONG),
           ("weightbridge.name.u", STR, "t"), ("comfy.gguf.orig_shape.t", ARR, (I32, [1, 1, 3, 1, 2])),
           ("last", F32, 0.5)]
    put("own_keys", file(own, [ONE, ONE | {"name": "u"}]),
        "keys that weightbridge gives a meaning, in an order that it would not write", BY_HAND,
        restored={"t": {"name": LONG, "shape": [1, 1, 3, 1, 2]}})


def sets():
    """Sets by the real program, from a file that stands beside them."""
    program = os.environ.get("WEIGHTBRIDGE_GGUF_SPLIT")
    if not program:
        print("no WEIGHTBRIDGE_GGUF_SPLIT: its sets stay as they are")
        return

    def fill(writer):
        like_llama(writer)
        writer.add_key_value("last", 1, V.UINT8)

    whole = written(fill)
    plans = {"tensors": ["--split-max-tensors", "5"],
             "empty_first": ["--split-max-tensors", "6", "--no-tensor-first-split"]}
    common._made.clear()
    put("split/whole", whole, "what the sets beside it were made from")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "whole.gguf"
        source.write_bytes(whole)
        for name, options in plans.items():
            subprocess.run([program, "--split", *options, source, Path(folder) / name], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            shards = sorted(Path(folder).glob(f"{name}-*.gguf"))
            for shard in shards:
                put(f"split/{shard.stem}", shard.read_bytes(), f"one shard ({' '.join(options)})",
                    BY_SPLIT, twin=f"{GOOD}/split/whole.gguf", set=len(shards), rewrite=False)
        subprocess.run([program, "--merge", Path(folder) / "tensors-00001-of-00003.gguf",
                        Path(folder) / "merged.gguf"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        put("split/merged", (Path(folder) / "merged.gguf").read_bytes(), "the first set, merged", BY_SPLIT)
    finish("gguf_split")


def main():
    sets()
    common._made.clear()
    put("every_type", written(every_type), "every type gguf-py knows (but Q8_1)")
    put("every_value", written(every_value), "every value type, alone and in an array")
    put("llama", written(like_llama), "the keys and tensors of a small llama")
    put("shapes", written(shapes), "one to four dimensions, ones and zeros")
    put("names", written(names), "long and odd names")
    put("comfy", written(comfy, arch="flux"), "original shapes in ComfyUI-GGUF's keys",
        restored={"conv.weight": {"shape": [16, 4, 2, 4]}, "five.weight": {"shape": [2, 3, 1, 2, 2]}})
    put("vocab_only", written(lambda w: w.add_token_list(VOCAB), tensors=False),
        "keys and no tensors, as convert_hf_to_gguf.py --vocab-only writes them")

    def aligned(writer):
        writer.add_custom_alignment(64)
        plain_types(writer)

    put("alignment_64", written(aligned), "general.alignment 64")
    in_both_orders("plain", plain_for_big, "every type of whole numbers")
    in_both_orders("blocks", blocks, "the blocks that gguf_convert_endian.py turns", swap=HALVES)
    by_hand()
    finish(__file__)


if __name__ == "__main__":
    main()
