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
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from qwen3_asr_mlx_runtime.entry import interruptible, report_interrupt
from qwen3_asr_mlx_runtime.tools.install.environment import (
    DISK_FULL,
    PIP_INSTALL,
    Failed,
    base_python,
    lock,
    reason,
    requirements,
    say,
    show,
)

_PACKAGE = re.compile(r"\s*(?:Downloading|Using cached|Processing) (\S+\.(?:whl|zip|gz))( \(.+\))?$")


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
        return DISK_FULL
    return f"{error.strerror}: {error.filename}: set QWEN3_ASR_MLX_HOME to a folder that can be written"
