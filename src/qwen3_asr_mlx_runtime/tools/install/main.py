"""qwen3-asr-mlx-install as pip installs it: chooses the backend and the Python, as the launcher of a checkout does, and
becomes command.py there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.tools.install.command import PROGRAM, parse
from qwen3_asr_mlx_runtime.tools.install.environment import Failed, base_python
from qwen3_asr_mlx_runtime.tools.install.folder import PACKAGE

_BACKENDS = ("cpu", "cuda13")
_VERSIONS = ("3.11", "3.12", "3.13")
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_COMMAND = "qwen3_asr_mlx_runtime.tools.install.command"


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Replace this process. Returns 1 if there is no such Python or backend."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = parse(words)
    try:
        backend = _backend(os.environ.get("QWEN3_ASR_MLX_BACKEND"))
        python, folder = _interpreter(options.python or os.environ.get("QWEN3_ASR_MLX_PYTHON") or str(base_python()))
    except Failed as error:
        return complain(PROGRAM, str(error))
    start = (str(PACKAGE / "start.py"), str(PACKAGE.parent), _COMMAND)
    return os.execv(python, [python, "-I", "-S", "-B", "-X", "utf8", *start, backend, folder, *words])


def _backend(named: str | None) -> str:
    if sys.platform == "darwin":
        return ""  # mlx brings its own
    else:
        if named and named not in _BACKENDS:
            raise Failed(f"QWEN3_ASR_MLX_BACKEND must be {' or '.join(_BACKENDS)}")
        return named or _BACKENDS[0]


def _interpreter(named: str) -> tuple[str, str]:
    """(the executable, the folder to copy or nothing)"""
    folder = os.path.realpath(named) if Path(named).is_dir() else ""
    python = shutil.which(Path(folder, "bin", "python3") if folder else named)
    if python is None or not _is_suitable(python):
        raise Failed(
            "--python must name a Python 3.11 to 3.13 with venv and ensurepip, or the folder of one (it holds "
            f"bin/python3), got {named}"
        )
    return str(Path(python).absolute()), folder


def _is_suitable(python: str) -> bool:
    if sys.platform == "darwin" and os.path.realpath(python) == "/usr/bin/python3":
        return False  # it opens a window that offers the developer tools
    command = [python, "-I", "-c", _PROBE]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return ran.stdout.strip() in _VERSIONS
