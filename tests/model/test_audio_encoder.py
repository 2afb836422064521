import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count


def features(frames: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).uniform(-1.5, 1.5, (frames, 128)).astype(np.float32))


@pytest.fixture(scope="module")
def tower():
    return tiny_model().audio_tower


def reference_token_count(frames: int) -> int:
    """The reference's formula: three halvings of the part after the whole seconds, with floor division."""
    rest = frames % 100
    halved = (rest - 1) // 2 + 1
    return ((halved - 1) // 2 + 1 - 1) // 2 + 1 + (frames // 100) * 13


def test_token_counts_follow_the_reference_formula():
    assert [audio_token_count(f) for f in range(1, 3_101)] == [reference_token_count(f) for f in range(1, 3_101)]


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 50, 99, 100, 101, 255, 799, 800, 801, 1_650])
def test_rows_equal_the_token_count(tower, frames):
    assert tower(features(frames)).shape == (audio_token_count(frames), 64)


def test_a_finished_window_does_not_see_what_follows(tower):
    clip = features(1_250)
    other_end = mx.concatenate([clip[:800], features(450, seed=1)])
    assert mx.array_equal(tower(clip)[:104], tower(other_end)[:104])
    assert not mx.array_equal(tower(clip)[104:], tower(other_end)[104:])


def test_inside_a_window_every_token_sees_every_other(tower):
    clip = features(800)
    changed = mx.concatenate([clip[:700], features(100, seed=1)])
    assert not mx.array_equal(tower(clip)[0], tower(changed)[0])


def test_windows_in_a_batch_equal_windows_alone(tower):
    clip = features(2_000)
    alone = mx.concatenate([tower(clip[start : start + 800]) for start in (0, 800, 1_600)])
    assert mx.abs(tower(clip) - alone).max().item() < 1e-5


def test_the_tail_is_padded_with_zeros_to_a_whole_second(tower):
    clip = features(130)
    padded = mx.concatenate([clip, mx.zeros((70, 128))])
    assert mx.array_equal(tower.embed_chunks(clip), tower.embed_chunks(padded)[: audio_token_count(130)])


def test_less_than_a_second_is_not_padded(tower):
    clip = features(30)
    padded = mx.concatenate([clip, mx.zeros((70, 128))])
    assert not mx.allclose(tower.embed_chunks(clip)[-1], tower.embed_chunks(padded)[audio_token_count(30) - 1])


def test_positions_start_again_in_every_chunk(tower):
    second = features(100)
    twice = tower.embed_chunks(mx.concatenate([second, second]))
    assert mx.abs(twice[:13] - twice[13:]).max().item() < 1e-6


def test_convolutions_in_blocks_equal_one_block(tower, monkeypatch):
    clip = features(1_010)
    whole = tower.embed_chunks(clip)
    monkeypatch.setattr("qwen3_asr_mlx_runtime.model.audio_encoder._CHUNKS_PER_BLOCK", 3)
    assert mx.abs(tower.embed_chunks(clip) - whole).max().item() < 1e-5


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_the_tower_keeps_its_dtype(dtype):
    assert tiny_model(dtype).audio_tower(features(250).astype(dtype)).dtype == dtype


@settings(deadline=None, max_examples=25)
@given(frames=st.lists(st.integers(1, 2500), min_size=1, max_size=5))
def test_utterances_packed_together_are_embedded_as_alone(tower, frames):
    batch = [features(count, seed) for seed, count in enumerate(frames)]
    for together, one in zip(tower.encode(batch), batch, strict=True):
        alone = tower(one)
        assert together.shape == alone.shape
        assert mx.abs(together - alone).max().item() < 2e-5
