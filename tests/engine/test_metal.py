"""The branches that only Metal takes, on a GPU that there is by name alone (`metal`). What Metal computes in them is
for a Mac to show: docs/mac-checklist.md."""

import os
import platform
import signal
import subprocess
import sys
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.tiny import AUDIO, TEXT, tiny_model

from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.engine import memory
from qwen3_asr_mlx_runtime.engine.job_memory import JobMemory
from qwen3_asr_mlx_runtime.engine.memory import MIB, Governor, machine_limit
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance
from qwen3_asr_mlx_runtime.model import activations
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.batch import Batch, Row
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.tools import machine
from qwen3_asr_mlx_runtime.tools.doctor import machine_check, self_check

pytestmark = pytest.mark.cpu
GIB = 1024 * MIB
WORKING_SET = 12 * GIB
CONFIG = ModelConfig(audio=AUDIO, text=TEXT, audio_token_id=600)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, metal: None) -> pytest.MonkeyPatch:
    return monkeypatch


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What MLX is asked to keep to, which nothing is."""
    asked: dict[str, int] = {}
    for name in ("memory", "cache", "wired"):
        monkeypatch.setattr(mx, f"set_{name}_limit", lambda limit, name=name: asked.update({name: limit}))
    return asked


def noise(count: int, seed: int) -> Samples:
    return (np.random.default_rng(seed).standard_normal(count) * 0.1).clip(-1, 1).astype(np.float32)


def features(frames: int) -> mx.array:
    return mx.array(np.random.default_rng(0).uniform(-1.5, 1.5, (frames, 128)).astype(np.float32))


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_activations_are_those_of_mlx_however_many_there_are(metal: None, name: str) -> None:
    x = mx.random.normal((activations._MANY,), key=mx.random.key(1))
    assert mx.array_equal(getattr(activations, name)(x), getattr(nn, name)(x))


def test_projections_are_joined_and_steps_compiled_and_the_tokens_stay(named: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    named.setattr(mx, "compile", lambda step: compiled.append(step.__name__) or step)
    model, joined = tiny_model(), tiny_model()
    joined.prepare()
    layer = joined.model.layers[0]
    assert "qkv_proj" in layer.self_attn
    assert "gate_up_proj" in layer.mlp
    assert "qkv_proj" in joined.audio_tower.layers[0].self_attn
    assert compiled == ["_before", "_after"] * len(joined.model.layers)
    prompt = model.embed(range(30))[None]
    expected = [token.id for token in generate(model, prompt, frozenset(), 24)]
    assert [token.id for token in generate(joined, prompt, frozenset(), 24)] == expected


@pytest.mark.parametrize("bits", [None, 8])
def test_a_joined_tower_gives_the_same_embeddings(metal: None, bits: int | None) -> None:
    tower, joined = tiny_model().audio_tower, tiny_model().audio_tower
    if bits:
        nn.quantize(tower, group_size=64, bits=bits)
        nn.quantize(joined, group_size=64, bits=bits)
    held = sum(weight.nbytes for _, weight in tree_flatten(joined.parameters()))
    joined.prepare()
    assert sum(weight.nbytes for _, weight in tree_flatten(joined.parameters())) == held
    batch = [features(1_250), features(30), features(400)]
    for got, expected in zip(joined.encode(batch), tower.encode(batch), strict=True):
        assert mx.abs(got - expected).max().item() < 1e-5


def test_parts_of_a_tower_that_are_quantised_in_different_ways_are_not_joined(metal: None) -> None:
    tower = tiny_model().audio_tower
    attention = tower.layers[0].self_attn
    attention.v_proj = attention.v_proj.to_quantized(group_size=64, bits=8)
    expected = tower(features(250))
    tower.prepare()
    assert ("v_proj" in attention, "qkv_proj" in tower.layers[1].self_attn) == (True, True)
    assert mx.abs(tower(features(250)) - expected).max().item() < 1e-5


def test_the_positions_of_a_chunk_are_in_the_dtype_of_the_model(metal: None) -> None:
    tower = tiny_model(mx.bfloat16).audio_tower
    expected = tower.embed_chunks(features(250).astype(mx.bfloat16))
    tower.prepare()
    assert tower._positions.dtype == mx.bfloat16
    assert mx.array_equal(tower.embed_chunks(features(250).astype(mx.bfloat16)), expected)


@pytest.mark.parametrize("count", [3, 17])
def test_rows_of_a_joined_model_get_the_tokens_that_they_get_alone(count: int, named: pytest.MonkeyPatch) -> None:
    model, joined = tiny_model(), tiny_model()
    joined.prepare()
    rows = [Row(model.embed(range(seed, seed + 20 + 3 * seed))[None], 12) for seed in range(count)]
    expected = [[token.id for token in generate(model, row.prompt, frozenset(), 12)] for row in rows]
    batch = Batch(joined, frozenset())
    batch.join(rows)
    while batch.rows:
        batch.step()
    assert [[token.id for token in row.tokens] for row in rows] == expected


def test_convolutions_see_up_to_32_seconds_at_a_time(named: pytest.MonkeyPatch) -> None:
    tower, clip, seen = tiny_model().audio_tower, features(4_010), []
    convolve = AudioTower._convolve

    def noted(self: AudioTower, chunks: mx.array) -> mx.array:
        seen.append(chunks.shape[0])
        return convolve(self, chunks)

    named.setattr(AudioTower, "_convolve", noted)
    embedded = tower.embed_chunks(clip)
    assert seen == [32, 9]
    alone = [tower.embed_chunks(clip[start : start + 100], part=True) for start in range(0, 4_010, 100)]
    assert mx.abs(embedded - mx.concatenate(alone)).max().item() < 1e-5


def test_a_job_is_expected_to_hold_two_blocks_of_convolutions_in_the_dtype_of_the_model(metal: None) -> None:
    half, single = JobMemory(CONFIG, 2), JobMemory(CONFIG, 4)
    second = half._stem_bytes(1)
    assert [half._stem_bytes(seconds) for seconds in (2, 64, 65, 1200)] == [2 * second, *[64 * second] * 3]
    assert single._stem_bytes(1) == 2 * second == 5 * 64 * 50 * AUDIO.downsample_hidden_size * 4
    assert single._prefill_bytes(512, 1) == 2 * half._prefill_bytes(512, 1)


def test_mlx_may_take_the_working_set_that_metal_recommends(metal: None, limits: dict[str, int]) -> None:
    governor = Governor(CONFIG, 0, limit_bytes=None, cache_limit_bytes=None)
    assert machine_limit() == governor.limit_bytes == WORKING_SET
    assert limits == {"memory": WORKING_SET, "cache": 512 * MIB, "wired": 0}


def test_no_more_is_wired_than_the_working_set(metal: None, limits: dict[str, int]) -> None:
    for asked, wired in ((GIB, GIB), (64 * GIB, WORKING_SET)):
        Governor(CONFIG, 0, limit_bytes=None, cache_limit_bytes=None, wired_limit_bytes=asked)
        assert limits["wired"] == wired


def test_memory_that_others_use_refuses_no_job(named: pytest.MonkeyPatch, limits: dict[str, int]) -> None:
    named.setattr(memory, "_available", lambda: 0)
    named.setattr(mx, "get_cache_memory", lambda: 0)
    governor = Governor(CONFIG, 0, limit_bytes=None, cache_limit_bytes=None)
    governor.admit(16_000, 128)
    Governor.check_model(MIB)


def test_the_load_leaves_compilation_on_and_segments_are_packed_into_one_pass(named: pytest.MonkeyPatch) -> None:
    named.setattr(mx, "disable_compile", lambda: pytest.fail("compilation was turned off"))
    passes: list[int] = []
    encode = AudioTower.encode

    def noted(self: AudioTower, batch: list[mx.array]) -> list[mx.array]:
        passes.append(len(batch))
        return encode(self, batch)

    recognizer = Recognizer.load("demo", dtype="float32")
    named.setattr(AudioTower, "encode", noted)
    utterances = [Utterance(noise(count, count), max_new_tokens=4) for count in (8_000, 140_000)]
    segments = [segment for one in utterances for segment in recognizer._preparation.cut(one, Stopwatch())]
    made = recognizer._preparation.prepare(segments)
    assert passes == [2]
    assert [one.blocks for one in made] == [(), ()]
    named.undo()
    for segment, packed in zip(segments, made, strict=True):
        [alone] = recognizer._preparation.prepare([segment])
        assert mx.abs(packed.embeddings - alone.embeddings).max().item() < 1e-4


def test_the_doctor_names_the_gpu_and_grants_float32_what_tf32_takes(metal: None) -> None:
    found = machine_check._device()
    assert (found.level, found.what) == ("ok", "decodes on the GPU by Metal: Apple M1")
    assert [self_check._slack(dtype) for dtype in ("float32", "bfloat16")] == [10, 1]


@pytest.mark.parametrize(("reported", "name"), [("Apple M4 Max\n", "Apple M4 Max"), ("", platform.machine())])
def test_the_processor_of_a_mac_is_what_sysctl_says(monkeypatch: pytest.MonkeyPatch, reported: str, name: str) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout=reported)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert machine._processor() == name
    assert asked == [["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]]


def test_a_group_without_a_living_process_is_refused_by_macos_and_that_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[int] = []

    def refuse(_: int, number: int) -> None:
        refused.append(number)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    child = Child([sys.executable, "-I", "-c", ""])
    assert child.pipes[1].read() == b""  # the process ends, and nobody has waited for it
    child.signal_group(signal.SIGTERM)
    while (ended := child.exit()) is None:
        pass
    assert (ended, refused) == (Exit(code=0), [signal.SIGTERM, signal.SIGKILL])
    child.abandon()
