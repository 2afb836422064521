"""Percentiles of a stream of numbers, in bounded memory."""

import math

import msgspec

_ACCURACY = 0.01
_BASE = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOWEST, _HIGHEST = 1e-5, 1e7


class Spread(msgspec.Struct, kw_only=True, frozen=True):
    """Percentiles, accurate to 1 %, and the exact `maximum`. All are null without values."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    maximum: float | None


class Distribution:
    """Counts in buckets that grow by 2 % (DDSketch, arXiv:1908.10693): at most 1,400 of them.

    Values below 10⁻⁵ share one bucket, and so do values above 10⁷.
    """

    def __init__(self) -> None:
        self.count = 0
        self._maximum = -math.inf
        self._buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        self._maximum = max(self._maximum, value)
        bucket = math.ceil(math.log(min(max(value, _LOWEST), _HIGHEST), _BASE))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def percentile(self, share: float) -> float | None:
        """About the smallest value that at least `share` per cent of all values do not exceed; None without values."""
        left = max(1, math.ceil(share / 100 * self.count))
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(2 * _BASE**bucket / (_BASE + 1), self._maximum)
        return None

    def spread(self) -> Spread:
        p50, p90, p99 = (_rounded(self.percentile(share)) for share in (50, 90, 99))
        return Spread(
            count=self.count, p50=p50, p90=p90, p99=p99, maximum=_rounded(self._maximum) if self.count else None
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
