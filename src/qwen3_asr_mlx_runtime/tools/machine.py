"""The machine of a measurement, without the names of the machine or of its user."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from qwen3_asr_mlx_runtime import __version__

_PACKAGES = ("mlx", "jiwer", "whisper-normalizer", "matplotlib")
_CPUINFO = Path("/proc/cpuinfo")


class Machine(msgspec.Struct, frozen=True):
    """`memory_bytes` of the whole machine; `versions` by package, this runtime and Python first."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    versions: dict[str, str]


def this_machine() -> Machine:
    return Machine(
        system=_system(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        versions={
            "qwen3-asr-mlx-runtime": __version__,
            "Python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name))},
        },
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _system() -> str:
    name = f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else platform.system()
    return f"{name} on {platform.machine()}"


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        brand = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        return brand or platform.machine()
    else:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.exists() else []
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())
