"""Plain pickles: numpy arrays, torch tensors without torch.save, shapes alone."""

import pickle
from collections import OrderedDict

import numpy
import torch

from common import dumps, finish, pickle_with_tensors, put, randn, rng

GOOD = "ckpt/good/plain"

NUMERIC = ("float64", "float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16",
           "uint32", "uint64", "complex64", "complex128", "bool")


def arrays():
    generator = rng(3)
    base = generator.standard_normal((3, 4)).astype("float32")
    return OrderedDict([
        ("c_order", base), ("fortran", numpy.asfortranarray(base)), ("transposed", base.T),
        ("sliced", base[::2, 1:]), ("scalar", numpy.array(2.5)),
        ("empty", numpy.empty((0, 3), dtype="int32")), ("one_dim", numpy.arange(5)),
        ("fortran_int", numpy.asfortranarray(numpy.arange(6).reshape(2, 3))),
    ])


def every_dtype():
    state = {name: numpy.arange(4).astype(name) for name in NUMERIC}
    for name in ("float64", "float32", "float16", "int16", "uint32", "int64", "complex64"):
        state[f"big.{name}"] = numpy.arange(4).astype(numpy.dtype(name).newbyteorder(">"))
    return state


def tensors():
    weight = randn(3, 4)
    return OrderedDict([("weight", weight), ("transposed", weight.t()),
                        ("half", randn(4, dtype=torch.float16)), ("count", torch.tensor(3)),
                        ("parameter", torch.nn.Parameter(randn(2)))])


def tied_arrays():
    shared = numpy.arange(6, dtype="float32").reshape(2, 3)
    return {"a": shared, "b": shared, "c": shared.copy()}


def main():
    for protocol in range(6):
        put(f"{GOOD}/numpy_p{protocol}.pkl", dumps(arrays(), protocol),
            note=f"dict of numpy arrays, C and Fortran order, protocol {protocol}")
        put(f"{GOOD}/torch_p{protocol}.pkl", pickle_with_tensors(tensors(), protocol),
            note=f"pickle.dump of tensors (_load_from_bytes), protocol {protocol}")
    put(f"{GOOD}/numpy_dtypes.pkl", dumps(every_dtype(), 2),
        note="every numeric numpy dtype, some big-endian")
    put(f"{GOOD}/numpy_dtypes_p5.pkl", dumps(every_dtype(), 5), note="the same, protocol 5")
    put(f"{GOOD}/numpy_tied.pkl", dumps(tied_arrays(), 4), note="one array under two names")
    nested = {"epoch": numpy.int64(3), "params": {"dense/kernel": numpy.ones((2, 3), "float32"),
                                                  "dense/bias": numpy.zeros(3, "float32")}}
    put(f"{GOOD}/numpy_nested.pkl", dumps(nested, 4), note="arrays under `params`, numpy scalars")
    meta = {"w": torch.empty(3, 4, device="meta")}
    put(f"{GOOD}/meta_only.pkl", pickle_with_tensors(meta, 2), note="nothing but a tensor's metadata")
    put(f"{GOOD}/python_pickler.pkl", python_pickler(arrays()),
        note="written by the pure Python pickler of CPython, protocol 4, one frame per object")
    put(f"{GOOD}/two_pickles.pkl", dumps({"a": numpy.ones(2)}, 2) + dumps({"note": "second"}, 2),
        note="a second, harmless pickle after the first")
    put(f"{GOOD}/python2_numpy.pkl", python2(), note="assembled as Python 2 wrote it: byte strings",
        encoding="latin1")
    finish(__file__)


def python_pickler(obj):
    import io

    buffer = io.BytesIO()
    pickler = pickle._Pickler(buffer, 4)
    pickler.framer._FRAME_SIZE_TARGET = 16
    pickler.dump(obj)
    return buffer.getvalue()


def python2():
    """{'w': array([1., 2.], '<f4')} by protocol 2 of Python 2, where str is bytes."""
    raw = numpy.array([1.0, 2.0], "<f4").tobytes()

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = (b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85"
             + text(b"b") + b"\x87R(K\x01K\x02\x85" + b"cnumpy\ndtype\n" + text(b"f4")
             + b"K\x00K\x01\x87R(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
             + b"\x89" + text(raw) + b"tb")
    return b"\x80\x02}" + text(b"w") + array + b"s."


if __name__ == "__main__":
    main()
