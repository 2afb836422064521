"""Sound files that libsndfile does not read, decoded by FFmpeg in a process of its own: media_child.py.

The extra `media` brings PyAV, which has FFmpeg in it. The process starts for one file and ends with it.
"""

import os
import select
import struct
import subprocess
import sys

import msgspec
import numpy as np

from qwen3_asr_mlx_runtime.audio.media_messages import Ending, Header, Refusal
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import AudioCorrupt, AudioEmpty, AudioUnsupported, InvalidParams

STALL_SECONDS = 20.0  # without a byte: shorter than the time-out of a read
_MEMORY_BYTES = 4 << 30
_ROUNDING_SECONDS = 0.5  # a container's length is not that of its samples: encoders pad
# It leaves with its parent, takes a bounded share of memory, and leaves no core.
_PROGRAM = (
    "import _thread, os, resource as r, sys; "
    "_thread.start_new_thread(lambda: (os.read(0, 1), os._exit(0)), ()); "
    "r.setrlimit(r.RLIMIT_CORE, (0, 0)); "
    "sys.platform == 'linux' and r.setrlimit(r.RLIMIT_AS, ({memory}, {memory})); "
    "sys.path[:] = {path!r}; from qwen3_asr_mlx_runtime.audio.media_child import main; main({source}, 1, {track})"
)


class MediaFile:
    """An audio track of a file, only read forward, as a SoundFile is."""

    length_unknown = False

    def __init__(self, child: "_Child", header: Header) -> None:
        self.samplerate, self.channels = header.rate, header.channels
        self.announced_seconds = header.seconds
        self._child = child
        self._ending: Ending | None = None

    @classmethod
    def open(cls, descriptor: int, path: str, track: int, refused: AudioUnsupported) -> "MediaFile":
        """Raises `refused` where FFmpeg reads it no better, AudioEmpty for a file without audio, AudioCorrupt where it
        crashes or hangs, InvalidParams for a track that the file does not have."""
        child = _Child(descriptor, track)
        try:
            first = child.read()
            if first is None:
                raise AudioCorrupt(f"its decoder {child.fate}: {path!r}")
            opened = msgspec.json.decode(first, type=Header | Refusal)
            if isinstance(opened, Header):
                return cls(child, opened)
            raise _error(opened, path, track, refused)
        except BaseException:
            child.close()
            raise

    def __enter__(self) -> "MediaFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    @property
    def announced_frames(self) -> int | None:
        """By the container; about right."""
        seconds = self.announced_seconds
        return None if seconds is None else int((seconds - _ROUNDING_SECONDS) * self.samplerate)

    def read_block(self) -> Samples:
        """The next frames, float32 (frames, channels); empty at the end, and where the decoder crashes or hangs."""
        block = self._child.read()
        if block == b"" and (ending := self._child.read()) is not None:
            self._ending = msgspec.json.decode(ending, type=Ending)
        return np.frombuffer(block or b"", np.float32).reshape(-1, self.channels)

    def ends_early(self, frames: int) -> bool:
        """Whether a part could not be decoded, or the container announces more than these frames."""
        return self._ending is None or self._ending.is_damaged or frames < (self.announced_frames or 0)

    def is_padded(self) -> bool:
        return False


def _error(refusal: Refusal, path: str, track: int, refused: AudioUnsupported) -> Exception:
    match refusal.reason:
        case "no_audio":
            return AudioEmpty(f"expected an audio track, the file has none: {path!r}")
        case "no_track":
            return no_track(refusal.tracks, track, path)
        case "invalid":
            return refused


def no_track(tracks: int, track: int, path: str) -> InvalidParams:
    message = f"`track`: expected at most {tracks}, the audio tracks of the file, got {track}: {path!r}"
    return InvalidParams(message, field="track")


class _Child:
    """The process that decodes one file, and its messages."""

    def __init__(self, descriptor: int, track: int) -> None:
        program = _PROGRAM.format(path=sys.path, source=descriptor, track=track, memory=_MEMORY_BYTES)
        self.fate = "crashed"
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 this interpreter, a program of our own
            [sys.executable, "-I", "-X", "utf8", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
        )

    def read(self) -> bytes | None:
        """The next message; None where the process has ended, or hangs, within it."""
        length = self._read_exactly(4)
        return None if length is None else self._read_exactly(struct.unpack("<I", length)[0])

    def _read_exactly(self, count: int) -> bytes | None:
        out, data = self._process.stdout, bytearray()
        if out is None:
            raise ValueError("the process has no output")
        poll = select.poll()
        poll.register(out, select.POLLIN)
        while len(data) < count:
            if not poll.poll(STALL_SECONDS * 1000):
                self.fate = f"did not answer for {STALL_SECONDS:g} s"
                return None
            part = os.read(out.fileno(), count - len(data))
            if not part:
                return None
            data += part
        return bytes(data)

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        with self._process:  # closes the pipes
            pass
