"""The streams of a sound file one after the other."""

import os
from collections.abc import Iterator

from qwen3_asr_mlx_runtime.audio.byte_window import ByteWindow
from qwen3_asr_mlx_runtime.audio.data_chunk import find_data_chunk
from qwen3_asr_mlx_runtime.audio.sound_file import SoundFile


def links(descriptor: int, path: str) -> Iterator[SoundFile]:
    """Each stream, opened when the one before was read to its end. Raises what `SoundFile.from_window` raises."""
    size = os.fstat(descriptor).st_size
    chunk = find_data_chunk(descriptor)
    window = ByteWindow(descriptor, 0, size, patch=chunk.patch if chunk else (0, b""))
    yield SoundFile.from_window(window, path, chunk)
