"""Tokenizers of real size against the real converter, and the way back against transformers.

    WEIGHTBRIDGE_LLAMA_CPP=DIR pytest tests/interop/vocab

DIR is a llama.cpp source tree (the PyPI source package llama-cpp-python has one in
vendor/llama.cpp). Needs torch, transformers, tokenizers, sentencepiece, protobuf and gguf; cargo
builds the example program that tells our keys.
"""

import json
import os
import pathlib
import resource
import subprocess

import pytest

import cases
import reference
import vocabs

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LLAMA_CPP = os.environ.get("WEIGHTBRIDGE_LLAMA_CPP", "")
# A tokenizer of 150,000 tokens takes at most this, in release, on the machine of docs/performance.md.
SECONDS = float(os.environ.get("WEIGHTBRIDGE_VOCAB_SECONDS", "0.5"))

PROMPTS = [
    "Hello, world! It's 2024 and we'll see 3.14159 or 1,000,000.",
    "Gr\u00f6\u00dfe \u2014 na\u00efve caf\u00e9, \u00bfcu\u00e1nto? \u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442, \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac, \u05e2\u05d1\u05e8\u05d9\u05ea, \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u6211\u60f3\u5728\u8fd9\u91cc\u79f0\u91cd\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u0e19\u0e49\u0e33\u0e2b\u0e19\u0e31\u0e01 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f680 (normal) \U0001f636\u200d\U0001f32b\ufe0f \u2705 \U0001f999\U0001f999 \U0001f1e9\U0001f1ea",
    "def f(x):\n\tif x > 0:\n        return {'a': [1, 2], \"b\": x**2}  # comment\n\n\n",
    "  two  spaces   three\t\ttabs \n \n\n \r\n end  ",
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure?",
    "1 12 123 1234 12345 123456 1234567 12345678",
    "",
    " ",
]


@pytest.fixture(scope="session")
def tree():
    if not LLAMA_CPP:
        pytest.skip("WEIGHTBRIDGE_LLAMA_CPP names no llama.cpp source tree")
    reference.use(LLAMA_CPP)
    return LLAMA_CPP


@pytest.fixture(scope="session")
def program():
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "weightbridge-vocab", "--example",
                    "vocab_dump"], cwd=ROOT, check=True)
    return TARGET / "release/examples/vocab_dump"


@pytest.fixture(scope="session")
def repositories(tree, tmp_path_factory):
    made = {}

    def repository(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "hf"
            case = vocabs.repository(tree, name)
            cases.write(case, folder)
            made[name] = (folder, case["cls"])
        return made[name]

    return repository


def run(program, folder, *more):
    done = subprocess.run([program, folder, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("name", vocabs.NAMES)
def test_keys_are_the_converter_s(name, program, repositories):
    folder, cls = repositories(name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours, told = run(program, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    theirs = reference.pairs(folder, cls)
    assert ours == theirs
    # Seconds of work: others may be busy on the machine.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    n = next(value["n"] for key, value in ours if key == "tokenizer.ggml.tokens")
    print(f"{name}: {n} tokens, {seconds:.3f} s of work, {told.split()[1]} s by the clock")
    assert seconds <= SECONDS * max(1, n / 150_000)


@pytest.mark.parametrize("name", vocabs.NAMES)
def test_the_way_back_gives_the_same_ids(name, program, repositories, tree, tmp_path):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder, _ = repositories(name)
    # llama.cpp's qwen35 vocabulary holds Qwen 2's tokens, so its fingerprint is qwen2's.
    more = ["--pre", "qwen35"] if name == "qwen35" else []
    run(program, folder, "--back", tmp_path, *more)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    ours = AutoTokenizer.from_pretrained(tmp_path)
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    if (folder / "tokenizer.json").exists():
        theirs = AutoTokenizer.from_pretrained(folder)
        for text in PROMPTS:
            want = theirs.encode(text)
            assert ours.encode(text) == want, text
            assert plain.encode(text).ids == want, text
            assert ours.decode(want) == theirs.decode(want)
    else:
        import sentencepiece

        theirs = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        back = sentencepiece.SentencePieceProcessor(str(tmp_path / "tokenizer.model"))
        for text in PROMPTS:
            want = theirs.encode(text)
            assert back.encode(text) == want, text
            if text:  # the empty text has no dummy prefix in sentencepiece
                assert ours.encode(text) == [1, *want], text
                assert plain.encode(text).ids == [1, *want], text
    # What llama.cpp itself expects of the vocabulary.
    texts = vocabs.published(tree, name)
    if texts and name != "gemma-4":
        bad = [t for t, want in texts if plain.encode(t, add_special_tokens=False).ids != want]
        assert len(bad) <= 2, bad  # decomposed letters: llama.cpp has no NFC


def test_every_small_case(tree, program, tmp_path):
    """The committed cases, made anew."""
    for case in cases.cases():
        folder = tmp_path / case["name"]
        cases.write(case, folder)
        more = ["--pre", case["pre"]] if case.get("pre") else []
        ours, _ = run(program, folder, *more)
        assert ours == reference.pairs(folder, case["cls"], case.get("pre")), case["name"]
