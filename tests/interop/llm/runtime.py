"""llama.cpp's released libraries through ctypes: token ids, logits, a greedy continuation.

As a program it serves one file and ends, so that an assertion in the library is one failed test:

    python runtime.py MODEL.gguf OUT.json < requests.json

Requests: {"texts": [..], "prompts": [[ids] ..], "steps": 16, "embeddings": false, "adapter": PATH}. The answer has
`ids` (of each text with special tokens, and plain), `adds` (bos and eos), `values` (last-position logits, or the last
token's embedding) as base64 of F32, and `greedy`. KV cache in F32, flash attention off, 1 thread.
"""

import base64
import ctypes as C
import glob
import json
import os
import sys


def folder():
    """Where the libraries are, or None."""
    places = [os.environ.get("WEIGHTBRIDGE_GGML_BASE", "")]
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    places += sorted(glob.glob(f"{cache}/weightbridge/llama-*/**/libggml-base.so", recursive=True))
    for place in places:
        found = os.path.dirname(place)
        if place and glob.glob(os.path.join(found, "libllama.v*.so")):
            return found
    return None


class ModelParams(C.Structure):
    _fields_ = [
        ("devices", C.c_void_p), ("buffer_types", C.c_void_p), ("gpu_layers", C.c_int32),
        ("split_mode", C.c_int), ("load_mode", C.c_int), ("lazy_mode", C.c_int), ("main_gpu", C.c_int32),
        ("tensor_split", C.c_void_p), ("progress", C.c_void_p), ("progress_data", C.c_void_p),
        ("overrides", C.c_void_p), ("vocab_only", C.c_bool), ("check_tensors", C.c_bool),
        ("extra_buffers", C.c_bool), ("no_host", C.c_bool), ("no_alloc", C.c_bool), ("load_mtp", C.c_bool),
    ]


