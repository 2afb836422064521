"""The folder that an app ships: built under a temporary name, verified, and only then moved into place.

PREFIX/bin/qwen3-asr-mlx-bridge    the launcher
PREFIX/python                      an interpreter, or a venv, with the packages
PREFIX/runtime                     the runtime, run as `python3 -I -B -X utf8 PREFIX/runtime`
PREFIX/installed.json              what this is: versions, and the stamp by which an up-to-date folder is known
PREFIX/native-files.txt            every file with machine code in it, to be signed
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_asr_mlx_runtime.tools.install.child import run
from qwen3_asr_mlx_runtime.tools.install.environment import Failed, base_python, lock, requirements, say
from qwen3_asr_mlx_runtime.tools.install.interpreter import copy_interpreter, make_venv, strip
from qwen3_asr_mlx_runtime.tools.install.mach_o import oldest_macos
from qwen3_asr_mlx_runtime.tools.install.place import RECORD, check_place, part_of, recover, replace
from qwen3_asr_mlx_runtime.tools.install.wheelhouse import check_wheelhouse, install_packages

PACKAGE = Path(__file__).resolve().parents[2]
LAUNCHER = Path("bin", "qwen3-asr-mlx-bridge")
NATIVE = "native-files.txt"
_VERIFY_SECONDS = 120
_MACHINE_CODE = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")  # ELF, Mach-O, fat Mach-O
_PACKAGES = """import importlib.metadata, json
print(json.dumps(dict(sorted((package.name, package.version) for package in importlib.metadata.distributions()))))"""

_LOAD = f"""import sys
sys.path.insert(0, sys.argv[1])
import {PACKAGE.name}.bridge.loop, {PACKAGE.name}.engine.recognizer"""


@dataclass(frozen=True)
class Source:
    """What a folder is made of: the backend of MLX (empty where there is but one), the interpreter's folder to copy, or
    None, the oldest macOS that the folder is for, None on another system, extras of the runtime, and its package."""

    backend: str
    interpreter: Path | None
    macos: str | None
    extras: tuple[str, ...] = ()
    package: Path = PACKAGE

    @property
    def installer(self) -> Path:
        return self.package / "tools" / "install"

    @property
    def root(self) -> Path:
        """It holds pyproject.toml, constraints.txt, LICENSE and NOTICE: a checkout, or a folder of the wheel."""
        carried = self.installer / "source"
        return carried if carried.is_dir() else self.package.parents[1]

    @property
    def constraints(self) -> Path:
        return self.root / "constraints.txt"

    def requirements(self) -> list[str]:
        return requirements(self.root, self.backend, [*self.extras])

    def stamp(self) -> str:
        """The hash of all that decides what is in the folder."""
        place = self.interpreter or base_python()
        machine = [sys.version, platform.system(), platform.machine(), str(place), str(self.macos)]
        wanted = [*self.requirements(), self.constraints.read_text(encoding="utf-8")]
        digest = hashlib.sha256("\n".join([*machine, *wanted]).encode())
        for file in sources(self.package):
            digest.update(str(file.relative_to(self.package)).encode() + file.read_bytes())
        return digest.hexdigest()[:32]


def sources(package: Path) -> Iterator[Path]:
    return (file for file in sorted(package.rglob("*")) if "__pycache__" not in file.parts and file.is_file())


def install(source: Source, prefix: Path, wheelhouse: Path | None) -> Path:
    """Build the folder, unless it is there and up to date, and return its launcher. Raises Failed, OSError or
    CalledProcessError, and then keeps the earlier folder."""
    check_place(prefix, [source.package, source.interpreter, wheelhouse])
    if wheelhouse is not None:
        check_wheelhouse(wheelhouse)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with lock(prefix.parent):
        recover(prefix)
        check_place(prefix, [])  # another installation may have been waited for
        if _is_up_to_date(source, prefix):
            say(f"{prefix} is up to date")
        else:
            _build(source, prefix, wheelhouse)
    return prefix / LAUNCHER


def _is_up_to_date(source: Source, prefix: Path) -> bool:
    try:
        record = json.loads((prefix / RECORD).read_text(encoding="utf-8"))
        if record["stamp"] != source.stamp():
            return False
        verify(prefix)
    except (OSError, ValueError, KeyError, TypeError, Failed):
        return False
    return True


def _build(source: Source, prefix: Path, wheelhouse: Path | None) -> None:
    say(f"building {prefix}")
    try:
        _fill(source, part_of(prefix), wheelhouse)
        replace(prefix)
    finally:
        shutil.rmtree(part_of(prefix), ignore_errors=True)
    if source.interpreter is None:
        say(f"{prefix} uses {base_python()}, which must stay there: it is no folder to ship")


def _fill(source: Source, part: Path, wheelhouse: Path | None) -> None:
    python = part / "python"
    if source.interpreter is None:
        make_venv(python)
    else:
        copy_interpreter(source.interpreter, python)
    executable = python / "bin" / "python3"
    install_packages(executable, source.requirements(), source.constraints, wheelhouse, source.macos)
    strip(python)
    shutil.copytree(source.package, part / "runtime" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(source.installer / "run_bridge.py", part / "runtime" / "__main__.py")
    (part / "bin").mkdir()
    shutil.copy2(source.installer / "launcher.sh", part / LAUNCHER)
    (part / LAUNCHER).chmod(0o755)
    for text in ("LICENSE", "NOTICE"):
        shutil.copy2(source.root / text, part)
    _compile(executable, part)
    _describe(source, executable, part)
    verify(part)


def _compile(executable: Path, part: Path) -> None:
    """Compile all modules so that Python never compiles them again, even with another date or path: a signed folder
    must not change, and `-B` writes nothing."""
    folders = [part / "runtime", *(part / "python").glob("lib/python3.*")]
    every = ("-m", "compileall", "-f", "-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    strip_prefix = ("-s", part)  # no path of the building machine in tracebacks
    run(executable, *every, *strip_prefix, *folders)  # unchecked: some packages ship templates that are no Python


def _describe(source: Source, executable: Path, part: Path) -> None:
    answer = subprocess.run(
        [executable, "-I", "-B", "-c", _PACKAGES], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    record = {
        "stamp": source.stamp(),
        "python": platform.python_version(),
        "python_is_inside": source.interpreter is not None,
        "platform": platform.platform(),
        "macos": source.macos,
        "packages": json.loads(answer.stdout),
    }
    (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    native = sorted(str(file.relative_to(part)) for file in part.rglob("*") if is_native(file))
    if source.macos is not None:
        check_macos(part, native, source.macos)
    (part / NATIVE).write_text("".join(f"{name}\n" for name in native), encoding="utf-8")


def check_macos(part: Path, native: list[str], macos: str) -> None:
    """Raises Failed if a file needs a newer macOS. The tag of a wheel may promise too much."""
    major, _, minor = macos.partition(".")
    for name in native:
        needed = oldest_macos(part / name)
        if needed is not None and needed > (int(major), int(minor or 0)):
            version = ".".join(map(str, needed))
            raise Failed(f"{name} needs macOS {version}, and the folder is for {macos}: say --macos {version}")


def is_native(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(4) in _MACHINE_CODE


def verify(prefix: Path) -> None:
    """Raises Failed unless the launcher prints its capabilities, and its packages load, with an app's few variables."""
    environ = {"PATH": os.defpath, "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    outcome = _run([prefix / LAUNCHER, "--print-capabilities"], environ)
    try:
        printed_type = json.loads(outcome.stdout)["type"]
    except (ValueError, KeyError, TypeError):
        printed_type = None
    if outcome.returncode or printed_type != "capabilities":
        raise Failed(f"what was built does not start: {_last_line(outcome.stderr) or 'it says no capabilities'}")
    loaded = _run([prefix / "python/bin/python3", "-I", "-B", "-c", _LOAD, prefix / "runtime"], environ)
    if loaded.returncode:
        raise Failed(f"a package of what was built does not load: {_last_line(loaded.stderr)}")


def _run(command: list[Path | str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        return subprocess.run(command, env=environ, timeout=_VERIFY_SECONDS, check=False, **options)
    except subprocess.TimeoutExpired:
        raise Failed(f"what was built does not answer within {_VERIFY_SECONDS} s") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
