"""Migrations judged by the libraries that load what they make, a hundred kills, and what deploy/ says."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from journal import verified

sys.path.insert(0, str(Path(__file__).resolve().parent / "llm"))

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = os.environ.get("WEIGHTBRIDGE") or str(ROOT / "target/release/weightbridge")
KILLS = int(os.environ.get("WEIGHTBRIDGE_KILLS", "100"))


def migrate(*args, code=0):
    done = subprocess.run([PROGRAM, "migrate", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in args else done.stderr


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))}


def torch_repositories(tree, count, elements=1 << 16):
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    for n in range(count):
        folder = tree / f"org/m{n:03}"
        folder.mkdir(parents=True)
        torch.save({f"w{i}": torch.randn(elements // 4) for i in range(4)}, folder / "pytorch_model.bin")
        (folder / "config.json").write_text("{}")


def test_transformers_loads_what_was_migrated(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                                      num_attention_heads=4, num_key_value_heads=2)
    torch.manual_seed(1)
    models = {}
    for name, tied in [("tied", True), ("sharded", False)]:
        config.tie_word_embeddings = tied
        model = models[name] = transformers.LlamaForCausalLM(config)
        folder = tmp_path / "tree" / name
        model.config.save_pretrained(folder)
        state = model.state_dict()
        if name == "tied":
            torch.save(state, folder / "pytorch_model.bin")
            continue
        names = list(state)
        cuts = [names[: len(names) // 2], names[len(names) // 2:]]
        shards = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
        for shard, cut in zip(shards, cuts):
            torch.save({key: state[key] for key in cut}, folder / shard)
        index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())},
                 "weight_map": {key: shard for shard, cut in zip(shards, cuts) for key in cut}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    plan = tmp_path / "plan.jsonl"
    migrate("plan", tmp_path / "tree", "--to", "safetensors", "--dest", tmp_path / "dest", "-o", plan)
    migrate("run", plan)
    for name, model in models.items():
        folder = tmp_path / "dest" / name
        assert not list(folder.glob("*.bin*"))
        loaded = transformers.LlamaForCausalLM.from_pretrained(folder, use_safetensors=True)
        for key, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key
    assert (tmp_path / "dest/sharded/model.safetensors.index.json").exists()


def test_the_hub_cache_is_loaded_from_in_place(tmp_path, monkeypatch):
    """A revision noted as lacking safetensors, as transformers notes it, loads from them afterwards."""
    torch = pytest.importorskip("torch")
    hub = pytest.importorskip("huggingface_hub")
    cache = tmp_path / "hub"
    repository = cache / "models--org--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    for folder in [snapshot, repository / "blobs", repository / "refs", repository / ".no_exist" / ("a" * 40)]:
        folder.mkdir(parents=True)
    (repository / "refs/main").write_text("a" * 40)
    torch.save({"w": torch.arange(8.0)}, repository / "blobs/1234")
    (snapshot / "pytorch_model.bin").symlink_to("../../blobs/1234")
    (repository / ".no_exist" / ("a" * 40) / "model.safetensors").touch()

    def found(name):
        return hub.try_to_load_from_cache("org/tiny", name, cache_dir=cache)

    assert found("model.safetensors") is hub.file_download._CACHED_NO_EXIST
    plan = tmp_path / "plan.jsonl"
    migrate("plan", cache, "--to", "safetensors", "--in-place", "-o", plan)
    migrate("run", plan, "--delete-originals")
    from safetensors.torch import load_file
    assert torch.equal(load_file(found("model.safetensors"))["w"], torch.arange(8.0))
    assert found("pytorch_model.bin") is None and not (repository / "blobs/1234").exists()


def test_a_hundred_kills(tmp_path):
    tree, dest, once = tmp_path / "tree", tmp_path / "dest", tmp_path / "once"
    torch_repositories(tree, 40)
    before = files_of(tree)
    for target in [once, dest]:
        migrate("plan", tree, "--to", "safetensors", "--dest", target, "-o", f"{target}.jsonl")
    start = time.monotonic()
    migrate("run", f"{once}.jsonl")
    whole = time.monotonic() - start
    expected = files_of(once)
    plan = Path(f"{dest}.jsonl")
    rng = random.Random(7)
    rounds = 0
    for kill in range(KILLS):
        run = subprocess.Popen([PROGRAM, "migrate", "run", str(plan), "--quiet", "--jobs", str(rng.randint(1, 6))],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(rng.uniform(0, whole / 3))
        run.send_signal(signal.SIGKILL)
        run.wait()
        for path in dest.rglob("*.safetensors"):
            inner = path.relative_to(dest).as_posix()
            if ".weightbridge-" not in inner:
                assert path.read_bytes() == expected[inner], f"kill {kill}: {inner}"
        if json.loads(subprocess.run([PROGRAM, "migrate", "status", "--json", str(plan)], capture_output=True,
                                     text=True).stdout)["pending"] == 0:
            migrate("run", plan)
            assert files_of(dest) == expected
            assert set(verified(plan).values()) == {1}, "verified twice"
            shutil.rmtree(dest)
            shutil.rmtree(f"{plan}.journal")
            rounds += 1
    migrate("run", plan)
    assert files_of(dest) == expected
    assert files_of(tree) == before
    print(f"{KILLS} kills, {rounds} whole rounds")


def test_a_gguf_for_each_type(tmp_path):
    gguf = pytest.importorskip("gguf")
    models = os.environ.get("WEIGHTBRIDGE_LLAMA_CPP")
    if not models:
        pytest.skip("WEIGHTBRIDGE_LLAMA_CPP names no llama.cpp tree")
    import zoo
    folder = tmp_path / "tree/org/tiny"
    zoo.build(zoo.BY_NAME["llama"], folder, Path(models) / "models")
    (folder / "LICENSE").write_text("words")
    plan = tmp_path / "plan.jsonl"
    migrate("plan", tmp_path / "tree", "--to", "gguf", "--quantize", "Q8_0,Q4_K_M", "--in-place", "-o", plan)
    lines = [json.loads(line) for line in plan.read_text().splitlines()]
    assert [line["output"] for line in lines] == ["org/tiny/tiny-Q8_0.gguf", "org/tiny/tiny-Q4_K_M.gguf"], lines
    assert not any(line.get("problem") for line in lines), lines
    inputs = [folder.parents[1] / file["path"] for line in lines for file in line["inputs"]]
    assert inputs and all(path.exists() for path in inputs)
    # The second type is edited to fail: what both are made from must stay.
    broken = plan.read_text().replace('"action":"convert"', '"action":"convrt"').splitlines()
    whole = plan.read_text().splitlines()
    plan.write_text("\n".join([whole[0], broken[1]]))
    migrate("run", plan, "--delete-originals", code=1)
    assert all(path.exists() for path in inputs)
    plan.write_text("\n".join(whole))
    migrate("run", plan, "--delete-originals")
    assert not any(path.exists() for path in inputs) and (folder / "config.json").exists()
    for line in lines:
        reader = gguf.GGUFReader(folder.parents[1] / line["output"])
        assert any(tensor.tensor_type.name == line["settings"]["quantize"][:4] for tensor in reader.tensors)


def planned(tmp_path, count=5):
    torch_repositories(tmp_path / "tree", count, 64)
    plan = tmp_path / "plan.jsonl"
    migrate("plan", tmp_path / "tree", "--to", "safetensors", "--dest", tmp_path / "dest", "-o", plan)
    return plan


def test_the_slurm_script_as_it_stands(tmp_path):
    """With the variables that Slurm sets for `--array=1-3`."""
    plan = planned(tmp_path)
    script = DEPLOY / "slurm_migrate.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", script]).returncode == 0
    for task in (1, 2, 3):
        env = {**os.environ, "WEIGHTBRIDGE": PROGRAM, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_MIN": "1",
               "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "1"}
        done = subprocess.run([script, plan, "--json"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["task"] == f"{task - 1}/3"
    assert migrate("status", plan, "--json")["pending"] == 0
    env = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run([script, plan], env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "sbatch --array" in done.stderr


def test_the_kubernetes_job_as_it_stands(tmp_path):
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((DEPLOY / "k8s-indexed-job.yaml").read_text())
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    # The API refuses other values together with backoffLimitPerIndex and a podFailurePolicy.
    assert pod["restartPolicy"] == "Never"
    rules = spec["podFailurePolicy"]["rules"]
    assert all(rule["onExitCodes"]["containerName"] == container["name"] for rule in rules)
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    count = spec["completions"]
    assert f'"$JOB_COMPLETION_INDEX/{count}"' in container["command"][-1]
    plan = planned(tmp_path)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "weightbridge").symlink_to(PROGRAM)
    command = [part.replace("/shared/plan.jsonl", str(plan)) for part in container["command"]]
    for index in range(count):
        env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert migrate("status", plan, "--json")["pending"] == 0
