#!/usr/bin/env python3
"""testdata/vocab: small tokenizers of each kind and what the real converter writes for them.

    python make_golden.py --llama-cpp DIR [--out DIR] [NAME ...]

One JSON a case: class, config, files (base64 where they are not text), the converter's keys in
order, and the fingerprint of the check text where the method takes one. The crate's tests read
them and need no Python.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

import cases
import reference

HERE = Path(__file__).resolve().parent


def golden(case):
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp) / "hf"
        cases.write(case, folder)
        rows = reference.pairs(folder, case["cls"], case.get("pre"))
        hash_ = reference.fingerprint(folder) if case.get("pre") else None
    files = {}
    for name, content in case["files"].items():
        if isinstance(content, bytes):
            files[name] = {"base64": base64.b64encode(content).decode()}
        elif isinstance(content, str):
            files[name] = {"text": content}
        else:
            files[name] = {"json": content}
    made = {"class": case["cls"], "pre": case.get("pre"), "fingerprint": hash_, "config": case["config"]}
    lines = [f' {json.dumps(key)}: {json.dumps(value)}' for key, value in made.items()]
    lines.append(' "expected": ' + reference.dump(rows))
    body = ",\n".join(f"  {json.dumps(n)}: {json.dumps(c, ensure_ascii=False, separators=(',', ':'))}"
                      for n, c in files.items())
    lines.append(' "files": {\n' + body + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-cpp", required=True)
    parser.add_argument("--out", default=str(HERE.parents[2] / "testdata" / "vocab"))
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    reference.use(args.llama_cpp)
    failed = 0
    for case in cases.cases():
        if args.names and case["name"] not in args.names:
            continue
        try:
            text = golden(case)
        except Exception as error:  # one case must not hide the others
            failed += 1
            print(f"{case['name']}: FAILED {type(error).__name__}: {error}", flush=True)
            continue
        path = Path(args.out) / f"{case['name']}.json"
        path.write_text(text, encoding="utf-8")
        print(f"{case['name']}: {path.stat().st_size} bytes", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
