"""Decodes one file with FFmpeg, in a process of its own that a crash or a hang costs. Its parent is media.py.

It writes messages: four bytes of length, little-endian, and as many bytes. The first is a Header or a Refusal as JSON,
then come interleaved float32 samples, then an empty message and, as JSON, an Ending.
"""

import os
import struct
from collections.abc import Iterator
from io import BufferedWriter
from itertools import chain

import av
import msgspec
from av.error import FFmpegError

from qwen3_asr_mlx_runtime.audio.media_messages import Ending, Header, Refusal

_BUFFER_BYTES = 1 << 16


def main(source: int, sink: int, track: int) -> None:
    """Decode the file of a descriptor: its audio track of this number, from 1."""
    # No protocol: a playlist would open other files, and addresses.
    options = {"protocol_whitelist": "none"}
    with os.fdopen(sink, "wb") as file:
        out = _Sink(file)
        try:
            container = av.open(
                _Source(source), "r", buffer_size=_BUFFER_BYTES, metadata_errors="ignore", options=options
            )
        except FFmpegError:
            out.write_json(Refusal("invalid"))
            return
        with container:
            _decode(container, out, track)


class _Source:
    """What FFmpeg reads. The descriptor is shared, so its own position stays as it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._at = 0

    def read(self, count: int) -> bytes:
        data = os.pread(self._descriptor, count, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


class _Sink:
    def __init__(self, file: BufferedWriter) -> None:
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(struct.pack("<I", len(data)))
        self._file.write(data)

    def write_json(self, message: Header | Refusal | Ending) -> None:
        self.write(msgspec.json.encode(message))


def _decode(container: av.container.InputContainer, out: _Sink, track: int) -> None:
    tracks = container.streams.audio
    if len(tracks) < track:
        out.write_json(Refusal("no_track" if tracks else "no_audio", len(tracks)))
        return
    frames = _Frames(container, tracks[track - 1])
    first = next(frames, None)
    if first is None:
        out.write_json(Refusal("invalid" if frames.is_damaged else "no_audio", len(tracks)))
        return
    duration = None if container.duration is None else container.duration / av.time_base
    out.write_json(Header(first.sample_rate, first.layout.nb_channels, duration))
    resampler = av.AudioResampler("flt", first.layout, first.sample_rate)
    for frame in chain([first], frames):
        for packed in resampler.resample(frame):
            size = packed.samples * packed.layout.nb_channels * 4
            out.write(memoryview(packed.planes[0])[:size])
    out.write(b"")
    out.write_json(Ending(frames.is_damaged))


class _Frames(Iterator[av.AudioFrame]):
    """The frames of a track, without those that cannot be decoded."""

    def __init__(self, container: av.container.InputContainer, stream: av.AudioStream) -> None:
        self.is_damaged = False
        self._frames = self._all(container, stream)

    def __next__(self) -> av.AudioFrame:
        return next(self._frames)

    def _all(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except FFmpegError:
                self.is_damaged = True
                continue
            if packet is None:
                return
            yield from (frame for frame in frames if frame.samples)
