"""MPEG audio frames and the tags around them, as far as libsndfile does not handle them."""

import os
import re

_TAG_FRAME = re.compile(rb"\xff[\xe2-\xff]..(?:..\0{7}|..\0{15}|..\0{30})(?:Xing|Info)(.{4})(.{4})(.{4})", re.DOTALL)
_HAS_FRAMES, _HAS_BYTES = 1, 2
_MAX_TAGS = 1000


def tagged_stop(descriptor: int, at: int) -> int | None:
    """The end of the stream whose first frame begins at byte `at`, by its encoder's tag. It is `at` itself if the tag
    counts frames but not bytes; None if no tag counts the frames.
    """
    found = _TAG_FRAME.match(os.pread(descriptor, 64, at))
    if found is None:
        return None
    flags, frames, size = (int.from_bytes(value, "big") for value in found.groups())
    if not flags & _HAS_FRAMES or not frames:
        return None
    return at + size if flags & _HAS_BYTES else at


def is_frame(head: bytes) -> bool:
    """Whether these four bytes can begin a frame."""
    if len(head) < 4:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return head[0] == 0xFF and head[1] >= 0xE0 and version != 1 and layer != 0 and bitrate != 15 and rate != 3


def after_tags(descriptor: int, at: int) -> int:
    """The first byte from `at` on that belongs to no tag: ID3v2, ID3v1 or APE."""
    for _ in range(_MAX_TAGS):
        length = _tag_bytes(os.pread(descriptor, 32, at))
        if not length:
            break
        at += length
    return at


def _tag_bytes(head: bytes) -> int:
    if head[:3] == b"ID3" and len(head) >= 10:
        length = 0
        for seven_bits in head[6:10]:
            length = length << 7 | seven_bits & 0x7F
        return 10 + length + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX":
        return 32 + int.from_bytes(head[12:16], "little")
    return 0