class ContextParams(C.Structure):
    _fields_ = [
        *((name, C.c_uint32) for name in (
            "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq")),
        ("n_threads", C.c_int32), ("n_threads_batch", C.c_int32),
        *((name, C.c_int) for name in (
            "ctx_type", "rope_scaling", "pooling", "attention", "flash_attention")),
        *((name, C.c_float) for name in (
            "rope_base", "rope_scale", "yarn_ext", "yarn_attn", "yarn_fast", "yarn_slow")),
        ("yarn_original", C.c_uint32), ("defrag", C.c_float), ("eval", C.c_void_p), ("eval_data", C.c_void_p),
        ("type_k", C.c_int), ("type_v", C.c_int), ("abort", C.c_void_p), ("abort_data", C.c_void_p),
        *((name, C.c_bool) for name in (
            "embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("samplers", C.c_void_p), ("n_samplers", C.c_size_t), ("other", C.c_void_p),
    ]


class Batch(C.Structure):
    _fields_ = [("n", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", C.c_void_p),
                ("pos", C.POINTER(C.c_int32)), ("n_seq", C.POINTER(C.c_int32)),
                ("seq", C.POINTER(C.POINTER(C.c_int32))), ("output", C.POINTER(C.c_int8))]


F32, FLASH_OFF, POOLING_NONE = 0, 0, 0
LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)


class Runtime:
    """The libraries, loaded once in a process."""

    def __init__(self):
        where = folder()
        if where is None:
            raise RuntimeError("no llama.cpp libraries: run tests/interop/run, or set WEIGHTBRIDGE_GGML_BASE")
        load = lambda pattern: C.CDLL(glob.glob(os.path.join(where, pattern))[0], mode=C.RTLD_GLOBAL)
        load("libggml-base.so")
        backends = load("libggml.v*.so")
        lib = self.lib = load("libllama.v*.so")
        pointer, number = C.c_void_p, C.c_int32
        for name, result, *arguments in (
                ("llama_model_default_params", ModelParams), ("llama_context_default_params", ContextParams),
                ("llama_model_load_from_file", pointer, C.c_char_p, ModelParams),
                ("llama_init_from_model", pointer, pointer, ContextParams),
                ("llama_model_get_vocab", pointer, pointer), ("llama_vocab_n_tokens", number, pointer),
                ("llama_model_n_embd_out", number, pointer),
                ("llama_vocab_get_add_bos", C.c_bool, pointer), ("llama_vocab_get_add_eos", C.c_bool, pointer),
                ("llama_tokenize", number, pointer, C.c_char_p, number, pointer, number, C.c_bool, C.c_bool),
                ("llama_batch_init", Batch, number, number, number), ("llama_batch_free", None, Batch),
                ("llama_decode", number, pointer, Batch), ("llama_encode", number, pointer, Batch),
                ("llama_get_logits_ith", C.POINTER(C.c_float), pointer, number),
                ("llama_get_embeddings_ith", C.POINTER(C.c_float), pointer, number),
                ("llama_get_memory", pointer, pointer), ("llama_memory_clear", None, pointer, C.c_bool),
                ("llama_adapter_lora_init", pointer, pointer, C.c_char_p),
                ("llama_set_adapters_lora", number, pointer, pointer, C.c_size_t, pointer),
                ("llama_free", None, pointer), ("llama_model_free", None, pointer),
                ("llama_log_set", None, LOG, pointer)):
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        self.lines = []
        self._log = LOG(lambda level, text, _: self.lines.append(text.decode(errors="replace")))
        lib.llama_log_set(self._log, None)
        backends.ggml_backend_load_all_from_path.argtypes = [C.c_char_p]
        backends.ggml_backend_load_all_from_path(os.fsencode(where))
        lib.llama_backend_init()

    def open(self, path, embeddings=False, context=512):
        return Loaded(self, path, embeddings, context)


class Loaded:
    """A model with a context."""

    def __init__(self, runtime, path, embeddings, context):
        self.runtime, self.lib, self.embeddings = runtime, runtime.lib, embeddings
        params = self.lib.llama_model_default_params()
        params.gpu_layers = 0
        params.extra_buffers = False  # repacked weights compute in another order
        self.model = self.lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            errors = [line for line in runtime.lines if "error" in line.lower()]
            raise RuntimeError("".join(errors or runtime.lines[-5:]).strip())
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        params = self.lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = F32
        params.flash_attention = FLASH_OFF
        params.embeddings = embeddings
        if embeddings:
            params.pooling = POOLING_NONE
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("".join(runtime.lines[-5:]).strip())

    def adapt(self, path, scale=1.0):
        """Adds what a LoRA adapter says; it is freed with the model."""
        adapter = self.lib.llama_adapter_lora_init(self.model, os.fsencode(path))
        if not adapter:
            raise RuntimeError("".join(self.runtime.lines[-5:]).strip())
        failed = self.lib.llama_set_adapters_lora(self.context, (C.c_void_p * 1)(adapter), 1, (C.c_float * 1)(scale))
        if failed:
            raise RuntimeError(f"llama_set_adapters_lora: {failed}")

    def tokenize(self, text, special=True):
        """Token ids; `special` puts in what the vocabulary asks for. Marks in the text are parsed."""
        raw = text.encode()
        room = (C.c_int32 * (len(raw) + 16))()
        count = self.lib.llama_tokenize(self.vocab, raw, len(raw), room, len(room), special, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize: {count}")
        return list(room[:count])

    def adds(self):
        """Whether bos and eos are put around a text."""
        return [self.lib.llama_vocab_get_add_bos(self.vocab), self.lib.llama_vocab_get_add_eos(self.vocab)]

    def run(self, ids, start=0):
        """Evaluates tokens; F32 bytes of what the last one gives."""
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq[i], batch.seq[i][0] = 1, 0
                batch.output[i] = self.embeddings or i + 1 == len(ids)
            failed = self.lib.llama_decode(self.context, batch)
            if failed:
                raise RuntimeError(f"llama_decode: {failed}")
        finally:
            self.lib.llama_batch_free(batch)
        if self.embeddings:
            values = self.lib.llama_get_embeddings_ith(self.context, -1)
            return C.string_at(values, 4 * self.lib.llama_model_n_embd_out(self.model))
        values = self.lib.llama_get_logits_ith(self.context, -1)
        return C.string_at(values, 4 * self.lib.llama_vocab_n_tokens(self.vocab))

    def clear(self):
        memory = self.lib.llama_get_memory(self.context)
        if memory:
            self.lib.llama_memory_clear(memory, True)

    def greedy(self, ids, steps):
        """Last-position values of a prompt, and the tokens it continues with."""
        import numpy
        self.clear()
        first = values = self.run(ids)
        out = []
        while len(out) < steps:
            out.append(int(numpy.frombuffer(values, numpy.float32).argmax()))
            if len(out) < steps:
                values = self.run(out[-1:], len(ids) + len(out) - 1)
        return first, out

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


def serve(path, out, request):
    embeddings = request.get("embeddings", False)
    model = Runtime().open(path, embeddings)
    if "adapter" in request:
        model.adapt(request["adapter"])
    answer = {
        "ids": [model.tokenize(text) for text in request.get("texts", [])],
        "plain": [model.tokenize(text, special=False) for text in request.get("texts", [])],
        "adds": model.adds(), "values": [], "greedy": [],
    }
    for ids in request.get("prompts", []):
        values, greedy = model.greedy(ids, 0 if embeddings else request.get("steps", 16))
        answer["values"].append(base64.b64encode(values).decode())
        answer["greedy"].append(greedy)
    model.close()
    with open(out, "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], json.load(sys.stdin))
