"""The machine of a run, its power and its heat, as far as it tells them without a password."""

import ctypes
import json
import plistlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from xml.parsers.expat import ExpatError

import psutil

from mac_evidence.evidence import Machine
from qwen3_asr_mlx_runtime.tools.machine import this_machine

PACKAGES = ("mlx", "mlx-metal", "mlx-cpu", "mlx-cuda-13", "numpy", "safetensors", "tokenizers", "soundfile", "soxr")
PRESSURE = ("nominal", "moderate", "heavy", "trapping", "sleeping")  # OSThermalNotification.h
# In a process of its own, because MLX keeps the memory of a device that it has used.
_DEVICE = """
import json, mlx.core as mx
kind = "CPU" if mx.default_device() == mx.cpu else "Metal" if mx.metal.is_available() else "CUDA"
print(json.dumps([kind, mx.device_info().get("device_name", "") if kind != "CPU" else ""]))
"""
_SECONDS = 60.0


class Draw(NamedTuple):
    """A sum of milliwatts and the number of its samples, as the battery's controller counts them."""

    milliwatts: int
    samples: int


def machine() -> Machine:
    found = this_machine()
    packages = {name: number for name in PACKAGES if (number := _version(name))}
    return Machine(
        system=found.system,
        processor=found.processor,
        cores=found.cores,
        memory_bytes=found.memory_bytes,
        device=device(),
        power=power(),
        versions={name: found.versions[name] for name in ("qwen3-asr-mlx-runtime", "Python")} | packages,
    )


def device() -> str:
    """The device that MLX computes on, as `Metal: Apple M2`; `none` where it has none."""
    answer = _output(sys.executable, "-P", "-c", _DEVICE)
    if not answer:
        return "none"
    kind, name = json.loads(answer)
    return f"{kind}: {name}" if name else kind


def power() -> str | None:
    """A machine without a battery does not tell."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None or battery.power_plugged is None:
        return None
    return "mains" if battery.power_plugged else "battery"


def thermal() -> str | None:
    """macOS' thermal pressure."""
    if sys.platform != "darwin":
        return None
    try:
        library = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        return pressure(library)
    except (OSError, AttributeError):
        return None


def pressure(library: ctypes.CDLL) -> str | None:
    """By notify(3), of the system's C library."""
    token, state = ctypes.c_int(), ctypes.c_uint64()
    if library.notify_register_check(b"com.apple.system.thermalpressurelevel", ctypes.byref(token)):
        return None
    failed = library.notify_get_state(token, ctypes.byref(state))
    library.notify_cancel(token)
    return None if failed or state.value >= len(PRESSURE) else PRESSURE[state.value]


def draw() -> Draw | None:
    """What the whole Mac has drawn. Its battery's controller takes a sample about once a second and tells them every 10
    to 60 s. None on a machine without one."""
    if sys.platform != "darwin":
        return None
    return draw_of(_output("/usr/sbin/ioreg", "-r", "-n", "AppleSmartBattery", "-a"))


def draw_of(answer: bytes) -> Draw | None:
    """`answer`: of ioreg, as a property list."""
    try:
        telemetry = plistlib.loads(answer)[0]["PowerTelemetryData"]
        return Draw(telemetry["AccumulatedSystemLoad"], telemetry["SystemLoadAccumulatorCount"])
    except (plistlib.InvalidFileException, ExpatError, ValueError, LookupError, TypeError):
        return None


def watts(before: Draw | None, after: Draw | None) -> float | None:
    """The mean between two; None where no sample lies between them."""
    if before is None or after is None or after.samples <= before.samples or after.milliwatts < before.milliwatts:
        return None
    return round((after.milliwatts - before.milliwatts) / (after.samples - before.samples) / 1000, 2)


def commit(root: Path) -> str | None:
    answer = _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return answer.decode().strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> bytes:
    """What a command prints; nothing if it fails."""
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return b""
    return ran.stdout
