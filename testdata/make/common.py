"""What every make script shares: places, seeded numbers, and the list of what was made."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

MAKE = Path(__file__).resolve().parent
TESTDATA = Path(os.environ.get("WEIGHTBRIDGE_TESTDATA", MAKE.parent))
CATALOGUE = TESTDATA / "make" / "catalogue"
SIZE_LIMIT = 64 * 1024

sys.path.insert(0, str(MAKE / "fakes"))

_made = []


def tool():
    """The libraries this interpreter writes files with, as the README names them."""
    names = [f"Python {sys.version.split()[0]}"]
    for module in ("torch", "safetensors", "onnx", "numpy"):
        if module in sys.modules:
            names.append(f"{module} {sys.modules[module].__version__.split('+')[0]}")
    return ", ".join(names)


def put(path, data, **facts):
    """Writes `testdata/<path>` and remembers the facts the README and the tests need."""
    if len(data) > SIZE_LIMIT:
        raise SystemExit(f"{path}: {len(data)} bytes, the limit is {SIZE_LIMIT}")
    target = TESTDATA / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    _made.append({"path": path, "tool": tool(), **facts})


def finish(script, variant=""):
    """Writes the catalogue of one script: `make/catalogue/<script><variant>.json`."""
    name = Path(script).stem
    for fact in _made:
        fact["command"] = f"testdata/make/{name}.py"
    CATALOGUE.mkdir(parents=True, exist_ok=True)
    out = CATALOGUE / f"{name}{variant}.json"
    out.write_text(json.dumps(_made, indent=1, sort_keys=True) + "\n")
    print(f"{name}: {len(_made)} files ({tool()})")


def catalogue():
    """Every fact of every script, sorted by path."""
    facts = []
    for part in sorted(CATALOGUE.glob("*.json")):
        facts.extend(json.loads(part.read_text()))
    return sorted(facts, key=lambda fact: fact["path"])


def rng(seed=0):
    """A numpy generator; the same numbers in every numpy version."""
    import numpy

    return numpy.random.Generator(numpy.random.PCG64(seed))


def randn(*shape, seed=0, dtype=None):
    """A torch tensor of normal numbers that do not depend on torch's own generator."""
    import torch

    array = rng(seed + sum(shape) * 1009 + len(shape)).standard_normal(shape).astype("float32")
    tensor = torch.from_numpy(array.reshape(shape).copy())
    return tensor if dtype is None else tensor.to(dtype)


def raw_bytes(count, seed=0):
    """Random bytes, for dtypes that only exist as bit patterns."""
    return rng(seed).integers(0, 256, count, dtype="uint8")


def torch_save(obj, name=None, **options):
    """The bytes of torch.save; with `name`, saved under that file name (it becomes the top folder)."""
    import tempfile

    import torch

    if name is None:
        buffer = io.BytesIO()
        torch.save(obj, buffer, **options)
        return buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        torch.save(obj, path, **options)
        with open(path, "rb") as file:
            return file.read()


class _AnyString(type):
    def __instancecheck__(cls, value):
        return type(value) is str


class _StableKeys(metaclass=_AnyString):
    """Stands in for `str` inside torch.serialization while a legacy file is saved.

    The legacy format names storages by their address; here each address is
    replaced by a counter of the same look, so that two runs give the same bytes.
    """

    seen = {}

    def __new__(cls, value=""):
        if type(value) is int:
            value = cls.seen.setdefault(value, 94_100_000_000_000 + 64 * len(cls.seen))
        return str(value)


@contextlib.contextmanager
def stable_keys():
    """Repeatable storage keys; and of a module's source only its first line, no folders."""
    import torch

    module = torch.serialization
    _StableKeys.seen = {}
    module.str = _StableKeys
    source = module.get_source_lines_and_file
    module.get_source_lines_and_file = lambda *args: _first_line(source(*args))
    try:
        yield
    finally:
        del module.str
        module.get_source_lines_and_file = source


def legacy_save(obj, **options):
    """The bytes of torch.save in the format before zip."""
    with stable_keys():
        return torch_save(obj, _use_new_zipfile_serialization=False, **options)


def pickle_with_tensors(obj, protocol):
    """pickle.dumps of an object with tensors: each storage is a small legacy file of its own."""
    with stable_keys():
        return pickle.dumps(obj, protocol=protocol)


def _first_line(answer):
    lines, number, path = answer
    return lines[:1], number, os.path.basename(path or "")


def entries(data):
    """[(name, bytes)] of a zip, in the order of its directory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def rezip(items, compress=zipfile.ZIP_STORED, zip64=False):
    """A zip of `items`, with a fixed date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in items:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compress
            info.file_size = len(data)
            with archive.open(info, "w", force_zip64=zip64) as entry:
                entry.write(data)
    return buffer.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def st_bytes(header, body=b"", pad=True, length=None):
    """A safetensors file from a header (a dict, or raw bytes) and its body."""
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":")).encode()
    if pad:
        header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def dumps(obj, protocol):
    return pickle.dumps(obj, protocol=protocol)
