"""Programs that tests of the examples start; what they need from npm is pinned by tests/web/package-lock.json."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e.client import WAIT, command

PINS = Path(__file__).resolve().parent
INSTALL_SECONDS = 300
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENOTCACHED")


def program(*names: str) -> str:
    """The path of the first of them that is installed; skips where none is."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"{names[0]} is not installed")
    return path


def bridge_program(folder: Path) -> str:
    """The bridge in the environment of these tests, as one program."""
    path = folder / "bridge"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command(None, "--model", "demo", "--local-files-only"))} "$@"\n')
    path.chmod(0o755)
    return str(path)


def install_packages(folder: Path) -> Path:
    """`node_modules`, in this folder; skips where npm has neither a network nor a cache."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PINS / name, folder)
    argv = [program("npm"), "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
    ran = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if any(sign in ran.stderr for sign in OFFLINE):
        pytest.skip("npm cannot reach its registry")
    assert ran.returncode == 0, ran.stderr
    return folder / "node_modules"


def run_own_tests(folder: Path) -> None:
    """`npm test` is `node --test`, which takes every file in a folder `test` for one: a program there may never end."""
    assert json.loads((folder / "package.json").read_text())["scripts"]["test"] == "node --test"
    argv = [program("npm"), "test"]
    ran = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=2 * WAIT, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^. pass [1-9]\d*$", ran.stdout, re.MULTILINE)
    assert re.search(r"^. fail 0$", ran.stdout, re.MULTILINE)
