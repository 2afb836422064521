"""Makes the Python environment of this checkout, then becomes the command that needs it.

    make_environment.py ROOT ENVIRONMENT BACKEND GROUPS COMMAND...

ENVIRONMENT holds what ROOT's pyproject.toml depends on, pinned by its constraints.txt, with the extra BACKEND (may be
empty) and the dependency groups and extras GROUPS (names with spaces between). It is built under a name of its own and
renamed when it is whole, so an environment that exists is complete; its console scripts keep the first name, so start
modules with -m. One process builds at a time; the lock goes with the process that holds it. Everything is said on
stderr, except the `fatal` line that stands for the bridge when there will be none.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIP_INSTALL = ("-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off")


def main(root: Path, environment: Path, backend: str, groups: list[str], command: list[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with lock(environment.parent):
            if not is_whole(environment):
                make(root, environment, requirements(root, backend, groups))
    except (OSError, subprocess.CalledProcessError) as error:
        give_up(error, environment)
    os.execv(command[0], command)


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


def is_whole(environment: Path) -> bool:
    """Its Python may have been uninstalled since."""
    return os.access(environment / "bin" / "python", os.X_OK)


def make(root: Path, environment: Path, packages: list[str]) -> None:
    for left_behind in [environment, *environment.parent.glob("*.part")]:
        if left_behind.exists():
            shutil.rmtree(left_behind)
    part = environment.with_name(f"{environment.name}.part")
    say(f"making the Python environment {environment}: this happens once, and downloads a few hundred megabytes")
    try:
        run(base_python(), "-m", "venv", part)
        run(part / "bin" / "python", *PIP_INSTALL, "--constraint", root / "constraints.txt", *packages)
        part.rename(environment)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def base_python() -> Path:
    """The interpreter behind this one, by the name that holds its version: a mere `python3` may become another."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    versioned = base.with_name(f"python{sys.version_info.major}.{sys.version_info.minor}")
    return versioned if versioned.exists() else base


def run(python: Path, *arguments: str | Path) -> None:
    """Ends with an error if Python does. Its output goes to stderr; it may not read the commands waiting on stdin."""
    subprocess.run([python, "-I", *arguments], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)


def give_up(error: OSError | subprocess.CalledProcessError, environment: Path) -> None:
    say(f"could not make {environment}: {error}")
    message = "the Python environment could not be installed: see stderr, mend that (network, disk, pip), start again"
    say(message)
    fatal = {"type": "fatal", "code": "environment_failed", "message": message, "retryable": True}
    os.write(1, json.dumps(fatal).encode() + b"\n")
    sys.exit(2)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(), sys.argv[5:])
