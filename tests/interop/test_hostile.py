"""Hostile and malformed files: the right verdict, nothing executed, nothing left behind."""

import json

import pytest

import assemble
from judge import (ANSWER_NO, DONE, REFUSED, TESTDATA, check_safetensors, expected, facts,
                   good_checkpoints, paths_of, run)

HOSTILE = facts("ckpt/hostile/")
EXTRACTABLE = [fact for fact in HOSTILE if fact.get("extract")]
BAD = [fact for fact in facts("ckpt/bad/") + facts("safetensors/bad/") if not fact.get("beside")]
GOOD = good_checkpoints()


@pytest.fixture
def quiet(tmp_path):
    """Runs the program where a payload would leave its mark, and looks for it afterwards."""
    def go(*arguments):
        return run(*arguments, cwd=tmp_path, env={"WEIGHTBRIDGE_CANARY": assemble.CANARY})

    yield go
    assert not (tmp_path / assemble.CANARY).exists(), "a payload ran"


def scan(quiet, path):
    done = quiet("scan", "--json", path)
    return done.returncode, json.loads(done.stdout)["files"][0]


TOOLS = {"builtins.list", "builtins.tuple", "builtins.bytes", "argparse.Namespace"}


@pytest.mark.parametrize("fact", HOSTILE, ids=paths_of(HOSTILE))
def test_scan_says_so(fact, quiet):
    code, report = scan(quiet, TESTDATA / fact["path"])
    verdicts = fact["verdict"].split(" or ")
    assert report["verdict"] in verdicts
    assert code == {"dangerous": ANSWER_NO, "malformed": REFUSED, "suspicious": DONE}[
        report["verdict"]]
    if report["verdict"] == "malformed":
        return
    assert report["findings"]
    text = json.dumps(report["findings"])
    for name in fact["globals"]:
        # What only makes plain containers is the tool here, not the danger.
        if name not in TOOLS:
            assert name.rsplit(".", 1)[-1] in text, f"{name} is not named"


@pytest.mark.parametrize("fact", facts("ckpt/hostile/article/"),
                         ids=paths_of(facts("ckpt/hostile/article/")))
def test_scan_shows_the_code(fact, quiet):
    _, report = scan(quiet, TESTDATA / fact["path"])
    text = json.dumps(report["findings"])
    wanted = {"attack1": "getppid", "attack2": "all_reduce", "popped": "WEIGHTBRIDGE_CANARY"}
    name = fact["path"].rsplit("/", 1)[1]
    assert next(code for prefix, code in wanted.items() if name.startswith(prefix)) in text


@pytest.mark.parametrize("fact", HOSTILE, ids=paths_of(HOSTILE))
def test_convert_refuses(fact, quiet, tmp_path):
    done = quiet("convert", TESTDATA / fact["path"], tmp_path / "out.safetensors")
    if "suspicious" in fact["verdict"]:
        assert done.returncode in (DONE, REFUSED), done.stderr
        return
    assert done.returncode == REFUSED, done.stderr
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize("fact", EXTRACTABLE, ids=paths_of(EXTRACTABLE))
def test_extract_gives_the_tensors(fact, quiet, tmp_path):
    target = tmp_path / "out.safetensors"
    done = quiet("convert", TESTDATA / fact["path"], target, "--policy", "extract")
    assert done.returncode == DONE, done.stderr
    document = expected(fact["extract"]["twin"])
    document["tensors"] = [entry for entry in document["tensors"]
                           if entry["name"] not in fact["extract"]["missing"]]
    check_safetensors(target, document)
    assert "danger" in done.stderr.lower(), "the danger was not mentioned"


@pytest.mark.parametrize("path, document", GOOD, ids=paths_of(GOOD))
def test_no_false_alarm(path, document, quiet):
    code, report = scan(quiet, TESTDATA / path)
    assert code == DONE
    allowed = {"clean"} if document["verdict"] == "clean" else {"clean", "suspicious"}
    assert report["verdict"] in allowed, report["findings"]


