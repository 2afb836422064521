"""Scores at the forced aligner's marks → the times of the words.

The aligner gives each word two marks, its start and its end, and scores classes of 80 ms at each. `viterbi` finds the
best times that words can have; `official` is the rule of qwen-asr 0.0.6.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput

CLASS_MS = 80  # `timestamp_segment_time` of the checkpoint

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WordTime:
    """Times in ms from the beginning of the clip. A confidence is the probability, among all classes of its mark, of
    the class that was taken; for a time that `monotonic` mended, of the class that it lies in."""

    start_ms: int
    end_ms: int
    start_confidence: float
    end_confidence: float

    @property
    def time_confidence(self) -> float:
        """The smaller of the two."""
        return min(self.start_confidence, self.end_confidence)


class TooManyUnits(ValueError):
    """A clip is too short for its words: each needs 80 ms of its own. It has room for `room` of its `units`."""

    def __init__(self, units: int, room: int) -> None:
        super().__init__(
            f"expected at most {room} units in a clip of this length, one for each {CLASS_MS} ms; got {units}"
        )
        self.units = units
        self.room = room


def viterbi(scores: Scores, duration_ms: int) -> list[WordTime]:
    """The times whose log-probabilities have the largest sum, of all in which no word ends before the next begins.

    `scores`: logits or log-probabilities, float32 (2n, C), start and end of each of n words. `duration_ms`: of the
    clip, rounded down. Class c is the time min(80 c, duration), for c up to ceil(duration / 80). The class of an end is
    larger than that of its start, so a word lasts 1 ms or longer and ends within the clip. Of equal sums the earlier
    times win.

    Raises TooManyUnits if n exceeds the last class, NonFiniteOutput if a mark has no largest finite score.
    """
    marks, classes = scores.shape
    words, last = marks // 2, min(-(-duration_ms // CLASS_MS), classes - 1)
    if words > last:
        raise TooManyUnits(words, last)
    # A mark behind k starts is k classes later at least. Counted from there, classes need only not decrease.
    shift = (np.arange(marks) + 1) // 2
    width = last - words + 1
    best = np.empty((marks, width))  # of each path to a mark and class: the largest sum
    for mark, first in enumerate(shift):
        best[mark] = scores[mark, first : first + width]
        if mark:
            best[mark] += np.maximum.accumulate(best[mark - 1])
    path = shift.copy()
    end = width
    for mark in reversed(range(marks)):
        step = int(best[mark, :end].argmax())
        path[mark] += step
        end = step + 1
    return _words(scores, np.minimum(CLASS_MS * path, duration_ms).tolist(), path)


def official(scores: Scores) -> list[WordTime]:
    """The times of qwen-asr 0.0.6 (`parse_timestamp`): the best class of each mark, then `monotonic`.

    `scores` as for `viterbi`. A word may last 0 ms, or end behind the clip. Raises NonFiniteOutput as `viterbi` does.
    """
    times = monotonic((CLASS_MS * scores.argmax(axis=1)).tolist())
    return _words(scores, times, np.array(times, dtype=np.int64) // CLASS_MS)


def monotonic(times: Sequence[int]) -> list[int]:
    """Times in ms that never decrease, as qwen-asr 0.0.6 mends them (`fix_timestamp`).

    Those of the longest non-decreasing subsequence stay. One or two between two of these take the nearer one's time,
    more are interpolated and rounded down, and those at an end take the time of their only neighbour. Of equally long
    subsequences it is that of the reference. O(n log n).
    """
    kept = _longest_non_decreasing(times)
    result = list(times)
    for left, right in zip([None, *kept], [*kept, None], strict=True):
        first, behind = (0 if left is None else left + 1), (len(times) if right is None else right)
        for index in range(first, behind):
            if left is None or right is None:
                result[index] = times[kept[0 if left is None else -1]]
            elif behind - first <= 2:
                result[index] = times[left if index - left <= right - index else right]
            else:
                step = (times[right] - times[left]) / (right - left)
                result[index] = int(times[left] + step * (index - left))
    return result


def _longest_non_decreasing(values: Sequence[int]) -> list[int]:
    """Indices. A value's predecessor is the first one that ends a longest subsequence before it; so is the end."""
    smallest = list[int]()  # the last value of a subsequence of each length
    by_length = list[list[int]]()  # the indices that end a longest subsequence of that length
    for index, value in enumerate(values):
        length = bisect_right(smallest, value)
        if length == len(smallest):
            smallest.append(value)
            by_length.append([])
        smallest[length] = value
        by_length[length].append(index)
    chain = list[int]()
    for indices in reversed(by_length):
        chain.append(next(index for index in indices if not chain or values[index] <= values[chain[-1]]))
    return chain[::-1]


def _words(scores: Scores, times: list[int], classes: NDArray[np.int64]) -> list[WordTime]:
    confidences = _probabilities(scores, classes)
    columns = times[::2], times[1::2], confidences[::2], confidences[1::2]
    return [WordTime(*values) for values in zip(*columns, strict=True)]


def _probabilities(scores: Scores, classes: NDArray[np.int64]) -> list[float]:
    """Of one class for each mark."""
    largest = scores.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        raise NonFiniteOutput("the scores of a mark are not finite")
    exponentials = np.exp(scores - largest, dtype=np.float64)  # (2n, C)
    chosen = np.take_along_axis(exponentials, classes[:, None], axis=1)[:, 0]
    probabilities: list[float] = (chosen / exponentials.sum(axis=1)).tolist()
    return probabilities
