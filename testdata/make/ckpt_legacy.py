"""The stream before zip, with what only old versions wrote, and the tar before that."""

import io
import pickle
import struct
import tarfile
import tempfile
from collections import OrderedDict

import numpy
import torch

from common import finish, legacy_save, put, randn, torch_save

LEGACY = "ckpt/good/legacy"
TAR = "ckpt/good/tar"
MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """A storage to be written as persistent id ('storage', class, key, place, count, view)."""

    def __init__(self, kind, key, count, view=None):
        self.pid = ("storage", getattr(torch, kind), key, "cpu", count, view)


class Rebuild:
    """A call kept as data until it is pickled."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


def tensor(storage, offset, size, stride):
    return Rebuild(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False,
                   OrderedDict())


def stream(obj, storages, protocol=2, sys_info=None):
    """A legacy file; `storages` is [(key, element count, raw bytes)] in file order."""
    out = io.BytesIO()
    for head in (MAGIC, 1001, sys_info or {
            "protocol_version": 1001, "little_endian": True,
            "type_sizes": {"short": 2, "int": 4, "long": 4}}):
        pickle.dump(head, out, protocol=protocol)
    Pickler(out, protocol).dump(obj)
    pickle.dump([key for key, _, _ in storages], out, protocol=protocol)
    for _, count, raw in storages:
        out.write(struct.pack("<q", count) + raw)
    return out.getvalue()


def storage_views():
    """Storage views: one root storage, two keys that name parts of it (torch 0.4 and older)."""
    numbers = numpy.arange(10, dtype="<f4")
    whole = Storage("FloatStorage", "94100000000000", 10)
    part = Storage("FloatStorage", "94100000000000", 10, ("94100000000064", 4, 6))
    state = OrderedDict([("whole", tensor(whole, 0, (2, 5), (5, 1))),
                         ("part", tensor(part, 1, (2, 2), (2, 1))),
                         ("part_again", tensor(part, 1, (2, 2), (2, 1)))])
    return stream(state, [("94100000000000", 10, numbers.tobytes())])


def first_rebuild():
    """`_rebuild_tensor`, the four-argument function of the first versions."""
    numbers = numpy.arange(6, dtype="<f8")
    storage = Storage("DoubleStorage", "1", 6)
    call = Rebuild(torch._utils._rebuild_tensor, storage, 0, (2, 3), (3, 1))
    return stream({"w": call}, [("1", 6, numbers.tobytes())])


def tar_file():
    """The tar of torch 0.1: storages, tensors, pickle."""
    storages = io.BytesIO()
    numbers = numpy.arange(12, dtype="<f4")
    longs = numpy.array([5, -6], dtype="<i8")
    pickle.dump(2, storages, 2)
    for key, kind, array in ((101, "FloatStorage", numbers), (102, "LongStorage", longs)):
        pickle.dump((key, "cpu", getattr(torch, kind)), storages, 2)
        storages.write(struct.pack("<q", len(array)) + array.tobytes())
    pickle.dump([(103, 101, 8, 4)], storages, 2)
    tensors = io.BytesIO()
    pickle.dump(4, tensors, 2)
    for key, storage, shape, stride, offset in (
            (1, 101, (2, 4), (4, 1), 0), (2, 103, (2, 2), (1, 2), 0), (3, 102, (2,), (1,), 0),
            (4, 101, (2, 4), (4, 1), 0)):
        pickle.dump((key, storage, torch.FloatTensor if storage != 102 else torch.LongTensor),
                    tensors, 2)
        tensors.write(struct.pack("<i4x", len(shape)))
        tensors.write(struct.pack(f"<{2 * len(shape)}q", *shape, *stride))
        tensors.write(struct.pack("<q", offset))
    return tar_of({"sys_info": sys_info_pickle(), "pickle": tar_pickle(), "tensors":
                   tensors.getvalue(), "storages": storages.getvalue()})


def sys_info_pickle():
    return pickle.dumps({"protocol_version": 1000, "little_endian": True,
                         "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2)


def tar_pickle():
    """The object; tensors are persistent ids that are mere numbers."""
    class Numbered(pickle.Pickler):
        def persistent_id(self, obj):
            return obj.number if isinstance(obj, Number) else None

    class Number:
        def __init__(self, number):
            self.number = number

    out = io.BytesIO()
    Numbered(out, 2).dump(OrderedDict([("weight", Number(1)), ("view", Number(2)),
                                       ("steps", Number(3)), ("tied", Number(4))]))
    return out.getvalue()


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def check(data, names):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        loaded = torch.load(file.name, weights_only=False)
    assert list(loaded) == names, list(loaded)


def main():
    state = OrderedDict([("weight", randn(3, 4)), ("bias", randn(3, seed=1)),
                         ("steps", torch.tensor(7)), ("empty", torch.empty(0))])
    for protocol in range(2, 6):
        put(f"{LEGACY}/protocol{protocol}.pt", legacy_save(state, pickle_protocol=protocol),
            note=f"legacy format, protocol {protocol}")
    dtypes = OrderedDict((str(dtype)[6:], randn(3).to(dtype)) for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int16,
        torch.int32, torch.int64, torch.uint8, torch.bool, torch.complex64, torch.complex128))
    put(f"{LEGACY}/dtypes.pt", legacy_save(dtypes), note="legacy format, twelve dtypes")
    newer = OrderedDict((str(dtype)[6:], randn(3).abs().to(dtype)) for dtype in (
        torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64))
    put(f"{LEGACY}/dtypes_newer.pt", legacy_save(newer), twin="ckpt/good/dtypes/newer.pt",
        note="UntypedStorage in the legacy format: torch writes it and cannot read it back")
    put("ckpt/good/dtypes/newer.pt", torch_save(newer), note="the same tensors in a zip")
    quantized = {"w": torch.quantize_per_tensor(randn(2, 3), 0.1, 2, torch.quint8)}
    put(f"{LEGACY}/quantized.pt", legacy_save(quantized), note="legacy format, quantized")
    for name, data, names in (("storage_views", storage_views(), ["whole", "part", "part_again"]),
                              ("first_rebuild", first_rebuild(), ["w"])):
        check(data, names)
        put(f"{LEGACY}/{name}.pt", data, note=f"assembled: {name.replace('_', ' ')}")
    data = tar_file()
    check(data, ["weight", "view", "steps", "tied"])
    put(f"{TAR}/state_dict.pt", data, note="assembled after torch's reader of the old tar form")
    finish(__file__)


if __name__ == "__main__":
    main()
