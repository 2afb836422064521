"""What bridge and worker send each other crosses whole, whatever the pieces it arrives in."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.engines import channel
from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Append,
    Cancel,
    EngineEnded,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    Loaded,
    LoadFailed,
    Partial,
    PartialDone,
    Progress,
    Word,
)
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, TextSegment
from qwen3_asr_mlx_runtime.errors import AlignerDownloading, ModelCorrupt, OutOfMemory
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term

SAMPLES = np.linspace(-1, 1, 100, dtype=np.float32)
SEGMENTS = (TextSegment(0, 16_000, "Word, and \U0001f600.", None, "stop", 0, (4, 5, 11), (-0.5, -0.25, 0.0)),)
REQUESTS = [
    channel.Configure.of(Settings(model="demo")),
    Load(),
    Append(7, SAMPLES),
    Partial(1, 7, "English", "names", 5),
    Finalize(2, 7, None, "", 0, logprobs=True, decoder_mode="batched", drift_guard=False, interactive=True),
    Align(3, 7, "Word, and \U0001f600.", "English", "official"),
    Forget(7),
    Cancel(2),
]
OUTCOMES = [
    Progress("download", 5, 10),
    Loaded("demo", "/models/demo", 1.5, {"stage": "load", "files": ["a"], "memory": {"rss_bytes": None}}),
    LoadFailed(ModelCorrupt("the weights differ", delete=["/a"])),
    Finished(2, transcript("Word, and \U0001f600.", logprobs=(-0.5, -0.25, 0.0), segments=SEGMENTS)),
    PartialDone(1, Hypothesis("one", None, 0.5, 3, 2, 0.01)),
    Aligned(3, [Word(80, 160, 0, 6, 0.5)], "owner/aligner", 0.2, ["approximate"]),
    Failed(3, AlignerDownloading("on its way", model="owner/aligner")),
    Failed(2, OutOfMemory("too long", active_bytes=5)),
    EngineEnded("SIGKILL"),
    channel.Beat(7, Memory(rss_bytes=5)),
    channel.Ending("gpu_ignored"),
]


def crossed(message: object, decoder: channel.Decoder) -> object:
    [arrived] = decoder.feed(channel.encode(message))
    return arrived


def comparable(message: object) -> object:
    """Errors and arrays have no equality of their own."""
    if isinstance(message, Append):
        return message.audio_id, message.samples.tolist(), message.samples.dtype
    if isinstance(message, Failed | LoadFailed):
        error = message.error
        return type(message), getattr(message, "job_id", 0), type(error), error.message, error.data
    return message


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_crosses_whole(message: object) -> None:
    assert comparable(crossed(message, channel.to_worker())) == comparable(message)


@pytest.mark.parametrize("message", OUTCOMES, ids=lambda message: type(message).__name__)
def test_an_outcome_crosses_whole(message: object) -> None:
    assert comparable(crossed(message, channel.to_bridge())) == comparable(message)


@given(st.lists(st.integers(1, 200), max_size=200))
def test_messages_arrive_however_their_bytes_are_cut(sizes: list[int]) -> None:
    data = b"".join(map(channel.encode, REQUESTS))
    decoder, arrived, start = channel.to_worker(), [], 0
    for size in [*sizes, len(data)]:
        arrived += decoder.feed(data[start : start + size])
        start += size
    assert [*map(comparable, arrived)] == [*map(comparable, REQUESTS)]


def test_samples_cross_in_messages_of_bounded_size() -> None:
    samples = np.arange(1_000_000, dtype=np.float32)
    messages = [*map(channel.encode, channel.parts(Append(7, samples)))]
    assert max(map(len, messages)) <= channel.MAX_FRAME_BYTES // 2 + 64
    decoder = channel.to_worker()
    arrived = [message.samples for data in messages for message in decoder.feed(data)]
    assert np.array_equal(np.concatenate(arrived), samples)


def test_a_large_message_crosses_in_several_frames() -> None:
    """Hours of transcript with the probability of every token."""
    count = 400_000
    finished = Finished(2, transcript("word " * count, token_ids=(7,) * count, logprobs=(-0.5,) * count))
    data = channel.encode(finished)
    assert len(data) > 3 * channel.MAX_FRAME_BYTES
    decoder, arrived = channel.to_bridge(), []
    for start in range(0, len(data), 100_000):
        arrived += decoder.feed(data[start : start + 100_000])
    assert arrived == [finished]


def test_a_message_that_is_too_large_is_refused_by_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(ValueError, match="too large"):
        channel.encode(Append(7, np.zeros(1000, np.float32)))


def test_settings_cross_whole_whatever_bytes_their_paths_have() -> None:
    asked = {"languages": ("Arabic",), "terms": (Term("Ada"), Term("Menabrea", 0.5)), "token_budget": 9}
    settings = Settings(model="demo\udcff", cache_dir=Path("/tmp/\udcff"), **asked)
    assert crossed(channel.Configure.of(settings), channel.to_worker()).settings == settings


@pytest.mark.parametrize(
    "data",
    [
        (channel.MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\x01\x07",
        channel.encode(Load())[:4] + msgspec.msgpack.encode({"type": "Lo"})[:6],
        b"\0\0\0\x10" + b"\xff" * 16,
    ],
    ids=["length", "msgpack", "number", "type", "noise"],
)
def test_what_is_no_message_is_a_corrupt_frame(data: bytes) -> None:
    with pytest.raises(channel.CorruptFrame):
        [*channel.to_worker().feed(data + bytes(32))]


def test_an_error_of_an_unknown_class_is_a_corrupt_frame() -> None:
    body = msgspec.msgpack.encode(
        {"type": "Failed", "job_id": 1, "error": {"class": "Unheard", "message": "", "data": {}}}
    )
    with pytest.raises(channel.CorruptFrame):
        [*channel.to_bridge().feed(len(body).to_bytes(4, "big") + body)]
