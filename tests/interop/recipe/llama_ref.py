"""llama-quantize, as the release libraries do it: `llama_model_quantize` called through ctypes.

    python llama_ref.py [flags of llama-quantize] INPUT OUTPUT TYPE [THREADS]

The libraries are those of the npm package @node-llama-cpp/linux-x64 3.22.1 (llama.cpp v0.5.0);
WEIGHTBRIDGE_GGML_BASE names its libggml-base.so where it is not in a usual place. What llama-quantize's main program does around the
library call (options, importance matrix, metadata overrides) is done here in Python.
"""

import ctypes as C
import glob
import os
import re
import struct
import sys

import numpy as np



def libraries():
    """The folder of the libraries, or None."""
    places = [os.environ.get("WEIGHTBRIDGE_GGML_BASE", "")]
    for folder in (os.path.expanduser("~/.cache/weightbridge"),):
        places += glob.glob(f"{folder}/**/libggml-base.so", recursive=True)
    found = (os.path.dirname(place) for place in places if place and os.path.exists(place))
    return next((folder for folder in found
                 if os.path.exists(os.path.join(folder, "libllama.v0.5.0.so"))), None)


FILE_TYPES = {
    "Q1_0": 40, "Q2_0": 41, "Q4_0": 2, "Q4_1": 3, "MXFP4_MOE": 38, "Q5_0": 8, "Q5_1": 9,
    "IQ2_XXS": 19, "IQ2_XS": 20, "IQ2_S": 28, "IQ2_M": 29, "IQ1_S": 24, "IQ1_M": 31,
    "TQ1_0": 36, "TQ2_0": 37, "Q2_K": 10, "Q2_K_S": 21, "IQ3_XXS": 23, "IQ3_S": 26, "IQ3_M": 27,
    "Q3_K": 12, "IQ3_XS": 22, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "IQ4_NL": 25,
    "IQ4_XS": 30, "Q4_K": 15, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K": 17, "Q5_K_S": 16,
    "Q5_K_M": 17, "Q6_K": 18, "Q8_0": 7, "F16": 1, "BF16": 32, "F32": 0, "COPY": 0,
}


class Params(C.Structure):
    _fields_ = [
        ("nthread", C.c_int32), ("ftype", C.c_int), ("output_tensor_type", C.c_int),
        ("token_embedding_type", C.c_int), ("allow_requantize", C.c_bool),
        ("quantize_output_tensor", C.c_bool), ("only_copy", C.c_bool), ("pure", C.c_bool),
        ("keep_split", C.c_bool), ("dry_run", C.c_bool), ("imatrix", C.c_void_p),
        ("kv_overrides", C.c_void_p), ("tt_overrides", C.c_void_p), ("prune_layers", C.c_void_p),
        ("max_buf_size", C.c_size_t),
    ]


class Override(C.Structure):
    _fields_ = [("tag", C.c_int), ("key", C.c_char * 128), ("_pad", C.c_char * 4),
                ("value", C.c_char * 128)]


class Imatrix(C.Structure):
    _fields_ = [("name", C.c_char_p), ("data", C.c_void_p), ("size", C.c_size_t)]


class TypeRule(C.Structure):
    _fields_ = [("pattern", C.c_char_p), ("type", C.c_int)]


LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)


