"""Looks over what is on disk: listed, small, free of this machine's folders."""

import io
import json
import os
import tarfile
import zipfile

import common


def contents(data):
    """The bytes of a file and of whatever it holds."""
    yield data
    if b"PK\x05\x06" in data:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for info in archive.infolist():
                    if info.file_size < 1 << 20:
                        yield archive.read(info)
        except Exception:
            return
    elif data[257:262] == b"ustar":
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive.getmembers():
                    if member.isfile():
                        yield archive.extractfile(member).read()
        except tarfile.TarError:
            return


def main():
    listed = {fact["path"] for fact in common.catalogue()}
    home = os.path.expanduser("~").encode()
    root = str(common.TESTDATA.parent.parent).encode()
    problems = []
    for folder in ("ckpt", "safetensors", "gguf", "onnx", "scan"):
        for path in sorted((common.TESTDATA / folder).rglob("*")):
            if not path.is_file():
                continue
            name = str(path.relative_to(common.TESTDATA))
            if name not in listed:
                problems.append(f"{name}: in no script's catalogue")
            data = path.read_bytes()
            if len(data) > common.SIZE_LIMIT:
                problems.append(f"{name}: {len(data)} bytes")
            for body in contents(data):
                if any(len(mark) > 3 and mark in body for mark in (home, root)):
                    problems.append(f"{name}: holds a folder of this machine")
            listed.discard(name)
    problems += [f"{name}: listed, but not there" for name in sorted(listed)]
    for path in sorted((common.TESTDATA / "expected").rglob("*.json")):
        json.loads(path.read_text())
    if problems:
        raise SystemExit("\n".join(problems))
    print("check: every file listed, none too large, none tells of this machine")


if __name__ == "__main__":
    main()
