"""What `joblib.dump` writes, with the arrays between the opcodes of the pickle, and twins that abuse that place.

`joblib.load` takes the arrays out; to `pickle.load` they are opcodes. So what one of the two does not run the
other may. Before version 1.2 joblib filled nothing in before an array.
"""

import io
import os

import joblib
import numpy

import assemble as asm
from common import finish, put

BAD, GOOD = "scan/hostile", "scan/harmless"


class System:
    def __reduce__(self):
        return os.system, (asm.SHELL,)


def dumped(value, **how):
    buffer = io.BytesIO()
    joblib.dump(value, buffer, **how)
    return buffer.getvalue()


def wrapper(dtype, count, *, aligned, own=None):
    """The description of an array as an opcode writes it, without a frame, in protocol 4."""
    flags = 63 if dtype.hasobject else 0
    plain = asm.call(asm.glob("numpy", "dtype"), asm.text("O8" if flags else dtype.str[1:]), b"\x89", b"\x88")
    plain += asm.tuple_of(asm.byte(3), asm.text("|" if dtype.itemsize == 1 or flags else "<"), asm.NONE, asm.NONE,
                        asm.NONE, b"J\xff\xff\xff\xff", b"J\xff\xff\xff\xff", asm.byte(flags)) + asm.BUILD
    fields = [("subclass", asm.glob("numpy", "ndarray")), ("shape", asm.tuple_of(asm.byte(count))),
              ("order", asm.text("C")), ("dtype", own or plain), ("allow_mmap", b"\x89")]
    if aligned:
        fields.append(("numpy_array_alignment_bytes", asm.byte(16)))
    state = asm.EMPTY_DICT + asm.MARK + b"".join(asm.text(key) + value for key, value in fields) + b"u"
    return (asm.glob("joblib.numpy_pickle", "NumpyArrayWrapper") + asm.EMPTY_TUPLE + asm.NEWOBJ + asm.put(9)
            + state + asm.BUILD)


def main():
    numbers, objects = {"w": numpy.arange(6.0), "name": "x"}, {"w": numpy.array([{"a": 1}, "b", None], dtype=object)}
    put(f"{GOOD}/numbers.joblib", dumped(numbers), note="numbers as joblib writes them", rules=[])
    put(f"{GOOD}/numbers_zlib.joblib", dumped(numbers, compress=3), note="the same, compressed", rules=[])
    put(f"{GOOD}/objects.joblib", dumped(objects), note="an array of objects as joblib writes it", rules=[])
    put(f"{GOOD}/objects_2.joblib", dumped(objects, protocol=2), note="the same in protocol 2", rules=[])

    def bad(name, body, rules, note):
        put(f"{BAD}/{name}.joblib", body, note=note, rules=rules)

    head = asm.proto(4)
    floats, bytes_, anything = numpy.dtype("f8"), numpy.dtype("u1"), numpy.dtype("O")
    plain = wrapper(floats, 1, aligned=False) + bytes(8)
    good = head + plain + asm.STOP
    assert list(joblib.load(io.BytesIO(good))) == [0]
    bad("element", dumped({"w": numpy.array([System()], dtype=object)}), ["process"],
        "an array of objects, one of which is the result of a call")
    bad("behind", head + asm.MARK + plain + asm.EXEC_CALL + b"l" + asm.STOP, ["code-execution"],
        "a call behind an array")
    # To joblib the array is a payload's length of bytes; to any other, opcodes.
    payload = asm.POP + asm.EXEC_CALL + asm.STOP
    bad("opcodes", head + wrapper(bytes_, len(payload), aligned=False) + payload + asm.STOP, ["code-execution"],
        "bytes of an array that are opcodes to pickle.load")
    # A count of bytes filled in that is an opcode: POP, which no writer has.
    filled = payload.ljust(1 + ord(asm.POP) + 200, b"\0")
    bad("filled", head + wrapper(bytes_, 200, aligned=True) + filled + asm.STOP,
        ["code-execution", "hidden-bytes", "nested-pickle"], "more filled in than joblib does, as opcodes")
    # Read again, it takes the opcodes that seem to hold the payload as text.
    again = asm.get(9) + asm.NONE + asm.BUILD
    hiding = b"X" + (3 + len(asm.EXEC_CALL)).to_bytes(4, "little") + asm.NONE * 3
    bad("again", head + plain + again + hiding + asm.EXEC_CALL + asm.STOP, ["broken-pickle", "code-execution", "hidden-payload", "parser-disagreement"],
        "an array that is read a second time, over opcodes that hide a payload in a text")
    # In a pickle of its own, the memo is new: to any other, it is the one from outside.
    outer = asm.text("posix") + asm.put(0) + asm.POP + asm.text("system") + asm.put(1) + asm.POP
    inner = (asm.proto(4) + asm.text("builtins") + asm.MEMOIZE + asm.POP + asm.text("str") + asm.MEMOIZE + asm.POP
             + asm.get(0) + asm.get(1) + asm.STACK_GLOBAL + asm.tuple_of(asm.text(asm.SHELL)) + asm.REDUCE + asm.STOP)
    bad("memo", head + outer + wrapper(anything, 1, aligned=True) + inner + asm.STOP, ["process"],
        "an array's pickle that says another thing with the memo of the pickle around it")
    # Of a type's state before version 3 numpy takes no flags: it looks through the fields, finds objects,
    # and what is to be stepped over is a pickle.
    hidden = (asm.proto(4) + asm.EXEC_CALL + asm.STOP).ljust(200, b"\0")
    inner = asm.call(asm.glob("numpy", "dtype"), asm.text("O8"), b"\x89", b"\x88")
    record = asm.call(asm.glob("numpy", "dtype"), asm.text(f"V{len(hidden)}"), b"\x89", b"\x88") + asm.tuple_of(
        asm.byte(2), asm.text("|"), asm.NONE, asm.tuple_of(asm.text("a")),
        asm.EMPTY_DICT + asm.text("a") + asm.tuple_of(inner, asm.byte(0)) + b"s", asm.byte(len(hidden)),
        b"J\xff\xff\xff\xff", asm.byte(0)) + asm.BUILD
    bad("version", head + wrapper(floats, 1, aligned=False, own=record) + hidden + asm.STOP,
        ["code-execution", "hidden-bytes", "nested-pickle"], "a record of objects whose flags deny them")
    # joblib before 1.2 does not step over what is filled in, and takes the array's end for opcodes.
    swallow = asm.NONE * 12 + b"X\5\0\0\0"
    bad("old", head + wrapper(bytes_, 40, aligned=True) + b"\x10" + b"\xff" * 16 + bytes(23) + swallow
        + b"X" + len(asm.EXEC_CALL).to_bytes(4, "little") + asm.EXEC_CALL + asm.STOP, ["code-execution"],
        "the end of an array that is opcodes to an old joblib")
    # What is left of a frame was read before the array is.
    framed = wrapper(bytes_, 3, aligned=False)
    bad("frame", head + asm.frame(framed + asm.EXEC_CALL) + b"abc" + asm.STOP,
        ["broken-pickle", "code-execution", "indirection", "nested-pickle"], "an array behind a frame that is not read to its end")
    finish(__file__)


if __name__ == "__main__":
    main()
