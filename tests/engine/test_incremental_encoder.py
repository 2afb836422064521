"""What is kept of audio never shows: embeddings are those of the clip so far, bit for bit in float32 on the CPU."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.engine import incremental_encoder as live_audio
from qwen3_asr_mlx_runtime.engine.incremental_encoder import Embedded, IncrementalEncoder
from qwen3_asr_mlx_runtime.engines.lengths import frame_count
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.model.features import (
    GrowingLogMel,
    apply_floor,
    final_frame_count,
    log_mel,
)

pytestmark = pytest.mark.cpu
MODEL = tiny_model()
TOWER = MODEL.audio_tower


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> Samples:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * SAMPLE_RATE)) * level).clip(-1, 1).astype(np.float32)


def embed(audio: IncrementalEncoder, samples: Samples) -> Embedded:
    steps = audio.embed(samples, Stopwatch())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def rows(embedded: Embedded) -> mx.array:
    return mx.concatenate([*embedded.windows, *embedded.open])


def whole(samples: Samples) -> mx.array:
    return TOWER.one_by_one(mx.array(log_mel(samples)))


def quiet_then_loud(seconds: float) -> Samples:
    return np.concatenate([noise(seconds - 1, 1, 0.003), noise(1, 2, 0.5)])


@settings(deadline=None, max_examples=15)
@given(
    cuts=st.lists(st.integers(1, 27 * SAMPLE_RATE), min_size=1, max_size=6),
    levels=st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.5]), min_size=3, max_size=3),
)
def test_embeddings_are_those_of_the_clip_so_far_whatever_came_when(cuts, levels):
    samples = np.concatenate([noise(9, seed, level) for seed, level in enumerate(levels)])
    audio = IncrementalEncoder(TOWER, mx.float32)
    for cut in sorted(cuts):
        if frame_count(cut):
            assert mx.array_equal(rows(embed(audio, samples[:cut])), whole(samples[:cut])), cut


def test_what_is_final_is_not_computed_again():
    audio, samples = IncrementalEncoder(TOWER, mx.float32), noise(18.5)
    first = embed(audio, samples[: 17 * SAMPLE_RATE + 400])
    before = audio.reuse.of_windows, audio.reuse.windows
    embedded = embed(audio, samples)
    assert (audio.reuse.of_windows, audio.reuse.windows) == (before[0] + 2, before[1] + 2)
    assert [id(window) for window in embedded.windows] == [id(window) for window in first.windows]
    assert (len(embedded.windows), len(embedded.open)) == (2, 1)
    assert audio.reuse.seconds == 1  # the first of the open window
    assert audio.reuse.frames == final_frame_count(17 * SAMPLE_RATE + 400)


def test_a_louder_end_reaches_back_to_what_its_floor_covers():
    audio, samples = IncrementalEncoder(TOWER, mx.float32), quiet_then_loud(18)
    samples[: 8 * SAMPLE_RATE + 400] = noise(8 + 400 / SAMPLE_RATE, 3, 0.4)  # a loud first window: not touched
    first = embed(audio, samples[: 17 * SAMPLE_RATE])
    embedded = embed(audio, samples)
    assert [one is other for one, other in zip(embedded.windows, first.windows, strict=True)] == [True, False]
    assert mx.array_equal(rows(embedded), whole(samples))


def test_a_window_that_is_kept_although_the_floor_rose_would_be_seen(monkeypatch):
    monkeypatch.setattr(live_audio._Rows, "serves", lambda *_: True)
    audio, samples = IncrementalEncoder(TOWER, mx.float32), quiet_then_loud(18)
    embed(audio, samples[: 17 * SAMPLE_RATE])
    assert not mx.array_equal(rows(embed(audio, samples)), whole(samples))


def test_a_clip_that_is_cut_shorter_gets_what_a_clip_of_that_length_gets():
    audio, samples = IncrementalEncoder(TOWER, mx.float32), quiet_then_loud(26)
    embed(audio, samples)
    cut = int(16.61 * SAMPLE_RATE)
    assert mx.array_equal(rows(embed(audio, samples[:cut])), whole(samples[:cut]))


def test_what_was_dropped_is_made_again():
    audio, samples = IncrementalEncoder(TOWER, mx.float32), noise(10)
    embed(audio, samples[: 9 * SAMPLE_RATE])
    assert audio.nbytes > 0
    audio.drop()
    assert audio.nbytes == 0
    assert mx.array_equal(rows(embed(audio, samples)), whole(samples))


@given(count=st.integers(201, 4_000), more=st.integers(0, 2_000))
def test_a_final_frame_is_the_same_whatever_follows_and_the_next_is_not_known(count, more):
    samples = noise(1)[: count + more]
    mel = GrowingLogMel()
    early = mel.frames(samples[:count])
    final = final_frame_count(count)
    assert final in (frame_count(count), frame_count(count) - 1, frame_count(count) - 2)
    assert len(mel.kept) == final
    assert np.array_equal(mel.frames(samples)[:final], early[:final])
    assert np.array_equal(apply_floor(mel.frames(samples), mel.frames(samples).max()), log_mel(samples))


def test_a_frame_is_not_called_final_while_a_sample_of_it_is_missing():
    for count in range(201, 1_000):
        assert final_frame_count(count) == max(0, (count - 200) // 160 + 1)
        last = final_frame_count(count) - 1
        assert 160 * last + 200 <= count < 160 * (last + 1) + 200
