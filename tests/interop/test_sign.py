"""Signatures: the official tool verifies ours, and we verify its.

The tool runs in a Python of its own (requirements-signing.txt), which tests/interop/run names in
WEIGHTBRIDGE_MODEL_SIGNING. A key is made by openssl's own library, through that Python.
"""

import base64
import hashlib
import json
import os
import subprocess

import pytest

from judge import ANSWER_NO, DONE, REFUSED, TESTDATA, run

PYTHON = os.environ.get("WEIGHTBRIDGE_MODEL_SIGNING") or None
pytestmark = pytest.mark.skipif(PYTHON is None, reason="model_signing is not installed: set "
                                "WEIGHTBRIDGE_MODEL_SIGNING to a Python that has it")

CURVES = ["SECP256R1", "SECP384R1", "SECP521R1"]

MAKE_KEY = """
import sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
folder, curve, form, password = sys.argv[1:]
key = ec.generate_private_key(getattr(ec, curve)())
form = getattr(s.PrivateFormat, form)
lock = s.BestAvailableEncryption(password.encode()) if password else s.NoEncryption()
open(folder + "/key.pem", "wb").write(key.private_bytes(s.Encoding.PEM, form, lock))
public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
open(folder + "/pub.pem", "wb").write(public)
"""

# The command line signs a digest a file only; shards are of the Python interface.
SIGN_SHARDS = """
import sys
import model_signing as m
model, signature, key, size = sys.argv[1:]
hashing = m.hashing.Config().use_shard_serialization(shard_size=int(size))
m.signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(hashing).sign(model, signature)
"""
VERIFY_GUESSING = """
import pathlib
import sys
import model_signing as m
model, signature, key = sys.argv[1:]
m.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(pathlib.Path(model), signature)
"""
VERIFY_SHARDS = """
import sys
import model_signing as m
model, signature, key, size = sys.argv[1:]
hashing = m.hashing.Config().use_shard_serialization(shard_size=int(size))
m.verifying.Config().use_elliptic_key_verifier(public_key=key).set_hashing_config(hashing).verify(model, signature)
"""