class Llama:
    """The libraries, with what they log."""

    def __init__(self):
        folder = libraries()
        load = lambda name: C.CDLL(os.path.join(folder, name), mode=C.RTLD_GLOBAL)
        self.base = load("libggml-base.so")
        load("libggml.v0.5.0.so")
        self.llama = load("libllama.v0.5.0.so")
        self.llama.llama_model_quantize_default_params.restype = Params
        self.llama.llama_model_quantize.argtypes = [C.c_char_p, C.c_char_p, C.POINTER(Params)]
        self.llama.llama_model_quantize.restype = C.c_uint32
        self.base.ggml_type_name.restype = C.c_char_p
        self.lines = []
        self.log = LOG(lambda level, text, data: self.lines.append(text.decode(errors="replace")))
        self.llama.llama_log_set.argtypes = [LOG, C.c_void_p]
        self.llama.llama_log_set(self.log, None)
        self.llama.llama_backend_init()

    def type_id(self, name):
        for i in range(43):
            if (self.base.ggml_type_name(i) or b"").decode().lower() == name.lower():
                return i
        raise ValueError(name)

    def quantize(self, source, target, file_type, flags=(), threads=2, imatrix=None):
        """Runs it; answers the log. Raises RuntimeError with the log's error."""
        keep = []  # what C points at
        p = self.llama.llama_model_quantize_default_params()
        p.nthread = threads
        p.ftype = FILE_TYPES[file_type.upper()]
        p.only_copy = file_type.upper() == "COPY"
        rules, overrides, prune, imatrix_file, include, exclude = [], [], [], None, [], []
        flags = list(flags)
        while flags:
            flag = flags.pop(0)
            if flag == "--pure":
                p.pure = True
            elif flag == "--leave-output-tensor":
                p.quantize_output_tensor = False
            elif flag == "--allow-requantize":
                p.allow_requantize = True
            elif flag == "--keep-split":
                p.keep_split = True
            elif flag == "--dry-run":
                p.dry_run = True
            elif flag == "--output-tensor-type":
                p.output_tensor_type = self.type_id(flags.pop(0))
            elif flag == "--token-embedding-type":
                p.token_embedding_type = self.type_id(flags.pop(0))
            elif flag == "--tensor-type":
                rules.append(flags.pop(0))
            elif flag == "--tensor-type-file":
                with open(flags.pop(0)) as file:
                    rules.extend(file.read().split())
            elif flag == "--prune-layers":
                prune = sorted({*prune, *(int(n) for n in flags.pop(0).split(","))})
            elif flag == "--override-kv":
                overrides.append(override(flags.pop(0)))
            elif flag == "--imatrix":
                imatrix_file = flags.pop(0)
            elif flag == "--include-weights":
                include.append(flags.pop(0))
            elif flag == "--exclude-weights":
                exclude.append(flags.pop(0))
            else:
                raise ValueError(flag)
        chunks = -1
        datasets = []
        if imatrix_file:
            imatrix, datasets, chunks = load_imatrix(imatrix_file)
            imatrix = {name: values for name, values in imatrix.items()
                       if not any(part in name for part in exclude)
                       and (not include or any(part in name for part in include))}
        if imatrix:
            entries = (Imatrix * (len(imatrix) + 1))()
            for slot, (name, values) in zip(entries, imatrix.items()):
                values = np.ascontiguousarray(values, dtype=np.float32)
                keep.append(values)
                slot.name, slot.data, slot.size = name.encode(), values.ctypes.data, values.size
            p.imatrix = C.addressof(entries)
            keep.append(entries)
            if imatrix_file:
                overrides.append(text_override("quantize.imatrix.file", imatrix_file))
                if datasets:
                    overrides.append(text_override("quantize.imatrix.dataset", datasets[0]))
                overrides.append(override(f"quantize.imatrix.entries_count=int:{len(imatrix)}"))
                if chunks > 0:
                    overrides.append(override(f"quantize.imatrix.chunks_count=int:{chunks}"))
        if overrides:
            array = (Override * (len(overrides) + 1))(*overrides)
            p.kv_overrides = C.addressof(array)
            keep.append(array)
        if rules:
            array = (TypeRule * (len(rules) + 1))()
            for slot, rule in zip(array, rules):
                pattern, name = rule.split("=", 1)
                slot.pattern, slot.type = pattern.lower().encode(), self.type_id(name)
            p.tt_overrides = C.addressof(array)
            keep.append(array)
        if prune:
            array = (C.c_int32 * (len(prune) + 1))(*prune, -1)
            p.prune_layers = C.addressof(array)
            keep.append(array)
        self.lines.clear()
        failed = self.llama.llama_model_quantize(os.fsencode(source), os.fsencode(target),
                                                 C.byref(p))
        log = "".join(self.lines)
        if failed:
            errors = [line for line in log.splitlines() if "failed to quantize" in line]
            raise RuntimeError(errors[-1] if errors else log[-500:])
        return log

    def types(self, source, file_type, flags=(), imatrix=None):
        """`[name, type]` of every tensor in output order, told by a dry run."""
        log = self.quantize(source, "", file_type, [*flags, "--dry-run"], imatrix=imatrix)
        # A warning may stand between the two halves of a line only before the list begins.
        line = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\S+), size = [^(\n]*"
                          r"(?:\((\S+)\))?", re.M)
        return [[name, (new or old).upper()] for name, old, new in line.findall(log)]


