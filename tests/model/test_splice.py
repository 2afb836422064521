import mlx.core as mx
import numpy as np
import pytest
from reference.mrope import mrope_angles, mrope_positions

from qwen3_asr_mlx_runtime.model.splice import splice


def test_audio_stands_between_prefix_and_suffix():
    prefix, audio, suffix = mx.full((2, 4), 1.0), mx.full((3, 4), 2.0), mx.full((1, 4), 3.0)
    assert splice(prefix, audio, suffix)[0, :, 0].tolist() == [1, 1, 2, 2, 2, 3]


def test_a_second_dtype_is_refused():
    with pytest.raises(TypeError, match="float32"):
        splice(mx.zeros((2, 4), mx.bfloat16), mx.zeros((3, 4)), mx.zeros((1, 4), mx.bfloat16))


def test_interleaved_mrope_of_our_positions_is_one_dimensional_rope():
    positions = mrope_positions(16_000)
    frequencies = 1e6 ** (-np.arange(64) / 64)
    assert np.array_equal(mrope_angles(positions, (24, 20, 20), 1e6), np.outer(np.arange(16_000), frequencies))


def test_rows_that_differ_would_change_the_angles():
    positions = mrope_positions(100).copy()
    positions[1] += 5
    changed = mrope_angles(positions, (24, 20, 20), 1e6) != mrope_angles(mrope_positions(100), (24, 20, 20), 1e6)
    assert np.flatnonzero(changed.any(axis=0)).tolist() == list(range(1, 60, 3))


def test_the_fused_rotary_rotates_by_the_mrope_angles():
    length, dim, theta = 64, 128, 1e6
    x = mx.random.normal((1, 2, length, dim))
    angles = mrope_angles(mrope_positions(length, start=1_000), (24, 20, 20), theta)
    cos, sin = mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))
    left, right = x[..., : dim // 2], x[..., dim // 2 :]
    expected = mx.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
    fused = mx.fast.rope(x, dim, traditional=False, base=theta, scale=1.0, offset=1_000)
    assert mx.abs(fused - expected).max().item() < 1e-3
