"""What the real libraries say is in a file: the truth the tests compare with.

`load` opens any good file with PyTorch, `choose` applies the selection rule of
the command line, `flatten` names the tensors, `describe` writes them down.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch

import common

CANDIDATES = (
    "state_dict", "model_state_dict", "model", "module", "params_ema", "params", "net", "ema",
    "generator",
)

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "complex64": "C64", "complex128": "C128", "complex32": "C32", "bcomplex32": "BC32",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0", "float4_e2m1fn_x2": "F4",
    "bits8": "BITS8", "bits16": "BITS16", "bits1x8": "BITS1X8", "bits2x4": "BITS2X4",
    "bits4x2": "BITS4X2",
    "qint8": "I8", "quint8": "U8", "qint32": "I32", "quint4x2": "U8", "quint2x4": "U8",
}

# How a dtype that safetensors lacks is carried: (its dtype there, extra last dimension).
CARRIED = {
    "C128": ("F64", 2), "C32": ("F16", 2), "BC32": ("BF16", 2),
    "BITS8": ("U8", None), "BITS16": ("U16", None), "BITS1X8": ("U8", None),
    "BITS2X4": ("U8", None), "BITS4X2": ("U8", None),
}


def load(path):
    """The object a trusting loader makes of a checkpoint of this folder's own making."""
    path = str(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if container_of(path) == "torchscript":
            return torch.jit.load(path, map_location="cpu")
        if container_of(path) == "pickle":
            with open(path, "rb") as file:
                try:
                    return pickle.load(file)
                except UnicodeDecodeError:
                    file.seek(0)
                    return pickle.load(file, encoding="latin1")
        with open(path, "rb") as file:  # by path, torch would go by the extension
            return torch.load(file, map_location="cpu", weights_only=False)


def container_of(path):
    """Which of the containers PyTorch has written this is: zip, torchscript, tar, legacy, pickle."""
    data = Path(path).read_bytes()
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        return "torchscript" if any(name.endswith("/constants.pkl") for name in names) else "zip"
    if data[257:262] == b"ustar":
        return "tar"
    magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    return "legacy" if magic in data[:32] else "pickle"


def weights_only_loads(path):
    """Whether torch's own safe loader opens the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(path, "rb") as file:
                torch.load(file, map_location="cpu", weights_only=True)
        return True
    except Exception:
        return False


def is_tensor(value):
    if isinstance(value, numpy.ndarray):
        return value.dtype.name in DTYPES
    return isinstance(value, torch.Tensor)


def children(value):
    """(name, child) of anything that can hold tensors; nothing for a leaf."""
    if is_tensor(value):
        return []
    if isinstance(value, torch.nn.Module):
        return list(state_dict_of(value).items())
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, type) or isinstance(value, (str, bytes, torch.Size)):
        return []
    return list(getattr(value, "__dict__", {}).items())


def state_dict_of(module):
    """What `state_dict()` gives; the module may come from a pickle of an older version."""
    return module.state_dict(keep_vars=True)


def holds_tensor(value, depth=0):
    if is_tensor(value):
        return True
    return depth < 64 and any(holds_tensor(child, depth + 1) for _, child in children(value))


def is_state_dict(value):
    """A mapping with tensors as direct values, and no tensor deeper down."""
    if isinstance(value, torch.nn.Module):
        return True
    if not isinstance(value, Mapping):
        return False
    direct = [is_tensor(item) for item in value.values()]
    return any(direct) and not any(
        holds_tensor(item) for item, tensor in zip(value.values(), direct) if not tensor
    )


def choose(root):
    """(key path, subtree) by the rule of the command line; everything when no rule fits."""
    if is_state_dict(root):
        return "", root
    if isinstance(root, Mapping):
        for key in CANDIDATES:
            if key in root and is_state_dict(root[key]):
                return key, root[key]
    return "", root


def flatten(value, prefix=""):
    """[(dotted name, tensor)] of a subtree, in its own order."""
    if is_tensor(value):
        return [(prefix, value)]
    found = []
    for key, child in children(value):
        found += flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def parts(name, tensor):
    """[(name, dense tensor, name it is a part of or None, quantization or None)]."""
    if isinstance(tensor, numpy.ndarray):
        return [(name, tensor, None, None)]
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        pieces = {"indices": tensor._indices(), "values": tensor._values()}
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        pieces = {"crow_indices": tensor.crow_indices(), "col_indices": tensor.col_indices(),
                  "values": tensor.values()}
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        pieces = {"ccol_indices": tensor.ccol_indices(), "row_indices": tensor.row_indices(),
                  "values": tensor.values()}
    elif tensor.is_quantized:
        return quantized_parts(name, tensor)
    else:
        return [(name, tensor, None, None)]
    return [(f"{name}.{piece}", part.detach(), name, None) for piece, part in pieces.items()]


def quantized_parts(name, tensor):
    if tensor.qscheme() == torch.per_tensor_affine:
        scheme = {"scheme": "per_tensor_affine", "scale": tensor.q_scale(),
                  "zero_point": tensor.q_zero_point()}
        return [(name, tensor, None, scheme)]
    scheme = {"scheme": str(tensor.qscheme()).removeprefix("torch."),
              "axis": tensor.q_per_channel_axis()}
    if is_packed(tensor):
        scheme["packed"] = {"dtype": str(tensor.dtype).removeprefix("torch."),
                            "shape": list(tensor.shape)}
    return [
        (name, tensor, None, scheme),
        (f"{name}.scales", tensor.q_per_channel_scales(), name, None),
        (f"{name}.zero_points", tensor.q_per_channel_zero_points(), name, None),
    ]


def dtype_name(tensor):
    if isinstance(tensor, numpy.ndarray):
        return DTYPES[tensor.dtype.name]
    return DTYPES[str(tensor.dtype).removeprefix("torch.")]


def shape_of(tensor):
    """The shape as safetensors counts it: FP4 pairs count as two elements."""
    shape = list(tensor.shape)
    if dtype_name(tensor) == "F4":
        shape[-1] *= 2
    if is_packed(tensor):
        return [len(tensor_bytes(tensor))]
    return shape


def is_packed(tensor):
    """Quantized numbers smaller than a byte; their storage is carried as it is."""
    return isinstance(tensor, torch.Tensor) and tensor.dtype in (torch.quint4x2, torch.quint2x4)


def tensor_bytes(tensor):
    """The values, contiguous, row-major, little-endian."""
    if isinstance(tensor, numpy.ndarray):
        return numpy.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"))).tobytes()
    tensor = tensor.detach().as_subclass(torch.Tensor)
    if tensor.is_quantized:
        return quantized_bytes(tensor)
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return raw_strided(tensor, tensor.element_size())


def raw_strided(tensor, size):
    """Gathers the elements of any strided tensor as bytes; works for every dtype."""
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    byte_view = torch.as_strided(
        storage,
        (*tensor.shape, size),
        (*(stride * size for stride in tensor.stride()), 1),
        tensor.storage_offset() * size,
    )
    return byte_view.contiguous().numpy().tobytes()


def quantized_bytes(tensor):
    if is_packed(tensor):
        storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        return storage.numpy().tobytes()
    return tensor.int_repr().contiguous().numpy().tobytes()


def place(tensor):
    """Two tensors with the same place are one tensor with two names."""
    if isinstance(tensor, numpy.ndarray):
        return ("object", id(tensor))
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return ("alone", id(tensor))
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape),
            tuple(tensor.stride()), str(tensor.dtype), tensor.is_conj(), tensor.is_neg())


def named_tensors(subtree):
    """[(name, dense tensor, part_of, quant)] of the chosen subtree."""
    return [part for name, tensor in flatten(subtree) for part in parts(name, tensor)]


def ties_of(named):
    groups = {}
    for name, tensor, _, _ in named:
        groups.setdefault(place(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def describe(path):
    """The expected document of one checkpoint."""
    root = load(path)
    selected, subtree = choose(root)
    named = named_tensors(subtree)
    tensors = []
    for name, tensor, part_of, quant in named:
        meta = not isinstance(tensor, numpy.ndarray) and tensor.device.type == "meta"
        entry = {"name": name, "dtype": dtype_name(tensor), "shape": shape_of(tensor),
                 "sha256": None if meta else common.sha256(tensor_bytes(tensor))}
        if meta:
            entry["meta"] = True
        if part_of is not None:
            entry["part_of"] = part_of
        if quant is not None:
            entry["quant"] = quant
        tensors.append(entry)
    document = {"container": container_of(path), "selected": selected}
    if selected:
        document["left_out"] = [str(key) for key in root if str(key) != selected]
    document["weights_only"] = weights_only_loads(path)
    document["tensors"] = tensors
    document["ties"] = ties_of(named)
    return document
