"""Percentiles in bounded memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.tools.distribution import Distribution

values = st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=200)


def of(numbers: list[float]) -> Distribution:
    distribution = Distribution()
    for number in numbers:
        distribution.add(number)
    return distribution


@given(values, st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_right_to_a_hundredth(numbers: list[float], share: int) -> None:
    exact = sorted(numbers)[max(0, math.ceil(share / 100 * len(numbers)) - 1)]
    assert of(numbers).percentile(share) == pytest.approx(exact, rel=0.0101)


@given(values)
def test_count_and_maximum_are_exact_and_percentiles_grow(numbers: list[float]) -> None:
    spread = of(numbers).spread()
    assert (spread.count, spread.maximum) == (len(numbers), float(f"{max(numbers):.4g}"))
    assert spread.p50 <= spread.p90 <= spread.p99 <= spread.maximum


def test_of_nothing_there_is_none() -> None:
    spread = Distribution().spread()
    assert (spread.count, spread.p50, spread.p99, spread.maximum) == (0, None, None, None)


@pytest.mark.parametrize("odd", [0.0, -1.0, 1e-300, 1e300])
def test_what_is_beyond_the_range_costs_one_bucket_and_no_error(odd: float) -> None:
    assert of([odd]).spread().maximum == float(f"{odd:.4g}")


def test_memory_does_not_grow_with_the_session() -> None:
    distribution = of([1e-7 * 1.001**power for power in range(50_000)])
    assert len(distribution._buckets) <= 1_400
