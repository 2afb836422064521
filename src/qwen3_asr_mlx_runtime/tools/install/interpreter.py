"""The Python of the folder: a relocatable one that is copied into it, or a venv of one that stays where it is."""

import shutil
import subprocess
import sys
from pathlib import Path

from qwen3_asr_mlx_runtime.tools.install.child import check_run
from qwen3_asr_mlx_runtime.tools.install.environment import Failed, base_python

_LEFT_OUT = ("__pycache__", "test", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "config-*")
_REFUSES_PIP = "EXTERNALLY-MANAGED"  # of distributions, and of uv
_BUILT_WITH = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth", "pkg_resources")

# Which file holds the interpreter: its executable, or a libpython that may lie anywhere.
_PROBE = """import ctypes, os, sys
class Info(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("a", ctypes.c_void_p), ("b", ctypes.c_char_p), ("c", ctypes.c_void_p)]
info = Info()
ctypes.CDLL(None).dladdr(ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p), ctypes.byref(info))
print(os.path.realpath(sys.base_prefix), os.path.realpath(os.fsdecode(info.file)), sep="\\n")"""


def copy_interpreter(folder: Path, python: Path) -> None:
    """Copy the interpreter that runs this, which is that of `folder`: executable, libpython and standard library, and
    nothing that was ever installed into it. Raises Failed where the copy goes on using its origin."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (python / "bin").mkdir(parents=True)
    shutil.copy2((folder / "bin" / name).resolve(), python / "bin" / name)
    (python / "bin" / "python3").symlink_to(name)
    skip = shutil.ignore_patterns(*_LEFT_OUT, _REFUSES_PIP)
    shutil.copytree(folder / "lib" / name, python / "lib" / name, symlinks=True, ignore=skip)
    (python / "lib" / name / "site-packages").mkdir()
    for library in folder.glob("lib/libpython3*"):
        shutil.copy2(library, python / "lib", follow_symlinks=False)
    for licence in (*folder.glob("LICENSE*"), *folder.glob("licenses")):
        _copy(licence, python / licence.name)
    _check_that_it_stands_alone(folder, python)
    check_run(python / "bin" / "python3", "-m", "ensurepip", "--default-pip")


def make_venv(python: Path) -> None:
    check_run(base_python(), "-m", "venv", python)


def strip(python: Path) -> None:
    """Remove packages that only the installation needs, and console scripts, which contain their build path."""
    for script in (python / "bin").iterdir():
        if not script.name.startswith("python"):
            _remove(script)
    (library,) = python.glob("lib/python3.*")
    if (library / "site-packages" / "bin").is_dir():  # where pip puts them with --target
        _remove(library / "site-packages" / "bin")
    for name in _BUILT_WITH:
        for pattern in (name, f"{name}-*.dist-info"):
            for found in (library / "site-packages").glob(pattern):
                _remove(found)
    if (library / "ensurepip").is_dir():
        _remove(library / "ensurepip")


def _check_that_it_stands_alone(folder: Path, python: Path) -> None:
    command: list[str | Path] = [python / "bin" / "python3", "-I", "-c", _PROBE]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    inside = [Path(line).is_relative_to(python.resolve()) for line in answer.stdout.splitlines()]
    if answer.returncode or inside != [True, True]:
        raise Failed(
            f"the Python in {folder} is not relocatable: a copy of it uses files of its origin. Take one that is, as "
            "python-build-standalone, or name its executable in place of its folder"
        )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
