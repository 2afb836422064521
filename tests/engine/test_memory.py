"""Memory: what a job takes is known before it begins, and what does not fit is refused."""

import gc
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from msgspec.structs import replace
from support.tiny import AUDIO, EOS, TEXT, tiny_model

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.checkpoint.files import TensorHeader, read_config, read_headers, weight_files
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model, named_parameters, weight_bytes
from qwen3_asr_mlx_runtime.engine.memory import MIB, Governor, machine_limit
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.device import as_out_of_memory
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

TINY = ModelConfig(audio=AUDIO, text=TEXT, audio_token_id=600)
# The widths of the 0.6B model; layers and vocabulary are fewer, so that the weights are small.
WIDE = ModelConfig(
    audio=replace(
        AUDIO,
        d_model=896,
        encoder_layers=1,
        encoder_attention_heads=14,
        encoder_ffn_dim=3584,
        downsample_hidden_size=480,
        output_dim=1024,
    ),
    text=replace(
        TEXT,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=1,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
    ),
    audio_token_id=600,
)


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """MLX's limits are the process's: put them back."""
    memory, cache = mx.set_memory_limit(1 << 40), mx.set_cache_limit(1 << 30)
    mx.set_memory_limit(memory)
    mx.set_cache_limit(cache)
    yield
    mx.set_memory_limit(memory)
    mx.set_cache_limit(cache)


def governor(config: ModelConfig = TINY, weights: int = 0, limit: int | None = None, **settings) -> Governor:
    return Governor(config, weights, limit_bytes=limit, cache_limit_bytes=settings.pop("cache", None), **settings)


