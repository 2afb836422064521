"""A folder of wheels, filled with a network and used without one."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from qwen3_asr_mlx_runtime.tools.install.child import check_run, child
from qwen3_asr_mlx_runtime.tools.install.environment import PIP_INSTALL, Failed, reason, say

SUMS = "SHA256SUMS"
OLDEST_MACOS = "14"  # that every wheel of constraints.txt has a build for; tests/scripts/test_install.py looks
_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


def wheels_for(macos: str | None) -> tuple[str, ...]:
    """Options that make pip choose wheels for this macOS or older, on any machine; none for None."""
    if macos is None:
        return ()
    major, _, minor = macos.partition(".")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ("--platform", f"macosx_{major}_{minor or 0}_arm64", "--python-version", version, "--implementation", "cp")


def download(requirements: Sequence[str], constraints: Path, folder: Path, macos: str | None) -> None:
    """Put every wheel that is needed, here or on `macos`, into the folder, and the digest of each into its
    SHA256SUMS."""
    say(f"filling the wheelhouse {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="wheelhouse-") as scratch:
        check_run(Path(sys.executable), "-m", "venv", scratch)
        fetch = ("download", "--only-binary", ":all:", "--no-input", "--progress-bar", "off", "--dest", str(folder))
        command = ("-m", "pip", *fetch, *wheels_for(macos))
        pip(Path(scratch, "bin", "python"), command, constraints, requirements)
    sums = [f"{_digest(wheel)}  {wheel.name}\n" for wheel in sorted(folder.glob("*.whl"))]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")
    say(f"{len(sums)} wheels are in {folder}")


def check_wheelhouse(folder: Path) -> None:
    """Raises Failed if the folder is missing, has files that SHA256SUMS does not list, or files with other digests."""
    if not folder.is_dir():
        raise Failed(f"there is no wheelhouse {folder}: --download-to fills one")
    wheels = {file.name for file in folder.glob("*.whl")}
    if not wheels:
        raise Failed(f"the wheelhouse {folder} holds no wheels: --download-to fills it")
    pages = {file.name for file in folder.glob("*.htm*")}  # pip follows their links, to a network too
    if pages:
        raise Failed(f"the wheelhouse {folder} holds {min(pages)}, which is no wheel: remove it")
    if (folder / SUMS).exists():
        _check_sums(folder, wheels)


def _check_sums(folder: Path, wheels: set[str]) -> None:
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, digest in sums.items():
        if name not in wheels:
            raise Failed(f"the wheelhouse {folder} lacks {name}, which its {SUMS} names")
        if _digest(folder / name) != digest:
            raise Failed(f"{folder / name} is not what {SUMS} says: fill the wheelhouse again")
    if wheels - sums.keys():
        raise Failed(f"the wheelhouse {folder} holds {min(wheels - sums.keys())}, which its {SUMS} does not name")


def install_packages(
    python: Path, requirements: Sequence[str], constraints: Path, wheelhouse: Path | None, macos: str | None
) -> None:
    """Install into the environment of `python`; only from the wheelhouse, if there is one. Raises Failed."""
    offline: tuple[str, ...] = ()
    target = wheels_for(macos)
    if target:  # pip takes wheels for another system than its own only with --target
        (site_packages,) = python.parent.parent.glob("lib/python3.*/site-packages")
        target += ("--only-binary", ":all:", "--target", str(site_packages))
    if wheelhouse is not None:  # --isolated: no variable and no file of the machine adds another source
        offline = ("--isolated", "--no-index", "--find-links", str(wheelhouse), "--only-binary", ":all:")
    pip(python, (*PIP_INSTALL, "--root-user-action", "ignore", *offline, *target), constraints, requirements)


def pip(python: Path, command: Sequence[str], constraints: Path, requirements: Sequence[str]) -> None:
    """Run pip with its output on stderr. Raises Failed with the reason of its end."""
    arguments: list[str | Path] = [python, "-I", *command, "--constraint", constraints, *requirements]
    lines = []
    with child(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", env=_environ()
    ) as process:
        for line in process.stdout or ():
            sys.stderr.write(line)
            lines.append(line)
    if process.returncode:
        raise Failed(reason(lines))


def _environ() -> dict[str, str]:
    """The environment of pip: the machine may configure the package source, but not the target."""
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return {**kept, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
