"""What the system says of this process's memory."""

import ctypes
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import msgspec
import psutil
import pytest

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.engines.profile import Memory

MIB = 1024 * 1024
# struct rusage_info_v0 of macOS's sys/resource.h, after its UUID
FIELDS = (
    "user_time",
    "system_time",
    "pkg_idle_wkups",
    "interrupt_wkups",
    "pageins",
    "wired_size",
    "resident_size",
    "phys_footprint",
    "proc_start_abstime",
    "proc_exit_abstime",
)


GROWN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qwen3_asr_mlx_runtime import process_memory
before = process_memory.rss_bytes()
used = bytearray(os.urandom(64 << 20))
during = process_memory.rss_bytes()
del used
print(during - before, during - process_memory.rss_bytes(), process_memory.rss_peak_bytes() - during)
"""


def test_resident_memory_grows_with_what_is_used_and_shrinks_again(repository: Path) -> None:
    """In a process of its own: what others have freed in this one may be used again."""
    command = [sys.executable, "-I", "-c", GROWN, str(repository / "src")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, shrunk, above = map(int, ran.stdout.split())
    assert grown > 60 * MIB
    assert shrunk > 60 * MIB
    assert above >= -MIB


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_between_used_memory_goes_back_to_the_system() -> None:
    used = [bytes(20_000) for _ in range(4000)]
    del used[::2]
    before = process_memory.rss_bytes()
    process_memory.trim()
    assert process_memory.rss_bytes() < before - 20 * MIB
    assert len(used) == 2000


FREED = """
import sys
sys.path.insert(0, sys.argv[1])
from qwen3_asr_mlx_runtime import process_memory
if sys.argv[2] == "little":
    process_memory.keep_little()
used = bytes(16 << 20)
del used  # for which glibc raises what it takes for large
used = [bytes([1]) * (1 << 20) for _ in range(100)]
before = process_memory.rss_bytes()
del used[::2]
print(before - process_memory.rss_bytes())
"""


def freed(repository: Path, kept: str) -> int:
    """Bytes that went back to the system of 50 MiB that were freed, every other of a hundred buffers."""
    command = [sys.executable, "-I", "-c", FREED, str(repository / "src"), kept]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_large_buffers_go_back_to_the_system_when_they_are_freed(repository: Path) -> None:
    assert freed(repository, "little") > 48 * MIB
    assert freed(repository, "much") < 10 * MIB


def test_other_libraries_get_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    process_memory._glibc.cache_clear()
    process_memory.trim()
    process_memory.keep_little()
    process_memory._glibc.cache_clear()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS knows it")
def test_there_is_no_footprint_but_on_macos() -> None:
    assert process_memory.footprint_bytes() is None
    memory = Memory.read()
    assert (memory.footprint_bytes, memory.footprint_mb) == (None, None)


@pytest.mark.parametrize("error", [psutil.AccessDenied(), FileNotFoundError("/proc")])
def test_memory_that_the_system_does_not_report_is_null(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: psutil.Process) -> NoReturn:
        raise error

    monkeypatch.setattr(psutil.Process, "memory_info", fail)
    assert process_memory.rss_bytes() is None
    assert Memory.read().rss_mb is None


def libsystem(answer: Callable[[int, int, object], int]) -> type:
    class Library:
        proc_pid_rusage = staticmethod(answer)

    return Library


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    def pretend(library: object) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(ctypes, "CDLL", lambda _: library)

    return pretend


def test_macos_reports_the_footprint(macos: Callable) -> None:
    def answer(pid: int, flavor: int, buffer: object) -> int:
        assert (pid, flavor) == (os.getpid(), 0)
        values = [100 + number for number in range(len(FIELDS))]
        data = bytes(16) + struct.pack(f"={len(FIELDS)}Q", *values)
        assert ctypes.sizeof(buffer._obj) == len(data)
        ctypes.memmove(buffer, data, len(data))
        return 0

    macos(libsystem(answer))
    assert process_memory.footprint_bytes() == 100 + FIELDS.index("phys_footprint")


def test_a_macos_that_does_not_answer_yields_null(macos: Callable) -> None:
    macos(libsystem(lambda *_: -1))
    assert process_memory.footprint_bytes() is None
    macos(object())
    assert process_memory.footprint_bytes() is None


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("linux", 1024)])
def test_the_peak_of_getrusage_is_in_bytes_on_macos_and_in_kilobytes_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=4096))
    monkeypatch.setattr(sys, "platform", platform)
    assert process_memory.rss_peak_bytes() == 4096 * unit


def test_what_is_reported_in_bytes_is_reported_in_mb_too() -> None:
    fields = msgspec.to_builtins(Memory.read())
    assert fields["rss_mb"] == round(fields["rss_bytes"] / MIB, 2)
    assert {name.removesuffix("_bytes") for name in fields if name.endswith("_bytes")} == {
        name.removesuffix("_mb") for name in fields if name.endswith("_mb")
    }
