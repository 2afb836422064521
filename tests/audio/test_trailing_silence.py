"""How long the end of an utterance has been silent."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.audio.trailing_silence import FRAME_MS, SILENCE_DB, TrailingSilence

LOUD = 10_000


def tone(milliseconds: float, amplitude: float, rate: int = 16_000) -> bytes:
    times = np.arange(round(milliseconds * rate / 1000)) / rate
    return np.round(amplitude * np.sin(2 * np.pi * 400 * times)).astype("<i2").tobytes()


def silence_of(*chunks: bytes, rate: int = 16_000) -> int:
    meter = TrailingSilence(rate)
    for chunk in chunks:
        meter.append(chunk)
    return meter.milliseconds


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_silence_behind_speech_counts_in_frames(rate: int) -> None:
    assert silence_of(tone(300, LOUD, rate), tone(400, 0, rate), rate=rate) == pytest.approx(400, abs=FRAME_MS)
    assert silence_of(tone(400, 0, rate), tone(300, LOUD, rate), rate=rate) == 0


@pytest.mark.parametrize(("below", "expected"), [(SILENCE_DB - 1, 0), (SILENCE_DB + 1, 200)])
def test_what_is_far_below_the_loudest_is_silent(below: float, expected: int) -> None:
    assert silence_of(tone(300, LOUD), tone(200, LOUD * 10 ** (-below / 20))) == expected


def test_what_was_speech_may_turn_out_to_be_silence() -> None:
    meter = TrailingSilence(16_000)
    quiet = tone(200, 100)
    meter.append(quiet)
    assert meter.milliseconds == 0
    meter.append(tone(10, LOUD))
    meter.append(quiet)
    assert meter.milliseconds == 200


def test_a_frame_is_as_long_as_it_is() -> None:
    assert silence_of(tone(10_000, 0, 11_025), rate=11_025) == pytest.approx(10_000, abs=FRAME_MS)


def test_digital_silence_is_silent_and_nothing_is_nothing() -> None:
    assert silence_of(tone(250, 0)) == 250
    assert silence_of() == 0
    assert silence_of(b"\0\0" * 100) == 0  # less than a frame


@given(cuts=st.lists(st.integers(0, 8_000), max_size=6))
def test_any_chunking_gives_the_same(cuts: list[int]) -> None:
    whole = tone(200, LOUD) + tone(200, 20) + tone(100, 0)
    bounds = [0, *sorted(2 * cut for cut in cuts), len(whole)]
    chunks = [whole[start:end] for start, end in pairwise(bounds)]
    assert silence_of(*chunks) == silence_of(whole) == 300
