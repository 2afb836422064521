import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from qwen3_asr_mlx_runtime.model import activations

X = np.concatenate([np.linspace(-40, 40, 40_001), np.linspace(-1e-3, 1e-3, 101), [-1e30, -100.0, 0.0, 100.0, 1e30]])


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@pytest.mark.cpu
@pytest.mark.parametrize(("activation", "gate"), [(activations.gelu, phi), (activations.silu, sigma)])
def test_the_cpu_form_is_exact_to_float32(activation, gate):
    assert activations._erf_is_slow(mx.zeros(X.shape))
    x = X.astype(np.float32).astype(np.float64)
    expected = np.array([value * gate(value) for value in x])
    got = np.array(activation(mx.array(x.astype(np.float32)))).astype(np.float64)
    assert np.max(np.abs(got - expected) / np.maximum(np.abs(x), 1.0)) < 3e-7


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_other_dtypes_go_the_usual_way(dtype):
    x = mx.random.normal((64,)).astype(dtype)
    assert mx.array_equal(activations.gelu(x), nn.gelu(x))
    assert mx.array_equal(activations.silu(x), nn.silu(x))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("count", [64, activations._MANY])
def test_a_bias_is_added_before(dtype: mx.Dtype, count: int) -> None:
    x, bias = mx.random.normal((count // 8, 8)).astype(dtype), mx.random.normal((8,)).astype(dtype)
    assert mx.array_equal(activations.gelu(x, bias), activations.gelu(x + bias))


def test_what_is_no_number_stays_none():
    many = mx.full((activations._MANY,), mx.nan)
    assert mx.isnan(activations.gelu(many)).all()
    assert mx.isnan(activations.silu(many)).all()
