"""A corpus of malicious and harmless model files, made anew for each run.

`malicious.write(folder)` and `harmless.write(folder)` put their files into a folder and answer a
list of `Sample`. Payloads only ever make the file that WEIGHTBRIDGE_CANARY names, and only if
something loads them, which nothing here does.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A file, or a folder that is one model, and the family it belongs to."""

    path: Path
    family: str
    # Harmless, but of a class that no list of ours or theirs can know: an author's own.
    unknown: bool = False
    # Malicious, but it runs only where the loader is told to trust the repository: suspicious is enough.
    trusted: bool = False


class Shelf:
    """Collects samples of a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.samples = []

    def path(self, family, name, **facts):
        path = self.folder / family / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert all(sample.path != path for sample in self.samples), f"{path} twice"
        self.samples.append(Sample(path, family, **facts))
        return path

    def add(self, family, name, data, **facts):
        self.path(family, name, **facts).write_bytes(data)