def wide_model(dtype: mx.Dtype) -> Qwen3ASR:
    """Of zeros: memory does not depend on what is computed."""
    model = Qwen3ASR(WIDE)
    model.update(tree_map(lambda weight: mx.zeros(weight.shape, dtype), model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return model


def peak(model: Qwen3ASR, seconds: float, positions: int) -> int:
    """What a job took at its worst moment beside the weights, as MLX counts it."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    features = mx.array(log_mel(noise)).astype(model.dtype)
    mx.eval(features)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    audio = model.audio_tower(features)
    mx.eval(audio)
    prompt = mx.zeros((1, positions - 8, audio.shape[1]), model.dtype)
    for _ in generate(model, prompt, frozenset({EOS}), 8):
        pass
    return mx.get_peak_memory() - before


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("config", "seconds", "positions", "tightness"),
    [
        (TINY, 0.3, 64, 4.0),
        (TINY, 20.0, 512, 2.5),
        (TINY, 20.0, 2500, 2.5),
        (TINY, 240.0, 512, 2.5),
        (WIDE, 2.0, 64, 2.5),
        (WIDE, 0.3, 400, 2.5),
    ],
)
def test_the_estimate_is_above_what_a_job_takes_and_not_far_above(config, seconds, positions, tightness):
    model = tiny_model() if config is TINY else wide_model(mx.float32)
    taken = peak(model, seconds, positions)
    estimate = governor(config).estimate(round(seconds * SAMPLE_RATE), positions)
    assert taken <= estimate <= tightness * taken


@pytest.mark.cpu
def test_the_wide_estimate_in_bfloat16_is_an_upper_bound_too():
    taken = peak(wide_model(mx.bfloat16), 1.0, 32)
    assert taken <= governor(WIDE, dtype=mx.bfloat16).estimate(SAMPLE_RATE, 32) <= 3 * taken


def test_the_estimate_grows_with_every_part_of_a_job():
    estimate = governor(WIDE).estimate
    assert estimate(16_000, 128) < estimate(160_000, 128)
    assert estimate(160_000, 128) < estimate(160_000, 4096) < estimate(160_000, 4096, rows=2)


def test_a_job_that_does_not_fit_is_refused_with_the_figures():
    config = WIDE
    needed = governor(config).estimate(160_000, 512)
    held = mx.get_active_memory()
    governor(config, limit=held + needed).admit(160_000, 512)
    with pytest.raises(OutOfMemory) as raised:
        governor(config, limit=held + needed - MIB).admit(160_000, 512)
    assert raised.value.data == {"needed_bytes": held + needed, "limit_bytes": held + needed - MIB}


def test_what_other_jobs_hold_counts():
    one = governor(limit=mx.get_active_memory() + governor().estimate(16_000, 128) + MIB)
    one.admit(16_000, 128)
    other = mx.zeros((4 * MIB,), mx.float32)
    mx.eval(other)
    with pytest.raises(OutOfMemory):
        one.admit(16_000, 128)
    del other
    one.admit(16_000, 128)


@pytest.mark.cpu
def test_a_job_is_refused_where_the_machine_has_nothing_left(monkeypatch):
    monkeypatch.setattr("qwen3_asr_mlx_runtime.engine.memory._available", lambda: 1000)
    gc.collect()  # what other tests have left goes to the cache now, and not while it is compared
    mx.clear_cache()
    with pytest.raises(OutOfMemory) as raised:
        governor().admit(16_000, 128)
    assert raised.value.data["limit_bytes"] == 1000 + mx.get_cache_memory()


@pytest.mark.parametrize(("weights", "limit"), [(MIB, MIB - 1), (1 << 50, None)])
def test_a_model_that_cannot_fit_is_refused_before_it_is_read(weights, limit):
    with pytest.raises(OutOfMemory) as raised:
        Governor.check_model(weights, limit)
    assert raised.value.data == {"needed_bytes": weights, "limit_bytes": limit or machine_limit()}


def test_a_model_that_fits_is_let_pass():
    Governor.check_model(MIB, MIB)
    Governor.check_model(MIB)


@pytest.mark.cpu
def test_the_batch_is_as_large_as_the_budget_and_has_one_row_at_least():
    assert governor(WIDE, limit=0).rows(512) == 1
    assert governor(WIDE, limit=1 << 40).rows(512) == MAX_BATCH_ROWS
    sizes = [governor(WIDE, limit=limit * 16 * MIB).rows(512) for limit in range(1, 20)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 3
    assert governor(WIDE, limit=192 * MIB).rows(1024) < governor(WIDE, limit=192 * MIB).rows(512)


def test_there_is_room_for_as_many_rows_as_the_limit_and_the_machine_allow(monkeypatch):
    monkeypatch.setattr("qwen3_asr_mlx_runtime.engine.memory._available", lambda: 1 << 40)
    roomy, small = governor(WIDE, limit=1 << 40), governor(WIDE, limit=512 * MIB)
    rows = small.rows(1152)
    assert roomy.has_room(16, 1152)
    assert (small.has_room(rows, 1152), small.has_room(rows + 1, 1152)) == (True, False)
    monkeypatch.setattr("qwen3_asr_mlx_runtime.engine.memory._available", lambda: MIB)
    mx.clear_cache()
    assert not roomy.has_room(16, 1152)


def test_the_limits_of_mlx_are_set():
    small = governor(limit=320 * MIB)
    assert (small.limit_bytes, small.cache_limit_bytes) == (320 * MIB, 20 * MIB)
    assert mx.set_memory_limit(320 * MIB) == 320 * MIB
    assert mx.set_cache_limit(MIB) == 20 * MIB
    governor(cache=5 * MIB)
    assert mx.set_cache_limit(MIB) == 5 * MIB
    assert governor().limit_bytes == machine_limit() > 0


def fill_cache(size: int) -> None:
    mx.clear_cache()
    mx.eval(mx.zeros((size,), mx.uint8))
    assert mx.get_cache_memory() >= size


def test_the_cache_is_given_back_when_it_is_over_half_its_limit_and_when_nothing_waits():
    one = governor(cache=8 * MIB)
    fill_cache(3 * MIB)
    one.after_job()
    assert mx.get_cache_memory() >= 3 * MIB
    fill_cache(6 * MIB)
    one.after_job()
    assert mx.get_cache_memory() == 0
    fill_cache(MIB)
    one.on_idle()
    assert mx.get_cache_memory() == 0


def test_freed_memory_is_given_back_where_the_process_has_grown_and_when_nothing_waits(monkeypatch):
    resident, trims = [100 * MIB], []
    monkeypatch.setattr(process_memory, "rss_bytes", lambda: resident[0])
    monkeypatch.setattr(process_memory, "trim", lambda: trims.append(resident[0]))
    one = governor()
    for resident[0] in (100 * MIB, 101 * MIB, 103 * MIB, 110 * MIB, 111 * MIB):
        one.after_job()
    assert trims == [100 * MIB, 110 * MIB]
    one.on_idle()
    assert len(trims) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_of_weights_are_known_before_they_are_read(demo_checkpoint, dtype):
    config, headers = read_config(demo_checkpoint, ModelConfig), read_headers(weight_files(demo_checkpoint))
    model = load_model(demo_checkpoint, dtype, join=False)
    read = sum(array.nbytes for _, array in named_parameters(model))
    assert weight_bytes(config, headers, model.dtype) == read
    head = {"thinker.lm_head.weight": TensorHeader((1000, 1000), "BF16")}
    assert weight_bytes(config, {**headers, **head}, model.dtype) == read


def test_packed_weights_keep_their_size():
    headers = {"a.weight": TensorHeader((8, 4), "U32"), "a.scales": TensorHeader((8, 1), "BF16")}
    assert weight_bytes(TINY, headers, mx.float32) == 8 * 4 * 4 + 8 * 4


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed buffer"),
        RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
        RuntimeError("[malloc] Unable to allocate 1073741824 bytes."),
        RuntimeError(
            "[METAL] Command buffer execution failed: Insufficient Memory"
            " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
        ),
        RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory."),
        RuntimeError("cudaGraphInstantiate(&graph, raw, 0) failed: out of memory"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_memory_that_ran_out_is_recognised_by_what_mlx_says(error):
    known = as_out_of_memory(error)
    assert known is not None
    assert known.code == "out_of_memory"
    assert known.data == {"active_bytes": mx.get_active_memory()}


@pytest.mark.parametrize(
    "error", [RuntimeError("[matmul] Last dimension of first input"), ValueError("out of memory"), KeyError("x")]
)
def test_other_errors_are_left_alone(error):
    assert as_out_of_memory(error) is None
