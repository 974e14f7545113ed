"""What the journal of a migration says."""

import json
from pathlib import Path


def verified(plan):
    """How often each model was verified, by all runs over a plan."""
    times = {}
    for file in Path(f"{plan}.journal").glob("*.jsonl"):
        for line in file.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:
                # The torn last line of a run that was killed.
                continue
            if entry["event"] == "verified":
                times[entry["id"]] = times.get(entry["id"], 0) + 1
    return times
