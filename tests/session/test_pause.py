"""The final of an open utterance, computed ahead: never delivered before its boundary, and exactly of its samples."""

import numpy as np
import pytest
from support.conversation import Conversation, pcm
from support.fake_engine import transcript_of

from qwen3_asr_mlx_runtime.audio.pcm_buffer import resampled
from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.session.stream import EndedUtterance
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term

TEXTS = ["Seven", "three", "one."]


def listening(**members: object) -> Conversation:
    talk = Conversation()
    talk.send("hello", want=["events"])
    members = {"auto_flush": True, "batch_size": 4, **members}
    talk.send("start_stream", stream_id="mic", **members)
    talk.load()
    return talk


def paused(samples: int = 16_000, **members: object) -> Conversation:
    """A pause behind so many samples, whose final is computed."""
    talk = listening(**members)
    talk.chunk(samples, "mic")
    talk.send("pause", stream_id="mic")
    return talk


def decode(talk: Conversation, job_id: int | None = None) -> list[dict]:
    job_id = min(talk.jobs) if job_id is None else job_id
    return talk.decode(transcript_of(talk.jobs[job_id], f"{len(talk.jobs[job_id].utterance.samples)} samples"))


def end(talk: Conversation, **members: object) -> tuple[dict, list[dict]]:
    """The reply to a boundary, and the items of what came with it."""
    queued, *events = talk.send("end_utterance", stream_id="mic", **members)
    return queued, [item for event in events for item in event.get("items", ())]


def test_a_pause_is_answered_at_once_and_never_by_text() -> None:
    talk = listening()
    talk.chunk(16_000, "mic")
    [reply] = talk.send("pause", id=1, stream_id="mic")
    assert reply == {"type": "paused", "id": 1, "stream_id": "mic", "utterance_id": "mic-1", "samples": 16_000}
    assert decode(talk) == []


def test_a_final_that_is_ready_comes_with_its_boundary_and_waits_for_no_batch() -> None:
    talk = paused()
    decode(talk)
    talk.now += 1.0
    queued, [item] = end(talk, id=1)
    assert (queued["samples"], queued["frames"]) == (16_000, 16_000)
    assert (item["text"], item["provisional"], item["queue_seconds"]) == ("16000 samples", "ready", 0.0)
    assert not talk.jobs
    assert talk.monitor.replies[-1]["reason"] == "pause"


