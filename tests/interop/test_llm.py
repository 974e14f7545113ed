"""Language models: what `convert` makes of a repository, judged by the real converter, the real
runtime and transformers.

Small random models with real vocabularies (llm/zoo.py) go through convert_hf_to_gguf.py and through
ours; llama.cpp's released library runs both files; what comes back is loaded by transformers. Without
WEIGHTBRIDGE_INTEROP=full only a cross-section of models and types is taken.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest

import judge
from llama_tree import HERE, MODELS, TREE, small  # first: it finds the modules of llm

import numpy as np

import ggufs
import hf
import runtime
import zoo

FULL = os.environ.get("WEIGHTBRIDGE_INTEROP") == "full"
NAMES = [spec["name"] for spec in zoo.MODELS] if FULL else zoo.CROSS_SECTION
KINDS = ["f32", "f16", "bf16", "auto", "q8_0"] if FULL else ["f32", "auto", "q8_0"]
RUNS = pytest.mark.skipif(runtime.folder() is None, reason="no llama.cpp libraries")

# Largest difference of a logit between llama.cpp and transformers in F32, where it is not 5e-5. Logits
# spread by about 1. gguf_reference.md, Numerics: GELU goes through a table of halves in ggml.
GELU = 4e-3
TOLERANCE = {
    **dict.fromkeys(["gpt2", "bert", "roberta", "xlm-roberta", "gemma2", "gemma3", "gemma3-untied", "embeddinggemma",
                     "gemma4", "gemma4-moe", "nomic-bert-moe"], GELU),
}
# Sandwich norms and scaled embeddings enlarge what GELU leaves. The file itself is not in question: the test
# above finds llama.cpp's results on ours and on the reference's file the same bit for bit.
TOLERANCE.update({"gemma3": 2e-2, "gemma3-untied": 2e-2, "embeddinggemma": 2e-2, "gemma4": 5e-2, "gemma4-moe": 5e-2})
# Experts in MXFP4 stay so in F32 files, and ggml multiplies them with activations rounded to Q8_0.
TOLERANCE["gpt-oss"] = 1e-2
# A state that every token before has gone through: what exp and the norms round differently adds up. The
# reference's file gives the very same figures.
TOLERANCE.update({"qwen35": 5e-4, "qwen35moe": 5e-4})
# What no GGUF file can tell llama.cpp, so that it computes with this: YaRN's ramp between whole dimensions.
UNSAID = dict.fromkeys(["gpt-oss", "gpt-oss-bf16"], {"rope_parameters": {"truncate": True}})
# Values that are computed rather than moved: the last bit.
COMPUTED = {"qwen35": 1e-4, "qwen35moe": 1e-4}
# Rows before the first position, which no GGUF file keeps: they come back as zeros.
CUT = {"roberta": 2, "xlm-roberta": 2}
# Weights that come quantized and stay so: refused in both ways, as llama-quantize refuses them.
QUANTIZED = {"gpt-oss"}
# No class of transformers reads these repositories: their code is remote.
REMOTE = {"nomic-bert", "nomic-bert-moe"}


class Case:
    """One model: each file is made when a test first asks for it."""

    def __init__(self, spec, folder):
        self.spec, self.name, self.folder = spec, spec["name"], folder
        self.made, self.read, self.ran = {}, {}, {}

    @cached_property
    def repository(self):
        return zoo.build(self.spec, self.folder / "hf", MODELS)

    @cached_property
    def reference(self):
        """Paths of what convert_hf_to_gguf.py made, by type."""
        pattern = self.folder / "reference.{ftype}.gguf"
        done = subprocess.run([sys.executable, HERE / "llm/converter.py", TREE, self.repository, pattern, *KINDS],
                              capture_output=True, text=True, timeout=600,
                              env={**os.environ, "CONVERTER_PRE": self.spec.get("pre", "")})
        paths = {kind: Path(str(pattern).replace("{ftype}", kind)) for kind in KINDS}
        for kind, path in paths.items():
            error = path.with_suffix(".error")
            assert path.exists(), f"reference, {kind}: {error.read_text() if error.exists() else done.stderr[-2000:]}"
        return paths

    @property
    def pre(self):
        return ("--pre", self.spec["pre"]) if "pre" in self.spec else ()

    def ours(self, kind):
        if kind not in self.made:
            path = self.folder / f"ours.{kind}.gguf"
            done = judge.run("convert", self.repository, path, "--dtype", kind, *self.pre, timeout=300)
            assert done.returncode == judge.DONE, f"exit {done.returncode}: {done.stderr}"
            self.made[kind] = path
        return self.made[kind]

    def both(self, kind):
        if kind not in self.read:
            self.read[kind] = ggufs.Gguf(self.ours(kind)), ggufs.Gguf(self.reference[kind])
        return self.read[kind]

    @property
    def has_tokenizer(self):
        return any(name.startswith("tokenizer.") for name in self.both("f32")[0].keys)

    @cached_property
    def runnable(self):
        """Our F32 file; as long as it has no tokenizer, with the reference's."""
        if self.has_tokenizer:
            return self.ours("f32")
        return ggufs.graft(*self.both("f32"), self.folder / "grafted.gguf")

    @cached_property
    def tokens(self):
        return hf.tokenize(self.repository)

    @property
    def prompts(self):
        names = list(hf.TEXTS)
        return [self.tokens[0][names.index(name)] for name in hf.PROMPTS]

    def run(self, path):
        """What llama.cpp makes of a file."""
        if path not in self.ran:
            request = {"texts": list(hf.TEXTS.values()), "prompts": self.prompts, "steps": 16,
                       "embeddings": bool(self.spec.get("encoder"))}
            out = self.folder / "run.json"
            done = subprocess.run([sys.executable, HERE / "llm/runtime.py", path, out], input=json.dumps(request),
                                  capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"llama.cpp, {path.name}: {done.returncode}: {done.stderr[-2000:]}"
            self.ran[path] = json.loads(out.read_text())
        return self.ran[path]

    @cached_property
    def judged(self):
        return hf.evaluate(self.repository, self.spec, self.prompts)

    @cached_property
    def back(self):
        """The repository that comes back from the file llama.cpp ran."""
        out = self.folder / "back"
        done = judge.run("convert", self.runnable, f"{out}/", "--dtype", "f32", timeout=300)
        assert done.returncode == judge.DONE, f"exit {done.returncode}: {done.stderr}"
        return out


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    yield Case(zoo.BY_NAME[request.param], folder)
    shutil.rmtree(folder, ignore_errors=True)


def floats(text):
    return np.frombuffer(base64.b64decode(text), np.float32)


def no_lines(lines):
    assert not lines, f"{len(lines)} differences:\n" + "\n".join(lines[:20])


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_tensors_are_the_reference_converters(case, kind):
    ours, theirs = case.both(kind)
    lines = ggufs.key_differences(ours, theirs, lambda name: not ggufs.of_tokenizer(name))
    lines += ggufs.tensor_differences(ours, theirs)
    last_bit = lambda line: case.name in COMPUTED and ".ssm_a: " in line and "differ by at most 1," in line
    no_lines([line for line in lines if not last_bit(line)])


def test_tokenizer_keys_are_the_reference_converters(case):
    no_lines(ggufs.key_differences(*case.both("f32"), ggufs.of_tokenizer))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_file_is_the_reference_converters(case, kind):
    """Byte for byte; what the two tests above cannot see is padding and the place of the keys."""
    if case.name in COMPUTED:
        pytest.skip("ssm_a is rounded once; the reference's last bit depends on the processor")
    ours, theirs = case.both(kind)
    if ours.raw != theirs.raw:
        no_lines(ggufs.key_differences(ours, theirs) + ggufs.tensor_differences(ours, theirs) or ["padding"])


@RUNS
def test_llama_cpp_computes_the_same_from_both_files(case):
    """Logits and a greedy continuation: bit for bit."""
    ours, theirs = case.run(case.runnable), case.run(case.reference["f32"])
    for a, b in zip(ours["values"], theirs["values"]):
        assert hf.distance(floats(a), floats(b)) <= COMPUTED.get(case.name, 0.0)
    assert ours["greedy"] == theirs["greedy"]


@RUNS
def test_llama_cpp_computes_what_transformers_does(case):
    if case.name in REMOTE:
        pytest.skip("its code is remote: compared with llama.cpp on the reference file only")
    change = UNSAID.get(case.name)
    values, greedy = hf.evaluate(case.repository, case.spec, case.prompts, change=change) if change else case.judged
    ours = case.run(case.runnable)
    apart = [hf.distance(floats(a), b) for a, b in zip(ours["values"], values)]
    assert max(apart) <= TOLERANCE.get(case.name, 5e-5), f"apart by {apart}"
    assert ours["greedy"] == greedy


@RUNS
def test_token_ids(case):
    """Of llama.cpp on our file: those of the reference's file, and those of transformers."""
    assert case.has_tokenizer, "our file has no tokenizer"
    ours, theirs = case.run(case.ours("f32")), case.run(case.reference["f32"])
    assert (ours["ids"], ours["plain"]) == (theirs["ids"], theirs["plain"])
    for name, ids, wanted in zip(hf.TEXTS, ours["ids"], case.tokens[0]):
        if (case.spec["vocab"], name) not in hf.OTHERWISE:
            assert ids == wanted, f"{name}: {hf.OTHERWISE}"


def test_back_gives_the_same_logits(case):
    if case.name in REMOTE:
        pytest.skip("its code is remote")
    values, greedy = hf.evaluate(case.back, case.spec, case.prompts)
    apart = [hf.distance(a, b) for a, b in zip(values, case.judged[0])]
    assert max(apart) <= COMPUTED.get(case.name, 0.0), f"apart by {apart}"
    assert greedy == case.judged[1]


def test_a_repository_equals_its_gguf_under_either_names(case):
    """`diff` undoes what the runtime wants otherwise: rows in another order, experts stacked, ones added."""
    done = judge.run("diff", "--names", "hf", "--json", case.repository, case.ours("f32"), "--as-dtype", "f32", timeout=300)
    report = json.loads(done.stdout)

    def known(found):
        if found["name"].endswith(".A_log"):
            return case.name in COMPUTED and found["max_rel"] < 1e-6
        # One is added to norms in F32, and taken away again.
        if found["name"].endswith("norm.weight") and case.spec["dtype"] == "float32":
            return case.name == "embeddinggemma" and found["max_abs"] < 2e-7
        rows = CUT.get(case.name, 0) * 256
        return found["name"] == "embeddings.position_embeddings.weight" and found["reason"].startswith(f"{rows} of ")

    # Tensors that a GGUF file does not keep are no difference of values.
    assert all(map(known, report["differ"])) and report["compared"], report
    # Under these names a GGUF file's blocks are floats, which the repository has not.
    assert case.name in QUANTIZED or not report["only_in_b"], report
    # Of F32 `auto` makes F16, as the reference does.
    kind = "f32" if case.spec["dtype"] == "float32" else "auto"
    done = judge.run("diff", "--names", "gguf", "--json", case.repository, case.ours(kind), timeout=300)
    report = json.loads(done.stdout)
    assert report["same"] or report["differ"] and all(map(known, report["differ"])), done.stdout


def test_back_gives_the_same_token_ids(case):
    assert case.has_tokenizer, "our file has no tokenizer"
    wrong = [name for name, a, b in zip(hf.TEXTS, hf.tokenize(case.back)[0], case.tokens[0])
             if a != b and (case.spec["vocab"], name) not in hf.UNTOLD]
    assert not wrong, f"other ids for {wrong}"


def test_what_comes_back_makes_the_same_file(case):
    """There, back and there again: keys and tensors, but for the name of the folder."""
    if case.name in QUANTIZED:
        pytest.skip("what comes back are floats")
    again = case.folder / "again.gguf"
    done = judge.run("convert", case.back, again, "--dtype", "f32", *case.pre, timeout=300)
    assert done.returncode == judge.DONE, f"exit {done.returncode}: {done.stderr}"
    first, second = ggufs.Gguf(case.runnable), ggufs.Gguf(again)
    again.unlink()
    lines = ggufs.key_differences(second, first) + ggufs.tensor_differences(second, first)

    def known(line):
        # One file's tensors come sorted by name, those of two shards shard by shard.
        return line.startswith(("key general.", "order of tensors")) and (case.spec.get("shards") or "general." in line)

    no_lines([line for line in lines if not known(line)])


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"] if FULL else ["f16"])
def test_quantizing_at_once_is_the_two_steps(case, kind):
    """Straight to Q4_K_M: the bytes of convert at the same --dtype, then quantize."""
    first, second, straight = (case.folder / f"{name}.gguf" for name in ("first", "second", "straight"))

    def convert(source, target, *options, ends=judge.DONE):
        done = judge.run("convert", source, target, *options, timeout=300)
        assert done.returncode == ends, f"exit {done.returncode}: {done.stderr}"
        return done.stderr.split("tensor ", 1)[-1]

    try:
        convert(case.repository, first, "--dtype", kind, *case.pre)
        if case.name in QUANTIZED:
            words = convert(first, second, "--quantize", "Q4_K_M", ends=judge.USAGE)
            assert "quantized already" in words and not second.exists()
            assert words == convert(case.repository, straight, "--dtype", kind, "--quantize", "Q4_K_M", ends=judge.USAGE)
            assert not straight.exists()
            return
        convert(first, second, "--quantize", "Q4_K_M")
        convert(case.repository, straight, "--dtype", kind, "--quantize", "Q4_K_M", *case.pre)
        if second.read_bytes() != straight.read_bytes():
            ours, theirs = ggufs.Gguf(straight), ggufs.Gguf(second)
            no_lines(ggufs.key_differences(ours, theirs) + ggufs.tensor_differences(ours, theirs) or ["padding"])
    finally:
        for path in (first, second, straight):
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------ beside the weights

def test_vocabulary_and_merges_without_a_tokenizer_file(small, tmp_path):
    """Older repositories have no tokenizer.json: the class of the tokenizer says how it splits."""
    folder = tmp_path / "hf"
    shutil.copytree(small, folder)
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"], ensure_ascii=False))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    keys = ["content", "lstrip", "normalized", "rstrip", "single_word", "special"]
    config["tokenizer_class"] = "Qwen2Tokenizer"
    config["added_tokens_decoder"] = {str(t["id"]): {k: t[k] for k in keys} for t in whole["added_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    out = tmp_path / "ours.gguf"
    done = judge.run("convert", folder, out, "--dtype", "f16")
    assert done.returncode == judge.DONE, done.stderr
    made = subprocess.run([sys.executable, HERE / "llm/converter.py", TREE, folder, tmp_path / "r.{ftype}.gguf", "f16"],
                          capture_output=True, text=True, timeout=600)
    assert (tmp_path / "r.f16.gguf").exists(), made.stderr[-2000:]
    assert out.read_bytes() == (tmp_path / "r.f16.gguf").read_bytes()


def test_of_two_templates_that_of_transformers(small, tmp_path):
    """A chat_template.jinja beside another template in tokenizer_config.json; two that are alike are no matter."""
    from transformers import AutoTokenizer
    folder, out = tmp_path / "hf", tmp_path / "m.gguf"
    shutil.copytree(small, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for beside, told in (("one", False), ("another", True)):
        (folder / "tokenizer_config.json").write_text(json.dumps(dict(config, chat_template="one")))
        (folder / "chat_template.jinja").write_text(beside)
        done = judge.run("convert", folder, out, "--overwrite")
        assert done.returncode == judge.DONE, done.stderr
        assert ("chat_template of tokenizer_config.json" in done.stderr) == told, done.stderr
        chosen = AutoTokenizer.from_pretrained(folder).chat_template
        assert ggufs.Gguf(out).value("tokenizer.chat_template") == chosen == beside


def test_tensors_that_share_memory_are_all_written(tmp_path):
    """Runtimes ask for every name: a GGUF for one has no tensor that stands for another."""
    import torch
    from safetensors.torch import load_file
    spec = dict(zoo.BY_NAME["llama"], shards=None)
    folder = zoo.build(spec, tmp_path / "hf", MODELS)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors*")):
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
        path.unlink()
    for name in list(tensors):
        if name.startswith("model.layers.1."):
            tensors[name] = tensors[name.replace("layers.1.", "layers.0.")]
    torch.save(tensors, folder / "pytorch_model.bin")
    out = tmp_path / "ours.gguf"
    judge.convert(folder, out)
    made = subprocess.run([sys.executable, HERE / "llm/converter.py", TREE, folder, tmp_path / "r.{ftype}.gguf", "f16"],
                          capture_output=True, text=True, timeout=600)
    assert (tmp_path / "r.f16.gguf").exists(), made.stderr[-2000:]
    assert out.read_bytes() == (tmp_path / "r.f16.gguf").read_bytes()


def test_the_way_back_says_how_an_embedding_model_pools(tmp_path):
    folder = zoo.build(zoo.BY_NAME["bert"], tmp_path / "hf", MODELS)
    module = "sentence_transformers.models."
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": module + "Transformer"},
                                                     {"idx": 1, "name": "1", "path": "1_Pooling", "type": module + "Pooling"}]))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    judge.convert(folder, tmp_path / "there.gguf")
    judge.convert(tmp_path / "there.gguf", str(tmp_path / "back") + "/")
    judge.convert(tmp_path / "back", tmp_path / "again.gguf")
    for name in ("there.gguf", "again.gguf"):
        assert ggufs.Gguf(tmp_path / name).value("bert.pooling_type") == 2


@pytest.mark.parametrize("name, odd", [("gpt2", {"n_inner": 320}), ("deepseek3-noq", {}), ("granitemoe-shared", {})])
def test_what_comes_back_is_the_class_that_went(name, odd, tmp_path):
    """Sizes and classes that differ from what a model type has by itself."""
    from transformers import AutoConfig, AutoModelForCausalLM
    spec = zoo.BY_NAME[name]
    folder = zoo.build(dict(spec, config=dict(spec["config"], **odd)), tmp_path / "hf", MODELS)
    done = judge.run("convert", folder, tmp_path / "there.gguf", "--json")
    assert done.returncode == judge.DONE, done.stderr
    names = {record["what"] for record in json.loads(done.stdout)["report"]}
    assert not names & {"q_lora_rank", "intermediate_size"}
    judge.convert(tmp_path / "there.gguf", str(tmp_path / "back") + "/")
    assert AutoConfig.from_pretrained(tmp_path / "back").architectures == AutoConfig.from_pretrained(folder).architectures
    _, told = AutoModelForCausalLM.from_pretrained(tmp_path / "back", output_loading_info=True, ignore_mismatched_sizes=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), told


def test_what_the_way_back_rounds_is_told(small, tmp_path):
    quantized = tmp_path / "q.gguf"
    done = judge.run("convert", small, quantized, "--dtype", "q8_0")
    assert done.returncode == judge.DONE, done.stderr
    strict = judge.run("convert", quantized, str(tmp_path / "no") + "/", "--strict")
    assert strict.returncode != judge.DONE and "Q8_0" in strict.stderr and "--dtype" in strict.stderr
    assert not (tmp_path / "no").exists()
    back = judge.run("convert", quantized, str(tmp_path / "back") + "/", "--json")
    assert back.returncode == judge.DONE, back.stderr
    records = {r["kind"]: r for r in json.loads(back.stdout)["report"]}
    assert records["dequantized"]["loss"] and "rounded" in records["dequantized"]["why"]
    wide = judge.run("convert", quantized, str(tmp_path / "wide") + "/", "--dtype", "f32", "--json")
    records = {r["kind"]: r for r in json.loads(wide.stdout)["report"]}
    assert not records["dequantized"]["loss"]
