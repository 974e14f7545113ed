"""The table of docs/scan.md: what this and other scanners say of the corpus.

    python -m corpus.compare FOLDER [--write]        (from tests/interop)

WEIGHTBRIDGE_SCANNERS names the python of an environment with requirements-scanners.txt. Files are
made in FOLDER and scanned, never loaded; torch's `weights_only` loader, which is built for such
files, does open PyTorch's own among them, in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import judge

from . import harmless, malicious

BEGIN, END = "<!-- corpus table -->\n", "<!-- end -->\n"
WEIGHTS_ONLY = """
import json, sys, warnings, torch
warnings.simplefilter("ignore")
out = {}
for path in sys.stdin.read().splitlines():
    try:
        torch.load(path, weights_only=True)
        out[path] = "clean"
    except Exception:
        out[path] = "flagged"
json.dump(out, sys.stdout)
"""


def ours(folder):
    report = json.loads(judge.run("scan", "--json", folder).stdout)
    flagged = ("dangerous", "malformed")
    return {file["path"]: "flagged" if file["verdict"] in flagged else "clean"
            for file in report["files"]}


def ask(python, code, paths):
    done = subprocess.run([python, *code], input="\n".join(paths), text=True, capture_output=True,
                          cwd=Path(paths[0]).parents[2], check=True)
    return json.loads(done.stdout)


def verdicts(folder, bad, good):
    paths = [str(sample.path) for sample in bad + good]
    out = {"weightbridge": ours(folder)}
    python = os.environ.get("WEIGHTBRIDGE_SCANNERS")
    if python:
        out |= ask(python, [str(Path(__file__).with_name("peers.py"))], paths)
    torch = [str(s.path) for s in bad + good if s.path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl")]
    out["torch weights_only"] = ask(sys.executable, ["-c", WEIGHTS_ONLY], torch)
    return out


def table(found, bad, good):
    """Flagged of all that a tool was asked about; what it was not asked about is not counted."""
    pickles = {family.__name__ for family in malicious.PICKLES}
    columns = (("pickles and their containers", [s for s in bad if s.family in pickles]),
               ("other formats", [s for s in bad if s.family not in pickles]),
               ("harmless, flagged", good))
    lines = ["| tool | " + " | ".join(f"{name}" for name, _ in columns) + " |",
             "|---|" + "---|" * len(columns)]
    for tool, said in found.items():
        cells = []
        for _, samples in columns:
            asked = [s for s in samples if str(s.path) in said]
            hits = sum(said[str(s.path)] == "flagged" for s in asked)
            cells.append(f"{hits} of {len(asked)}" if asked else "–")
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    bad = [sample for sample in malicious.write(folder / "malicious") if not sample.trusted]
    good = harmless.write(folder / "harmless")
    text = table(verdicts(folder, bad, good), bad, good)
    print(text)
    if arguments.write:
        path = judge.ROOT / "docs/scan.md"
        before, rest = path.read_text().split(BEGIN)
        path.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
