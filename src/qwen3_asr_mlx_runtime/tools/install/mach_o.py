"""The oldest macOS that a file of machine code runs on, from its load commands."""

import struct
from collections.abc import Iterator
from pathlib import Path

_THIN = b"\xcf\xfa\xed\xfe"  # 64 bits, little-endian: arm64 and x86_64
_FAT = {b"\xca\xfe\xba\xbe": (20, ">I"), b"\xca\xfe\xba\xbf": (32, ">Q")}  # size of an entry, form of its offset
_BUILD_VERSION, _VERSION_MIN_MACOSX = 0x32, 0x24  # <mach-o/loader.h>
_MACOS = 1


def oldest_macos(file: Path) -> tuple[int, int] | None:
    """(major, minor), the newest where the file holds several architectures; None where it names none."""
    try:
        return max(_versions(file.read_bytes()), default=None)
    except struct.error:  # only its first bytes match, as those of Java classes do
        return None


def _versions(data: bytes) -> Iterator[tuple[int, int]]:
    if data[:4] in _FAT:
        size, form = _FAT[data[:4]]
        (count,) = struct.unpack_from(">I", data, 4)
        for entry in range(8, 8 + count * size, size):
            yield from _thin_versions(data, *struct.unpack_from(form, data, entry + 8))
    else:
        yield from _thin_versions(data, 0)


def _thin_versions(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    if data[start : start + 4] != _THIN:
        return
    (count,) = struct.unpack_from("<I", data, start + 16)
    command = start + 32
    for _ in range(count):
        kind, size, first, second = struct.unpack_from("<4I", data, command)
        if kind == _BUILD_VERSION and first == _MACOS:
            yield second >> 16, second >> 8 & 0xFF
        elif kind == _VERSION_MIN_MACOSX:
            yield first >> 16, first >> 8 & 0xFF
        command += size
