"""Partials: when the engine computes one, which line delivers it, and when there are no more."""

import base64
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.conversation import Conversation, pcm
from support.engine_requests import SentPartial
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.audio.pcm_buffer import resampled
from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed, EngineStalled, OutOfMemory
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_STEP_SECONDS
from qwen3_asr_mlx_runtime.session.local_agreement import LocalAgreement
from qwen3_asr_mlx_runtime.session.stream import UtteranceNames
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term

HALF = 8_000  # samples


def begun(*want: str, settings: Settings | None = None, **members: object) -> Conversation:
    talk = Conversation(settings)
    if want:
        talk.send("hello", want=list(want))
    talk.send("start", id="start")
    talk.load()
    open_stream(talk, **members)
    return talk


def open_stream(talk: Conversation, stream_id: str = "s", **members: object) -> list[dict]:
    members = {"partials": True, "batch_size": 16, "max_batch_delay_ms": 60_000, **members}
    return talk.send("start_stream", stream_id=stream_id, **members)


@pytest.fixture
def live() -> Conversation:
    """With events."""
    return begun("events")


@pytest.fixture
def talk() -> Conversation:
    """In lock step."""
    return begun()


def partials_of(talk: Conversation) -> list[SentPartial]:
    return list(talk.partials.values())


class TestWhenAPartialStarts:
    def test_it_does_when_the_interval_of_audio_has_come(self, live: Conversation) -> None:
        live.chunk(HALF - 1, "s")
        assert live.partials == {}
        live.chunk(1, "s")
        (partial,) = partials_of(live)
        assert len(partial.samples) == HALF

    def test_the_interval_is_the_streams(self) -> None:
        live = begun("events", partial_interval_ms=100)
        live.chunk(1599, "s")
        assert live.partials == {}
        live.chunk(1, "s")
        assert len(live.partials) == 1

    def test_time_that_passes_without_audio_does_not_count(self, live: Conversation) -> None:
        live.chunk(HALF - 1, "s")
        live.wait(100.0)
        assert live.partials == {}

    def test_under_load_it_gets_all_that_came_since_at_once(self, live: Conversation) -> None:
        for _ in range(5):
            live.chunk(HALF, "s")
        assert [len(partial.samples) for partial in partials_of(live)] == [HALF]
        live.end_partial()
        assert [len(partial.samples) for partial in partials_of(live)] == [4 * HALF]
        live.end_partial()
        assert live.partials == {}

    def test_what_is_less_than_an_interval_waits_for_more(self, live: Conversation) -> None:
        live.chunk(HALF + 100, "s")
        live.chunk(HALF - 1, "s")
        live.end_partial()
        assert live.partials == {}
        live.chunk(1, "s")
        assert [len(partial.samples) for partial in partials_of(live)] == [HALF]

    def test_it_waits_for_the_model(self) -> None:
        live = Conversation()
        live.send("hello", want=["events"])
        open_stream(live)
        live.chunk(3 * HALF, "s")
        assert live.partials == {}
        live.load()
        assert [len(partial.samples) for partial in partials_of(live)] == [3 * HALF]

    def test_streams_take_turns_and_each_partial_covers_the_audio_so_far(self, live: Conversation) -> None:
        open_stream(live, "t")
        live.chunk(HALF, "s")
        live.chunk(HALF, "t")
        live.chunk(HALF, "s")
        live.chunk(HALF, "t")
        audio_ids = []
        for samples in (HALF, 2 * HALF, HALF):
            (partial,) = partials_of(live)
            assert len(partial.samples) == samples
            audio_ids.append(partial.audio_id)
            live.end_partial()
        assert partials_of(live) == []
        assert audio_ids[0] == audio_ids[2] != audio_ids[1]

    def test_it_does_not_while_a_final_is_decoded_and_covers_all_audio_after_it(self, live: Conversation) -> None:
        open_stream(live, "t")
        live.chunk(HALF - 1, "t")
        live.send("end_utterance", id=1, stream_id="t")
        live.send("flush", id=2)
        live.chunk(HALF, "s")
        live.chunk(HALF, "s")
        assert partials_of(live) == []
        live.decode()
        assert [len(partial.samples) for partial in partials_of(live)] == [2 * HALF]

    def test_it_does_beside_files(self, live: Conversation) -> None:
        live.send("transcribe", id=1, audio="a.wav")
        live.read("a.wav")
        live.chunk(HALF, "s")
        assert len(partials_of(live)) == len(live.jobs) == 1

    def test_a_partial_has_the_options_of_the_stream_or_of_the_process(self) -> None:
        how = {"languages": ["en", "ar"], "max_new_tokens": 7, "terms": [{"text": "Ada"}]}
        live = begun("events", settings=Settings(context="names"), **how)
        live.chunk(HALF, "s")
        (partial,) = partials_of(live)
        assert (partial.languages, partial.context, partial.max_new_tokens) == (("English", "Arabic"), "names", 7)
        assert partial.terms == (Term("Ada"),)

    def test_without_partials_it_never_does(self, live: Conversation) -> None:
        open_stream(live, "t", partials=False, partial_interval_ms=100)
        live.chunk(10 * HALF, "t")
        live.chunk(10 * HALF, "t")
        assert live.partials == {}

    def test_audio_at_another_rate_is_given_as_far_as_it_is_certain(self, live: Conversation) -> None:
        """The samples of partials and the rest, put together, are those of the whole."""
        open_stream(live, "t", sample_rate=48_000)
        for _ in range(4):
            live.chunk(24_000, "t")
            live.end_partial()
        (appended,) = live.audio.open.values()
        assert 3 * HALF < sum(map(len, appended)) < 4 * HALF
        live.send("end_utterance", id=1, stream_id="t")
        live.send("flush", id=2)
        (job,) = live.jobs.values()
        whole = resampled(base64.b64decode(pcm(4 * 24_000)), 48_000)
        assert np.array_equal(job.utterance.samples, whole)

    def test_it_does_not_while_nobody_reads(self, live: Conversation) -> None:
        live.reads_lines = False
        live.send("ping", id=1)
        live.chunk(HALF, "s")
        assert live.partials == {}
        live.reads_lines = True
        live.perform()
        assert len(live.partials) == 1

    def test_silence_and_empty_texts_give_partials(self, live: Conversation) -> None:
        live.chunk(HALF, "s", id=1)
        (event,) = live.end_partial("")
        assert (event["text"], event["stable_text"], event["language"], event["revision"]) == ("", "", None, 1)


