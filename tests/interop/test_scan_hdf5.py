"""HDF5 as h5py writes it, in both of its layouts: what Keras keeps is found, and what leads out."""

import json
import os
import subprocess

import pytest

from judge import run

PYTHON = os.environ.get("WEIGHTBRIDGE_SCANNERS")
pytestmark = pytest.mark.skipif(not PYTHON, reason="WEIGHTBRIDGE_SCANNERS names no python with h5py")

MAKE = """
import h5py, json, numpy, sys
out = sys.argv[1]
dense = {"class_name": "Dense", "config": {"units": 3, "name": "x" * 50}}
evil = {"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}
configs = {"clean": [dense], "dangerous": [dense, evil], "dangerous_long": [dense] * 3000 + [evil]}
for library in ("earliest", "latest"):
    for name, layers in configs.items():
        text = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        for many in (0, 30):
            for fixed in (False, True):
                if fixed and len(text) > 60000:
                    continue
                path = f"{out}/{name}-{library}-{many}-{fixed}.h5"
                with h5py.File(path, "w", libver=library, track_order=bool(many)) as file:
                    for n in range(many):
                        file.attrs[f"a{n}"] = n
                        file.create_group(f"g{n}").attrs["names"] = numpy.array([b"a", b"b"])
                    file.attrs["model_config"] = numpy.bytes_(text) if fixed else text
                    group = file.create_group("model_weights")
                    for n in range(20):
                        group.create_dataset(f"d{n}", data=numpy.random.rand(9, 9),
                                             compression="gzip" if n % 2 else None)
                    group["soft"] = h5py.SoftLink("/model_weights/d0")
    for many in (0, 30):
        with h5py.File(f"{out}/outside-link-{library}-{many}.h5", "w", libver=library) as file:
            for n in range(many):
                file.create_group(f"g{n}")
            file["link"] = h5py.ExternalLink("/etc/passwd", "/x")
    with h5py.File(f"{out}/outside-storage-{library}.h5", "w", libver=library) as file:
        file.create_dataset("d", shape=(8,), dtype="u1", external=[("/etc/passwd", 0, 8)])
    with h5py.File(f"{out}/outside-virtual-{library}.h5", "w", libver=library) as file:
        layout = h5py.VirtualLayout(shape=(8,), dtype="u1")
        layout[:] = h5py.VirtualSource("/etc/passwd", "d", shape=(8,))
        file.create_virtual_dataset("v", layout)
with h5py.File(f"{out}/dangerous-block.h5", "w", userblock_size=1024) as file:
    file.attrs["model_config"] = json.dumps(evil)
"""


def test_verdicts(tmp_path):
    subprocess.run([PYTHON, "-c", MAKE, tmp_path], check=True)
    files = json.loads(run("scan", "--json", tmp_path).stdout)["files"]
    assert len(files) == 29
    for file in files:
        kind = os.path.basename(file["path"]).split("-")[0].split("_")[0]
        rules = [finding["rule"] for finding in file["findings"]]
        wanted = {"clean": ("clean", []), "dangerous": ("dangerous", ["keras-lambda"]),
                  "outside": ("malformed", ["external-path"])}[kind]
        assert (file["verdict"], rules) == wanted, file
