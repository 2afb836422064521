"""Any rate → 16 kHz: the same samples however they come, all of them, and how late they come."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.audio.resampling import Resampler, resampled_length
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

RATES = st.sampled_from([8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]) | st.integers(8_000, 192_000)
USUAL = (8_000, 44_100, 48_000)


def noise(frames: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, frames).astype(np.float32)


def in_chunks(samples: Samples, rate: int, cuts: Sequence[int]) -> Samples:
    resampler = Resampler(rate)
    places = [0, *sorted(cuts), len(samples)]
    chunks = [resampler.take(samples[start:stop]) for start, stop in pairwise(places)]
    return np.concatenate([*chunks, resampler.end()])


@given(RATES, st.integers(1, 6_000), st.data())
def test_any_cuts_give_the_samples_of_one_chunk_bit_for_bit(rate: int, frames: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, frames), max_size=40))
    samples = noise(frames)
    assert np.array_equal(in_chunks(samples, rate, cuts), in_chunks(samples, rate, []))


@given(RATES, st.integers(1, 20_000))
def test_the_samples_are_those_of_soxr_in_one_go(rate: int, frames: int) -> None:
    samples = noise(frames)
    at_once = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    resampled = in_chunks(samples, rate, range(0, frames, 480))
    assert abs(len(at_once) - len(resampled)) <= 1
    assert np.array_equal(resampled[: len(at_once)], at_once[: len(resampled)])


@given(RATES, st.integers(0, 20_000))
def test_the_length_is_that_of_the_same_time(rate: int, frames: int) -> None:
    resampled = in_chunks(noise(frames), rate, [])
    assert len(resampled) == resampled_length(frames, rate)
    assert abs(len(resampled) - round(frames * SAMPLE_RATE / rate)) <= 1


@pytest.mark.parametrize("rate", USUAL)
def test_what_sounds_at_the_very_end_is_there(rate: int) -> None:
    seconds = np.arange(rate) / rate
    click = np.where(seconds >= 0.95, np.sin(2 * math.pi * 1_000 * seconds), 0).astype(np.float32)
    resampled = in_chunks(click, rate, range(0, rate, rate // 10))
    end = np.sin(2 * math.pi * 1_000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)[-720:]
    assert np.abs(resampled[-720:-80] - end[:-80]).max() < 0.01
    assert np.abs(resampled[-80:]).max() > 0.9


@pytest.mark.parametrize("rate", USUAL)
def test_two_at_a_time_know_nothing_of_each_other(rate: int) -> None:
    first, second = noise(4_000, seed=1), noise(4_000, seed=2)
    one, other = Resampler(rate), Resampler(rate)
    chunks: dict[Resampler, list[Samples]] = {one: [], other: []}
    for start in range(0, 4_000, 100):
        chunks[one].append(one.take(first[start : start + 100]))
        chunks[other].append(other.take(second[start : start + 100]))
    assert np.array_equal(np.concatenate([*chunks[one], one.end()]), in_chunks(first, rate, []))
    assert np.array_equal(np.concatenate([*chunks[other], other.end()]), in_chunks(second, rate, []))


def lateness(rate: int) -> tuple[float, float, float]:
    """Milliseconds of input that came before the first sample, and the most and the least that is held afterwards."""
    resampler, given, first, held = Resampler(rate), 0, 0.0, []
    samples, millisecond = noise(2 * rate), rate / 1000
    for number in range(2000):
        given += len(resampler.take(samples[int(number * millisecond) : int((number + 1) * millisecond)]))
        if not given:
            first = number + 2.0
        else:
            held.append(number + 1 - given * 1000 / SAMPLE_RATE)
    return first, max(held), min(held)


@pytest.mark.parametrize(
    ("rate", "first", "most", "least"), [(8_000, 116, 116, 12), (44_100, 41, 41, 6), (48_000, 37, 37, 6)]
)
def test_it_is_as_late_as_the_protocol_says(rate: int, first: int, most: int, least: int) -> None:
    measured = lateness(rate)
    assert [math.ceil(measured[0]), math.ceil(measured[1]), math.floor(measured[2])] == [first, most, least]