class TestEvents:
    def test_a_hypothesis_is_an_event(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.now += 0.25
        (event,) = live.end_partial()
        expected = {
            "type": "partial_result",
            "event": True,
            "n": 1,
            "stream_id": "s",
            "utterance_id": "s-1",
            "revision": 1,
            "stable_text": "",
            "text": "one",
            "changed_from": 0,
            "language": "English",
            "audio_seconds": 0.5,
            "settled_ms": 0,
            "ends_sentence": False,
            "ends_sentence_probability": None,
            "trailing_silence_ms": 0,
            "samples_buffered": HALF,
            "chunks": 1,
            "is_final": False,
            "seconds": 0.04,
            "queue_seconds": 0.25,
            "tokens": 4,
            "verified_tokens": 1,
        }
        assert event == expected

    def test_an_engine_that_does_not_keep_up_lengthens_the_interval(self, live: Conversation) -> None:
        live.sustained_ms = 700
        live.chunk(HALF, "s")
        assert live.end_partial()[0]["interval_ms"] == 700
        live.chunk(HALF, "s")
        assert partials_of(live) == []
        live.chunk(HALF, "s")
        live.sustained_ms = 300
        assert live.end_partial()[0]["interval_ms"] == 500  # as was asked for
        live.chunk(HALF, "s")
        assert len(partials_of(live)) == 1

    def test_an_app_may_redraw_from_the_first_character_that_changed(self, live: Conversation) -> None:
        changed = []
        for text in ("Seven", "Seven three", "Seven tree", "Seven tree", "", "Eight"):
            live.chunk(HALF, "s")
            changed += [event["changed_from"] for event in live.end_partial(text)]
        assert changed == [0, 5, 7, 10, 0, 0]

    def test_what_changed_counts_from_the_last_partial_that_was_written(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.end_partial("a b c")
        live.has_written = False
        live.chunk(HALF, "s")
        live.end_partial("a x")
        live.chunk(HALF, "s")  # it replaces no partial that is not written: there is none to compute
        live.has_written = True
        (event,) = live.perform()
        assert (event["text"], event["changed_from"]) == ("a x", 2)

    def test_the_first_partial_of_the_next_utterance_changed_from_its_beginning(self, live: Conversation) -> None:
        live.chunk(HALF, "s", utterance_id="u")
        live.end_partial("a b")
        live.send("end_utterance", id=1, stream_id="s")
        live.chunk(HALF, "s", utterance_id="u")
        (event,) = live.end_partial("a b")
        assert event["changed_from"] == 0

    def test_replies_that_wait_keep_nothing_of_streams_that_were_stopped(self) -> None:
        talk = begun()
        talk.send("transcribe", audio="/a.wav")
        for stream_id in ("x", "y"):
            open_stream(talk, stream_id)
            talk.chunk(HALF, stream_id)
            talk.send("stop_stream", stream_id=stream_id)
        talk.read("/a.wav")
        talk.decode()
        assert not talk.session._state.replies._shown

    @given(texts=st.lists(st.text(alphabet="ab\U0001f600\u0301 ", max_size=6), max_size=8))
    def test_what_an_app_redraws_gives_the_text(self, texts: list[str]) -> None:
        live = Conversation()
        live.send("hello", want=["events"])
        open_stream(live, auto_flush=True)
        live.load()
        shown = ""
        for text in texts:
            live.chunk(HALF, "s")
            (event,) = live.end_partial(text)
            start = event["changed_from"]
            assert shown[:start] == event["text"][:start]
            assert start == len(shown) or start == len(event["text"]) or shown[start] != event["text"][start]
            shown = shown[:start] + event["text"][start:]
            assert shown == event["text"]

    def test_settled_is_the_audio_since_the_text_changed(self, live: Conversation) -> None:
        settled = []
        for text in ("a", "a", "a", "a b", "a b"):
            live.chunk(HALF, "s")
            settled += [event["settled_ms"] for event in live.end_partial(text)]
        assert settled == [0, 500, 1000, 0, 500]

    def test_a_sentence_that_ends_has_the_probability_of_its_mark(self, live: Conversation) -> None:
        hints = []
        for text in ("Seven", "Seven.", "Seven. Three"):
            live.chunk(HALF, "s")
            hints += [(event["ends_sentence"], event["ends_sentence_probability"]) for event in live.end_partial(text)]
        assert hints == [(False, None), (True, 0.75), (False, None)]

    def test_silence_at_the_end_is_measured(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        assert live.end_partial()[0]["trailing_silence_ms"] == 0
        live.send("audio_chunk", stream_id="s", pcm16=pcm(HALF, 0))
        assert live.end_partial()[0]["trailing_silence_ms"] == 500

    def test_the_time_counts_from_the_chunk_that_made_it_due(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.now += 1.0
        live.chunk(HALF, "s")
        live.now += 1.0
        live.chunk(HALF, "s")
        live.now += 1.0
        assert live.end_partial()[0]["queue_seconds"] == 3.0
        live.now += 1.0
        assert live.end_partial()[0]["queue_seconds"] == 3.0

    def test_what_is_stable_grows_and_stays_when_the_model_changes_its_mind(self, live: Conversation) -> None:
        rule, stable, events = LocalAgreement(), [], []
        for text in ("a b c", *["a b c d"] * 9, "x b c d"):
            live.chunk(HALF, "s")
            events += live.end_partial(text)
            rule.add(text, len(events) / 2)
            stable.append(rule.text)
        assert [event["stable_text"] for event in events] == stable
        assert (stable[0], stable[-1]) == ("", "a b c")
        assert [event["revision"] for event in events] == [*range(1, 12)]
        assert events[-1]["text"] == "x b c d"

    def test_the_next_utterance_starts_over(self, live: Conversation) -> None:
        for _ in range(3):
            live.chunk(2 * HALF, "s")
            live.end_partial("a b")
        live.send("end_utterance", id=1, stream_id="s")
        live.chunk(HALF, "s")
        (event,) = live.end_partial("c")
        assert [event[name] for name in ("utterance_id", "revision", "stable_text", "audio_seconds")] == [
            "s-2",
            1,
            "",
            0.5,
        ]

    def test_of_each_stream_one_waits_to_be_written_and_no_more_is_computed(self, live: Conversation) -> None:
        open_stream(live, "t")
        live.chunk(HALF, "s")
        live.chunk(HALF, "t")
        live.has_written = False
        live.end_partial()
        live.end_partial()
        for _ in range(3):
            live.chunk(HALF, "s")
        assert live.partials == {}
        live.has_written = True
        events = live.perform()
        assert [event["stream_id"] for event in events] == ["s", "t"]
        assert [len(partial.samples) for partial in partials_of(live)] == [3 * HALF]

    def test_one_that_waits_when_its_utterance_ends_is_not_delivered(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.has_written = False
        assert live.end_partial() == []
        assert [line["type"] for line in live.send("end_utterance", id=1, stream_id="s")] == ["utterance_queued"]
        live.has_written = True
        assert live.perform() == []

    def test_lines_go_before_it(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.reads_lines = False
        live.send("ping", id=1)
        live.end_partial()
        assert live.session.take_partial() is None
        live.reads_lines = True
        assert [line["type"] for line in live.perform()] == ["pong", "partial_result"]

    def test_none_is_delivered_to_a_client_that_wants_events_no_more(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.chunk(HALF, "s")
        live.reads_lines = False
        live.end_partial()
        live.send("hello", want=[])
        live.reads_lines = True
        assert [line["type"] for line in live.perform()] == ["capabilities"]
        assert live.end_partial() == []

    def test_the_reply_to_a_chunk_with_an_id_has_the_latest_too(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.end_partial("a b")
        (reply,) = live.chunk(10, "s", id=7)
        assert (reply["id"], reply["text"], reply["revision"]) == (7, "a b", 1)
        assert "event" not in reply


class TestLockStep:
    def test_the_reply_to_a_chunk_has_the_latest_hypothesis(self, talk: Conversation) -> None:
        (first,) = talk.chunk(HALF, "s", utterance_id="u")
        expected = {
            "type": "partial_result",
            "stream_id": "s",
            "utterance_id": "u",
            "revision": 0,
            "stable_text": "",
            "text": "",
            "changed_from": 0,
            "language": None,
            "audio_seconds": 0.0,
            "settled_ms": 0,
            "ends_sentence": False,
            "ends_sentence_probability": None,
            "trailing_silence_ms": 0,
            "samples_buffered": HALF,
            "chunks": 1,
            "is_final": False,
        }
        assert first == expected
        assert talk.end_partial("a b") == []
        (second,) = talk.chunk(100, "s", utterance_id="u")
        latest = {"revision": 1, "text": "a b", "language": "English", "audio_seconds": 0.5}
        assert second == {**expected, **latest, "samples_buffered": HALF + 100, "chunks": 2}
        (again,) = talk.chunk(100, "s", seq=1)
        (duplicate,) = talk.chunk(100, "s", seq=1)
        assert (duplicate["duplicate"], duplicate["text"], again["text"]) == (True, "a b", "a b")

    def test_nothing_is_sent_unasked(self, talk: Conversation) -> None:
        for _ in range(4):
            assert len(talk.chunk(HALF, "s")) == 1
            assert talk.end_partial() == []

    def test_a_stream_without_partials_is_delivered_what_it_always_was(self, talk: Conversation) -> None:
        (ready,) = open_stream(talk, "t", partials=False)
        assert not {"partials", "partial_interval_ms", "final_policy"} & set(ready)
        (reply,) = talk.chunk(HALF, "t")
        delivered = {"type": "partial_result", "stream_id": "t", "text": "", "samples_buffered": HALF, "chunks": 1}
        assert reply == {**delivered, "is_final": False}
        talk.send("end_utterance", stream_id="t")
        talk.send("flush")
        (batch,) = talk.decode()
        assert not {"final_policy", "verified_tokens"} & set(batch["items"][0])

    def test_stream_ready_reports_what_was_asked(self, talk: Conversation) -> None:
        (ready,) = open_stream(talk, "t", partial_interval_ms=100)
        assert (ready["partials"], ready["partial_interval_ms"], ready["final_policy"]) == (True, 100, "guarded")

    @pytest.mark.parametrize("policy", ["strict", "fast"])
    def test_another_policy_is_echoed_with_a_warning_that_finals_are_guarded(
        self, talk: Conversation, policy: str
    ) -> None:
        (ready,) = open_stream(talk, "t", final_policy=policy)
        assert (ready["final_policy"], ready["warnings"]) == (policy, ["final_policy_guarded"])

    @pytest.mark.parametrize(
        "bad", [{"partial_interval_ms": 99}, {"partial_interval_ms": 60_001}, {"final_policy": "any"}, {"partials": 2}]
    )
    def test_what_cannot_be_is_refused(self, talk: Conversation, bad: dict) -> None:
        (error,) = open_stream(talk, "t", **bad)
        assert (error["code"], error["data"]["field"]) == ("invalid_params", next(iter(bad)))


class TestTheEndOfAnUtterance:
    @pytest.mark.parametrize("boundary", ["end_utterance", "vad_boundary"])
    def test_its_job_has_its_number(self, boundary: str) -> None:
        live = begun("events")
        live.chunk(HALF, "s")
        (partial,) = partials_of(live)
        live.end_partial()
        live.send(boundary, id=1, stream_id="s")
        live.send("flush", id=2)
        (job,) = live.jobs.values()
        assert job.audio_id == partial.audio_id
        (batch,) = live.decode(transcript("Done.", verified_tokens=3))
        (item,) = batch["items"]
        assert (item["final_policy"], item["verified_tokens"], item["text"]) == ("guarded", 3, "Done.")

    def test_one_without_partials_has_none(self, live: Conversation) -> None:
        live.chunk(HALF - 1, "s")
        live.send("end_utterance", id=1, stream_id="s")
        live.send("flush", id=2)
        (job,) = live.jobs.values()
        assert not job.partials
        assert not {"final_policy", "verified_tokens"} & set(live.decode()[0]["items"][0])

    @pytest.mark.parametrize("brought", [{"pcm16": pcm(100)}, {"audio": "/a.wav"}])
    def test_a_boundary_that_brings_its_audio_leaves_the_open_utterance_alone(
        self, live: Conversation, brought: dict
    ) -> None:
        live.chunk(HALF, "s")
        live.send("end_utterance", id=1, stream_id="s", **brought)
        if live.reads:
            live.read("/a.wav")
        live.send("flush", id=2)
        (job,) = live.jobs.values()
        assert not job.partials
        (event,) = live.end_partial()
        assert (event["utterance_id"], event["revision"]) == ("s-1", 1)

    def test_what_the_engine_says_of_it_afterwards_is_dropped(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.chunk(HALF, "s")
        live.send("end_utterance", id=1, stream_id="s")
        assert live.end_partial() == []
        assert live.partials == {}

    def test_one_that_was_asked_to_end_is_not_reported(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.send("end_utterance", id=1, stream_id="s")
        live.send("flush", id=2)
        assert live.end_partial(Cancelled("its job has come")) == []
        assert live.decode()[0]["failed"] == 0

    def test_only_the_first_decoding_has_the_number(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.end_partial()
        live.send("end_utterance", id=1, stream_id="s")
        live.wait(60.0)
        (job,) = live.jobs.values()
        assert job.partials
        live.decode()
        live.send("flush", id=2, max_new_tokens=5)
        (again,) = live.jobs.values()
        assert not again.partials
        (batch,) = live.decode()
        assert not {"final_policy", "verified_tokens"} & set(batch["items"][0])
        assert live.audio.open == {}

    def test_a_failure_reports_nothing_of_the_policy(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.send("end_utterance", id=1, stream_id="s")
        live.send("flush", id=2)
        (batch,) = live.decode(DecodeFailed("planted"))
        assert not {"final_policy", "verified_tokens"} & set(batch["items"][0])

    def test_one_that_grows_too_long_is_split_and_its_number_goes_with_it(self) -> None:
        live = begun("events", settings=Settings(max_utterance_seconds=1.0), on_limit="split")
        live.chunk(2 * HALF, "s", utterance_id="u")
        live.end_partial()
        (reply,) = live.chunk(HALF, "s", utterance_id="u", id=1)
        assert reply["split"] == {"utterance_id": "u", "samples": 2 * HALF}
        assert (reply["utterance_id"], reply["revision"], reply["samples_buffered"]) == ("s-1", 0, HALF)
        (event,) = live.end_partial("again")
        assert (event["utterance_id"], event["revision"], event["audio_seconds"]) == ("s-1", 1, 0.5)
        assert live.chunk(1, "s", utterance_id="u", id=2)[0]["samples_buffered"] == HALF + 1
        live.send("flush", id=3)
        (job,) = live.jobs.values()
        assert (job.partials, len(job.utterance.samples)) == (1, 2 * HALF)
        assert live.send("end_utterance", id=4, stream_id="s")[0]["utterance_id"] == "s-1"

    def test_one_over_the_limit_is_refused_and_goes_on(self) -> None:
        live = begun("events", settings=Settings(max_utterance_seconds=1.0))
        open_stream(live, "t")
        live.chunk(2 * HALF, "s")
        live.chunk(HALF, "t")
        assert live.chunk(1, "s", id=1)[0]["code"] == "limit_exceeded"
        assert [event["stream_id"] for event in live.end_partial() + live.end_partial()] == ["s", "t"]
        assert live.send("end_utterance", id=2, stream_id="s")[0]["samples"] == 2 * HALF

    def test_a_boundary_without_audio_changes_nothing(self, live: Conversation) -> None:
        assert live.send("end_utterance", id=1, stream_id="s")[0]["code"] == "no_audio"
        live.chunk(0, "s", utterance_id="nothing")
        assert live.send("end_utterance", id=2, stream_id="s")[0]["code"] == "no_audio"
        live.chunk(HALF, "s", utterance_id="u")
        assert live.end_partial()[0]["utterance_id"] == "u"
        assert live.send("end_utterance", id=3, stream_id="s")[0]["utterance_id"] == "u"


class TestNames:
    def test_a_boundary_takes_the_name_that_the_chunks_gave(self, talk: Conversation) -> None:
        for stream in ("s", "without"):
            open_stream(talk, "without", partials=False)
            talk.chunk(HALF, stream)
            talk.chunk(HALF, stream, utterance_id="s-1" if stream == "s" else "u")
            assert talk.send("end_utterance", stream_id=stream)[0]["utterance_id"] == ("s-1" if stream == "s" else "u")

    def test_a_boundary_that_names_its_own_wins(self, talk: Conversation) -> None:
        talk.chunk(HALF, "s", utterance_id="u")
        assert talk.send("end_utterance", stream_id="s", utterance_id="mine")[0]["utterance_id"] == "mine"
        assert talk.chunk(HALF, "s")[0]["utterance_id"] == "s-1"

    @pytest.mark.parametrize("partials", [True, False])
    def test_a_chunk_of_another_utterance_is_refused_and_nothing_else_is_lost(self, partials: bool) -> None:
        talk = begun(partials=partials)
        talk.chunk(HALF, "s", utterance_id="u")
        (error,) = talk.chunk(HALF, "s", utterance_id="v")
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "utterance_id")
        assert talk.chunk(HALF, "s", utterance_id="u")[0]["samples_buffered"] == 2 * HALF
        talk.send("end_utterance", stream_id="s")
        assert talk.chunk(HALF, "s", utterance_id="v")[0]["samples_buffered"] == HALF
        talk.send("end_utterance", stream_id="s")
        talk.send("flush")
        talk.decode()
        (batch,) = talk.decode()
        delivered = [(item["utterance_id"], item["samples"], item["audio_gap"]) for item in batch["items"]]
        assert delivered == [("u", 2 * HALF, True), ("v", HALF, False)]
        talk.monitor.finish()

    def test_a_name_that_cannot_be_one_is_refused(self, talk: Conversation) -> None:
        assert talk.chunk(HALF, "s", utterance_id="\n")[0]["code"] == "invalid_params"

    def test_inline_audio_does_not_take_the_name_of_the_open_utterance(self, talk: Conversation) -> None:
        assert talk.chunk(HALF, "s")[0]["utterance_id"] == "s-1"
        assert talk.send("end_utterance", stream_id="s", pcm16=pcm(10))[0]["utterance_id"] == "s-2"
        assert talk.send("end_utterance", stream_id="s")[0]["utterance_id"] == "s-1"

    def test_an_automatic_name_skips_names_of_open_and_waiting_utterances(self) -> None:
        talk = begun(partials=False)
        assert talk.send("end_utterance", stream_id="s", utterance_id="s-1", pcm16=pcm(10))[0]["utterance_id"] == "s-1"
        talk.chunk(HALF, "s", utterance_id="s-2")
        assert talk.send("end_utterance", stream_id="s", pcm16=pcm(10))[0]["utterance_id"] == "s-3"
        assert talk.send("end_utterance", stream_id="s")[0]["utterance_id"] == "s-2"

    @pytest.mark.parametrize("partials", [True, False])
    def test_an_automatic_name_skips_what_a_stream_of_the_same_name_has_left(self, partials: bool) -> None:
        talk = begun(partials=partials)
        assert talk.send("end_utterance", stream_id="s", pcm16=pcm(10))[0]["utterance_id"] == "s-1"
        talk.send("stop_stream", stream_id="s")
        open_stream(talk, "s", partials=partials)
        talk.chunk(HALF, "s")
        assert talk.send("end_utterance", stream_id="s")[0]["utterance_id"] == "s-2"

    def test_an_utterance_that_goes_on_does_not_take_the_name_of_the_part_that_was_split_off(self) -> None:
        names = UtteranceNames("s", lambda *_: False)
        names.set("s-1")
        names.split()
        assert names.next() == "s-2"


class TestSpeechOfWhichNoJobComes:
    """`Speeches` in the conversation fails where an utterance is forgotten twice, or after its job."""

    def streaming(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.end_partial()
        assert len(live.audio.open) == 1

    def forgotten(self, live: Conversation) -> bool:
        return live.audio.open == {} and live.jobs == {}

    def test_its_stream_is_stopped(self, live: Conversation) -> None:
        self.streaming(live)
        live.send("stop_stream", id=1, stream_id="s")
        assert self.forgotten(live)

    def test_its_stream_is_restarted(self, live: Conversation) -> None:
        self.streaming(live)
        assert open_stream(live, restart=True, id=1)[0]["dropped_samples"] == HALF
        assert self.forgotten(live)
        live.chunk(HALF, "s")
        assert live.end_partial()[0]["revision"] == 1

    def test_it_is_cancelled_while_it_is_open(self, live: Conversation) -> None:
        self.streaming(live)
        (reply,) = live.send("cancel", id=1, stream_id="s", utterance_id="s-1")
        assert (reply["state"], reply["dropped_samples"]) == ("cancelled", HALF)
        assert self.forgotten(live)
        live.chunk(HALF, "s")
        assert live.end_partial()[0]["utterance_id"] == "s-2"
        assert live.send("cancel", id=2, stream_id="s", utterance_id="other")[0]["state"] == "unknown"
        live.send("end_utterance", id=3, stream_id="s")
        live.end_of_input()
        live.decode()
        live.finish()
        live.monitor.finish()

    def test_it_is_cancelled_before_its_turn_comes(self, live: Conversation) -> None:
        self.streaming(live)
        live.send("end_utterance", id=1, stream_id="s")
        assert live.send("cancel", id=2, stream_id="s", utterance_id="s-1")[0]["state"] == "cancelled"
        assert self.forgotten(live)

    def test_its_time_is_over_before_its_turn_comes(self, live: Conversation) -> None:
        self.streaming(live)
        live.send("end_utterance", id=1, stream_id="s", timeout_ms=100)
        live.wait(0.1)
        assert self.forgotten(live)

    def test_it_is_discarded_with_its_stream(self, live: Conversation) -> None:
        self.streaming(live)
        live.send("end_utterance", id=1, stream_id="s")
        live.send("stop_stream", id=2, stream_id="s", mode="discard")
        assert self.forgotten(live)

    @pytest.mark.parametrize("end", ["stop", "abort", "end_of_input", "engine_lost", "terminate"])
    def test_the_conversation_ends(self, live: Conversation, end: str) -> None:
        self.streaming(live)
        live.chunk(HALF, "s")
        assert len(live.partials) == 1
        live.reads_lines = False
        if end in ("stop", "abort"):
            live.send("stop", id=1, mode="abort" if end == "abort" else "drain")
        elif end == "engine_lost":
            live.session.engine_lost(EngineStalled("it has not moved"))
        else:
            getattr(live, end)()
        live.reads_lines = True
        live.perform()
        assert self.forgotten(live)
        assert live.session.pending == 0
        assert live.end_partial() == []
        assert live.finish()[-1]["dropped_samples"] == 2 * HALF

    def test_its_job_is_cancelled_in_the_engine_and_is_not_forgotten_besides(self, live: Conversation) -> None:
        self.streaming(live)
        live.send("end_utterance", id=1, stream_id="s")
        live.send("flush", id=2)
        live.send("cancel", id=3, stream_id="s", utterance_id="s-1")
        live.decode(Cancelled("at the next step"))
        assert self.forgotten(live)

    def test_a_cancel_names_open_and_waiting_utterances_alike(self, live: Conversation) -> None:
        live.chunk(HALF, "s", utterance_id="u")
        live.send("end_utterance", id=1, stream_id="s")
        live.chunk(HALF, "s", utterance_id="u")
        (reply,) = live.send("cancel", id=2, stream_id="s", utterance_id="u")
        assert (reply["state"], reply["dropped_samples"]) == ("cancelled", HALF)
        (batch,) = live.send("flush", id=3)
        assert [item["error"]["code"] for item in batch["items"]] == ["cancelled"]

    def test_what_is_decoded_may_still_win_though_the_open_utterance_of_its_name_is_dropped(
        self, live: Conversation
    ) -> None:
        live.chunk(HALF, "s", utterance_id="u")
        live.send("end_utterance", id=1, stream_id="s")
        live.send("flush", id=2)
        live.chunk(HALF, "s", utterance_id="u")
        (reply,) = live.send("cancel", id=3, stream_id="s", utterance_id="u")
        assert (reply["state"], reply["dropped_samples"]) == ("cancelling", HALF)
        assert live.decode()[0]["failed"] == 0

    def test_without_partials_an_open_utterance_has_no_name_to_cancel(self, live: Conversation) -> None:
        open_stream(live, "t", partials=False)
        live.chunk(HALF, "t")
        (reply,) = live.send("cancel", id=1, stream_id="t", utterance_id="t-1")
        assert (reply["state"], "dropped_samples" in reply) == ("unknown", False)


class TestTrouble:
    @pytest.mark.parametrize("error", [DecodeFailed("planted"), OutOfMemory("planted"), Cancelled("planted")])
    def test_one_that_fails_is_not_delivered_and_the_next_interval_tries_again(self, error: Exception) -> None:
        live = begun("events")
        live.chunk(HALF, "s")
        assert live.end_partial(error) == []
        assert live.partials == {}
        live.chunk(HALF, "s")
        (event,) = live.end_partial()
        assert (event["revision"], event["audio_seconds"]) == (1, 1.0)

    def test_gaps_and_duplicates_leave_other_streams_alone(self, live: Conversation) -> None:
        open_stream(live, "t")
        live.chunk(HALF, "s", seq=0)
        live.chunk(HALF, "t", seq=0)
        live.chunk(HALF, "s", seq=0)
        live.chunk(HALF, "s", seq=5)
        assert live.send("audio_chunk", stream_id="s", pcm16="!!")[0]["type"] == "stream_error"
        assert live.chunk(HALF, "s", seq=1)[0]["code"] == "seq_out_of_order"
        latest = [live.end_partial()[0] for _ in range(3)]
        delivered = [(one["stream_id"], one["audio_seconds"]) for one in latest]
        assert delivered == [("s", 0.5), ("t", 0.5), ("s", 1.0)]
        live.send("end_utterance", id=1, stream_id="s")
        live.send("end_utterance", id=2, stream_id="t")
        live.send("flush", id=3)
        live.decode()
        (batch,) = live.decode()
        assert [(item["samples"], item["audio_gap"]) for item in batch["items"]] == [(2 * HALF, True), (HALF, False)]

    def test_chunks_after_the_end_are_rejected_and_ignored(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.send("stop", id=1)
        assert live.chunk(HALF, "s")[0]["code"] == "shutting_down"
        assert live.end_partial() == []

    def test_a_load_that_fails_closes_the_stream(self) -> None:
        live = Conversation()
        live.send("hello", want=["events"])
        open_stream(live, id=1)
        live.chunk(HALF, "s")
        assert live.fail_load()[0]["code"] == "model_not_found"
        assert live.chunk(HALF, "s")[0]["code"] == "unknown_stream"
        open_stream(live, id=2)
        live.load()
        assert live.partials == {}


class TestHowItIsDoing:
    def test_an_engine_that_computes_a_partial_is_busy(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.now += 2.0
        (pong,) = live.send("ping", id=1)
        assert (pong["state"], pong["busy_ms"]) == ("busy", 2000)
        (status,) = live.send("status", id=2)
        assert (status["queues"]["listening"], status["queues"]["decoding"]) == (1, 0)
        live.end_partial()
        assert live.send("ping", id=3)[0]["state"] == "ready"
        assert live.session.busy_since is None

    def test_it_is_busy_until_the_last_of_its_work_is_done(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.send("end_utterance", id=1, stream_id="s", pcm16=pcm(100))
        live.send("flush", id=2)
        live.decode()
        assert live.session.busy_since is not None
        live.end_partial()
        assert live.session.busy_since is None

    def test_the_watchdog_counts_the_audio_of_partials_up_to_a_limit(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        assert live.session.decoding_seconds == 0.5
        live.end_partial()
        for _ in range(5):
            live.chunk(16 * HALF, "s")
            live.end_partial()
        live.chunk(16 * HALF, "s")
        assert live.session.decoding_seconds == MAX_STEP_SECONDS == 30.0

    def test_one_that_is_dropped_keeps_the_engine_busy_until_it_comes_back(self, live: Conversation) -> None:
        live.chunk(HALF, "s")
        live.send("stop_stream", id=1, stream_id="s")
        assert live.session.busy_since is not None
        live.end_partial(Cancelled("forgotten"))
        assert live.session.busy_since is None


def complete_requested_partial(talk: Conversation) -> None:
    if talk.partials:
        talk.end_partial()


def let_engine_catch_up(talk: Conversation) -> None:
    """Let the engine catch up: it cancels partials of ended utterances, and decodes all jobs."""
    while ended := [one.id for one in partials_of(talk) if one.audio_id in talk.audio.ended]:
        talk.end_partial(Cancelled("its utterance has ended"), job_id=ended[0])
    while talk.jobs:
        talk.decode(Cancelled("at the next step") if min(talk.jobs) in talk.cancelled else None)


ACTIONS: dict[str, Callable[[Conversation], object]] = {
    "speak": lambda talk: talk.chunk(HALF, "s"),
    "partial": complete_requested_partial,
    "end": lambda talk: talk.send("end_utterance", id="e", stream_id="s", timeout_ms=100),
    "flush": lambda talk: talk.send("flush", id="f"),
    "cancel": lambda talk: talk.send("cancel", id="c", stream_id="s", utterance_id="s-1"),
    "time": lambda talk: talk.wait(0.1),
    "catch up": let_engine_catch_up,
    "close": lambda talk: talk.send("stop_stream", id="x", stream_id="s", mode="discard"),
}


@pytest.mark.parametrize("first", ["speak", "partial", "end", "cancel", "close"])
def test_in_every_order_each_utterance_with_partials_has_one_end(first: str) -> None:
    rest = [name for name in ACTIONS if name not in (first, "close")]
    for order in permutations(rest, 4):
        live = begun("events", max_batch_delay_ms=50)
        live.chunk(HALF, "s")
        for name in (first, *order, "close" if first != "close" else "time"):
            ACTIONS[name](live)
        live.end_of_input()
        let_engine_catch_up(live)
        assert live.session.pending == 0, order
        live.finish()
        live.monitor.finish()
        assert live.audio.open == {}, order
