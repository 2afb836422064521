"""Audio from stdin → a file, because a bridge reads files."""

import shutil
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from qwen3_asr_mlx_runtime.errors import AudioTooLong, InvalidParams

_BLOCK_BYTES = 1 << 16


@contextmanager
def spooled(stdin: BinaryIO, pcm_rate: int | None, max_seconds: float) -> Iterator[Path]:
    """A file that only this user can read, deleted at the end. `pcm_rate`: stdin is 16-bit mono PCM, little-endian, of
    this rate in Hz; None for a WAV or another sound file. Raises InvalidParams for a terminal, AudioTooLong."""
    if stdin.isatty():
        raise InvalidParams("expected audio on stdin, got a terminal")
    with TemporaryDirectory(prefix="qwen3-asr-") as folder:
        path = Path(folder, "stdin.wav")
        if pcm_rate is None:
            with path.open("wb") as file:
                shutil.copyfileobj(stdin, file, _BLOCK_BYTES)
        else:
            _write_wave(path, stdin, pcm_rate, max_seconds)
        yield path


def _write_wave(path: Path, stdin: BinaryIO, rate: int, max_seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        limit, half = int(max_seconds * rate), b""
        while block := stdin.read(_BLOCK_BYTES):
            data = half + block
            whole = len(data) // 2 * 2
            file.writeframesraw(data[:whole])
            half = data[whole:]
            if file.tell() > limit:
                raise AudioTooLong(f"expected at most {max_seconds:g} s of audio on stdin", limit_seconds=max_seconds)


def stdin_bytes() -> BinaryIO:
    return sys.stdin.buffer
