"""The Python environments of the peers: created on first use, pinned, outside of this repository."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent


def home() -> Path:
    """Where environments are kept."""
    return Path(os.environ.get("QWEN3_ASR_MLX_HOME") or Path.home() / ".cache" / "qwen3-asr-mlx-runtime")


def peer_python(name: str, home: Path) -> Path:
    """The Python of the environment that holds peer `name`. One that exists is whole: it is renamed when all is
    installed."""
    requirements = HERE / f"requirements-{name}.txt"
    stamp = hashlib.sha256(f"{sys.platform} {sys.version}".encode() + requirements.read_bytes()).hexdigest()[:16]
    environment = home / "benchmark" / f"{name}-{stamp}"
    if not (environment / "bin" / "python").exists():
        _make(environment, requirements)
    return environment / "bin" / "python"


def _make(environment: Path, requirements: Path) -> None:
    print(f"making the environment {environment}: this happens once", file=sys.stderr, flush=True)
    part = environment.with_name(f"{environment.name}.{os.getpid()}.part")
    base = getattr(sys, "_base_executable", sys.executable)
    try:
        _run(base, "-I", "-m", "venv", str(part))
        python = str(part / "bin" / "python")
        install = ("-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off", "--quiet")
        _run(python, "-I", *install, "--requirement", str(requirements))
        shutil.rmtree(environment, ignore_errors=True)
        part.rename(environment)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)


def child_environment(variables: Mapping[str, str], *, own: bool) -> dict[str, str]:
    """The environment of a contender's process: `variables`, and where its modules are; `own` adds the runtime's."""
    paths = [str(HERE.parent)]
    if own:
        inherited = os.environ.get("PYTHONPATH", "")
        paths += [str(HERE.parents[2] / "src"), *filter(None, inherited.split(os.pathsep))]
    own_variables = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    return os.environ | own_variables | variables