def python(code, *arguments):
    return subprocess.run([PYTHON, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def official(*arguments):
    return subprocess.run([PYTHON, "-m", "model_signing", *map(str, arguments)], capture_output=True, text=True)


def official_verifies(model, signature, key, *options):
    done = official("verify", "key", model, "--signature", signature, "--public_key", key, *options)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def official_signs(model, signature, key, *options):
    done = official("sign", "key", model, "--signature", signature, "--private_key", key, *options)
    assert done.returncode == 0, done.stderr


def we_sign(model, signature, key, *options):
    done = run("sign", model, "--signature", signature, "--key", key, *options)
    assert done.returncode == DONE, done.stderr


def we_verify(model, signature, key, *options):
    done = run("verify", "--json", model, "--signature", signature, "--key", key, *options)
    assert done.returncode in (DONE, ANSWER_NO), done.stderr
    answer = json.loads(done.stdout)
    assert answer["verified"] == (done.returncode == DONE)
    return answer


@pytest.fixture
def keys(tmp_path):
    def make(curve="SECP256R1", form="PKCS8", password=""):
        folder = tmp_path / f"key-{curve}-{form}-{password}"
        folder.mkdir()
        done = python(MAKE_KEY, folder, curve, form, password)
        assert done.returncode == 0, done.stderr
        return folder / "key.pem", folder / "pub.pem"
    return make


@pytest.fixture
def model(tmp_path):
    """A folder with what could make two walks or two orders differ."""
    folder = tmp_path / "model"
    for name, content in {
        "config.json": b"{}", "model.safetensors": bytes(range(256)) * 9000, "empty": b"",
        "a/b": b"1", "a-b": b"2", "a.b": b"3", "a b/c": b"4", "A": b"5", "\u00fc/\U0001f40b.txt": b"6",
        "\ue000": b"7", ".hidden": b"8", ".git/config": b"9", "sub/.git/config": b"10", ".gitignore": b"11",
        ".github/x": b"12", ".gitmodules": b"13", "z" * 200: b"14", "quote\"\\back": b"15", "line\nbreak": b"16",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def payload(signature):
    return json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_both_ways(model, keys, tmp_path, curve, form):
    private, public = keys(curve, form)
    for inside in (False, True):
        folder = model if inside else tmp_path
        ours, theirs = folder / "ours.sig", folder / "theirs.sig"
        we_sign(model, ours, private)
        assert official_verifies(model, ours, public)
        # Inside, the first signature would be one more file for the second.
        said = payload(ours)
        if inside:
            ours.unlink()
        official_signs(model, theirs, private)
        assert we_verify(model, theirs, public)["standing"] == "valid"
        # What is signed is the same, up to what a signature calls itself.
        want = payload(theirs)
        for each in (said, want):
            ignored = each["predicate"]["serialization"]["ignore_paths"]
            each["predicate"]["serialization"]["ignore_paths"] = sorted(set(ignored) - {"ours.sig", "theirs.sig"})
        assert said == want
        theirs.unlink()


@pytest.mark.parametrize("size", [1, 1000, 1_000_000, 10_000_000])
def test_shards(keys, tmp_path, size):
    private, public = keys()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_bytes(bytes(range(256)) * 4)
    (folder / "b").write_bytes(b"x" * 1000)
    (folder / "empty").write_bytes(b"")
    if size >= 1000:
        (folder / "large").write_bytes(os.urandom(2_500_001))
    ours, theirs = tmp_path / "ours.sig", tmp_path / "theirs.sig"
    we_sign(folder, ours, private, "--shard-size", size)
    for code, arguments in (VERIFY_GUESSING, ()), (VERIFY_SHARDS, (size,)):
        done = python(code, folder, ours, public, *arguments)
        assert done.returncode == 0, done.stderr
    assert python(SIGN_SHARDS, folder, theirs, private, size).returncode == 0
    assert we_verify(folder, theirs, public)["verified"]
    assert payload(ours)["predicate"]["resources"] == payload(theirs)["predicate"]["resources"]
    (folder / "a").write_bytes(bytes(range(256)) * 4 + b"!")
    assert we_verify(folder, theirs, public)["changed"] == ["a"]
    assert python(VERIFY_SHARDS, folder, ours, public, size).returncode != 0


def test_one_file(keys, tmp_path):
    private, public = keys()
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    we_sign(file, tmp_path / "ours.sig", private)
    assert official_verifies(file, tmp_path / "ours.sig", public)
    official_signs(file, tmp_path / "theirs.sig", private)
    assert we_verify(file, tmp_path / "theirs.sig", public)["verified"]
    file.write_bytes(b"GGUG")
    assert not official_verifies(file, tmp_path / "ours.sig", public)
    assert not we_verify(file, tmp_path / "theirs.sig", public)["verified"]


def changes(model):
    def link():
        (model / "link").symlink_to("config.json")

    def link_in_git():
        (model / ".git/link").symlink_to("config")

    def link_to_folder():
        (model / "folder").symlink_to("a")

    def replaced_by_link():
        (model / "A").unlink()
        (model / "A").symlink_to("a-b")

    return {
        "nothing": lambda: None,
        "git": lambda: (model / ".git/more").write_bytes(b"x"),
        "gitignore": lambda: (model / ".gitignore").unlink(),
        "changed": lambda: (model / "config.json").write_bytes(b"{ }"),
        "extra": lambda: (model / "extra").write_bytes(b""),
        "extra below": lambda: (model / "sub/.git/extra").write_bytes(b"x"),
        "missing": lambda: (model / "empty").unlink(),
        "renamed": lambda: (model / "A").rename(model / "B"),
        "empty folder": lambda: (model / "new").mkdir(),
        "pipe": lambda: os.mkfifo(model / "pipe"),
        "link": link, "link in git": link_in_git, "link to a folder": link_to_folder,
        "replaced by a link": replaced_by_link,
    }


@pytest.mark.parametrize("what", list(changes(TESTDATA)))
@pytest.mark.parametrize("option", [(), ("--allow_symlinks",), ("--ignore_unsigned_files",)], ids=str)
def test_the_same_verdict(model, keys, tmp_path, what, option):
    private, public = keys()
    signature = tmp_path / "m.sig"
    official_signs(model, signature, private)
    changes(model)[what]()
    ours = {"--allow_symlinks": "--allow-symlinks", "--ignore_unsigned_files": "--ignore-unsigned"}
    answer = we_verify(model, signature, public, *[ours[flag] for flag in option])
    assert answer["verified"] == official_verifies(model, signature, public, *option), answer


@pytest.mark.parametrize("what", ["link", "link in git", "link to a folder", "pipe"])
def test_what_may_be_signed(model, keys, tmp_path, what):
    private, public = keys()
    changes(model)[what]()
    for ours, theirs in ((), ()), (("--allow-symlinks",), ("--allow_symlinks",)):
        signature = tmp_path / f"{len(ours)}.sig"
        done = run("sign", model, "--signature", signature, "--key", private, *ours)
        told = official("sign", "key", model, "--signature", tmp_path / "their.sig", "--private_key", private, *theirs)
        assert (done.returncode == DONE) == (told.returncode == 0), done.stderr + told.stderr
        assert done.returncode in (DONE, REFUSED)
        if done.returncode == DONE:
            assert official_verifies(model, signature, public, *theirs)


def test_ignored_paths(model, keys, tmp_path):
    private, public = keys()
    we_sign(model, tmp_path / "ours.sig", private, "--ignore", model / "a")
    # The official tool passes over one that is not in the model; here it is a slip of the pen.
    done = run("sign", model, "--key", private, "--signature", tmp_path / "no.sig", "--ignore", tmp_path / "elsewhere")
    assert done.returncode == 2 and not (tmp_path / "no.sig").exists()
    assert {r["name"] for r in payload(tmp_path / "ours.sig")["predicate"]["resources"]}.isdisjoint({"a/b"})
    (model / "a/b").write_bytes(b"other")
    assert official_verifies(model, tmp_path / "ours.sig", public)
    official_signs(model, tmp_path / "theirs.sig", private, "--ignore-paths", model / "a")
    (model / "a/c").write_bytes(b"more")
    assert we_verify(model, tmp_path / "theirs.sig", public)["verified"]
    we_sign(model, tmp_path / "git.sig", private, "--with-git")
    assert official_verifies(model, tmp_path / "git.sig", public, "--no-ignore-git-paths")


def test_another_key_and_other_kinds(model, keys, tmp_path):
    private, public = keys()
    _, other = keys("SECP384R1")
    we_sign(model, tmp_path / "ours.sig", private)
    assert not official_verifies(model, tmp_path / "ours.sig", other)
    assert we_verify(model, tmp_path / "ours.sig", other)["standing"] == "other-key"
    bundle = json.loads((tmp_path / "ours.sig").read_text())
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    (tmp_path / "certificate.sig").write_text(json.dumps(bundle))
    done = run("verify", model, "--signature", tmp_path / "certificate.sig", "--key", public)
    assert done.returncode == REFUSED and "model_signing" in done.stderr
    # A forged list of files under an honest signature.
    bundle = json.loads((tmp_path / "ours.sig").read_text())
    forged = payload(tmp_path / "ours.sig")
    forged["predicate"]["resources"].pop()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(forged).encode()).decode()
    (tmp_path / "forged.sig").write_text(json.dumps(bundle))
    assert not official_verifies(model, tmp_path / "forged.sig", public)
    assert we_verify(model, tmp_path / "forged.sig", public)["standing"] == "invalid"


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key_says_what_to_do(model, keys, tmp_path, form):
    private, _ = keys("SECP256R1", form, "secret")
    done = run("sign", model, "--signature", tmp_path / "x.sig", "--key", private)
    assert done.returncode == REFUSED and "openssl pkey" in done.stderr
    assert not (tmp_path / "x.sig").exists()


def test_a_statement_is_an_in_toto_statement(keys, tmp_path):
    """Read by in-toto's own library, its signature checked by the official tool's verifier."""
    private, public = keys()
    source = TESTDATA / "ckpt/good/zip/state_dict.pt"
    done = run("convert", source, tmp_path / "x.safetensors", "--attest", tmp_path / "x.att", "--attest-key", private)
    assert done.returncode == DONE, done.stderr
    code = """
import pathlib, sys
from google.protobuf import json_format
from in_toto_attestation.v1 import statement, statement_pb2
from model_signing._signing import sign_ec_key, sign_sigstore_pb
signature = sign_sigstore_pb.Signature.read(pathlib.Path(sys.argv[1]))
kind, payload = sign_ec_key.Verifier(pathlib.Path(sys.argv[2]))._verify_signed_content(signature)
parsed = json_format.Parse(payload, statement_pb2.Statement())
statement.Statement.copy_from_pb(parsed).validate()
print(payload.decode())
"""
    done = python(code, tmp_path / "x.att", public)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    digest = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    assert said["subject"] == [{"name": "x.safetensors", "digest": {"sha256": digest}}]
    read = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert read == [{"name": source.name, "digest": {"sha256": hashlib.sha256(source.read_bytes()).hexdigest()}}]