@pytest.mark.parametrize("more", [0, 1600])
def test_the_boundary_of_a_final_that_is_ready_does_no_work_for_each_sample(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = EndedUtterance.take_samples
    monkeypatch.setattr(EndedUtterance, "take_samples", lambda ended: asked.append(ended.frames) or real(ended))
    talk = paused()
    decode(talk)
    if more:
        talk.chunk(more, "mic")
    _, [item] = end(talk, samples=16_000)
    assert (item["provisional"], asked) == ("ready", [])
    talk.chunk(8_000, "mic")
    end(talk)
    assert asked == [8_000 + more]


def test_the_audio_of_a_delivered_final_is_freed_with_the_next_message_at_the_latest() -> None:
    talk = paused()
    decode(talk)
    segments = talk.session._state.partials._provisional["mic"].transcription.segments
    assert end(talk)[1]
    assert len(segments) == 1
    talk.send("ping")
    assert segments == []


def test_one_that_is_being_computed_is_finished() -> None:
    talk = paused()
    _, items = end(talk)
    assert items == []
    [event] = decode(talk)
    assert event["items"][0]["provisional"] == "running"
    assert len(talk.provisionals) == 1


def test_one_that_was_not_begun_is_computed_as_ever() -> None:
    talk = listening(batch_size=1)
    for number in range(5):  # the engine has all that it takes
        talk.speak(f"u{number}", "mic")
    talk.chunk(16_000, "mic")
    talk.send("start_stream", stream_id="b", auto_flush=True)
    for _ in range(3):
        talk.chunk(1600, "b")
        talk.send("pause", stream_id="b")
        talk.send("end_utterance", stream_id="b")
    assert len(talk.provisionals) <= 2


def test_without_a_pause_nothing_is_new() -> None:
    talk = listening(batch_size=1)
    talk.chunk(16_000, "mic")
    queued, _ = end(talk)
    assert "frames" not in queued
    [event] = decode(talk)
    assert "provisional" not in event["items"][0]


def test_speech_that_goes_on_needs_no_message() -> None:
    talk = paused()
    decode(talk)
    talk.chunk(1600, "mic")
    _, items = end(talk, batch_size=1)
    assert items == []
    talk.wait(1.0)
    [event] = decode(talk)
    assert (event["items"][0]["text"], event["items"][0]["provisional"]) == ("17600 samples", "none")


def test_a_boundary_may_lie_where_the_pause_was() -> None:
    talk = paused()
    decode(talk)
    talk.chunk(1600, "mic")
    queued, [item] = end(talk, samples=16_000)
    assert (item["text"], item["provisional"], queued["frames"]) == ("16000 samples", "ready", 16_000)
    assert "dropped_samples" not in queued
    [reply] = talk.chunk(160, "mic", id=9)
    assert reply["samples_buffered"] == 1760


def test_the_rest_may_be_dropped() -> None:
    talk = paused()
    talk.chunk(1600, "mic")
    queued, _ = end(talk, samples=16_000, rest="drop")
    assert queued["dropped_samples"] == 1600
    assert talk.session._state.budget.samples == 16_000
    decode(talk)
    assert talk.session._state.budget.samples == 0


def test_the_budget_follows_the_rest() -> None:
    talk = listening(sample_rate=44_100)
    talk.chunk(10_001, "mic")
    end(talk, samples=3_333)
    state = talk.session._state
    talk.wait(1.0)
    decode(talk)
    assert state.budget.samples == state.streams.registry.buffered_samples


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_audio_is_that_of_a_file_of_these_frames_and_so_is_the_rest(rate: int) -> None:
    talk = listening(sample_rate=rate, batch_size=1, partials=True)
    rng = np.random.default_rng(rate)
    sound = rng.integers(-3000, 3000, rate).astype("<i2").tobytes()
    import base64

    for start in range(0, len(sound), 2_000):
        chunk = base64.b64encode(sound[start : start + 2_000]).decode()
        talk.send("audio_chunk", stream_id="mic", pcm16=chunk)
        if talk.partials:
            talk.end_partial("a")
    frames = rate // 3
    talk.send("pause", stream_id="mic", samples=frames)
    whole = resampled(sound[: 2 * frames], rate)
    [job] = talk.provisionals.values()
    assert np.array_equal(job.utterance.samples, whole)
    decode(talk)
    _, [item] = end(talk, samples=frames)
    assert item["samples"] == len(whole)
    end(talk)
    [job] = [job for id, job in talk.jobs.items() if id not in talk.provisionals]
    assert np.array_equal(job.utterance.samples, resampled(sound[2 * frames :], rate))


@pytest.mark.parametrize("partials", [True, False])
def test_a_pause_of_all_has_what_the_engine_has(partials: bool) -> None:
    talk = listening(sample_rate=48_000, partials=partials)
    talk.chunk(48_000, "mic")
    if partials:
        talk.end_partial("a b")
    talk.send("pause", stream_id="mic")
    [job] = talk.provisionals.values()
    assert np.array_equal(job.utterance.samples, resampled(np.full(48_000, 100, "<i2").tobytes(), 48_000))
    assert job.partials == partials


def test_a_final_computed_ahead_has_the_options_of_its_stream() -> None:
    terms = [{"text": "Ada"}]
    talk = paused(languages=["en", "ar"], context="names", terms=terms, max_new_tokens=7, logprobs=True)
    [job] = talk.provisionals.values()
    asked = job.utterance
    assert (asked.language, asked.languages) == (None, ("English", "Arabic"))
    assert (asked.context, asked.max_new_tokens, asked.logprobs) == ("names", 7, True)
    assert asked.terms == (Term("Ada"),)


def test_a_later_pause_replaces_one_of_other_samples_and_repeats_none() -> None:
    talk = paused()
    talk.send("pause", stream_id="mic")
    assert len(talk.provisionals) == 1
    talk.chunk(1600, "mic")
    talk.send("pause", stream_id="mic")
    assert len(talk.provisionals) == 2
    assert len(talk.cancelled) == 1


def test_one_that_fails_is_discarded_in_silence() -> None:
    talk = paused()
    assert talk.decode(DecodeFailed("planted")) == []
    assert talk.session._state.replies.counters.errors == {}
    _, items = end(talk)
    assert items == []
    talk.wait(1.0)
    [event] = decode(talk)
    assert (event["items"][0]["text"], event["items"][0]["provisional"]) == ("16000 samples", "none")


def test_audio_that_ends_the_engine_at_each_pause_does_not_lose_it() -> None:
    talk = paused()
    for _ in range(6):
        if talk.jobs:
            talk.end_engine()
            talk.wait(1.0)
            talk.load()
        talk.send("pause", stream_id="mic")
    assert not talk.session.engine_is_lost
    assert len(talk.provisionals) == 1


def test_a_ready_final_is_an_outcome() -> None:
    talk = Conversation(Settings(keep_alive_seconds=0.0))
    talk.send("hello", want=["events"])
    talk.send("start_stream", stream_id="mic", auto_flush=True)
    talk.load()
    talk.chunk(16_000, "mic")
    talk.send("pause", stream_id="mic")
    decode(talk)
    assert not talk.is_unloading
    end(talk)
    talk.wait(0.1)
    assert talk.is_unloading


def test_one_that_is_being_computed_becomes_a_final_as_any_other() -> None:
    talk = paused()
    [job_id] = talk.jobs
    end(talk)
    assert talk.promoted == [job_id]


def test_a_boundary_uses_what_the_engine_has() -> None:
    talk = listening(partials=True, batch_size=1)
    talk.chunk(16_000, "mic")
    talk.end_partial("a")
    talk.chunk(1_000, "mic")
    end(talk, samples=16_800)
    [job] = talk.jobs.values()
    assert job.partials == 1


def test_one_that_fails_behind_its_boundary_is_decoded_as_any_other() -> None:
    talk = paused()
    end(talk)
    assert talk.decode(DecodeFailed("planted")) == []
    [event] = decode(talk)
    assert event["items"][0]["text"] == "16000 samples"


@pytest.mark.parametrize(
    "options",
    [
        {"language": "ar"},
        {"languages": ["ar"]},
        {"context": "x"},
        {"terms": [{"text": "x"}]},
        {"max_new_tokens": 7},
        {"logprobs": True},
        {"words": True},
    ],
)
def test_other_options_discard_it(options: dict) -> None:
    talk = paused()
    decode(talk)
    _, items = end(talk, **options)
    assert items == []
    talk.wait(1.0)
    assert len(talk.jobs) == 1


@pytest.mark.parametrize(
    "discards",
    [
        {"type": "cancel", "stream_id": "mic", "utterance_id": "mic-1"},
        {"type": "start_stream", "stream_id": "mic", "restart": True, "auto_flush": True},
        {"type": "stop_stream", "stream_id": "mic"},
    ],
    ids=lambda message: message["type"],
)
def test_what_drops_the_utterance_discards_it(discards: dict) -> None:
    talk = paused()
    talk.send(**discards)
    assert len(talk.cancelled) == 1
    decode(talk)
    assert not talk.session._state.scheduler._open
    assert talk.audio.open == {}


def test_words_are_found_in_the_same_slack() -> None:
    talk = paused(words=True)
    talk.decode()
    assert talk.align() == []
    _, [item] = end(talk)
    assert [word["text"] for word in item["words"]] == TEXTS
    assert "words_pending" not in item


def test_words_that_are_still_looked_for_follow() -> None:
    talk = paused(words=True)
    talk.decode()
    _, [item] = end(talk)
    assert item["words_pending"]
    [ready] = talk.align()
    assert [word["text"] for word in ready["words"]] == TEXTS


def test_finals_and_words_go_before_it_and_no_partial_beside_it() -> None:
    talk = listening(batch_size=1, partials=True, partial_interval_ms=100)
    talk.chunk(16_000, "mic")
    talk.end_partial("a")
    talk.send("pause", stream_id="mic")
    talk.chunk(16_000, "mic")
    assert not talk.partials
    decode(talk)
    assert talk.partials


def test_the_engine_may_end_meanwhile() -> None:
    talk = paused()
    talk.end_engine()
    talk.load()
    assert not talk.jobs
    end(talk)
    talk.wait(1.0)
    [event] = decode(talk)
    assert event["items"][0]["text"] == "16000 samples"


def test_the_engine_may_end_behind_the_boundary() -> None:
    talk = paused()
    end(talk)
    talk.end_engine()
    talk.load()
    [event] = decode(talk)
    assert event["items"][0]["text"] == "16000 samples"


def test_in_lock_step_it_waits_for_the_flush() -> None:
    talk = Conversation()
    talk.send("start_stream", stream_id="mic")
    talk.load()
    talk.chunk(16_000, "mic")
    talk.send("pause", stream_id="mic")
    decode(talk)
    [queued] = talk.send("end_utterance", stream_id="mic")
    assert queued["type"] == "utterance_queued"
    [reply] = talk.send("flush")
    assert reply["items"][0]["provisional"] == "ready"


def test_the_end_waits_for_none() -> None:
    talk = paused()
    talk.send("stop")
    assert not talk.session.pending
    [last] = talk.finish()
    assert (last["completed"], last["dropped_samples"]) == (0, 16_000)


def test_it_counts_once_it_is_delivered() -> None:
    talk = paused()
    decode(talk)
    assert talk.session._state.scheduler.transcripts == 0
    end(talk)
    assert talk.session._state.scheduler.transcripts == 1


class TestTheRest:
    def test_it_takes_the_name_of_the_next_chunk(self) -> None:
        talk = listening()
        talk.chunk(1600, "mic", utterance_id="one")
        talk.chunk(1600, "mic", utterance_id="one")
        end(talk, samples=1600)
        talk.chunk(160, "mic", utterance_id="two")
        queued, _ = end(talk)
        assert (queued["utterance_id"], queued["samples"]) == ("two", 1760)

    def test_the_name_that_has_ended_is_not_taken_again(self) -> None:
        talk = listening()
        for _ in range(2):
            talk.chunk(1600, "mic", utterance_id="one")
        end(talk, samples=1600)
        talk.chunk(160, "mic", utterance_id="one")
        queued, _ = end(talk)
        assert queued["utterance_id"] == "mic-1"

    def test_a_boundary_cannot_take_the_ended_name_again(self) -> None:
        talk = listening()
        for _ in range(2):
            talk.chunk(1600, "mic", utterance_id="one")
        end(talk, samples=1600, utterance_id="one")
        queued, _ = end(talk, utterance_id="one")
        assert queued["utterance_id"] == "mic-1"

    def test_a_dropped_rest_leaves_no_gap_and_no_name(self) -> None:
        talk = listening(batch_size=1)
        for seq in (0, 1, 3):
            talk.chunk(1600, "mic", seq=seq, utterance_id="one")
        end(talk, samples=1600, rest="drop")
        talk.chunk(1600, "mic", seq=4, utterance_id="one")
        end(talk)
        items = [item for _ in range(2) for event in decode(talk) for item in event["items"]]
        assert [(item["audio_gap"], item["utterance_id"]) for item in items] == [(False, "one"), (False, "one")]

    def test_its_partials_have_a_name(self) -> None:
        talk = listening(partials=True, partial_interval_ms=100)
        talk.chunk(32_000, "mic")
        talk.end_partial("a")
        end(talk, samples=16_000)
        assert not talk.partials
        talk.wait(1.0)
        decode(talk)
        talk.chunk(1600, "mic", utterance_id="two")
        [event] = talk.end_partial("b")
        assert event["utterance_id"] == "two"

    def test_a_gap_goes_where_it_lies(self) -> None:
        for place, expected in ((1, [True, False]), (2, [False, True])):
            talk = listening(batch_size=1)
            for seq in range(3):
                talk.chunk(1600, "mic", seq=seq + (seq >= place))
            end(talk, samples=3200)
            end(talk)
            gaps = [item["audio_gap"] for _ in range(2) for event in decode(talk) for item in event["items"]]
            assert gaps == expected

    def test_its_place_in_the_stream_is_behind_what_ended(self) -> None:
        talk = listening(segments=True)
        talk.chunk(16_000, "mic")
        end(talk, samples=4_000)
        end(talk)
        talk.wait(1.0)
        items = []
        while talk.jobs:
            items += [item for event in decode(talk) for item in event["items"]]
        assert [item["stream_start"] for item in items] == [0.0, 0.25]


@pytest.mark.parametrize(
    ("request_type", "members", "code"),
    [
        ("pause", {"samples": 16_001}, "invalid_params"),
        ("pause", {"samples": 0}, "invalid_params"),
        ("pause", {"stream_id": "other"}, "unknown_stream"),
        ("end_utterance", {"samples": 16_001}, "invalid_params"),
        ("end_utterance", {"samples": 0}, "invalid_params"),
        ("end_utterance", {"samples": 1, "pcm16": pcm(16)}, "invalid_params"),
        ("vad_boundary", {"samples": 1, "audio": "/a.wav"}, "invalid_params"),
        ("end_utterance", {"rest": "maybe"}, "invalid_params"),
    ],
)
def test_bad_input_changes_nothing(request_type: str, members: dict, code: str) -> None:
    talk = paused()
    [refused] = talk.send(request_type, **{"stream_id": "mic", **members})
    assert refused["code"] == code
    decode(talk)
    _, [item] = end(talk)
    assert item["provisional"] == "ready"


def test_a_pause_without_audio_is_refused() -> None:
    talk = listening()
    [refused] = talk.send("pause", stream_id="mic")
    assert refused["code"] == "invalid_params"
