"""The Modelfile beside a GGUF: what Ollama makes of a conversation is what the model's own template makes.

Chat templates of real models (llama.cpp's collection, and some by hand) are filled in by transformers' Jinja,
what `--modelfile` writes by Go's `text/template`, which Ollama uses (ollama/fill.go); without Go that comparison is
skipped.
"""

import json
import shutil
import subprocess
import time

import pytest

import judge
from llama_tree import HERE, MODELS, small  # first: it finds the modules of llm

ROLES = ["user", "assistant"]
HOSTILE = {
    "doubles": "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "repeats": "{{ 'a' * 99999999 }}{{ 'a' * 99999999 }}",
    "turns": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "deep": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "nested": "{{ " + "(" * 100_000 + ")" * 100_000 + " }}",
    "long": "{{ x }}" * 400_000,
}

LLAMA_2 = """{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else false %}
{%- for m in (messages[1:] if system else messages) %}
{%- if m['role'] == 'user' and loop.first and system %}{{ bos_token }}[INST] <<SYS>>
{{ system }}
<</SYS>>

{{ m['content'] | trim }} [/INST]{% elif m['role'] == 'user' %}{{ bos_token }}[INST] {{ m['content'] | trim }} [/INST]
{%- else %} {{ m['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}"""


def with_template(small, folder, template):
    shutil.copytree(small, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    return folder


def templates():
    found = {"llama-2": LLAMA_2}
    for path in sorted((MODELS / "templates").glob("*.jinja")):
        found[path.stem] = path.read_text()
    return found


def conversations():
    """Other texts and other lengths than the program itself asks for."""
    for system in (None, "Be kind.\nAnd brief."):
        for length in (1, 3, 5, 7):
            talk = [{"role": ROLES[n % 2], "content": f"Text {n}: of a talk, {{braces}} too."} for n in range(length)]
            yield ([{"role": "system", "content": system}] if system else []) + talk


def section(modelfile, name):
    head = f'{name} """'
    return modelfile.split(head, 1)[1].split('"""', 1)[0] if head in modelfile else None


# A day in words, and templates that write a token which this tokenizer does not have.
LEFT = {"fireworks-ai-llama-3-firefunction-v2", "ibm-granite-granite-3.3-2B-Instruct",
        "meetkai-functionary-medium-v3.1", "meetkai-functionary-medium-v3.2"}


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go")
def test_ollama_fills_in_what_the_model_s_template_does(small, tmp_path):
    from transformers import AutoTokenizer

    teller = AutoTokenizer.from_pretrained(small)
    begin = teller.bos_token or ""
    work, own, left, refused = [], [], [], {}
    for name, template in templates().items():
        folder = with_template(small, tmp_path / name, template)
        done = judge.run("convert", folder, tmp_path / f"{name}.gguf", "--modelfile")
        assert done.returncode == judge.DONE, (name, done.stderr)
        modelfile = (tmp_path / "Modelfile").read_text()
        (tmp_path / "Modelfile").unlink()
        (tmp_path / f"{name}.gguf").unlink()
        shutil.rmtree(folder)
        go = section(modelfile, "TEMPLATE")
        if go is None:
            assert "left to Ollama" in modelfile and "no template for Ollama" in done.stderr, (name, done.stderr)
            left.append(name)
            continue
        talks, texts = [], []
        for talk in conversations():
            try:
                text = teller.apply_chat_template(talk, chat_template=template, tokenize=False,
                                                  add_generation_prompt=True)
            except Exception:
                refused.setdefault(name, set()).add(talk[0]["role"])
                continue
            talks.append(talk)
            texts.append(text.removeprefix(begin))
        if "writes the one that it falls back to" in done.stderr:
            assert name == "meta-llama-Llama-3.2-3B-Instruct"
            texts = [text.replace(time.strftime("%d %b %Y"), "26 Jul 2024") for text in texts]
        work.append({"Template": go, "Conversations": talks})
        own.append((name, texts))
    filled = subprocess.run(["go", "run", HERE / "ollama/fill.go"], input=json.dumps(work), capture_output=True, text=True)
    assert filled.returncode == 0, filled.stderr
    unlike = {}
    for (name, texts), ours in zip(own, json.loads(filled.stdout), strict=True):
        for text, our in zip(texts, ours, strict=True):
            if text != our:
                unlike.setdefault(name, (text, our))
    assert not unlike, "\n\n".join(f"{name}: {text!r}\n    {our!r}" for name, (text, our) in unlike.items())
    # Jinja itself refuses a system message; and templates for tools, which are always listed with names.
    assert all(name.endswith("tool_use") for name in refused if "user" in refused[name]), refused
    assert len(own) > 60 and set(left) == LEFT, left


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_costs_little(small, tmp_path, name):
    folder = with_template(small, tmp_path / "hf", HOSTILE[name])
    start = time.monotonic()
    done = judge.run("convert", folder, tmp_path / "m.gguf", "--modelfile")
    assert done.returncode == judge.DONE, done.stderr
    assert time.monotonic() - start < 10
    assert "left to Ollama" in (tmp_path / "Modelfile").read_text()


def test_a_modelfile_has_what_the_generation_settings_say(small, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(small, folder)
    settings = {"eos_token_id": [2, 5], "stop_strings": ["END"], "max_new_tokens": 64, "temperature": 0.5,
                "top_k": 9, "do_sample": True, "repetition_penalty": 1.25}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    done = judge.run("convert", folder, tmp_path / "m.gguf", "--modelfile")
    assert done.returncode == judge.DONE, done.stderr
    words = json.loads((folder / "tokenizer.json").read_text())
    texts = {id: text for text, id in words["model"]["vocab"].items()} | {t["id"]: t["content"] for t in words["added_tokens"]}
    lines = (tmp_path / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./m.gguf"
    for line in ["temperature 0.5", "top_k 9", "repeat_penalty 1.25", "num_predict 64", 'stop "END"',
                 f"stop {json.dumps(texts[2])}", f"stop {json.dumps(texts[5])}"]:
        assert f"PARAMETER {line}" in lines, lines
    assert "eos_token_id 5" in done.stderr
    # A loss without a Modelfile, and none with it.
    alone = judge.run("convert", folder, tmp_path / "alone.gguf", "--strict")
    assert alone.returncode != judge.DONE and "[--modelfile]" in alone.stderr, alone.stderr
    both = judge.run("convert", folder, tmp_path / "both.gguf", "--strict", "--modelfile", "--overwrite")
    assert both.returncode == judge.DONE, both.stderr


def test_a_modelfile_keeps_the_default_system_message(small, tmp_path):
    """Ollama's template writes a system turn only where it is told one; the model's own has a default."""
    folder = tmp_path / "hf"
    shutil.copytree(small, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    template = (MODELS / "templates/Qwen-Qwen2.5-7B-Instruct.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
    done = judge.run("convert", folder, tmp_path / "m.gguf", "--modelfile")
    assert done.returncode == judge.DONE, done.stderr
    from transformers import AutoTokenizer

    told = AutoTokenizer.from_pretrained(folder)
    alone = told.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    default = alone.split("<|im_start|>system\n")[1].split("<|im_end|>")[0]
    assert f'SYSTEM """{default}"""' in (tmp_path / "Modelfile").read_text().splitlines()
