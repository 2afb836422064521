from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.tiny import AUDIO, TEXT, tiny_model

from qwen3_asr_mlx_runtime.model.decoder import Attention, KVCache

MODEL = tiny_model()
PROMPT = MODEL.embed(list(range(40)))[None]


def last_logits(lengths: list[int]) -> mx.array:
    """Logits after the prompt was run in blocks of the given lengths."""
    cache = MODEL.make_cache(PROMPT.shape[1])
    start = 0
    for length in lengths:
        logits = MODEL.logits(PROMPT[:, start : start + length], cache)
        start += length
    return logits


@settings(deadline=None, max_examples=25)
@given(cuts=st.sets(st.integers(1, 39), max_size=8))
def test_cached_equals_uncached_however_the_prompt_is_cut(cuts):
    edges = [0, *sorted(cuts), 40]
    lengths = [b - a for a, b in pairwise(edges)]
    assert mx.abs(last_logits(lengths) - last_logits([40])).max().item() < 1e-4


def test_a_later_position_does_not_change_an_earlier_one():
    cache, longer = MODEL.make_cache(40), MODEL.make_cache(40)
    hidden = MODEL.model(PROMPT[:, :20], cache)
    assert mx.abs(MODEL.model(PROMPT, longer)[:, :20] - hidden).max().item() < 1e-4


def test_position_counts():
    swapped = mx.concatenate([PROMPT[:, 1:2], PROMPT[:, :1], PROMPT[:, 2:]], axis=1)
    logits = MODEL.logits(swapped, MODEL.make_cache(40))
    assert mx.abs(logits - last_logits([40])).max().item() > 1e-2


@pytest.mark.filterwarnings("ignore")
def test_the_decoder_equals_mlx_lm():
    from mlx_lm.models.qwen3 import Model, ModelArgs

    args = ModelArgs(
        model_type="qwen3",
        hidden_size=TEXT.hidden_size,
        num_hidden_layers=TEXT.num_hidden_layers,
        intermediate_size=TEXT.intermediate_size,
        num_attention_heads=TEXT.num_attention_heads,
        rms_norm_eps=TEXT.rms_norm_eps,
        vocab_size=TEXT.vocab_size,
        num_key_value_heads=TEXT.num_key_value_heads,
        max_position_embeddings=TEXT.max_position_embeddings,
        rope_theta=TEXT.rope_theta,
        head_dim=TEXT.head_dim,
        tie_word_embeddings=True,
    )
    reference = Model(args)
    reference.model.update(MODEL.model.parameters())
    expected = reference(mx.arange(40)[None])[:, -1]
    assert mx.abs(last_logits([40]) - expected).max().item() < 1e-4


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_one_dtype_from_embedding_to_logits_and_cache(dtype):
    model = tiny_model(dtype)
    cache = model.make_cache(16)
    logits = model.logits(model.embed([1, 2, 3])[None], cache)
    assert {logits.dtype, cache[0].keys.dtype, cache[0].values.dtype, model.dtype} == {dtype}


def test_a_cache_refuses_another_dtype_and_too_many_positions():
    cache = KVCache(capacity=100, heads=2, head_dim=4, dtype=mx.bfloat16)
    with pytest.raises(TypeError, match="float32"):
        cache.extend(mx.zeros((1, 2, 1, 4)), mx.zeros((1, 2, 1, 4)))
    block = mx.zeros((1, 2, 129, 4), mx.bfloat16)
    with pytest.raises(ValueError, match="129 positions"):
        cache.extend(block, block)
    assert cache.offset == 0


def test_a_cache_returns_what_it_was_given():
    cache = KVCache(capacity=8, heads=1, head_dim=2, dtype=mx.float32)
    first, second = mx.random.normal((1, 1, 3, 2)), mx.random.normal((1, 1, 1, 2))
    cache.extend(first, first)
    keys, values = cache.extend(second, -second)
    assert mx.array_equal(keys, mx.concatenate([first, second], axis=2))
    assert mx.array_equal(values, mx.concatenate([first, -second], axis=2))


def test_the_heads_of_the_tiny_model_are_of_sizes_for_which_metal_has_fused_attention():
    """MLX computes attention of other sizes, such as 32, in ways that no released model takes."""
    assert {AUDIO.d_model // AUDIO.encoder_attention_heads, TEXT.head_dim} <= {64, 128}


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_joined_projection_gives_what_its_parts_give(rows: int, quantised: bool, kv_heads: int) -> None:
    attention = Attention(replace(TEXT, num_key_value_heads=kv_heads))
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight = mx.random.normal(norm.weight.shape)
    if quantised:
        nn.quantize(attention, group_size=64, bits=8)
    x, positions = mx.random.normal((rows, 1, 64)), mx.arange(7, 7 + rows)
    expected = attention.project(x, positions)
    attention.join()
    assert "q_proj" not in attention, "the projections are held twice"
    for whole, part in zip(attention.project(x, positions), expected, strict=True):
        assert whole.shape == part.shape
        assert mx.abs(whole - part).max().item() < 1e-5
