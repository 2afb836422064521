"""A folder of wheels, filled with a network and used without one."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from make_environment import PIP_INSTALL, run, say

SUMS = "SHA256SUMS"


class Failed(Exception):
    """What went wrong, in a line for the person who builds the app."""


def download(requirements: Sequence[str], constraints: Path, folder: Path) -> None:
    """Put every wheel that is needed here into the folder, and the digest of each into its SHA256SUMS."""
    say(f"filling the wheelhouse {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="wheelhouse-") as scratch:
        run(Path(sys.executable), "-m", "venv", scratch)
        fetch = ("download", "--only-binary", ":all:", "--no-input", "--progress-bar", "off", "--dest", str(folder))
        pip(Path(scratch, "bin", "python"), ("-m", "pip", *fetch), constraints, requirements)
    sums = [f"{_digest(wheel)}  {wheel.name}\n" for wheel in sorted(folder.glob("*.whl"))]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")
    say(f"{len(sums)} wheels are in {folder}")


def check_wheelhouse(folder: Path) -> None:
    """Raises Failed where there is none, or a wheel is not what SHA256SUMS says of it."""
    if not folder.is_dir():
        raise Failed(f"there is no wheelhouse {folder}: --download-to fills one")
    if not any(folder.glob("*.whl")):
        raise Failed(f"the wheelhouse {folder} holds no wheels: --download-to fills it")
    if not (folder / SUMS).exists():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        wheel = folder / name
        if not wheel.exists():
            raise Failed(f"the wheelhouse {folder} lacks {name}, which its {SUMS} names")
        if _digest(wheel) != digest:
            raise Failed(f"{wheel} is not what {SUMS} says: fill the wheelhouse again")


def install_packages(python: Path, requirements: Sequence[str], constraints: Path, wheelhouse: Path | None) -> None:
    """Into the environment of `python`; from the wheelhouse alone, if there is one. Raises Failed."""
    offline: tuple[str, ...] = ()
    if wheelhouse is not None:  # --isolated: no variable and no file of the machine adds another source
        offline = ("--isolated", "--no-index", "--find-links", str(wheelhouse), "--only-binary", ":all:")
    pip(python, (*PIP_INSTALL, "--root-user-action", "ignore", *offline), constraints, requirements)


def pip(python: Path, command: Sequence[str], constraints: Path, requirements: Sequence[str]) -> None:
    """What pip says goes to stderr. Raises Failed with the first error that it names."""
    arguments = [str(python), "-I", *command, "--constraint", str(constraints), *requirements]
    errors = []
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        try:
            for line in process.stdout or ():
                sys.stderr.write(line)
                if line.startswith("ERROR: "):
                    errors.append(f"pip says: {line.removeprefix('ERROR: ')}")
        except BaseException:  # a signal, which ends this by SystemExit: do not wait for pip
            process.kill()
            raise
    if process.returncode:
        raise Failed((errors or ["pip failed: its own words are above"])[0])


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
