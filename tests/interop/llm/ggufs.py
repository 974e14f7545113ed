"""A GGUF file as bytes: keys in order, tensors in order, where the data is."""

import hashlib
import struct
from pathlib import Path

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
NAMES = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "str",
         9: "array", 10: "u64", 11: "i64", 12: "f64"}
STRING, ARRAY = 8, 9
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2), 24: ("I8", 1, 1),
         2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
         10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
         14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136), 39: ("MXFP4", 32, 17),
         26: ("I32", 1, 4)}


class Gguf:
    """`keys`: name to (type, raw bytes); `tensors`: name to (type, shape, bytes); both in order."""

    def __init__(self, path):
        self.path = Path(path)
        self.raw = memoryview(self.path.read_bytes())
        magic, self.version, tensors, keys = struct.unpack_from("<4sIQQ", self.raw)
        assert magic == b"GGUF" and self.version == 3, (magic, self.version)
        self.at = 24
        self.keys, self.spans = {}, {}
        for _ in range(keys):
            start = self.at
            name = self.text()
            kind, = self.take("<I")
            value = self.at
            kind = self.skip(kind)
            self.keys[name] = (kind, bytes(self.raw[value:self.at]))
            self.spans[name] = (start, self.at)
        self.infos = self.at
        listed = []
        for _ in range(tensors):
            name = self.text()
            rank, = self.take("<I")
            shape = self.take(f"<{rank}Q")
            kind, offset = self.take("<IQ")
            listed.append((name, kind, shape, offset))
        self.infos_end = self.at
        align = self.value("general.alignment") or 32
        self.data = -(-self.at // align) * align
        self.tensors = {}
        for name, kind, shape, offset in listed:
            label, block, size = TYPES[kind]
            count = 1
            for extent in shape:
                count *= extent
            start = self.data + offset
            self.tensors[name] = (label, tuple(shape), self.raw[start:start + count // block * size])

    def take(self, form):
        values = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        size, = self.take("<Q")
        self.at += size
        return bytes(self.raw[self.at - size:self.at]).decode("utf-8", "replace")

    def skip(self, kind):
        if kind == STRING:
            size, = self.take("<Q")
            self.at += size
            return NAMES[kind]
        if kind != ARRAY:
            self.at += SIZES[kind]
            return NAMES[kind]
        inner, count = self.take("<IQ")
        if inner == STRING:
            raw, at = self.raw, self.at
            unpack = struct.Struct("<Q").unpack_from
            for _ in range(count):
                at += 8 + unpack(raw, at)[0]
            self.at = at
        else:
            assert inner != ARRAY, "an array of arrays"
            self.at += count * SIZES[inner]
        return f"array of {NAMES[inner]}"

    def value(self, name):
        """A value decoded; None if there is no such key."""
        if name not in self.keys:
            return None
        kind, raw = self.keys[name]
        numbers = {label: code for code, label in NAMES.items()}
        if kind == "str":
            return raw[8:].decode("utf-8", "replace")
        if not kind.startswith("array"):
            return struct.unpack("<" + CODES[numbers[kind]], raw)[0]
        inner = numbers[kind.removeprefix("array of ")]
        count, = struct.unpack_from("<Q", raw, 4)
        if inner != STRING:
            return list(struct.unpack_from(f"<{count}{CODES[inner]}", raw, 12))
        out, at = [], 12
        for _ in range(count):
            size, = struct.unpack_from("<Q", raw, at)
            out.append(raw[at + 8:at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
        return out


def of_tokenizer(name):
    """Whether a key belongs to the tokenizer, which also counts token types."""
    return name.startswith("tokenizer.") or name.endswith((".token_type_count", ".tokenizer"))


def short(value):
    text = repr(value)
    return text if len(text) < 90 else f"{text[:60]}… ({len(value)} long)"


def key_differences(ours, theirs, which=lambda name: True):
    """Lines that say how the chosen keys differ, in order."""
    mine = [name for name in ours.keys if which(name)]
    other = [name for name in theirs.keys if which(name)]
    lines = [f"key {name}: only in ours, {short(ours.value(name))}" for name in mine if name not in theirs.keys]
    lines += [f"key {name}: missing, {short(theirs.value(name))}" for name in other if name not in ours.keys]
    both = [name for name in mine if name in theirs.keys]
    for name in both:
        (kind, raw), (want, wanted) = ours.keys[name], theirs.keys[name]
        if kind != want:
            lines.append(f"key {name}: type {kind}, not {want}")
        elif raw != wanted:
            a, b = ours.value(name), theirs.value(name)
            if isinstance(a, list) and len(a) == len(b):
                at = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), 0)
                count = sum(x != y for x, y in zip(a, b))
                lines.append(f"key {name}: {count} items differ, first [{at}]: {a[at]!r}, not {b[at]!r}")
            else:
                lines.append(f"key {name}: {short(a)}, not {short(b)}")
    if not lines and mine != other:
        at = next(i for i, pair in enumerate(zip(mine, other)) if pair[0] != pair[1])
        lines.append(f"order of keys: {mine[at]} where {other[at]} should be")
    return lines


def tensor_differences(ours, theirs):
    """Lines that say how tensors differ."""
    lines = [f"tensor {name}: only in ours" for name in ours.tensors if name not in theirs.tensors]
    lines += [f"tensor {name}: missing" for name in theirs.tensors if name not in ours.tensors]
    for name in ours.tensors:
        if name not in theirs.tensors:
            continue
        (kind, shape, data), (want, wanted, other) = ours.tensors[name], theirs.tensors[name]
        if (kind, shape) != (want, wanted):
            lines.append(f"tensor {name}: {kind} {shape}, not {want} {wanted}")
        elif data != other:
            lines.append(f"tensor {name}: {different(kind, data, other)}")
    if not lines and list(ours.tensors) != list(theirs.tensors):
        pairs = zip(ours.tensors, theirs.tensors)
        a, b = next(pair for pair in pairs if pair[0] != pair[1])
        lines.append(f"order of tensors: {a} where {b} should be")
    return lines


def different(kind, a, b):
    import numpy
    code = {"F32": numpy.uint32, "F16": numpy.uint16, "BF16": numpy.uint16}.get(kind, numpy.uint8)
    a, b = numpy.frombuffer(a, code).astype(numpy.int64), numpy.frombuffer(b, code).astype(numpy.int64)
    wrong = numpy.flatnonzero(a != b)
    return f"{len(wrong)} of {len(a)} {code.__name__} differ by at most {abs(a - b).max()}, first [{wrong[0]}]"


def graft(ours, theirs, path):
    """Our keys and tensors with their tokenizer keys: what runs until ours has its own."""
    keys = [bytes(ours.raw[slice(*ours.spans[name])]) for name in ours.keys if not of_tokenizer(name)]
    keys += [bytes(theirs.raw[slice(*theirs.spans[name])]) for name in theirs.keys if of_tokenizer(name)]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(ours.tensors), len(keys)) + b"".join(keys)
    head += bytes(ours.raw[ours.infos:ours.infos_end])
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        file.write(ours.raw[ours.data:])
    return Path(path)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
