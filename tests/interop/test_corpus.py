"""A corpus of malicious and harmless files: none missed, none flagged, nothing run."""

import json
from pathlib import Path

import pytest

import assemble
from judge import ANSWER_NO, REFUSED, run

from corpus import harmless, malicious


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    bad = malicious.write(folder / "malicious")
    good = harmless.write(folder / "harmless")
    return folder, bad, good


def verdicts(folder):
    """Scans a whole folder; answers each file's verdict and findings."""
    done = run("scan", "--json", folder, cwd=folder, env={"WEIGHTBRIDGE_CANARY": assemble.CANARY})
    assert done.returncode in (0, ANSWER_NO, REFUSED), done.stderr
    report = json.loads(done.stdout)
    return {Path(file["path"]): file for file in report["files"]}, done.returncode


def enough(sample):
    """The verdicts that tell of a malicious file."""
    return ("dangerous", "malformed") + ("suspicious",) * sample.trusted


def test_the_corpus_is_large_enough(corpus):
    _, bad, good = corpus
    pickles = {family.__name__ for family in malicious.PICKLES}
    assert len(pickles) == 24
    assert pickles <= {sample.family for sample in bad}
    assert len(bad) >= 150 and len(good) >= 60


def test_no_malicious_file_is_missed(corpus):
    folder, bad, _ = corpus
    found, code = verdicts(folder / "malicious")
    assert code == ANSWER_NO
    missed = [sample.path.relative_to(folder) for sample in bad
              if found.get(sample.path, {}).get("verdict") not in enough(sample)]
    assert not missed, [str(path) for path in missed]
    # What only cannot be opened is told as such; all else is known to be dangerous.
    soft = {sample.family for sample in bad if found[sample.path]["verdict"] == "malformed"}
    assert soft <= {"archive_7z", "compressed_pickle", "zip_trick", "broken_after_payload",
                    "long_settings"}, soft
    assert not list(folder.rglob(assemble.CANARY)), "a payload ran"


def test_each_file_by_itself_has_the_same_verdict(corpus):
    """The one that is given decides the exit code, whatever lies beside it."""
    folder, bad, _ = corpus
    found, _ = verdicts(folder / "malicious")
    for sample in bad[::7]:
        code = run("scan", sample.path, cwd=folder).returncode
        verdict = found[sample.path]["verdict"]
        assert code == {"dangerous": ANSWER_NO, "malformed": REFUSED, "suspicious": 0}[verdict]


def test_no_harmless_file_is_flagged(corpus):
    folder, _, good = corpus
    found, code = verdicts(folder / "harmless")
    assert code == 0
    flagged = {str(sample.path.relative_to(folder)): found[sample.path]["findings"]
               for sample in good if found[sample.path]["verdict"] != "clean" and not sample.unknown}
    assert not flagged, json.dumps(flagged, indent=1)
    for sample in good:
        if sample.unknown:
            assert found[sample.path]["verdict"] in ("clean", "suspicious")


def test_sarif_says_the_same(corpus):
    folder, bad, _ = corpus
    log = folder / "log.sarif"
    assert run("scan", folder / "malicious", "--sarif", log, "-q").returncode == ANSWER_NO
    document = json.loads(log.read_text())
    assert document["version"] == "2.1.0"
    (only,) = document["runs"]
    rules = [rule["id"] for rule in only["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    told = set()
    for result in only["results"]:
        assert result["message"]["text"] and result["level"] in ("error", "warning")
        assert rules[result["ruleIndex"]] == result["ruleId"]
        told.add(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
    assert len(told) >= len(bad)
