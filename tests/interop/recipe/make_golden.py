"""Writes testdata/recipe/*.json: what llama_model_quantize chooses, told by dry runs.

    python make_golden.py        (numpy and gguf installed; see llama_ref.py for the libraries)

A file holds a model as `recipe_dump` reads it, the types as letters, and for each answer the
requests that got it: `{"answer": "aab…", "of": ["Q4_K_M +imatrix --pure", …]}`, a letter a tensor
in output order. `order` lists the tensors in that order.
"""

import json
import os
import tempfile

import llama_ref
import recipe_models as models

OUT = os.path.join(os.path.dirname(__file__), "../../../testdata/recipe")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FLAGS = {
    "llama": [["--pure"], ["--leave-output-tensor"],
              ["--output-tensor-type", "q5_1", "--token-embedding-type", "iq4_nl"],
              ["--tensor-type", "attn_v=q5_k", "--tensor-type", r"blk\.[01]\.ffn=q8_0"],
              ["--override-kv", "llama.attention.head_count_kv=int:1"]],
    "llama-gqa-tied": [["--token-embedding-type", "q8_0"], ["--output-tensor-type", "q4_1"]],
    "mixtral": [["--tensor-type", "exps=q4_1"]],
    "odd": [["--pure"]],
}
# Eighty layers: only what looks at layers.
FEW = ("Q2_K_S", "Q3_K_M", "IQ3_XS", "Q4_K_M", "Q4_K_S", "Q5_K_M", "IQ4_XS", "IQ2_M")


def main():
    llama = llama_ref.Llama()
    for name, (metadata, tensors) in models.MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            models.write(path, metadata, tensors)
            answers, order, types = {}, None, []
            for file_type in FEW if name == "llama-70b" else llama_ref.FILE_TYPES:
                for imatrix in (False, True):
                    for flags in [[], *FLAGS.get(name, [])]:
                        weights = {"x": [1.0]} if imatrix else None
                        request = " ".join([file_type, *["+imatrix"] * imatrix, *flags])
                        try:
                            pairs = llama.types(path, file_type, flags, weights)
                        except RuntimeError:
                            answers.setdefault("error", []).append(request)
                            continue
                        names = [pair[0] for pair in pairs]
                        assert len(names) == len(tensors) and order in (None, names)
                        order = names
                        types += sorted({pair[1] for pair in pairs} - set(types))
                        letters = "".join(LETTERS[types.index(pair[1])] for pair in pairs)
                        answers.setdefault(letters, []).append(request)
        places = {tensor[0]: i for i, tensor in enumerate(tensors)}
        golden = {
            "made_by": "tests/interop/recipe/make_golden.py with llama.cpp v0.5.0",
            **models.description(metadata, tensors),
            "order": [places[tensor] for tensor in order],
            "types": dict(zip(LETTERS, types)),
            "answers": [{"answer": letters, "of": of} for letters, of in answers.items()],
        }
        # One request and one tensor a line would be long; one line a part reads well enough.
        parts = (f"{json.dumps(key)}: {lines(value)}" for key, value in golden.items())
        text = "{" + ",\n".join(parts) + "}\n"
        assert len(text) < 64 << 10, (name, len(text))
        with open(os.path.join(OUT, f"{name}.json"), "w") as file:
            file.write(text)


def lines(value):
    dump = lambda value: json.dumps(value, separators=(",", ":"))
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return "[\n" + ",\n".join(map(dump, value)) + "]"
    return dump(value)


if __name__ == "__main__":
    main()
