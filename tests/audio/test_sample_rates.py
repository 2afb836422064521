"""Streams at other rates than 16 kHz: what the engine gets, and how it is counted."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.audio.pcm_buffer import resampled
from qwen3_asr_mlx_runtime.engines.api import Job
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.settings import Settings

RATES = {"telephone": 8_000, "disc": 44_100, "microphone": 16_000}


def loaded(**settings: object) -> Conversation:
    talk = Conversation(Settings(**settings))
    talk.send("start")
    talk.load()
    return talk


def speech(frames: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(-9_000, 9_000, frames).astype("<i2").tobytes()


def encoded(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


def only_job(talk: Conversation) -> Job:
    (job,) = talk.jobs.values()
    return job


def samples_of(talk: Conversation, **boundary: object) -> Samples:
    """What the engine gets of the utterance that a boundary ends."""
    talk.send("end_utterance", **boundary)
    talk.send("flush")
    samples = only_job(talk).utterance.samples
    talk.decode()
    return samples


@given(st.lists(st.tuples(st.sampled_from(sorted(RATES)), st.integers(0, 900)), min_size=3, max_size=30))
def test_streams_between_each_other_each_get_their_own_audio(chunks: list[tuple[str, int]]) -> None:
    talk = loaded()
    spoken_audio = {name: speech(900 * 31, seed) for seed, name in enumerate(RATES)}
    sent = dict.fromkeys(RATES, 0)
    for name, rate in RATES.items():
        talk.send("start_stream", stream_id=name, sample_rate=rate, batch_size=16)
    for name, frames in [*chunks, *((name, 10) for name in RATES)]:
        start, sent[name] = sent[name], sent[name] + 2 * frames
        talk.send("audio_chunk", stream_id=name, pcm16=encoded(spoken_audio[name][start : sent[name]]))
    for name, rate in RATES.items():
        assert np.array_equal(samples_of(talk, stream_id=name), resampled(spoken_audio[name][: sent[name]], rate))
    talk.monitor.finish()


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_next_utterance_has_no_text_of_the_last(rate: int) -> None:
    talk = loaded()
    talk.send("start_stream", sample_rate=rate)
    loud, quiet = speech(rate // 4, 1), bytes(rate // 2)
    talk.send("audio_chunk", pcm16=encoded(loud))
    assert np.array_equal(samples_of(talk), resampled(loud, rate))
    talk.send("audio_chunk", pcm16=encoded(quiet))
    assert not samples_of(talk).any()


def test_audio_of_a_boundary_has_the_streams_rate_or_its_own_and_leaves_the_buffer_alone() -> None:
    talk = loaded()
    talk.send("start_stream", sample_rate=48_000)
    buffered, inline = speech(4_800, 1), speech(960, 2)
    talk.send("audio_chunk", pcm16=encoded(buffered))
    assert np.array_equal(samples_of(talk, pcm16=encoded(inline)), resampled(inline, 48_000))
    assert np.array_equal(samples_of(talk, pcm16=encoded(inline), sample_rate=8_000), resampled(inline, 8_000))
    assert np.array_equal(samples_of(talk), resampled(buffered, 48_000))


@given(st.sampled_from([8_000, 11_025, 44_100, 47_999]), st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_splits_and_refusals_leave_no_sample_uncounted(rate: int, sizes: list[int]) -> None:
    talk = loaded(max_utterance_seconds=0.05, max_pending_audio_seconds=1.0)
    talk.send("start_stream", sample_rate=rate, on_limit="split", batch_size=16)
    lengths = [talk.send("audio_chunk", pcm16=encoded(speech(size, 0)))[0].get("samples_buffered", 0) for size in sizes]
    assert max(lengths) <= 800
    state = talk.session._state
    counts = [(each.utterance.sample_count, len(each.segments[0].samples)) for each in state.utterances.waiting]
    assert state.budget.samples == state.streams.registry.buffered_samples + sum(count for count, _ in counts)
    assert all(count == length for count, length in counts)


def test_what_is_refused_without_a_reply_is_counted_at_16_khz() -> None:
    talk = loaded(max_utterance_seconds=0.5)
    talk.send("hello", want=["events"])
    talk.send("start_stream", stream_id="s", sample_rate=48_000)
    (event,) = talk.send("audio_chunk", stream_id="s", pcm16=encoded(bytes(96_000)))
    assert (event["type"], event["code"], event["dropped_samples"]) == ("stream_error", "limit_exceeded", 16_000)
    (event,) = talk.send("audio_chunk", stream_id="s", pcm16=encoded(bytes(960)), sample_rate=16_000)
    assert (event["code"], event["dropped_samples"]) == ("unsupported_sample_rate", 160)


def test_the_limit_of_a_chunk_is_in_seconds_of_its_rate() -> None:
    talk = loaded()
    talk.send("start_stream", sample_rate=8_000)
    assert talk.send("audio_chunk", pcm16=encoded(bytes(2 * 240_001)))[0]["code"] == "invalid_params"
    assert talk.send("audio_chunk", pcm16=encoded(bytes(2 * 240_000)))[0]["samples_buffered"] == 480_000


def test_a_stream_may_be_restarted_at_another_rate() -> None:
    talk = loaded()
    talk.send("start_stream", sample_rate=8_000)
    talk.send("audio_chunk", pcm16=encoded(speech(80, 1)))
    assert talk.send("start_stream", sample_rate=32_000)[0]["dropped_samples"] == 160
    again = speech(640, 2)
    talk.send("audio_chunk", pcm16=encoded(again))
    assert np.array_equal(samples_of(talk), resampled(again, 32_000))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_partials_come_as_often_at_every_rate_and_have_what_is_certain(rate: int) -> None:
    talk = loaded()
    talk.send("start_stream", sample_rate=rate, partials=True, partial_interval_ms=200)
    spoken_audio, chunk, given = speech(rate, 1), rate // 50 * 2, []
    for start in range(0, len(spoken_audio), chunk):
        talk.send("audio_chunk", pcm16=encoded(spoken_audio[start : start + chunk]))
        for partial in [*talk.partials.values()]:
            given.append(partial.samples)
            talk.end_partial(job_id=partial.id)
    assert len(given) == 5
    whole, together = samples_of(talk), np.concatenate(given)
    assert len(whole) - len(together) <= (0 if rate == 16_000 else 1_856)
    assert np.array_equal(together, whole[: len(together)])
