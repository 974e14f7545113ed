"""A pickle written opcode by opcode, and the payloads the hostile files carry.

Every payload prints a word or creates the file that WEIGHTBRIDGE_CANARY names
(or `weightbridge-canary` in the current folder). Nothing else, ever.
"""

import struct

CANARY = "weightbridge-canary"
EXEC = ("import os\npath = os.environ.get('WEIGHTBRIDGE_CANARY')\n"
        "if path:\n    open(path, 'a').close()\n")
EVAL = ("(lambda path: path and open(path, 'a').close())"
        "(__import__('os').environ.get('WEIGHTBRIDGE_CANARY'))")
SHELL = '[ -z "$WEIGHTBRIDGE_CANARY" ] || touch "$WEIGHTBRIDGE_CANARY"'
HELLO = "print('hello')"

STOP, MARK, REDUCE, BUILD, POP, POP_MARK, DUP = b".", b"(", b"R", b"b", b"0", b"1", b"2"
NONE, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE = b"N", b"}", b"]", b")"
NEWOBJ, NEWOBJ_EX, STACK_GLOBAL, MEMOIZE = b"\x81", b"\x92", b"\x93", b"\x94"


def proto(number):
    return b"\x80" + bytes([number])


def glob(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(value):
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def blob(raw):
    return b"B" + struct.pack("<I", len(raw)) + raw


def byte(value):
    return b"K" + bytes([value])


def put(slot):
    return b"q" + bytes([slot])


def get(slot):
    return b"h" + bytes([slot])


def stack_global(module, name):
    return short(module) + short(name) + STACK_GLOBAL


def tuple_of(*items):
    return MARK + b"".join(items) + b"t"


def list_of(*items):
    return EMPTY_LIST + MARK + b"".join(items) + b"e"


def call(function, *items):
    return function + tuple_of(*items) + REDUCE


def frame(body):
    return b"\x95" + struct.pack("<Q", len(body)) + body


EXEC_CALL = call(glob("builtins", "exec"), text(EXEC))
EXEC_CALL_2 = call(glob("__builtin__", "exec"), text(EXEC))
