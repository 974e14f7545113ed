"""Setup and the closing line of the interop suite."""

import os
import subprocess

import pytest

import judge


def pytest_configure(config):
    if config.option.collectonly:
        return
    if not os.access(judge.PROGRAM, os.X_OK):
        raise pytest.UsageError(f"no program at {judge.PROGRAM}; build it or set WEIGHTBRIDGE")


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    if config.option.collectonly:
        return
    import safetensors
    import torch

    count = {kind: len(terminalreporter.stats.get(kind, ())) for kind in
             ("passed", "failed", "error", "skipped")}
    version = subprocess.run([judge.PROGRAM, "--version"], capture_output=True, text=True)
    terminalreporter.write_line(
        f"interop: {count['passed']} passed, {count['failed'] + count['error']} failed, "
        f"{count['skipped']} skipped; {version.stdout.strip()} against torch {torch.__version__}, "
        f"safetensors {safetensors.__version__}")
