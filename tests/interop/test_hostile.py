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


def archive_of(entries):
    import io
    import zipfile
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def entries_of(save):
    import io
    import zipfile
    made = io.BytesIO()
    save(made)
    with zipfile.ZipFile(made) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def with_version(entries, version):
    return [(name, version if name.endswith("/version") else data) for name, data in entries]


def without(entries, end):
    return [(name, data) for name, data in entries if not name.endswith(end)]


def torch_archives():
    """Archives by name, each with whether it is TorchScript."""
    import pickle

    import torch
    plain = entries_of(lambda out: torch.save({"w": torch.arange(4.0)}, out))
    script = entries_of(lambda out: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out))
    top = plain[0][0].split("/")[0]

    def of_arguments(n):
        """A tensor built of so many arguments."""
        class Storage:
            pass

        class Made:
            def __reduce__(self):
                return torch._utils._rebuild_tensor_v2, (Storage(), 0, (4,), (1,), False, {}, {}, 0, 0)[:n]

        class Pickler(pickle.Pickler):
            def persistent_id(self, one):
                return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(one, Storage) else None

        import io
        out = io.BytesIO()
        Pickler(out, 2).dump({"w": Made()})
        return [(name, out.getvalue() if name.endswith("data.pkl") else data) for name, data in plain]

    for kind, entries, is_script in ("plain", plain, False), ("script", script, True):
        yield f"{kind} as it is", entries, is_script
        yield f"{kind} no version", without(entries, "/version"), is_script
        for version in b"", b"abc", b"0", b"-1", b"0x3", b"1", b" 3", b"+3", b"3 or so", b"03", b"9" * 20, b"11":
            yield f"{kind} version {version}", with_version(entries, version), is_script
        for name in "/evil", "../evil", "other/x", "x", "__MACOSX/a", "other/":
            yield f"{kind} with {name}", [*entries, (name, b"")], is_script
            yield f"{kind} behind {name}", [(name, b""), *entries], is_script
        yield f"{kind} in no folder", [(name.split("/", 1)[1], data) for name, data in entries], is_script
    yield "its folder as an entry", [(f"{top}/", b""), *plain], False
    yield "out of its folder and back", [*plain, (f"{top}/../evil", b"")], False
    yield "VERSION", [(name.replace("/version", "/VERSION"), data) for name, data in plain], False
    hidden = [(name.replace("/version", "/.data/version"), data) for name, data in plain]
    yield ".data/version", hidden, False
    yield "both, the hidden one good", with_version(plain, b"0") + [(f"{top}/.data/version", b"3")], False
    yield "both, the hidden one bad", plain + [(f"{top}/.data/version", b"0")], False
    for n in range(3, 10):
        yield f"{n} arguments", of_arguments(n), False


def test_what_no_torch_loads_is_refused(quiet, tmp_path):
    """`torch.load` in each of its ways and, for TorchScript, `torch.jit.load`: what one takes is read."""
    torch = pytest.importorskip("torch")
    path, wrong, counts = tmp_path / "a.pt", [], {DONE: 0, REFUSED: 0}
    for name, entries, is_script in torch_archives():
        path.write_bytes(archive_of(entries))
        ways = [lambda: torch.load(path), lambda: torch.load(path, weights_only=False),
                lambda: torch.load(path, mmap=True)]
        wanted = REFUSED
        for way in [*ways, lambda: torch.jit.load(path)] if is_script else ways:
            try:
                way()
                wanted = DONE
            except Exception:
                pass
        counts[wanted] += 1
        for command in ["inspect", path], ["convert", path, tmp_path / "out.safetensors", "--overwrite"]:
            code = quiet(*command).returncode
            if code != wanted:
                wrong.append(f"{name}: {command[0]} ends with {code}, torch says {wanted}")
        code, report = scan(quiet, path)
        if report["verdict"] not in ("clean", "suspicious") and "argument" not in name and "version b'11'" not in name:
            wrong.append(f"{name}: scan says {report['verdict']}")
    assert not wrong, "\n".join(wrong)
    assert counts[DONE] > 20 and counts[REFUSED] > 20, counts
