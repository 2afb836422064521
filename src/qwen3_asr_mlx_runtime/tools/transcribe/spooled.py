"""Audio from stdin → a file, because a bridge reads files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from qwen3_asr_mlx_runtime.errors import AudioTooLong, InvalidParams

_BLOCK_BYTES = 1 << 16


@contextmanager
def spooled(stdin: TextIO | None, pcm_rate: int | None, max_seconds: float) -> Iterator[Path]:
    """A file that only this user can read, deleted at the end. `pcm_rate`: stdin is 16-bit mono PCM, little-endian, of
    this rate in Hz; None for a WAV or another sound file. Raises InvalidParams for a terminal, AudioTooLong."""
    if stdin is None or stdin.isatty():
        raise InvalidParams(f"expected audio on stdin, {'got a terminal' if stdin else 'which is closed'}")
    with TemporaryDirectory(prefix="qwen3-asr-mlx-") as folder:
        path = Path(folder, "stdin.wav")
        if pcm_rate is None:
            with path.open("wb") as file:
                shutil.copyfileobj(stdin.buffer, file, _BLOCK_BYTES)
        else:
            _write_pcm(path, stdin, pcm_rate, max_seconds)
        yield path


def _write_pcm(path: Path, stdin: TextIO, rate: int, max_seconds: float) -> None:
    import soundfile

    limit, half = int(max_seconds * rate), b""
    # RF64 is a WAV that may have more than 4 GiB.
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="RF64") as file:
        while block := stdin.buffer.read(_BLOCK_BYTES):
            data = half + block
            whole = len(data) // 2 * 2
            file.buffer_write(data[:whole], "int16")
            half = data[whole:]
            if file.tell() > limit:
                raise AudioTooLong(f"expected at most {max_seconds:g} s of audio on stdin", limit_seconds=max_seconds)
