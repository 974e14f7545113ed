"""What other scanners say of files: run by the interpreter of their own environment.

    python peers.py < LIST_OF_PATHS > VERDICTS.json

A verdict is "flagged", "clean" or "error"; an error is no flag, since a program that goes on after
one loads the file.
"""

import contextlib
import json
import os
import sys


def picklescan(path, strict=False):
    from picklescan.scanner import scan_file_path

    result = scan_file_path(path, strict=strict)
    # Its own exit codes: 1 for an infected file, 2 for an error.
    return "flagged" if result.infected_files else "error" if result.scan_err else "clean"


def fickling(path):
    import zipfile

    import fickling

    if zipfile.is_zipfile(path):
        results = list(fickling.scan_zip_archive(path, graceful=True).values())
    else:
        results = [fickling.scan_file(path, graceful=True)]
    if any(not result.is_safe for result in results):
        return "flagged"
    return "error" if any(result.errors for result in results) else "clean"


def modelscan(path):
    from modelscan.modelscan import ModelScan

    scanner = ModelScan()
    scanner.scan(path)
    if scanner.issues.all_issues:
        return "flagged"
    return "error" if scanner.errors else "clean"


TOOLS = {"picklescan": picklescan,
         "picklescan --strict": lambda path: picklescan(path, strict=True),
         "fickling": fickling, "modelscan": modelscan}


def main():
    verdicts = {name: {} for name in TOOLS}
    for path in sys.stdin.read().splitlines():
        for name, tool in TOOLS.items():
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
                try:
                    verdicts[name][path] = tool(path)
                except ImportError:
                    raise
                except Exception:  # whatever a scanner raises, it has not flagged the file
                    verdicts[name][path] = "error"
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
