"""Where long audio is cut: at quiet places."""

import numpy as np

from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

_SEARCH_SAMPLES = 5 * SAMPLE_RATE
_QUIET_SAMPLES = SAMPLE_RATE // 10


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
