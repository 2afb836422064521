"""Concatenated streams in one sound file, as `cat` of two files or a radio recorder writes them.

libsndfile reads only the first, and of an MP3 only as many frames as a tag or an estimate announces. So each stream is
opened as a file of its own. Streams may differ in rate and channels.
"""

import os
import re
from collections.abc import Iterator

from qwen3_asr_mlx_runtime.audio.byte_window import ByteWindow
from qwen3_asr_mlx_runtime.audio.data_chunk import DataChunk, find_data_chunk
from qwen3_asr_mlx_runtime.audio.mpeg import after_tags, is_frame, tagged_stop
from qwen3_asr_mlx_runtime.audio.sound_file import SoundFile

_SCAN_BYTES = 1 << 20
_START_BYTES = 8  # length of the two patterns below
_OGG_START = re.compile(rb"OggS\0[\x02\x06]\0\0")  # a page that is the first of its stream, at sample 0
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\0\0\x22", re.DOTALL)
_MPEG_IN_WAV = 0x55
_PADDING_BYTES = 8192  # at most: the frames of encoder padding at the end of a stream


def links(descriptor: int, path: str) -> Iterator[SoundFile]:
    """Each stream, opened once the one before is read. Raises what `SoundFile.from_window` raises."""
    size = os.fstat(descriptor).st_size
    start = after_tags(descriptor, 0)
    magic = os.pread(descriptor, 4, start)
    chunk = find_data_chunk(descriptor)
    if magic == b"OggS":
        return _windows(descriptor, path, start, _ogg_starts(descriptor, start))
    if magic == b"fLaC":
        return _windows(descriptor, path, start, _starts(descriptor, _FLAC_START, start + 1))
    if is_frame(magic):
        return _mpeg(descriptor, path, start, size)
    if chunk and chunk.encoding == _MPEG_IN_WAV and is_frame(os.pread(descriptor, 4, chunk.start)):
        return _mpeg(descriptor, path, chunk.start, chunk.stop, chunk)
    return _whole_file(descriptor, path, size, chunk)


def _whole_file(descriptor: int, path: str, size: int, chunk: DataChunk | None) -> Iterator[SoundFile]:
    window = ByteWindow(descriptor, 0, size, patch=chunk.patch if chunk else (0, b""))
    yield SoundFile.from_window(window, path, chunk)


def _windows(descriptor: int, path: str, start: int, starts: Iterator[int]) -> Iterator[SoundFile]:
    size = os.fstat(descriptor).st_size
    while start < size:
        stop = next(starts, size)
        yield SoundFile.from_window(ByteWindow(descriptor, start, stop), path)
        start = stop


def _starts(descriptor: int, pattern: re.Pattern[bytes], at: int) -> Iterator[int]:
    while block := os.pread(descriptor, _SCAN_BYTES, at):
        for found in pattern.finditer(block):
            yield at + found.start()
        at += max(1, len(block) - _START_BYTES + 1)


def _ogg_starts(descriptor: int, first: int) -> Iterator[int]:
    """Where the second and later links begin. Parallel streams of one link, such as audio and video, count once."""
    behind = first
    for start in _starts(descriptor, _OGG_START, first):
        head = os.pread(descriptor, 27 + 255, start)
        if start != behind:
            yield start
        behind = start + 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 26 else 0


def _mpeg(descriptor: int, path: str, start: int, stop: int, chunk: DataChunk | None = None) -> Iterator[SoundFile]:
    """A stream ends at the end given by its tag, or where rate or channels change."""
    following = [start]
    while following:
        start = following[0]
        tagged = tagged_stop(descriptor, start)
        window = ByteWindow(descriptor, start, stop, endless=tagged is None)
        yield SoundFile.from_window(window, path, chunk)
        end = window.position
        if tagged and 0 <= tagged - end <= _PADDING_BYTES:
            end = tagged
        candidates = (after_tags(descriptor, at) for at in (end, end - 4))  # or the next header was read already
        following = [at for at in candidates if start < at < stop and is_frame(os.pread(descriptor, 4, at))]
