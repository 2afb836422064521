"""A long file in segments, cut at quiet places while it is read."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import Tally, blocks
from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.limits import MAX_AUDIO_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class FileSegment:
    """Part of a file, cut at a quiet place. `samples` as in Recording. Only the last segment has all `warnings`.
    `announced_seconds`: the length of the file by what was read of its headers, None if they have none."""

    samples: Samples
    is_last: bool
    warnings: tuple[str, ...] = ()
    announced_seconds: float | None = None


def read_segments(
    path: str, segment_seconds: float, *, max_seconds: float = MAX_AUDIO_SECONDS, track: int = 1
) -> Generator[FileSegment, None, None]:
    """The same audio in segments, each as soon as it is read. The cuts equal those of `split_at_quiet` of the whole.

    Raises what `read_file` raises. Errors that only the end of a file shows, such as AudioChanged, come after the
    segments before them.
    """
    tally = Tally()
    parts: list[Samples] = []
    for block in blocks(path, max_seconds, tally, track):
        parts.append(block)
        if sum(map(len, parts)) <= segment_seconds * SAMPLE_RATE:
            continue
        read = np.concatenate(parts)
        *whole, (start, _) = split_at_quiet(read, segment_seconds)
        for first, stop in whole:
            yield FileSegment(read[first:stop], is_last=False, announced_seconds=tally.announced_seconds)
        parts = [read[start:]]
    yield FileSegment(np.concatenate(parts), True, tally.warnings(), tally.announced_seconds)
