"""Object storage, against a real S3 server (moto) on this machine: see `storage.py`."""

import http.server
import json
import signal
import threading

import pytest
import safetensors.torch
import torch

from bad_network import Proxy
from storage import SECRET, bucket, killed_in_an_upload, needs_server, ok, run, server  # noqa: F401  (fixtures)

pytestmark = needs_server


def tensors(mib=24, seed=0):
    torch.manual_seed(seed)
    many = {f"layers.{n}.weight": torch.randn(1024, 1024) for n in range(mib // 4)}
    return {"small": torch.arange(7.0), "half": torch.randn(33, 65).half(), **many}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "a.bin"
    torch.save(tensors(), path)
    return path


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "gguf", "onnx"])
def test_objects_hold_the_bytes_that_files_do(bucket, model, tmp_path, suffix):
    more = ["--as", "container"] if suffix in ("gguf", "onnx") else []
    # PyTorch's archives carry their own name: it is the same here.
    local = tmp_path / f"out.{suffix}"
    ok(bucket.port, "convert", model, local, *more)
    done = ok(bucket.port, "convert", model, f"s3://models/deep/out.{suffix}", "--json", *more)
    assert json.loads(done.stdout)["files"][0]["path"] == f"s3://models/deep/out.{suffix}"
    assert bucket.get(f"deep/out.{suffix}") == local.read_bytes()
    assert bucket.keys() == [f"deep/out.{suffix}"] and bucket.uploads() == []


def test_there_and_back(bucket, model, tmp_path):
    bucket.put("a.bin", model.read_bytes())
    ok(bucket.port, "convert", "s3://models/a.bin", tmp_path / "out.safetensors")
    same(safetensors.torch.load_file(tmp_path / "out.safetensors"), tensors())
    ok(bucket.port, "convert", "s3://models/a.bin", "s3://models/b.safetensors")
    same(safetensors.torch.load(bucket.get("b.safetensors")), tensors())
    done = ok(bucket.port, "diff", "s3://models/a.bin", "s3://models/b.safetensors", "--json")
    assert json.loads(done.stdout)["same"]
    done = ok(bucket.port, "convert", "s3://models/a.bin", tmp_path / "half.safetensors", "--dtype", "f16",
              "--memory", "8MiB")
    same(safetensors.torch.load_file(tmp_path / "half.safetensors"),
         {k: v.half() for k, v in tensors().items()})


def test_a_repository_is_a_prefix(bucket, tmp_path):
    whole = tensors(8)
    names = sorted(whole)
    shards = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    for file, held in shards.items():
        bucket.put(f"r/{file}", safetensors.torch.save({n: whole[n] for n in held}, {"format": "pt"}))
    index = {"metadata": {}, "weight_map": {n: f for f, held in shards.items() for n in held}}
    bucket.put("r/model.safetensors.index.json", json.dumps(index).encode())
    bucket.put("r/config.json", b'{"model_type": "none"}')
    bucket.put("r/1_Pooling/config.json", b"{}")
    for source in ["s3://models/r", "s3://models/r/", "s3://models/r/model.safetensors.index.json",
                   "s3://models/r/model-00002-of-00002.safetensors"]:
        done = ok(bucket.port, "inspect", source, "--json")
        assert json.loads(done.stdout)["tensor_count"] == len(whole), source
    (tmp_path / "out").mkdir()
    ok(bucket.port, "convert", "s3://models/r/", tmp_path / "out")
    same(safetensors.torch.load_file(tmp_path / "out/model.safetensors"), whole)
    assert (tmp_path / "out/config.json").read_bytes() == b'{"model_type": "none"}'
    assert (tmp_path / "out/1_Pooling/config.json").exists()
    ok(bucket.port, "convert", "s3://models/r/", "s3://models/copy/")
    same(safetensors.torch.load(bucket.get("copy/model.safetensors")), whole)
    assert bucket.get("copy/config.json") == b'{"model_type": "none"}'
    bucket.ask("DELETE", "r/model-00001-of-00002.safetensors")
    done = run(bucket.port, "inspect", "s3://models/r/")
    assert done.returncode == 3 and "model-00001-of-00002" in done.stderr


def test_scan_walks_a_prefix(bucket):
    bucket.put("m/good.safetensors", safetensors.torch.save(tensors(4)))
    bucket.put("m/deep/evil.pt", b"cos\nsystem\n(S'true'\ntR.")
    bucket.put("m/readme.txt", b"text")
    done = run(bucket.port, "scan", "s3://models/m/", "--json")
    found = {f["path"]: f["verdict"] for f in json.loads(done.stdout)["files"]}
    assert done.returncode == 1
    assert found == {"s3://models/m/good.safetensors": "clean", "s3://models/m/deep/evil.pt": "dangerous"}


