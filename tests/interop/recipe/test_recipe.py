"""Our recipe and whole quantized files against the real llama-quantize.

Run: `pytest tests/interop/recipe` with numpy and gguf installed, cargo at hand (the choices come
from an example program), and WEIGHTBRIDGE naming the program for the whole-file tests.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys

import gguf
import numpy as np
import pytest

import llama_ref
import recipe_models as models

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("WEIGHTBRIDGE", "")

FLAG_SETS = (
    [],
    ["--pure"],
    ["--leave-output-tensor"],
    ["--output-tensor-type", "q5_1", "--token-embedding-type", "iq4_nl"],
    ["--tensor-type", "attn_v=q5_k", "--tensor-type", r"blk\.[01]\.ffn=q8_0"],
    ["--prune-layers", "1,3"],
)
# Everything takes hours; what runs without WEIGHTBRIDGE_INTEROP=full is a cross-section of minutes.
FULL = os.environ.get("WEIGHTBRIDGE_INTEROP") == "full"
SMALL = [name for name in models.MODELS if name != "llama-70b"] if FULL else [
    "llama", "qwen2", "mixtral"]
SOURCES = ["F32", "F16", "BF16"] if FULL else ["F16"]
TYPED = list(models.MODELS) if FULL else ["llama", "mixtral"]
# With an importance matrix, and without: a mixture of each kind of block.
WEIGHED = llama_ref.FILE_TYPES if FULL else ["Q4_0", "Q2_K", "Q4_K_M", "Q5_K_S", "IQ4_XS"]
PLAIN = llama_ref.FILE_TYPES if FULL else ["Q5_1", "Q8_0", "Q3_K_M", "Q4_K_M", "Q6_K", "IQ4_NL",
                                           "TQ2_0", "MXFP4_MOE", "F16"]
AGAIN = ["Q8_0", "Q4_K_M", "F16", "IQ4_XS"] if FULL else ["Q8_0"]
NOT_FINITE = [float("nan"), float("-inf"), 3e38, 1e30] if FULL else [float("nan"), 3e38]


@pytest.fixture(scope="session")
def llama():
    if llama_ref.libraries() is None:
        pytest.skip("no libllama: npm pack @node-llama-cpp/linux-x64@3.22.1 into "
                    "~/.cache/weightbridge, or set WEIGHTBRIDGE_GGML_BASE")
    return llama_ref.Llama()


@pytest.fixture(scope="session")
def dump():
    subprocess.run(["cargo", "build", "-q", "-p", "weightbridge-convert", "--example",
                    "recipe_dump"], cwd=ROOT, check=True)
    return TARGET / "debug/examples/recipe_dump"


@pytest.mark.parametrize("name", TYPED)
def test_same_type_for_every_tensor(name, llama, dump, tmp_path):
    metadata, tensors = models.MODELS[name]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors)
    requests, expected = [], []
    for file_type in llama_ref.FILE_TYPES:
        for imatrix in (False, True):
            for flags in FLAG_SETS[: 1 if name == "llama-70b" else 6 if FULL else 3]:
                try:
                    types = llama.types(path, file_type, flags, {"x": [1.0]} if imatrix else None)
                except RuntimeError:
                    types = None
                requests.append({"type": file_type, "imatrix": imatrix,
                                 "flags": [*flags, "--dry-run"]})
                expected.append(types)
    model = {**models.description(metadata, tensors), "requests": requests}
    done = subprocess.run([dump], input=json.dumps(model).encode(), capture_output=True, check=True)
    for request, want, got in zip(requests, expected, json.loads(done.stdout)):
        if want is None:
            assert isinstance(got, str), request
        else:
            assert got == want, request


@pytest.fixture(scope="session")
def both(llama):
    """Runs both programs with the same arguments; compares exit and bytes."""
    known = PROGRAM and subprocess.run([PROGRAM, "quantize", "--help"], capture_output=True)
    if not known or known.returncode:
        pytest.skip("WEIGHTBRIDGE names no program that can quantize")

    def run(folder, source, file_type, flags=()):
        theirs, ours = folder / "theirs.gguf", folder / "ours.gguf"
        for old in (theirs, ours):
            old.unlink(missing_ok=True)
        # A process of its own: the library aborts on what it asserts.
        a = subprocess.run([sys.executable, HERE / "llama_ref.py", *flags, source, theirs,
                            file_type], capture_output=True, cwd=folder)
        b = subprocess.run([PROGRAM, "quantize", *flags, source, ours, file_type],
                           capture_output=True, cwd=folder)
        told = (file_type, flags, a.stderr[-300:], b.stderr[-300:])
        assert bool(a.returncode) == bool(b.returncode), told
        if a.returncode:
            assert not ours.exists(), told
            return None
        assert theirs.read_bytes() == ours.read_bytes(), told
        return ours

    return run


def gguf_imatrix(path, tensors, skip=()):
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["wiki.txt", "more.txt"])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, shape in weighed(tensors):
        if any(part in name for part in skip):
            continue
        experts = shape[0] if len(shape) == 3 else 1
        sums = rng.random((experts, shape[-1])) * 100
        # Some experts were never asked.
        counts = rng.integers(0 if experts > 1 else 1, 5, (experts, 1)) * 100
        writer.add_tensor(name + ".in_sum2", sums.astype(np.float32))
        writer.add_tensor(name + ".counts", counts.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def legacy_imatrix(path, tensors):
    rng = np.random.default_rng(4)
    items = list(weighed(tensors))
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(items)))
        for name, shape in items:
            n = shape[-1] * (shape[0] if len(shape) == 3 else 1)
            file.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 5, n))
            file.write((rng.random(n) * 10).astype("<f4").tobytes())
        file.write(struct.pack("<ii", 9, 7) + b"dat.txt")


def weighed(tensors):
    return ((name, shape) for name, shape in tensors
            if len(shape) > 1 and not name.startswith(("token", "position")))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", SMALL)
def test_whole_files_of_every_type(name, source, both, tmp_path):
    metadata, tensors = models.MODELS[name]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors, getattr(models, source))
    gguf_imatrix(tmp_path / "matrix.gguf", tensors)
    legacy_imatrix(tmp_path / "matrix.dat", tensors)
    matrix = "matrix.dat" if source == "F32" else "matrix.gguf"
    for file_type in PLAIN:
        both(tmp_path, path, file_type)
    for file_type in WEIGHED:
        both(tmp_path, path, file_type, ["--imatrix", matrix])


OPTIONS = [
    ("llama", "Q4_K_M", ["--pure"]),
    ("odd", "IQ4_XS", ["--pure"]),
    ("llama", "Q5_K_S", ["--leave-output-tensor"]),
    ("llama", "Q3_K_L", ["--token-embedding-type", "Q4_0", "--output-tensor-type", "f16"]),
    ("llama", "Q4_0", ["--tensor-type", "attn_v=q8_0", "--tensor-type", "FFN_down=bf16",
                       "--tensor-type", r"blk\.(1|3)\.attn=q5_k"]),
    ("llama", "Q4_K_M", ["--tensor-type", r"^blk\.[0-9]\.ffn_(?:up|gate)\.weight$=iq4_nl"]),
    ("llama", "Q4_K_M", ["--tensor-type-file", "types.txt"]),
    ("llama", "Q4_0", ["--tensor-type", "attn_v=nvfp4"]),
    ("llama", "F16", ["--tensor-type", "attn_v=q8_0"]),
    ("llama", "F32", ["--output-tensor-type", "q8_0"]),
    ("llama", "Q4_K_M", ["--prune-layers", "3,5,7"]),
    ("llama", "COPY", ["--prune-layers", "0,15"]),
    ("mixtral", "Q3_K_M", ["--prune-layers", "2", "--imatrix", "matrix.gguf"]),
    ("llama", "Q2_K", ["--override-kv", "llama.attention.head_count_kv=int:1",
                       "--override-kv", "general.name=str:another", "--override-kv",
                       "x.f=float:1.25", "--override-kv", "x.b=bool:true", "--override-kv",
                       "x.n=int:-5"]),
    ("llama", "COPY", ["--override-kv", "general.file_type=int:3"]),
    ("llama", "Q4_K_M", ["--imatrix", "part.gguf"]),
    ("llama", "Q2_K_S", ["--imatrix", "part.gguf"]),
    ("llama", "IQ2_XS", ["--imatrix", "part.gguf"]),
    ("llama", "IQ2_XS", []),
    ("llama", "Q2_K_S", []),
    ("llama", "Q4_0", ["--imatrix", "matrix.gguf", "--include-weights", "attn",
                       "--include-weights", "ffn_up"]),
    ("llama", "Q4_0", ["--imatrix", "matrix.gguf", "--exclude-weights", "attn"]),
    ("llama", "Q4_0", ["--imatrix", "matrix.gguf", "--exclude-weights", "blk"]),
    ("llama", "Q5_1", ["--imatrix", "foreign.gguf"]),
    ("deepseek2", "IQ1_M", ["--imatrix", "matrix.gguf"]),
    ("odd", "Q1_0", []),
]


@pytest.mark.parametrize("name,file_type,flags", OPTIONS if FULL else OPTIONS[::3], ids=lambda value: str(value))
def test_whole_files_of_every_option(name, file_type, flags, both, tmp_path):
    metadata, tensors = models.MODELS[name]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors, models.F16, seed=5)
    gguf_imatrix(tmp_path / "matrix.gguf", tensors)
    gguf_imatrix(tmp_path / "part.gguf", tensors, skip=("ffn_down", "attn_k"))
    gguf_imatrix(tmp_path / "foreign.gguf", models.MODELS["mixtral"][1])
    (tmp_path / "types.txt").write_text("attn_v=q6_K\n ffn_(up|gate)=q5_0 blk\\.1\\.=f16\n")
    both(tmp_path, path, file_type, flags)


@pytest.mark.parametrize("first", AGAIN)
def test_quantized_again(first, both, tmp_path):
    metadata, tensors = models.MODELS["llama"]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors)
    once = both(tmp_path, path, first).rename(tmp_path / "once.gguf")
    types = ("Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "F16", "F32", "COPY")
    for file_type in types if FULL else types[::3]:
        both(tmp_path, once, file_type)
        both(tmp_path, once, file_type, ["--allow-requantize"])
        both(tmp_path, once, file_type, ["--allow-requantize", "--pure"])


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("where", ["blk.3.ffn_up.weight", "blk.2.attn_norm.weight"])
def test_values_that_are_not_finite(value, where, both, tmp_path):
    metadata, tensors = models.MODELS["gpt2"]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors)
    reader = gguf.GGUFReader(path, "r+")
    next(t for t in reader.tensors if t.name == where).data.reshape(-1)[17] = value
    del reader
    types = ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16", "BF16", "TQ2_0", "Q2_0", "IQ4_NL",
             "MXFP4_MOE", "COPY", "F32")
    for file_type in types if FULL else types[::4]:
        both(tmp_path, path, file_type)


def test_a_split_input_becomes_one_file(both, tmp_path):
    metadata, tensors = models.MODELS["llama"]
    models.write(tmp_path / "set.gguf", metadata, tensors, models.F16, split=40)
    both(tmp_path, next(tmp_path.glob("set-00001-of-*.gguf")), "Q4_K_M")


def test_a_split_is_kept(both, tmp_path):
    metadata, tensors = models.MODELS["llama"]
    models.write(tmp_path / "set.gguf", metadata, tensors, models.F16, split=40)
    source = next(tmp_path.glob("set-00001-of-*.gguf"))
    subprocess.run([sys.executable, HERE / "llama_ref.py", "--keep-split", source,
                    tmp_path / "theirs.gguf", "Q4_K_M"], check=True, capture_output=True)
    subprocess.run([PROGRAM, "quantize", "--keep-split", source, tmp_path / "ours.gguf", "Q4_K_M"],
                   check=True, capture_output=True)
    theirs = sorted(tmp_path.glob("theirs-*.gguf"))
    assert len(theirs) == 4
    for path in theirs:
        ours = path.with_name(path.name.replace("theirs", "ours"))
        assert path.read_bytes() == ours.read_bytes(), path.name


def test_several_types_in_one_pass(both, tmp_path):
    metadata, tensors = models.MODELS["llama"]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors, models.F16)
    types = ["Q4_K_M", "Q6_K", "Q8_0"]
    subprocess.run([PROGRAM, "quantize", path, f"{tmp_path}/all/", ",".join(types)], check=True,
                   capture_output=True)
    for file_type in types:
        alone = both(tmp_path, path, file_type)
        assert alone.read_bytes() == (tmp_path / f"all/model-{file_type}.gguf").read_bytes()


def test_without_an_output_it_goes_beside_the_input(both, tmp_path):
    metadata, tensors = models.MODELS["gpt2"]
    path = tmp_path / "model.gguf"
    models.write(path, metadata, tensors, models.F16)
    subprocess.run([PROGRAM, "quantize", path, "q4_k", "2"], check=True, capture_output=True)
    theirs = both(tmp_path, path, "Q4_K_M")
    assert theirs.read_bytes() == (tmp_path / "ggml-model-Q4_K.gguf").read_bytes()


def test_rules_count_in_the_order_given(both, tmp_path):
    """From files and from the command line alike; lists of layers add up."""
    metadata, tensors = models.MODELS["llama"]
    path, rules = tmp_path / "model.gguf", tmp_path / "rules"
    models.write(path, metadata, tensors, models.F16)
    rules.write_text("ffn=q8_0")
    both(tmp_path, path, "Q4_K_M", ["--tensor-type-file", rules, "--tensor-type", "ffn_up=q5_k"])
    both(tmp_path, path, "Q4_K_M", ["--tensor-type", "ffn_up=q5_k", "--tensor-type-file", rules])
    both(tmp_path, path, "Q4_K_M", ["--tensor-type", "attn_(?!v).*=q8_0", "--prune-layers", "3", "--prune-layers", "1"])


@pytest.mark.parametrize("split,flags", [(None, []), (40, ["--prune-layers", "11,12,13,14,15"])])
def test_keeping_a_split_names_files_alike(split, flags, both, tmp_path):
    """Also of an input that is no set, and where the last shards lose all they hold."""
    metadata, tensors = models.MODELS["mixtral"]
    models.write(tmp_path / "set.gguf", metadata, tensors, models.F16, **({"split": split} if split else {}))
    source = sorted(tmp_path.glob("set*.gguf"))[0]
    command = ["--keep-split", *flags, source]
    subprocess.run([sys.executable, HERE / "llama_ref.py", *command, tmp_path / "theirs.gguf", "Q8_0"],
                   check=True, capture_output=True)
    subprocess.run([PROGRAM, "quantize", *command, tmp_path / "ours.gguf", "Q8_0"], check=True, capture_output=True)
    theirs = sorted(path.name for path in tmp_path.glob("theirs*.gguf"))
    ours = sorted(path.name for path in tmp_path.glob("ours*.gguf"))
    assert ours == [name.replace("theirs", "ours") for name in theirs] and ours
    for name in theirs:
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("theirs", "ours")).read_bytes(), name