def override(text):
    key, value = text.split("=", 1)
    kind, value = value.split(":", 1)
    if kind == "str":
        return text_override(key, value)
    tag, raw = {
        "int": lambda: (0, struct.pack("<q", int(value))),
        "float": lambda: (1, struct.pack("<d", float(value))),
        "bool": lambda: (2, struct.pack("<?", value == "true")),
    }[kind]()
    made = Override(tag, key.encode())
    C.memmove(C.addressof(made) + Override.value.offset, raw, len(raw))
    return made


def text_override(key, text):
    return Override(3, key.encode(), b"", os.fsencode(text)[:127])


def load_imatrix(path):
    """Weights by name, datasets and chunk count, as llama-quantize prepares them."""
    with open(path, "rb") as file:
        if file.read(4) == b"GGUF":
            return load_gguf_imatrix(path)
        file.seek(0)
        data = file.read()
    at = 0

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values[0]

    found = {}
    for _ in range(take("i")):
        length = take("i")
        name = data[at:at + length].split(b"\0")[0].decode()
        at += length
        calls, n = take("i"), take("i")
        values = np.frombuffer(data, np.float32, n, at)
        at += 4 * n
        found[name] = values / np.float32(calls) if calls > 0 else values
    chunks, datasets = 0, []
    if at < len(data):
        chunks = take("i")
        if at < len(data):
            length = take("i")
            datasets = [data[at:at + length].split(b"\0")[0].decode()]
    return found, datasets, chunks


def load_gguf_imatrix(path):
    import gguf
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: np.array(tensor.data).reshape(-1) for tensor in reader.tensors}
    found = {}
    for name in sorted(tensors):
        if not name.endswith(".in_sum2"):
            continue
        name = name.removesuffix(".in_sum2")
        sums = tensors[name + ".in_sum2"]
        counts = tensors[name + ".counts"]
        size = sums.size // counts.size
        values = np.zeros_like(sums)
        for i, count in enumerate(counts):
            part = slice(i * size, (i + 1) * size)
            count = np.float32(np.floor(abs(count) + 0.5) * np.sign(count))
            values[part] = sums[part] / count if count > 0 else 1
        found[name] = values
    field = reader.fields["imatrix.datasets"]
    datasets = [bytes(field.parts[i]).decode() for i in field.data]
    chunks = int(reader.fields["imatrix.chunk_count"].contents())
    return found, datasets, chunks


def main(arguments):
    flags = []
    with_value = {"--output-tensor-type", "--token-embedding-type", "--tensor-type", "--imatrix",
                  "--tensor-type-file", "--prune-layers", "--override-kv", "--include-weights",
                  "--exclude-weights"}
    while arguments and arguments[0].startswith("--"):
        flags.append(arguments.pop(0))
        if flags[-1] in with_value:
            flags.append(arguments.pop(0))
    source, target, file_type, *threads = arguments
    if "--keep-split" in flags:
        target = target.removesuffix(".gguf")
    llama = Llama()
    try:
        llama.quantize(source, target, file_type, flags, int(threads[0]) if threads else 2)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
