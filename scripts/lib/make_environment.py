"""Makes the Python environment of this checkout, then becomes the command that needs it.

    start.py FOLDER make_environment ROOT ENVIRONMENT BACKEND GROUPS COMMAND...

ENVIRONMENT holds what ROOT's pyproject.toml depends on, pinned by its constraints.txt, with the extra BACKEND (may be
empty) and the dependency groups and extras GROUPS (names with spaces between). It is built under a name of its own and
renamed when it is whole, so an environment that exists is complete; its console scripts keep the first name, so start
modules with -m. One process builds at a time; the lock goes with the process that holds it. One line on stderr shows
how far it is, a log beside ENVIRONMENT has the output of pip. stdout gets nothing but the `fatal` line that stands for
the bridge when there will be none.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from qwen3_asr_mlx_runtime.entry import interruptible, report_interrupt

PIP_INSTALL = ("-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off")
_DISK_FULL = "the disk is full: free some space"
# What pip writes → what a user can do about it; the first that fits.
_REASONS = {
    "No space left on device|Disk quota exceeded": _DISK_FULL,
    "CERTIFICATE_VERIFY_FAILED|SSLError": "the certificate of the package index is not trusted: name the file with "
    "your network's certificates in PIP_CERT",
    "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|ProtocolError": "no "
    "package index can be reached: connect to a network (behind a proxy, set HTTPS_PROXY) and start again",
}
_PACKAGE = re.compile(r"\s*(?:Downloading|Using cached|Processing) (\S+\.(?:whl|zip|gz))( \(.+\))?$")


class Failed(Exception):
    """Why no environment could be made, in one line with advice."""


def main() -> int:
    """Replace this process by the command; returns only if interrupted."""
    root, environment, backend, groups, *command = sys.argv[1:]
    try:
        with interruptible():
            provide(Path(root), Path(environment), backend, groups.split())
    except KeyboardInterrupt:
        return report_interrupt()
    return os.execv(command[0], command)


def provide(root: Path, environment: Path, backend: str, groups: list[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with lock(environment.parent):
            if not is_whole(environment):
                make(root, environment, requirements(root, backend, groups))
    except (OSError, Failed) as error:
        fail(error)


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
    """Whether the environment runs: its Python may have been uninstalled since."""
    return os.access(environment / "bin" / "python", os.X_OK)


def make(root: Path, environment: Path, packages: list[str]) -> None:
    for left_behind in [environment, *environment.parent.glob("*.part")]:
        if left_behind.exists():
            shutil.rmtree(left_behind)
    part = environment.with_name(f"{environment.name}.part")
    say(f"making the Python environment {environment}: this happens once")
    try:
        with environment.with_name(f"{environment.name}.log").open("w", encoding="utf-8") as log:
            fill(part, root / "constraints.txt", packages, log)
        part.rename(environment)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fill(part: Path, constraints: Path, packages: list[str], log: TextIO) -> None:
    """Resolve the packages first, which gives their number, then download and install them."""
    run(log, "", base_python(), "-m", "venv", part)
    pip = (part / "bin" / "python", *PIP_INSTALL, "--constraint", constraints)
    report = part / "packages.json"
    run(log, "finding packages, {count} so far: {file}", *pip, "--dry-run", "--report", report, *packages)
    packages = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    pinned = [f"{package['name']}=={package['version']}" for package in packages]
    run(log, f"{{count}} of {len(packages)} packages: {{file}}", *pip, "--no-deps", *pinned)
    say(f"installed: {len(packages)} of {len(packages)} packages")


def base_python() -> Path:
    """The interpreter behind this one, by the name that holds its version: a mere `python3` may become another."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    versioned = base.with_name(f"python{sys.version_info.major}.{sys.version_info.minor}")
    return versioned if versioned.exists() else base


def run(log: TextIO, progress: str, python: Path, *arguments: str | Path) -> None:
    """Run a command with its output in the log, and show progress. It must not read the requests waiting on stdin."""
    lines, count = [], 0
    with subprocess.Popen(
        [python, "-I", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout:
                log.write(line)
                lines.append(line)
                if taken := _PACKAGE.match(line):
                    count += 1
                    name = taken[1].rpartition("/")[2].partition("-")[0]
                    show(progress.format(count=count, file=name + (taken[2] or "")))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Failed(f"{reason(lines)} (all of pip's output: {log.name})")


def reason(lines: list[str]) -> str:
    """Why pip failed and what to do, from its output."""
    text = "".join(lines)
    for pattern, remedy in _REASONS.items():
        if re.search(pattern, text):
            return remedy
    errors = [line.removeprefix("ERROR: ").strip() for line in lines if line.startswith("ERROR: ")]
    return f"pip says: {errors[0]}" if errors else "it ended with an error"


def fail(error: OSError | Failed) -> None:
    message = f"the Python environment could not be made: {explained(error)}"
    say(message)
    fatal = {"type": "fatal", "code": "environment_failed", "message": message, "retryable": True}
    os.write(1, json.dumps(fatal).encode() + b"\n")
    sys.exit(2)


def explained(error: OSError | Failed) -> str:
    if isinstance(error, Failed):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _DISK_FULL
    return f"{error.strerror}: {error.filename}: set QWEN3_ASR_MLX_HOME to a folder that can be written"


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
