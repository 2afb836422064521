"""What making a Python environment takes, here and for a checkout (scripts/lib/make_environment.py): which packages,
which Python, one process at a time, and why pip failed. Uses only the standard library."""

import fcntl
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIP_INSTALL = ("-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off")
DISK_FULL = "the disk is full: free some space"
# What pip writes → what a user can do about it; the first that fits.
_REASONS = {
    "No space left on device|Disk quota exceeded": DISK_FULL,
    "CERTIFICATE_VERIFY_FAILED|SSLError": "the certificate of the package index is not trusted: name the file with "
    "your network's certificates in PIP_CERT",
    "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|ProtocolError": "no "
    "package index can be reached: connect to a network (behind a proxy, set HTTPS_PROXY) and start again",
}


class Failed(Exception):
    """Why no environment could be made, in one line with advice."""


def requirements(root: Path, backend: str, groups: list[str]) -> list[str]:
    tables = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    names = list(tables["project"]["dependencies"])
    if backend:
        names += tables["project"]["optional-dependencies"][backend]
    named = tables["project"]["optional-dependencies"] | tables["dependency-groups"]
    for group in groups:
        names += named[group]
    return names


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Of a folder itself: nothing is written there, and nothing left."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making a Python environment: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def base_python() -> Path:
    """The interpreter behind this one, by the name that holds its version: a mere `python3` may become another."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    versioned = base.with_name(f"python{sys.version_info.major}.{sys.version_info.minor}")
    return versioned if versioned.exists() else base


def reason(lines: list[str]) -> str:
    """Why pip failed and what to do, from its output."""
    text = "".join(lines)
    for pattern, remedy in _REASONS.items():
        if re.search(pattern, text):
            return remedy
    errors = [line.removeprefix("ERROR: ").strip() for line in lines if line.startswith("ERROR: ")]
    return f"pip says: {errors[0]}" if errors else "it ended with an error"


def say(text: str) -> None:
    """Print a line that is not overwritten."""
    write(f"{text}\n")


def show(text: str) -> None:
    """Print a line that the next one overwrites; print nothing if stderr is no terminal."""
    if sys.stderr.isatty():
        write(text[: shutil.get_terminal_size().columns - 1])


def write(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}" if sys.stderr.isatty() else text)
    sys.stderr.flush()
