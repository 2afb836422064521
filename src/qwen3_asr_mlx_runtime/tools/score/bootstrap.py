"""Bootstrap confidence intervals of error rates, over utterances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """Percentile intervals over `resamples` samples of all utterances with replacement. The same seed gives the
    same intervals."""

    resamples: int = 2000
    seed: int = 0

    def rate(self, errors: list[int], lengths: list[int]) -> Interval | None:
        """The interval of sum(errors) / sum(lengths); None for fewer than two utterances, or if all lengths are 0."""
        sums = self._sums([errors, lengths])
        return None if sums is None else _interval(_ratio(sums[:, 0], sums[:, 1]))

    def difference(self, first: list[int], second: list[int], lengths: list[int]) -> Interval | None:
        """The interval of the second rate minus the first, paired: each sample has the same utterances for both."""
        sums = self._sums([first, second, lengths])
        return None if sums is None else _interval(_ratio(sums[:, 1] - sums[:, 0], sums[:, 2]))

    def _sums(self, columns: list[list[int]]) -> NDArray[np.int64] | None:
        """(resamples, columns): the sums of each sample."""
        values = np.array(columns, np.int64).T
        if len(values) < 2:
            return None
        generator = np.random.default_rng(self.seed)
        draws = (generator.integers(0, len(values), len(values)) for _ in range(self.resamples))
        return np.stack([values[draw].sum(axis=0) for draw in draws])


def _ratio(errors: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    nonempty = lengths > 0
    return errors[nonempty] / lengths[nonempty]


def _interval(rates: NDArray[np.float64]) -> Interval | None:
    if not len(rates):
        return None
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(rates, [outside, 1 - outside])
    return float(low), float(high)