def test_only_the_header_is_read(bucket):
    bucket.put("m.safetensors", safetensors.torch.save(tensors(64)))
    with Proxy(bucket.port) as proxy:
        ok(proxy.port, "inspect", "s3://models/m.safetensors")
        assert 0 < sum(n for *_, n in proxy.log) <= 512 << 10
        assert all(method in ("GET", "HEAD") for method, *_ in proxy.log)


def test_data_is_read_once(bucket, tmp_path):
    data = safetensors.torch.save(tensors(64))
    bucket.put("m.safetensors", data)
    with Proxy(bucket.port) as proxy:
        ok(proxy.port, "convert", "s3://models/m.safetensors", tmp_path / "m.pt")
        assert sum(n for *_, n in proxy.log) < 1.1 * len(data)


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network_gives_the_right_bytes_or_an_error(bucket, model, tmp_path, seed):
    """Never wrong bytes, never half an object; and most runs get through."""
    bucket.put("a.bin", model.read_bytes())
    local = tmp_path / "out.safetensors"
    with Proxy(bucket.port, seed=seed, rate=0.25) as proxy:
        read = run(proxy.port, "convert", "s3://models/a.bin", local)
        wrote = run(proxy.port, "convert", model, "s3://models/out.safetensors")
        assert proxy.faults
    assert read.returncode in (0, 4) and wrote.returncode in (0, 4), read.stderr + wrote.stderr
    if read.returncode == 0:
        same(safetensors.torch.load_file(local), tensors())
    else:
        assert not local.exists()
    if wrote.returncode == 0:
        same(safetensors.torch.load(bucket.get("out.safetensors")), tensors())
    else:
        assert bucket.get("out.safetensors") is None
    # A start of an upload whose answer was lost is known to nobody: all others are gone.
    lost = sum(fault in ("after", "within") for fault in proxy.faults)
    assert len(bucket.uploads()) <= lost
    assert (read.returncode, wrote.returncode) == (0, 0), "a quarter of requests failing is survived"


def test_a_server_that_never_recovers(bucket, model, tmp_path):
    bucket.put("a.bin", model.read_bytes())
    with Proxy(bucket.port) as proxy:
        seen = []

        def die(method, _path):
            seen.append(method)
            if seen.count("GET") == 5:
                proxy.answer = (503, b"<Error><Code>SlowDown</Code></Error>")

        proxy.before = die
        done = run(proxy.port, "convert", "s3://models/a.bin", tmp_path / "out.safetensors")
    assert done.returncode == 4 and list(tmp_path.iterdir()) == []


def test_a_replaced_object_is_noticed(bucket, tmp_path):
    bucket.put("m.safetensors", safetensors.torch.save(tensors(64, seed=1)))
    other = safetensors.torch.save(tensors(64, seed=2))
    with Proxy(bucket.port) as proxy:
        seen = []

        def replace(method, _path):
            seen.append(method)
            if method == "GET" and seen.count("GET") == 6:
                bucket.put("m.safetensors", other)

        proxy.before = replace
        done = run(proxy.port, "convert", "s3://models/m.safetensors", tmp_path / "m.pt")
    assert done.returncode == 4 and "changed while it was read" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mib", [4, 24])
def test_an_existing_object_is_refused(bucket, tmp_path, mib):
    torch.save(tensors(mib), tmp_path / "a.bin")
    bucket.put("out.safetensors", b"precious")
    done = run(bucket.port, "convert", tmp_path / "a.bin", "s3://models/out.safetensors")
    assert done.returncode == 2 and "exists already" in done.stderr
    assert bucket.get("out.safetensors") == b"precious"
    ok(bucket.port, "convert", tmp_path / "a.bin", "s3://models/out.safetensors", "--overwrite")
    same(safetensors.torch.load(bucket.get("out.safetensors")), tensors(mib))
    itself = ["s3://models/out.safetensors"] * 2
    done = run(bucket.port, "convert", *itself, "--overwrite")
    assert done.returncode == 2


