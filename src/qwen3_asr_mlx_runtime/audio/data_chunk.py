"""Where the audio of a WAV, RF64, CAF or AU file lies, and whether its header is complete.

A writer that was stopped, is still writing, or writes to a pipe leaves 0, all ones or another impossible number as the
length of the audio. libsndfile takes some of these for a damaged file and others for an empty one.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

UNKNOWN_BYTES = 0x7FFF0000  # from here on a length is a placeholder

_Order = Literal["little", "big"]
_ORDERS: dict[bytes, _Order] = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b".snd": "big", b"dns.": "little"}
_IN_DS64 = 0xFFFFFFFF  # the placeholder of RF64: its ds64 chunk holds the length
_MAX_CHUNKS = 1000  # before the audio; bounds the walk through a file without audio
_METADATA = (b"ID3", b"TAG", b"APETAGEX")


@dataclass(frozen=True, slots=True)
class DataChunk:
    """The audio begins at byte `start`. The header stores its length `announced` in `width` bytes at `field`, in
    byte order `order`.

    `present`: the bytes of audio in the file. `encoding`: the format tag of a WAV, None in other containers.
    """

    start: int
    field: int
    width: int
    order: _Order
    announced: int
    present: int
    has_metadata: bool
    encoding: int | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the header has no length although there is audio."""
        if self.announced == 0:
            return self.present > 0 and not self.has_metadata
        limit = UNKNOWN_BYTES if self.width == 4 else 1 << 62
        return self.announced >= limit

    @property
    def is_cut(self) -> bool:
        return not self.is_unfinished and self.announced > self.present

    @property
    def stop(self) -> int:
        return self.start + (self.present if self.is_unfinished else min(self.announced, self.present))

    @property
    def patch(self) -> tuple[int, bytes]:
        """The offset and the correct bytes of the length in the header."""
        if not (self.is_unfinished or self.is_cut):
            return 0, b""
        return self.field, min(self.present, 256**self.width - 1).to_bytes(self.width, self.order)


def find_data_chunk(descriptor: int) -> DataChunk | None:
    """The audio of a file in one of these containers; None for other containers, or if the chunk is missing."""
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, 12, 0)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
        return _in_wav(descriptor, size, _ORDERS[head[:4]])
    if head[:4] == b"caff":
        return _in_caf(descriptor, size)
    if head[:4] in (b".snd", b"dns.") and len(head) == 12:
        order = _ORDERS[head[:4]]
        start, announced = int.from_bytes(head[4:8], order), int.from_bytes(head[8:], order)
        return DataChunk(start, 8, 4, order, announced, max(0, size - start), has_metadata=False)
    return None


def _in_wav(descriptor: int, size: int, order: _Order) -> DataChunk | None:
    encoding, long_field = None, 0
    for at, name, announced in _chunks(descriptor, 12, size, 4, order):
        body = at + 8
        if name == b"fmt ":
            encoding = int.from_bytes(os.pread(descriptor, 2, body), order)
        elif name == b"ds64":
            long_field = body + 8
        elif name == b"data":
            field, width = at + 4, 4
            if announced == _IN_DS64 and long_field:
                field, width = long_field, 8
                announced = int.from_bytes(os.pread(descriptor, width, field), order)
            metadata = _is_metadata(descriptor, body, size, 4, order)
            return DataChunk(body, field, width, order, announced, size - body, metadata, encoding)
    return None


def _in_caf(descriptor: int, size: int) -> DataChunk | None:
    for at, name, announced in _chunks(descriptor, 8, size, 8, "big"):
        if name == b"data":
            body = at + 12
            metadata = _is_metadata(descriptor, body, size, 8, "big")
            return DataChunk(body, at + 4, 8, "big", announced, size - body, metadata)
    return None


def _chunks(descriptor: int, at: int, size: int, width: int, order: _Order) -> Iterator[tuple[int, bytes, int]]:
    """The offset, name and length of each chunk. RIFF chunks begin at even bytes."""
    for _ in range(_MAX_CHUNKS):
        if at + 4 + width > size:
            return
        head = os.pread(descriptor, 4 + width, at)
        length = int.from_bytes(head[4:], order)
        yield at, head[:4], length
        at += len(head) + length + (length % 2 if width == 4 else 0)


def _is_metadata(descriptor: int, at: int, size: int, width: int, order: _Order) -> bool:
    """Whether another chunk or a tag begins here, so that the audio is empty."""
    head = os.pread(descriptor, 4 + width, at)
    fits = at + len(head) + int.from_bytes(head[4:], order) <= size
    return head.startswith(_METADATA) or bool(re.match(rb"[ -~]{4}", head) and fits)
