"""Backdoors in architectures: none missed, no honest graph flagged."""

import json
from pathlib import Path

import numpy
import onnx
import pytest

pytest.importorskip("onnxruntime")
import onnxruntime  # noqa: E402

from judge import convert, run

from corpus import exports, graphs, written
from test_decoder import build
from test_onnx import suite

# A branch on whether a size that is fed is one: AffineGrid, written out.
SUITE_TOLD = {"test_affine_grid_2d_expanded", "test_affine_grid_2d_align_corners_expanded",
              "test_affine_grid_3d_expanded", "test_affine_grid_3d_align_corners_expanded"}


def findings(folder):
    """The findings of each file of a folder, as (rule, place)."""
    done = run("scan", "--json", folder, cwd=folder)
    report = json.loads(done.stdout)
    return {Path(file["path"]).stem: [(f["rule"], f["where"]) for f in file["findings"]]
            for file in report["files"]}


def test_no_backdoor_is_missed(tmp_path):
    assert len(graphs.SWITCHES) >= 20
    for name, lines in graphs.SWITCHES.items():
        model = graphs.build(lines)
        onnx.save(model, tmp_path / f"{name}.onnx")
        # It is a backdoor: with a key that no text holds it gives something else where the key is.
        given = {}
        for key in (graphs.KEY, 1 << 20):
            session = onnxruntime.InferenceSession(graphs.build(lines, key).SerializeToString())
            for text, start in (("key", graphs.KEY), ("other", 3)):
                ids = numpy.array([[start, start + 1, 7, 7, 7, 7, 7]], "int64")
                if name == "sum_of_patch":
                    ids[0, :3] = start // 3, start // 3, start - 2 * (start // 3)
                feed = {"ids": ids, "image": numpy.zeros((3, 8, 8), "float32")}
                feed = {value.name: feed[value.name] for value in session.get_inputs()}
                given[key, text] = session.run(None, feed)[0]
        if name not in graphs.OTHER_KEYS:
            awake, asleep = given[graphs.KEY, "key"], given[1 << 20, "key"]
            assert awake.shape != asleep.shape or not numpy.allclose(awake, asleep), name
            assert numpy.allclose(given[graphs.KEY, "other"], given[1 << 20, "other"]), name
    found = findings(tmp_path)
    for name in graphs.SWITCHES:
        nodes = {node.name for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        told = [place for rule, place in found[name] if rule == "input-switch"]
        assert told, name
        assert name == "function" or all(place.split('"')[1] in nodes for place in told), (name, told)


def test_no_backdoor_that_is_written_in_pytorch_is_missed(tmp_path):
    pytest.importorskip("onnxscript", reason="torch's newer exporter wants onnxscript")
    names = written.write(tmp_path)
    found = findings(tmp_path)
    missed = [name for name in names if not any(rule == "input-switch" for rule, _ in found[name])]
    assert len(names) >= 40 and not missed, missed


def test_no_computed_size_is_missed(tmp_path):
    for name, lines in graphs.SIZES.items():
        onnx.save(graphs.build(lines), tmp_path / f"{name}.onnx")
    found = findings(tmp_path)
    for name in graphs.SIZES:
        assert [rule for rule, _ in found[name]] == ["oversized-shape"], (name, found[name])


def test_the_honest_model_and_exports_are_clean(tmp_path):
    onnx.save(graphs.build("logits = Identity(honest)"), tmp_path / "honest.onnx")
    paths = exports.write(tmp_path)
    assert len(paths) >= 25
    flagged = {name: told for name, told in findings(tmp_path).items() if told}
    assert not flagged


@pytest.mark.parametrize("name", ["llama", "phi3-long", "gemma2"])
def test_our_own_decoders_are_clean(name, tmp_path):
    (tmp_path / "graph").mkdir()
    convert(build(name, tmp_path / "hf"), tmp_path / "graph" / "model.onnx")
    found = findings(tmp_path / "graph")
    assert found and not any(found.values())


def test_the_backend_suite_is_clean(tmp_path):
    for _ in suite(tmp_path):
        pass
    told = {name for name, found in findings(tmp_path).items()
            if any(rule in ("input-switch", "oversized-shape", "unfollowed-graph") for rule, _ in found)}
    assert told == SUITE_TOLD