@pytest.mark.parametrize("fact", BAD, ids=paths_of(BAD))
def test_malformed_is_refused(fact, quiet, tmp_path):
    done = quiet("convert", TESTDATA / fact["path"], tmp_path / "out.pt", "--to", "pt", "--verify")
    if fact["path"].endswith("leading_space.safetensors"):
        assert done.returncode == DONE, "the library loads it, so do we, with a note"
        return
    assert done.returncode == REFUSED, f"exit {done.returncode}: {done.stderr}"
    assert not list(tmp_path.iterdir()), "something was written"
    folder, name = fact["path"].split("/")[-2:]
    # Of a set the message names the file that is wrong, which may be another one.
    assert (folder if folder.startswith("index_") else name) in done.stderr
    assert "panicked" not in done.stderr


@pytest.mark.parametrize("path, document", GOOD, ids=paths_of(GOOD))
def test_strict_agrees_with_weights_only(path, document, quiet, tmp_path):
    """--policy strict admits what torch's safe loader admits, by the globals it allows."""
    if document["container"] in ("torchscript", "tar", "pickle") or "twin" in document:
        pytest.skip("weights_only refuses the container itself")
    if not any(not entry.get("meta") for entry in document["tensors"]):
        pytest.skip("no tensor to write")
    done = quiet("convert", TESTDATA / path, tmp_path / "out.safetensors", "--policy", "strict")
    if document["weights_only"]:
        assert done.returncode == DONE, done.stderr
    elif "protocol4" not in path and "protocol5" not in path:
        assert done.returncode == REFUSED


FAIRSEQ = TESTDATA / "ckpt/good/layouts/fairseq.pt"


def test_fairseq_under_each_policy(quiet, tmp_path):
    assert quiet("convert", FAIRSEQ, tmp_path / "a.safetensors").returncode == DONE
    done = quiet("convert", FAIRSEQ, tmp_path / "b.safetensors", "--policy", "strict")
    assert done.returncode == REFUSED
    for name in ("fairseq.data.dictionary.Dictionary", "argparse.Namespace"):
        assert name in done.stderr
    one = ("--allow-global", "argparse.Namespace")
    done = quiet("convert", FAIRSEQ, tmp_path / "c.safetensors", "--policy", "strict", *one)
    assert done.returncode == REFUSED
    assert "fairseq.data.dictionary.Dictionary" in done.stderr
    both = (*one, "--allow-global", "fairseq.data.dictionary.Dictionary")
    done = quiet("convert", FAIRSEQ, tmp_path / "d.safetensors", "--policy", "strict", *both)
    assert done.returncode == DONE, done.stderr
    for name in "ad":
        check_safetensors(tmp_path / f"{name}.safetensors",
                          expected("ckpt/good/layouts/fairseq.pt"))
    assert not (tmp_path / "b.safetensors").exists() and not (tmp_path / "c.safetensors").exists()


def test_scan_of_many_files(quiet):
    clean = TESTDATA / "ckpt/good/zip/state_dict.pt"
    evil = TESTDATA / "ckpt/hostile/reduce_exec/exec_print_p2.pt"
    broken = TESTDATA / "ckpt/bad/zip/text.pt"
    assert quiet("scan", clean).returncode == DONE
    assert quiet("scan", clean, broken).returncode == REFUSED
    assert quiet("scan", clean, broken, evil).returncode == ANSWER_NO
    summary = json.loads(quiet("scan", "--json", clean, broken, evil).stdout)["summary"]
    assert (summary["clean"], summary["malformed"], summary["dangerous"]) == (1, 1, 1)


@pytest.mark.parametrize("version", [3, 10, 11, 999])
def test_format_versions_are_those_of_torch(version, quiet, tmp_path):
    import zipfile
    torch = pytest.importorskip("torch")
    made, path = tmp_path / "made.pt", tmp_path / "a.pt"
    torch.save({"w": torch.arange(4.0)}, made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry, b"%d\n" % version if entry.filename.endswith("/version") and "." not in entry.filename else data)
    try:
        torch.load(path)
        wanted = DONE
    except RuntimeError:
        wanted = REFUSED
    assert quiet("convert", path, tmp_path / "out.safetensors").returncode == wanted
    assert (version > 10) == (wanted == REFUSED)
