"""Writes testdata/README.md from the catalogue: what each file is and who wrote it."""

import json

import common

HEAD = """# Test files

Every file here was written by a script in `make/`, with the real libraries named in the tables,
under the licence of this project (MIT OR Apache-2.0). `make/run` rebuilds all of it; the files are
the same, byte for byte, on every run. `make/catalogue/` holds the tables as JSON for the tests.

| folder | holds |
|---|---|
| `ckpt/good` | checkpoints that convert; `expected/ckpt/good/…json` says what is in them |
| `ckpt/bad` | malformed checkpoints: exit 3, nothing written |
| `ckpt/hostile` | checkpoints that run code in whoever loads them elsewhere |
| `scan/hostile`, `scan/harmless` | archives that are no checkpoints: exported programs, `.npz` packed by bzip2 and LZMA, arrays of joblib; each hostile one has a harmless twin |
| `safetensors/good`, `safetensors/bad` | the same for safetensors |
| `gguf/good`, `gguf/bad` | the same for GGUF; the truth is gguf-py's (`make/gguf_expected.py`) |
| `vocab` | small tokenizers with the keys llama.cpp's converter writes for them (`tests/interop/vocab/make_golden.py`) |
| `sign` | a model signed by model_signing 1.1.1: `files.sig` by its command line (`sign key model --private_key key.pem`), `shards.sig` by its Python interface with shards of 4 bytes. The key is for tests only |
| `onnx/good`, `onnx/bad` | the same for ONNX, by the onnx package and by hand |
| `expected` | the truth by PyTorch, safetensors and onnx (`make/oracle.py`), never by this project |

## What an expected file says

`container` is the form of the file; `selected` is the key of the chosen state dict, empty for the
whole; `left_out` are the other top-level keys; `weights_only` is whether `torch.load` of the newest
version opens it with `weights_only=True`; `verdict` is what `scan` must say. `tensors` lists, in
the order of the state dict, `name`, `dtype` (as safetensors names them), `shape`, and the SHA-256
of the contiguous little-endian bytes. `ties` are groups of names with the same storage, offset,
shape, stride and dtype.

Rules the list follows where the command line's contract leaves room:

- A state dict is a mapping with at least one tensor among its values and no tensor deeper down
  (numbers, strings and empty values may stand beside them), or a whole module.
- When neither the top level nor one of the known keys is a state dict, every tensor of the tree is
  listed, `selected` is empty, and names come from keys, list indices and attribute names.
- numpy arrays of numbers are tensors; numpy scalars and bare storages are not.
- A sparse tensor `w` is listed as its parts, each with `part_of: "w"`: `w.indices` and `w.values`
  (COO), `w.crow_indices`, `w.col_indices`, `w.values` (CSR, BSR), `w.ccol_indices`,
  `w.row_indices`, `w.values` (CSC, BSC).
- A quantized tensor is listed with its raw integers and `quant` (scheme, scale, zero point); per
  channel, `w.scales` and `w.zero_points` follow with `part_of`. Numbers below a byte (`quint4x2`)
  are listed as their storage's bytes.
- dtypes that safetensors lacks: `C128`, `C32` (complex32), `BC32` (bcomplex32), `BITS8`, `BITS16`,
  `BITS1X8`, `BITS2X4`, `BITS4X2`. FP4 counts two elements per byte, as safetensors does.
- A meta tensor has `meta: true` and no hash.
- Conjugate and negative bits are resolved: the hash is of the values.
- `nameless: true`: the file is one tensor; any name will do. `frozen: true`: a frozen TorchScript
  module, whose weights are constants of its code.
- `twin`: PyTorch cannot read this file back (it wrote it); the truth is that of the named file.

In `catalogue/`, `verdict` of a hostile file may name alternatives ("dangerous or malformed"),
`extract.twin` names a good file with the tensors that `--policy extract` must give, less
`extract.missing`; `live.json` says for which files loading was seen to run the payload.

## Hostile files

Payloads print a word or create the file named by `WEIGHTBRIDGE_CANARY` (or `weightbridge-canary` in
the current folder). The article's first attack names `os.kill(os.getppid(), 9)`; its code does
nothing unless `WEIGHTBRIDGE_ARMED=yes`, which nothing sets. "seen" means that loading the file with
`pickle.load`, `torch.load(weights_only=False)` or `torch.jit.load` ran the payload; "-" that it was
not tried.
"""


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def digest(fact):
    return common.sha256((common.TESTDATA / fact["path"]).read_bytes())


def row(*cells):
    return "| " + " | ".join(cell(text) for text in cells) + " |"


def hostile_table(facts, live):
    lines = [row("file", "family", "names called", "verdict", "ran when loaded", "what"),
             row(*["---"] * 6)]
    for fact in facts:
        ran = {True: "seen", False: "no", None: "-"}[live.get(fact["path"])]
        names = ", ".join(f"`{name}`" for name in fact["globals"])
        lines.append(row(f"`{fact['path'].removeprefix('ckpt/hostile/')}`", fact["family"], names,
                         fact["verdict"], ran, fact["note"]))
    return lines


def file_table(facts):
    lines = [row("file", "what", "made by", "command", "sha256"), row(*["---"] * 5)]
    for fact in facts:
        lines.append(row(f"`{fact['path']}`", fact["note"], fact["tool"], f"`{fact['command']}`",
                         f"`{digest(fact)}`"))
    return lines


def main():
    facts = common.catalogue()
    live_file = common.MAKE / "live.json"
    live = json.loads(live_file.read_text()) if live_file.exists() else {}
    hostile = [fact for fact in facts if fact["path"].startswith("ckpt/hostile/")]
    good = [fact for fact in facts if fact["path"].startswith("ckpt/good/")]
    text = [HEAD, *hostile_table(hostile, live), "", "## What must not alarm", ""]
    text += ["`scan` must call every file under `ckpt/good` clean, except these, which hold a class it",
             "cannot know and may be called suspicious:", ""]
    text += [f"- `{fact['path']}`: {fact['note']}" for fact in good
             if fact.get("verdict") == "suspicious"]
    text += ["", "## All files", "", *file_table(facts), ""]
    (common.TESTDATA / "README.md").write_text("\n".join(text))
    print(f"readme: {len(facts)} files")


if __name__ == "__main__":
    main()
