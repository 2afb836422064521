"""Long audio cut at quiet places: of samples in memory, and of a file while it is read."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import Tally, blocks
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.limits import MAX_AUDIO_SECONDS

_SEARCH_SAMPLES = 5 * SAMPLE_RATE
_QUIET_SAMPLES = SAMPLE_RATE // 10


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


def split_at_quiet(samples: Samples, max_seconds: float) -> list[tuple[int, int]]:
    """Cut audio into segments of at most `max_seconds`: (start, stop) of each, without gap or overlap.

    A cut lies at the quietest place of the 5 s (at most half a segment) before the limit, so it needs no later audio:
    the cuts of a prefix are the first cuts of the whole. The quietest place is the first 100 ms with the least sum of
    |x|, and in it the first sample with the least |x|.
    """
    limit = int(max_seconds * SAMPLE_RATE)
    if limit < 2:
        raise ValueError(f"expected segments of at least two samples, got {max_seconds} s")
    search = min(_SEARCH_SAMPLES, limit // 2)
    cuts = [0]
    while len(samples) - cuts[-1] > limit:
        stop = cuts[-1] + limit
        cuts.append(stop - search + _quietest(samples[stop - search : stop]))
    return list(zip(cuts, [*cuts[1:], len(samples)], strict=True))


def quiet_middle(samples: Samples) -> int:
    """Where audio is cut in two: at its quietest place, as above, in its middle third."""
    third = len(samples) // 3
    return third + _quietest(samples[third : len(samples) - third])


def _quietest(samples: Samples) -> int:
    level = np.abs(samples)
    window = min(_QUIET_SAMPLES, len(level))
    total = np.concatenate([np.zeros(1), np.cumsum(level, dtype=np.float64)])
    start = int(np.argmin(total[window:] - total[:-window]))
    return start + int(np.argmin(level[start : start + window]))
