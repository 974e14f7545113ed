"""Model cards: the `general.*` keys that a card gives equal those of gguf-py, and a card that is made of keys is one that
PyYAML reads and gguf-py makes the same keys of."""

import gguf
import pytest
from gguf.metadata import Metadata

from judge import DONE, REFUSED, run
from test_onnx_pairs import PRE
from test_onnx_pairs import repository as small

CARDS = {
    "plain": "license: mit\ntags:\n- a\n- b\nlanguage: en\npipeline_tag: text-generation\n",
    "indented": "license:   'apache-2.0'\ntags:\n    - a\n    -   b\nlanguage:\n  - en\n  - no\n  - de\n",
    "flow": 'tags: [a, "b, c", \'d\']\nlanguage: [en,\n  de]\ndatasets: []\n',
    "mappings": "base_model:\n- name: One\n  organization: Org\n  repo_url: https://x.org/one\n- org/two-7B-v1.2\n"
                "datasets:\n- name: Data\n  description: \"a: b\"\n",
    "sources": "base_model_sources:\n- {name: One, url: 'https://x.org'}\n",
    "address": "base_model: https://huggingface.co/org/base-v2\ndataset:\n- https://x.org/data\n",
    "blocks": "model_description: >-\n  two\n  lines\n\n  more\ndescription: |\n  kept\n    as is\nlicense: other\n",
    "quotes": 'model_name: "A \\"name\\" \\u00e9\\x41"\nauthor: \'it\'\'s\'\nlicense_link: https://x.org/#l # a comment\n',
    "nested": "model-index:\n- name: m\n  results:\n  - task: {type: t}\n    metrics:\n    - {type: acc, value: 0.5}\n"
              "license: mit\nwidget:\n- text: 'a: b'\nextra:\n  license: no\n  tags: [x]\n",
    "anchors": "tags: &t [a, b]\nlanguages: *t\n",
    "merged lists": "license: [mit, bsd]\ntags: x\n",
    "tabs": "tags:\n-\ta\n-\tb\nlicense:\tmit\n",
    "comments": "# first\nlicense: mit # second\n# third\ntags:\n# fourth\n- a#b\n",
    "nulls": "license:\ntags: ~\nauthor: null\nmodel_author: me\nlanguage: no\n",
    "not ended": None,
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "Some-Model-7B-chat-v1.1"
    folder.mkdir()
    small(folder, False)
    return folder


class Collector:
    """Takes the place of a writer: what it is told of strings, lists and counts, by gguf-py's own methods."""

    def __init__(self):
        self.keys = {}

    def __getattr__(self, name):
        method = getattr(gguf.GGUFWriter, name)
        return lambda *arguments: method(self, *arguments)

    def keep(self, key, value):
        self.keys[key] = value

    add_string = add_array = add_uint32 = add_int32 = add_float32 = add_bool = keep


def of_gguf_py(folder):
    collector = Collector()
    Metadata.load(None, folder, None, 36000).set_gguf_meta_model(collector)
    return collector.keys


def of(path):
    fields = gguf.GGUFReader(path).fields
    keys = {key: field.contents() for key, field in fields.items() if key.startswith("general.")}
    own = ("architecture", "type", "file_type", "quantization_version", "size_label")
    return {key: value for key, value in keys.items() if key.removeprefix("general.") not in own}


@pytest.mark.parametrize("name", CARDS)
def test_keys_are_gguf_py_s(name, repository, tmp_path):
    text = CARDS[name]
    card = "---\nlicense: mit\ntags: [a]\n" if text is None else f"---\n{text}---\n# Text\nlicense: wrong\n"
    (repository / "README.md").write_text(card)
    out = tmp_path / "x.gguf"
    done = run("convert", repository, out, "--strict", *PRE)
    assert done.returncode == DONE, done.stderr
    wanted = {key: value for key, value in of_gguf_py(repository).items() if key != "general.size_label"}
    assert of(out) == {key: value for key, value in wanted.items() if value not in ("", [])}

    back, again = tmp_path / repository.name, tmp_path / "again.gguf"
    assert run("convert", out, f"{back}/", "--strict", "--dtype", "f32").returncode == DONE
    got = {key: value for key, value in of_gguf_py(back).items() if key != "general.size_label"}
    empty = {key: 0 for key in wanted if key.endswith(".count") and wanted[key] == 0}
    assert {**got, **empty} == {key: value for key, value in wanted.items() if value not in ("", [])}
    assert run("convert", back, again, "--strict", *PRE).returncode == DONE


def test_a_card_that_is_no_yaml(repository, tmp_path):
    (repository / "README.md").write_text("---\nlicense: [mit\n---\n")
    out = tmp_path / "x.gguf"
    done = run("convert", repository, out, *PRE)
    assert done.returncode == DONE and "README.md" in done.stderr and "YAML" in done.stderr
    assert run("convert", repository, tmp_path / "y.gguf", "--strict", *PRE).returncode == REFUSED