@pytest.mark.parametrize("mib", [4, 24])
def test_an_object_that_came_meanwhile_stays(bucket, tmp_path, mib):
    """The condition is the server's: between looking and naming there is no gap."""
    torch.save(tensors(mib), tmp_path / "a.bin")
    with Proxy(bucket.port) as proxy:
        def rival(method, path):
            ends = method == "POST" and "uploadId=" in path
            if ends or (method == "PUT" and "partNumber" not in path):
                bucket.put("out.safetensors", b"rival")

        proxy.before = rival
        done = run(proxy.port, "convert", tmp_path / "a.bin", "s3://models/out.safetensors")
    assert done.returncode == 2 and "exists already" in done.stderr, done.stderr
    assert bucket.get("out.safetensors") == b"rival" and bucket.uploads() == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_upload_shows_nothing(bucket, model, how):
    code = killed_in_an_upload(bucket, how, "convert", model, "s3://models/out.safetensors")
    assert code == (130 if how == signal.SIGTERM else -9)
    assert bucket.get("out.safetensors") is None
    # A process that is killed cannot clean up: the bucket's rule for unfinished uploads does.
    assert len(bucket.uploads()) == (0 if how == signal.SIGTERM else 1)


def test_an_error_leaves_no_upload(bucket, tmp_path):
    """The input turns out bad when half of the output is under way."""
    torch.save(tensors(24), tmp_path / "a.bin")
    raw = (tmp_path / "a.bin").read_bytes()
    bucket.put("a.bin", raw)
    with Proxy(bucket.port) as proxy:
        def replace(method, path):
            if "partNumber" in path:
                bucket.put("a.bin", raw + b"x")

        proxy.before = replace
        done = run(proxy.port, "convert", "s3://models/a.bin", "s3://models/out.safetensors",
                   "--memory", "1MiB")
    assert done.returncode == 4, done.stderr
    assert bucket.keys() == ["a.bin"] and bucket.uploads() == []


def test_http_is_for_reading(bucket, model):
    bucket.put("a.bin", model.read_bytes())
    url = f"http://127.0.0.1:{bucket.port}/models"
    done = ok(bucket.port, "inspect", f"{url}/a.bin", "--json")
    assert json.loads(done.stdout)["tensor_count"] == len(tensors())
    for arguments, code in [
        (("inspect", f"{url}/none.bin"), 4),
        (("inspect", f"{url}/a.bin?sig={SECRET}"), 2),
        (("scan", f"{url}/a.bin?sig={SECRET}", "--json"), 2),
        (("inspect", f"http://u:{SECRET}@127.0.0.1/a.bin"), 2),
        (("inspect", "http://192.0.2.1/a.bin"), 2),
        (("inspect", "s3://models/none.bin"), 4),
        (("inspect", "s3://models/../etc/passwd"), 2),
        (("convert", model, f"{url}/out.safetensors"), 3),
        (("convert", "s3://models/a.bin", "--in-place", "--set", "a=str:b"), 2),
    ]:
        done = run(bucket.port, *arguments)
        assert done.returncode == code, (arguments, done.stderr)


@pytest.mark.parametrize("arguments", [
    ("inspect", "s3://nobody/a.bin"), ("inspect", "s3://nobody/folder/"), ("convert", "MODEL", "s3://nobody/out.safetensors"),
    ("migrate", "plan", "s3://nobody/", "--to", "safetensors", "--in-place", "-o", "PLAN")])
def test_a_bucket_that_is_not_there(bucket, model, tmp_path, arguments):
    places = {"MODEL": model, "PLAN": tmp_path / "plan.jsonl"}
    done = run(bucket.port, *(places.get(word, word) for word in arguments))
    assert done.returncode == 4, done.stderr
    assert "no such bucket" in done.stderr and "AWS_ACCESS_KEY_ID" not in done.stderr, done.stderr
    assert not (tmp_path / "plan.jsonl").exists()


def test_a_server_without_ranges(tmp_path, model):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a):
            super().__init__(*a, directory=str(model.parent))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = run(1, "inspect", f"http://127.0.0.1:{server.server_address[1]}/a.bin")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 3 and "ranges" in done.stderr, done.stderr


def test_a_refusal_tells_no_secrets(bucket):
    with Proxy(bucket.port) as proxy:
        body = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIA{SECRET}</AWSAccessKeyId></Error>"
        proxy.answer = (403, body.encode())
        done = run(proxy.port, "inspect", "s3://models/", "--json")
    assert done.returncode == 4 and "InvalidAccessKeyId" in done.stderr, done.stderr


def test_hostile_keys_do_not_leave_the_folder(bucket, tmp_path):
    bucket.put("r/model.safetensors", safetensors.torch.save(tensors(4)))
    bucket.put("r/config.json", b"{}")
    bucket.put("r/a%5C..%5Cevil.json", b"{}")
    (tmp_path / "out").mkdir()
    done = run(bucket.port, "convert", "s3://models/r/", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
