"""The audio of an open utterance: its samples, their number, and the samples that are settled."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.audio.pcm16 import pcm16
from qwen3_asr_mlx_runtime.audio.pcm_buffer import PcmBuffer, length, resampled
from qwen3_asr_mlx_runtime.audio.recording import read_file

RATES = st.sampled_from([8_000, 16_000, 44_100, 48_000])


def speech(frames: int, peak: int = 10_000) -> bytes:
    return np.random.default_rng(frames).integers(-peak, peak, frames).astype("<i2").tobytes()


def buffered(pcm: bytes, rate: int, cuts: list[int]) -> PcmBuffer:
    buffer = PcmBuffer(rate)
    places = [0, *sorted(2 * cut for cut in cuts), len(pcm)]
    for start, stop in pairwise(places):
        buffer.append(pcm[start:stop])
    return buffer


@given(RATES, st.integers(1, 5_000), st.data())
def test_an_utterance_is_the_same_whatever_its_chunks(rate: int, frames: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, frames), max_size=20))
    pcm = speech(frames)
    whole = buffered(pcm, rate, cuts).end()
    assert whole.dtype == np.float32
    assert np.array_equal(whole, resampled(pcm, rate))


@given(RATES, st.lists(st.integers(0, 700), min_size=1, max_size=20))
def test_the_count_is_that_of_the_utterance_if_it_ended_now(rate: int, sizes: list[int]) -> None:
    buffer = PcmBuffer(rate)
    for size in sizes:
        growth, before = buffer.growth(size), buffer.samples
        buffer.append(speech(size))
        assert buffer.samples == before + growth
    assert buffer.samples == length(bytes(2 * sum(sizes)), rate)
    assert len(buffer.end()) == buffer.samples


@given(RATES, st.integers(1, 20_000), st.integers(0, 5_000))
def test_settled_samples_are_a_prefix_of_the_end(rate: int, frames: int, start: int) -> None:
    buffer = buffered(speech(frames), rate, [frames // 2])
    settled_samples, later = buffer.settled(), buffer.settled(start)
    whole = buffer.end()
    assert np.array_equal(settled_samples, whole[: len(settled_samples)])
    assert np.array_equal(later, settled_samples[start:])


def test_pcm_at_16_khz_is_heard_at_once_and_as_it_came() -> None:
    pcm = speech(1_000)
    assert np.array_equal(buffered(pcm, 16_000, [17]).settled(), pcm16(pcm))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_stream_and_a_file_of_the_same_pcm_are_the_same_samples(rate: int, tmp_path) -> None:
    pcm = speech(rate)
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.frombuffer(pcm, "<i2"), rate, subtype="PCM_16")
    assert np.array_equal(buffered(pcm, rate, [100, 5_000]).end(), read_file(str(path)).samples)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_where_the_filter_overshoots_the_audio_is_cut(rate: int) -> None:
    square = np.where(np.arange(rate) // 20 % 2, 32_767, -32_768).astype("<i2").tobytes()
    buffer = buffered(square, rate, [])
    assert np.abs(buffer.settled()).max() == 1
    assert np.abs(buffer.end()).max() == 1


def test_what_is_resampled_is_not_rounded_to_16_bits() -> None:
    values = resampled(speech(4_800), 48_000) * 32_768
    assert np.mean(values != np.round(values)) > 0.9
