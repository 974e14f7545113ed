"""Pickles, legacy streams, tars and shard indexes that must be refused."""

import json
import pickle
import struct
from collections import OrderedDict

import numpy

import assemble as asm
import ckpt_legacy
from ckpt_sharded import weights
from ckpt_zip import small
from common import finish, legacy_save, put, torch_save

BAD = "ckpt/bad"


def bad(name, data, note):
    put(f"{BAD}/{name}", data, note=note)


def opcodes():
    start = asm.proto(2)
    for name, body, note in (
            ("no_stop", start + b"}", "STOP is missing"),
            ("nothing", start + asm.STOP, "STOP on an empty stack"),
            ("bad_opcode", start + b"}\xfe.", "an opcode that does not exist"),
            ("protocol_9", asm.proto(9) + b"}.", "protocol 9"),
            ("underflow", start + b"R.", "REDUCE on an empty stack"),
            ("no_mark", start + b"K\x01t.", "TUPLE without a mark"),
            ("memo_missing", start + b"h\x07.", "BINGET of a slot never filled"),
            ("setitems_odd", start + b"}(K\x01u.", "SETITEMS with a key and no value"),
            ("append_to_int", start + b"K\x01K\x02a.", "APPEND to a number"),
            ("unhashable_key", start + b"}]K\x01s.", "a list as the key of a dict"),
            ("long4_huge", start + b"\x8b\xff\xff\xff\x7f.", "LONG4 of 2 GiB"),
            ("long4_negative", start + b"\x8b\xff\xff\xff\xff.", "LONG4 of length -1"),
            ("unicode8_huge", asm.proto(4) + b"\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
             "a string of 2^60 bytes"),
            ("bytes8_huge", asm.proto(4) + b"\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
             "bytes of length 2^60"),
            ("bytearray8_huge", asm.proto(5) + b"\x96" + struct.pack("<Q", 1 << 60) + b"x.",
             "a bytearray of 2^60 bytes"),
            ("frame_huge", asm.proto(4) + b"\x95" + struct.pack("<Q", 1 << 62) + b"}.",
             "a frame of 2^62 bytes"),
            ("next_buffer", asm.proto(5) + b"\x97.", "an out-of-band buffer that is not there"),
            ("binput_huge", start + b"Nr\xff\xff\xff\xff.", "memo slot 2^32 - 1 (must not be allocated)"),
            ("bad_utf8", start + b"X\x02\0\0\0\xc3\x28.", "a string that is not UTF-8"),
            ("bad_int", b"Ixyz\n.", "INT of letters"),
            ("bad_float", b"F1.2.3\n.", "FLOAT with two points"),
            ("bad_string", b"Sno quotes\n.", "STRING without quotes"),
            ("cut_global", start + b"cbuiltins\nsl", "ends within a global's name"),
            ("pop_empty", start + b"0.", "POP on an empty stack"),
            ("ext_unknown", start + b"\x82\x01.", "EXT1 of an unregistered code")):
        bad(f"pickle/{name}.pkl", body, note)


def arrays():
    good = pickle.dumps({"w": numpy.arange(6, dtype="float32").reshape(2, 3)}, 3)
    bad("pickle/numpy_shape_lie.pkl", good.replace(b"K\x02K\x03\x86", b"K\x09K\x03\x86"),
        "an array's shape needs more bytes than it has")
    bad("pickle/numpy_dtype_lie.pkl", good.replace(b"f4", b"f8"), "an array's dtype needs more bytes")


def legacy():
    saved = legacy_save(small())
    numel = struct.pack("<q", 12)
    bad("legacy/count_2_60.pt", saved.replace(numel, struct.pack("<q", 1 << 60), 1),
        "a storage of 2^60 elements")
    bad("legacy/count_negative.pt", saved.replace(numel, struct.pack("<q", -1), 1),
        "a storage of -1 elements")
    bad("legacy/count_mismatch.pt", saved.replace(numel, struct.pack("<q", 11), 1),
        "object and storage disagree about the count")
    bad("legacy/cut_in_storage.pt", saved[:-5], "ends within the last storage")
    bad("legacy/cut_in_pickle.pt", saved[:200], "ends within the object")
    bad("legacy/magic_only.pt", pickle.dumps(ckpt_legacy.MAGIC, 2), "nothing but the magic number")
    bad("legacy/version_1002.pt", pickle.dumps(ckpt_legacy.MAGIC, 2) + pickle.dumps(1002, 2)
        + saved[saved.index(b"}q", 20) - 2:], "protocol version 1002")
    storage = ckpt_legacy.Storage("FloatStorage", "1", 4)
    call = ckpt_legacy.tensor(storage, 0, (2, 2), (2, 1))
    bad("legacy/key_missing.pt", ckpt_legacy.stream({"w": call}, []),
        "the key list lacks a storage in use")
    bad("legacy/key_unknown.pt", ckpt_legacy.stream({"w": call}, [("1", 4, bytes(16)),
                                                                  ("2", 1, bytes(4))]),
        "the key list names a storage nobody uses")
    view = ckpt_legacy.Storage("FloatStorage", "1", 4, ("2", 3, 4))
    bad("legacy/view_outside.pt", ckpt_legacy.stream(
        {"w": ckpt_legacy.tensor(view, 0, (2, 2), (2, 1))}, [("1", 4, bytes(16))]),
        "a storage view that ends beyond its storage")


def tars():
    whole = ckpt_legacy.tar_file()
    bad("tar/cut.pt", whole[:4000], "ends within a member")
    head, rest = whole.split(b"storages", 1)
    bad("tar/no_storages.pt", head + b"stooages" + rest, "the member `storages` is missing")
    huge = {"sys_info": ckpt_legacy.sys_info_pickle(), "pickle": ckpt_legacy.tar_pickle(),
            "storages": pickle.dumps(0, 2) + pickle.dumps([], 2),
            "tensors": pickle.dumps(1 << 60, 2)}
    bad("tar/count_2_60.pt", ckpt_legacy.tar_of(huge), "2^60 tensors")


def index(name, weight_map, note):
    document = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    put(f"{BAD}/{name}/pytorch_model.bin.index.json", json.dumps(document, indent=1).encode(),
        note=note)


def indexes():
    shard = torch_save(OrderedDict(list(weights().items())[:2]), "pytorch_model.bin")
    names = list(weights())[:2]
    one = "pytorch_model-00001-of-00002.bin"
    for name, weight_map, note in (
            ("index_missing_shard", {names[0]: one, names[1]: "pytorch_model-00002-of-00002.bin"},
             "the index names a shard that is not there"),
            ("index_missing_tensor", {names[0]: one, "model.not_there": one},
             "the index names a tensor its shard lacks"),
            ("index_dotdot", {names[0]: "../" + one, names[1]: one}, "a shard outside the folder"),
            ("index_absolute", {names[0]: "/etc/passwd", names[1]: one}, "a shard by absolute path")):
        put(f"{BAD}/{name}/{one}", shard, note="the shard beside a bad index", beside=True)
        index(name, weight_map, note)
    put(f"{BAD}/index_not_json/pytorch_model.bin.index.json", b"{\"weight_map\": {", note="cut JSON")


def main():
    for part in (opcodes, arrays, legacy, tars, indexes):
        part()
    finish(__file__)


if __name__ == "__main__":
    main()
