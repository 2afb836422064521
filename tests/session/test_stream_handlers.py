"""Streams, boundaries, flushes and batches as a client sees them; time stands until a test moves it."""

import numpy as np
import pytest
from support.conversation import Conversation, pcm
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed, EngineStalled, NonFiniteOutput
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_JOBS
from qwen3_asr_mlx_runtime.settings import Settings


def loaded(*want: str, **settings: object) -> Conversation:
    talk = Conversation(Settings(**settings))
    if want:
        talk.send("hello", want=list(want))
    talk.send("start")
    talk.load()
    return talk


@pytest.fixture
def talk() -> Conversation:
    """In lock step, with the model loaded and a stream whose batch no test fills by chance."""
    talk = loaded()
    talk.send("start_stream", batch_size=16, max_batch_delay_ms=1000)
    return talk


@pytest.fixture
def live() -> Conversation:
    """With events, and a stream that flushes itself."""
    talk = loaded("events")
    talk.send("start_stream", stream_id="s", auto_flush=True, batch_size=3, max_batch_delay_ms=100)
    return talk


def kinds(lines: list[dict]) -> list[str]:
    return [line.get("code", line["type"]) for line in lines]


def results(line: dict) -> list[tuple[str, str | None]]:
    return [(item["utterance_id"], item["text"] or item["error"]["code"]) for item in line["items"]]


class TestLockStep:
    def test_the_boundary_that_fills_the_batch_is_answered_with_it(self) -> None:
        talk = loaded()
        talk.send("start_stream", batch_size=2)
        assert talk.speak("u1")[0]["queued"] == 1
        assert talk.speak("u2") == []
        talk.decode(transcript("One."))
        (final,) = talk.decode(transcript("Two."))
        assert (final["reason"], final["count"], final["failed"]) == ("batch_size", 2, 0)
        assert results(final) == [("u1", "One."), ("u2", "Two.")]
        assert final["utterance_id"] == "u2"
        talk.monitor.finish()

    def test_a_flush_is_answered_with_what_is_queued(self, talk: Conversation) -> None:
        talk.speak("u1")
        assert talk.send("flush") == []
        (final,) = talk.decode(transcript("One."))
        assert (final["reason"], results(final)) == ("flush", [("u1", "One.")])

    def test_row_66_the_timer_only_starts_the_work(self, talk: Conversation) -> None:
        talk.speak("u1")
        assert (talk.wait(0.999), talk.jobs) == ([], {})
        assert talk.wait(0.001) == []
        assert len(talk.jobs) == 1
        assert talk.decode(transcript("Ahead.")) == []
        assert results(talk.send("flush")[0]) == [("u1", "Ahead.")]

    def test_what_was_decoded_ahead_with_other_options_is_decoded_again(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.speak("u2", max_new_tokens=9)
        talk.wait(1.0)
        talk.decode()
        talk.decode()
        assert talk.send("flush", max_new_tokens=5) == []
        (job,) = talk.jobs.values()
        assert job.utterance.max_new_tokens == 5
        assert results(talk.decode(transcript("Again."))[0]) == [("u1", "Again."), ("u2", "Seven three one.")]

    def test_what_was_decoded_ahead_is_not_decoded_again_for_another_mode(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.wait(1.0)
        assert talk.decode(transcript("Ahead.")) == []
        talk.speak("u2")
        assert talk.send("flush", decoder_mode="batched") == []
        assert [job.decoder_mode for job in talk.jobs.values()] == ["batched"]
        (final,) = talk.decode(transcript("Now.", redecoded=1))
        assert results(final) == [("u1", "Ahead."), ("u2", "Now.")]
        assert (final["decoder_mode"], final["redecoded"]) == ("batched", 1)
        assert [item["redecoded"] for item in final["items"]] == [0, 1]

    def test_what_waits_for_its_turn_is_decoded_in_the_mode_of_the_flush(self, talk: Conversation) -> None:
        names = [f"u{number}" for number in range(6)]
        for name in names:
            talk.speak(name)
        talk.wait(1.0)
        assert len(talk.jobs) == MAX_JOBS["sequential"]
        talk.send("flush", decoder_mode="batched")
        modes = [job.decoder_mode for job in talk.jobs.values()]
        assert modes == ["sequential"] * 4 + ["batched"] * 2
        for _ in names[1:]:
            talk.decode()
        assert [name for name, _ in results(talk.decode()[0])] == names

    @pytest.mark.parametrize(
        ("ahead", "asked", "again"),
        [
            ({"decoder_mode": "batched", "drift_guard": False}, {"decoder_mode": "sequential"}, True),
            ({"decoder_mode": "batched", "drift_guard": False}, {"drift_guard": True}, True),
            ({"decoder_mode": "batched", "drift_guard": False}, {}, False),
            ({"decoder_mode": "batched"}, {"decoder_mode": "sequential"}, False),
            ({}, {"decoder_mode": "batched", "drift_guard": False}, False),
            ({}, {"logprobs": True}, True),
            ({"logprobs": True}, {"logprobs": False}, False),
        ],
    )
    def test_only_what_does_not_serve_is_decoded_again(self, ahead: dict, asked: dict, again: bool) -> None:
        talk = Conversation()
        talk.send("start_stream", max_batch_delay_ms=1000, **ahead)
        talk.load()
        talk.speak("u1")
        talk.wait(1.0)
        talk.decode()
        lines = talk.send("flush", **asked)
        assert bool(talk.jobs) is again
        (final,) = talk.decode() if again else lines
        assert ("token_logprobs" in final["items"][0]) is asked.get("logprobs", False)

    def test_a_boundary_that_fills_its_batch_reports_the_mode_of_it(self) -> None:
        talk = loaded()
        talk.send("start_stream", batch_size=4)
        for name in ("u1", "u2", "u3"):
            talk.speak(name)
        assert talk.speak("u4", decoder_mode="batched", drift_guard=False, logprobs=True) == []
        jobs = [*talk.jobs.values()]
        assert {(job.decoder_mode, job.drift_guard) for job in jobs} == {("batched", False)}
        assert [job.utterance.logprobs for job in jobs] == [False, False, False, True]
        for _ in range(3):
            talk.decode()
        (final,) = talk.decode()
        assert (final["decoder_mode"], final["reason"]) == ("batched", "batch_size")
        assert ["token_logprobs" in item for item in final["items"]] == [False, False, False, True]

    def test_a_stream_has_a_mode_for_all_that_say_none(self) -> None:
        talk = Conversation()
        talk.send("hello", want=["events"])
        talk.send("start_stream", auto_flush=True, batch_size=2, decoder_mode="batched", logprobs=True)
        (ready,) = talk.load()
        assert ready["decoder_mode"] == "batched"
        talk.speak("u1")
        talk.speak("u2")
        assert [job.decoder_mode for job in talk.jobs.values()] == ["batched"] * 2
        events = [*talk.decode(), *talk.decode()]
        assert [event["decoder_mode"] for event in events] == ["batched"] * 2
        assert [item["confidence"]["minimum"] for event in events for item in event["items"]] == [0.6065] * 2

    def test_utterances_of_different_modes_do_not_share_an_event(self) -> None:
        talk = Conversation()
        talk.send("hello", want=["events"])
        talk.send("start_stream", auto_flush=True, batch_size=9, max_batch_delay_ms=10)
        talk.load()
        talk.speak("u1", decoder_mode="batched")
        talk.speak("u2")
        talk.wait(0.1)
        finals = talk.decode() + talk.decode()
        assert [(final["decoder_mode"], results(final)[0][0]) for final in finals] == [
            ("batched", "u1"),
            ("sequential", "u2"),
        ]

    def test_a_flush_with_a_bad_mode_loses_nothing(self, talk: Conversation) -> None:
        talk.speak("u1")
        assert kinds(talk.send("flush", decoder_mode="sequentail")) == ["invalid_params"]
        talk.send("flush")
        assert results(talk.decode()[0]) == [("u1", "Seven three one.")]

    def test_what_was_transcribed_in_time_stays_so_when_it_is_decoded_again(self, talk: Conversation) -> None:
        talk.speak("u1", timeout_ms=2000)
        talk.wait(1.0)
        talk.decode()
        talk.wait(9.0)
        talk.send("flush", max_new_tokens=7)
        assert results(talk.decode(transcript("Again."))[0]) == [("u1", "Again.")]

    def test_row_68_one_bad_utterance_fails_alone(self, talk: Conversation) -> None:
        for name in ("u1", "u2", "u3"):
            talk.speak(name)
        talk.send("flush")
        talk.decode(transcript("One."))
        talk.decode(NonFiniteOutput("NaN"))
        (final,) = talk.decode(transcript("Three."))
        assert (final["count"], final["failed"]) == (3, 1)
        assert results(final) == [("u1", "One."), ("u2", "non_finite_output"), ("u3", "Three.")]
        assert final["items"][1]["text"] is None

    def test_the_engine_gets_the_samples_as_they_came(self, talk: Conversation) -> None:
        talk.send("audio_chunk", pcm16=pcm(3, 16384), seq=0)
        talk.send("audio_chunk", pcm16=pcm(2, -32768), seq=1)
        talk.send("end_utterance")
        talk.send("flush")
        assert talk.jobs[1].utterance.samples.tolist() == [0.5, 0.5, 0.5, -1.0, -1.0]

    def test_options_are_the_utterances_then_the_flushs_then_the_streams_then_the_processes(self) -> None:
        talk = loaded(language="French", context="names", token_budget=1)
        talk.send("start_stream", batch_size=9, language="Arabic", max_new_tokens=2)
        talk.speak("u1", language="English")
        talk.speak("u2")
        talk.send("flush", max_new_tokens=3)
        talk.decode()
        options = [
            (job.utterance.language, job.utterance.context, job.utterance.max_new_tokens) for job in talk.jobs.values()
        ]
        assert options == [("Arabic", "names", 3)]

    def test_a_stream_and_an_utterance_may_leave_the_language_to_the_model_again(self) -> None:
        talk = loaded(language="French")
        talk.send("start_stream", batch_size=9, language="auto")
        talk.speak("u1")
        talk.speak("u2", language="ar")
        talk.send("start_stream", stream_id="b", language="ar")
        talk.speak("u3", "b", language="auto")
        talk.send("flush", language="Dutch")
        languages = {}
        while talk.jobs:
            job = talk.jobs[min(talk.jobs)]
            languages[job.id] = job.utterance.language
            talk.decode()
        assert languages == {1: "Dutch", 2: "Arabic", 3: None}

    def test_row_42_the_result_reports_of_a_gap(self, talk: Conversation) -> None:
        talk.chunk(10, seq=1)
        assert talk.chunk(10, seq=4)[0]["gap"] == {"expected": 2, "got": 4}
        talk.send("end_utterance")
        talk.chunk(10, seq=5)
        talk.send("end_utterance")
        talk.send("flush")
        talk.decode()
        assert [item["audio_gap"] for item in talk.decode()[0]["items"]] == [True, False]

    def test_row_42_a_refused_chunk_may_be_sent_again_under_its_number(self, talk: Conversation) -> None:
        talk.chunk(10, seq=1)
        assert kinds(talk.send("audio_chunk", seq=2, pcm16="?")) == ["bad_base64"]
        assert talk.chunk(10, seq=2)[0]["samples_buffered"] == 20
        assert kinds(talk.chunk(10, seq=1)) == ["seq_out_of_order"]
        assert talk.chunk(10, seq=2)[0]["duplicate"] is True

    def test_row_43_a_boundary_without_audio_does_not_count(self, talk: Conversation) -> None:
        assert kinds(talk.send("end_utterance") + talk.send("vad_boundary", pcm16="")) == ["no_audio", "no_audio"]
        talk.chunk()
        assert talk.send("end_utterance")[0]["utterance_id"] == "default-1"

    def test_row_45_a_full_utterance_takes_no_more_and_keeps_what_it_has(self) -> None:
        talk = loaded(max_utterance_seconds=1.0)
        talk.chunk(16_000)
        (error,) = talk.chunk(1)
        assert (error["code"], error["data"]) == ("limit_exceeded", {"dropped_samples": 1, "limit_seconds": 1.0})
        assert talk.send("end_utterance")[0]["samples"] == 16_000

    def test_row_45_a_full_utterance_may_be_split(self) -> None:
        talk = loaded(max_utterance_seconds=1.0)
        talk.send("start_stream", on_limit="split")
        talk.chunk(16_000)
        (partial,) = talk.chunk(10)
        assert partial["split"] == {"utterance_id": "default-1", "samples": 16_000}
        assert partial["samples_buffered"] == 10
        talk.send("flush")
        assert talk.decode()[0]["items"][0]["samples"] == 16_000

    def test_audio_that_waits_is_bounded_in_all_and_given_back_when_it_is_delivered(self) -> None:
        talk = loaded(max_pending_audio_seconds=1.0)
        talk.speak("u1", pcm16=pcm(8_000))
        talk.chunk(8_000)
        assert kinds(talk.chunk(1) + talk.speak("u2")) == ["limit_exceeded", "limit_exceeded"]
        talk.send("flush")
        talk.decode()
        assert kinds(talk.chunk(8_000)) == ["partial_result"]
        assert talk.send("status")[0]["queues"]["pending_audio_seconds"] == 1.0

    def test_a_flood_of_utterances_in_lock_step_is_finished(self) -> None:
        talk = loaded(max_pending_utterances=3)
        for _ in range(20):
            talk.speak("u", pcm16=pcm(1))
        talk.send("flush")
        while talk.jobs:
            talk.decode()
        assert "limit_exceeded" not in kinds(talk.monitor.replies)
        assert sum(reply.get("count", 0) for reply in talk.monitor.replies) == 20
        talk.monitor.finish()

    def test_row_46_a_stream_restarted_reports_what_it_dropped_and_counts_on(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.chunk(100)
        talk.send("end_utterance")
        talk.chunk(7)
        assert talk.send("start_stream")[0]["dropped_samples"] == 7
        talk.chunk(100)
        assert talk.send("end_utterance")[0]["utterance_id"] == "default-2"

    def test_row_60_streams_are_limited(self) -> None:
        talk = loaded(max_streams=2)
        talk.chunk(stream_id="a")
        assert talk.chunk(stream_id="a")[0].get("warnings") is None
        assert talk.chunk(stream_id="b")[0]["warnings"] == ["implicit_stream"]
        for lines in (talk.chunk(stream_id="c"), talk.send("start_stream", stream_id="c"), talk.speak("u", "c")):
            assert kinds(lines) == ["limit_exceeded"]
        talk.send("stop_stream", stream_id="a")
        assert kinds(talk.chunk(stream_id="c")) == ["partial_result"]

    def test_auto_flush_needs_events(self, talk: Conversation) -> None:
        (error,) = talk.send("start_stream", stream_id="x", auto_flush=True)
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "auto_flush")
        assert kinds(talk.send("stop_stream", stream_id="x")) == ["unknown_stream"]

    def test_utterances_of_requests_with_an_id_are_bounded_and_given_back_when_they_are_delivered(self) -> None:
        talk = loaded(max_pending_utterances=3)
        talk.send("start_stream")
        for number in range(3):
            talk.speak("u", id=number)
        talk.chunk(70)
        (refused,) = talk.send("end_utterance", id=3)
        assert (refused["code"], refused["data"]) == ("limit_exceeded", {"limit": 3})
        assert "--max-pending-utterances" in refused["message"]
        talk.send("flush", id=4)
        assert kinds(talk.send("end_utterance", id=5)) == ["limit_exceeded"]
        while talk.jobs:
            talk.decode()
        assert talk.send("end_utterance", id=6)[0]["samples"] == 70
        talk.send("flush", id=7)
        talk.decode()
        talk.monitor.finish()


class TestFiles:
    def test_a_boundary_with_a_file_is_answered_when_it_was_read(self, talk: Conversation) -> None:
        assert talk.speak("u1", audio="a.wav", pcm16=None) == []
        assert talk.read("a.wav")[0]["samples"] == 8

    def test_a_file_that_cannot_be_read_is_no_utterance(self, talk: Conversation) -> None:
        talk.speak("u1", audio="a.wav", pcm16=None)
        assert kinds(talk.fail_read("a.wav")) == ["audio_not_found"]
        assert talk.send("flush")[0]["count"] == 0

    def test_a_flush_waits_for_files_that_came_before_it_and_keeps_their_place(self, talk: Conversation) -> None:
        talk.speak("u1", audio="a.wav", pcm16=None, id=1)
        talk.speak("u2", id=2)
        assert talk.send("flush", id=3) == []
        talk.decode(transcript("Two."))
        assert [line["id"] for line in talk.read("a.wav")] == [1, 2]
        assert results(talk.decode(transcript("One."))[0]) == [("u1", "One."), ("u2", "Two.")]

    def test_a_file_that_is_slow_does_not_let_a_later_boundary_fill_the_batch_before_it(self) -> None:
        talk = loaded()
        talk.send("start_stream", batch_size=2)
        talk.speak("u1", audio="slow.wav", pcm16=None)
        talk.speak("u2", audio="fast.wav", pcm16=None)
        assert talk.read("fast.wav") == []
        assert kinds(talk.read("slow.wav")) == ["utterance_queued"]
        talk.decode()
        (final,) = talk.decode()
        assert (final["utterance_id"], [name for name, _ in results(final)]) == ("u2", ["u1", "u2"])

    def test_a_batch_goes_without_the_file_that_could_not_be_read(self, talk: Conversation) -> None:
        talk.speak("u1", audio="a.wav", pcm16=None)
        talk.speak("u2")
        talk.send("flush")
        talk.decode(transcript("Two."))
        error, queued, final = talk.fail_read("a.wav")
        assert (kinds([error, queued]), results(final)) == (["audio_not_found", "utterance_queued"], [("u2", "Two.")])

    def test_a_file_over_the_limit_of_waiting_audio_is_refused(self) -> None:
        talk = loaded(max_pending_audio_seconds=1.0)
        talk.speak("u1", audio="a.wav", pcm16=None)
        assert kinds(talk.read("a.wav", samples=np.zeros(16_001, np.float32))) == ["limit_exceeded"]

    def test_a_batch_holds_what_was_accepted_before_the_boundary_that_filled_it(self) -> None:
        talk = loaded()
        talk.send("start_stream", stream_id="a", batch_size=9)
        talk.send("start_stream", stream_id="b", batch_size=2)
        talk.speak("a1", "a")
        talk.speak("b1", "b", audio="slow.wav", pcm16=None)
        talk.send("flush", stream_id="a")
        talk.speak("a2", "a")
        talk.speak("b2", "b", audio="late.wav", pcm16=None)
        talk.speak("a3", "a")
        lines = talk.read("late.wav") + talk.read("slow.wav")
        while talk.jobs:
            lines += talk.decode()
        assert [[name for name, _ in results(line)] for line in lines if "items" in line] == [
            ["a1"],
            ["b1", "a2", "b2"],
        ]
        talk.send("flush")
        talk.decode()
        talk.monitor.finish()

    def test_a_flush_between_two_boundaries_is_delivered_between_their_outcomes(self) -> None:
        talk = loaded()
        talk.send("start_stream", stream_id="a", batch_size=9)
        talk.send("start_stream", stream_id="b", batch_size=1)
        talk.speak("a1", "a")
        talk.speak("b1", "b", audio="slow.wav", pcm16=None)
        talk.send("flush", stream_id="a")
        talk.speak("a2", "a")
        lines = talk.read("slow.wav")
        while talk.jobs:
            lines += talk.decode()
        assert [[name for name, _ in results(line)] for line in lines if "items" in line] == [["b1"], ["a1"]]
        talk.send("flush")
        talk.decode()
        talk.monitor.finish()

    def test_streams_that_change_their_way_of_delivery_do_not_wait_for_each_other(self) -> None:
        """A reply waits for an event, the event for a reply, and that reply for its turn behind the first."""
        talk = loaded("events")
        talk.send("start_stream", stream_id="a", auto_flush=True, max_batch_delay_ms=60_000)
        talk.send("start_stream", stream_id="b")
        talk.speak("a1", "a")
        talk.speak("b1", "b")
        talk.send("start_stream", stream_id="a", restart=True, batch_size=1)
        talk.speak("a2", "a", audio="slow.wav", pcm16=None)
        talk.send("flush", stream_id="b")
        talk.send("start_stream", id=1, stream_id="b", restart=True, auto_flush=True)
        talk.speak("b2", "b", id=2)
        talk.wait(1.0)
        talk.read("slow.wav")
        while talk.jobs:
            talk.decode()
        assert talk.session.pending == 0
        talk.monitor.finish()

    def test_what_an_event_takes_along_is_not_delivered_by_the_flush_as_well(self) -> None:
        talk = loaded("events")
        talk.send("start_stream", stream_id="a")
        talk.speak("a1", "a")
        talk.send("start_stream", stream_id="a", id=1, restart=True, auto_flush=True)
        talk.speak("a2", "a")
        talk.send("flush")
        *events, final = talk.decode() + talk.decode()
        assert [results(event) for event in events] == [[("a1", "Seven three one.")], [("a2", "Seven three one.")]]
        assert final["count"] == 0
        talk.monitor.finish()

    def test_what_an_event_takes_along_has_no_timer_of_its_own(self) -> None:
        talk = loaded("events")
        talk.send("start_stream", stream_id="a", max_batch_delay_ms=500)
        talk.speak("a1", "a")
        talk.send("start_stream", stream_id="a", id=1, restart=True, auto_flush=True, max_batch_delay_ms=0)
        talk.speak("a2", "a")
        talk.now += 1.0  # both timers are overdue
        talk.session.tick()
        talk.perform()
        events = talk.decode() + talk.decode()
        assert [results(event) for event in events] == [[("a1", "Seven three one.")], [("a2", "Seven three one.")]]
        talk.monitor.finish()

    def test_a_reply_with_an_id_does_not_overtake_earlier_outcomes_of_its_stream(self, talk: Conversation) -> None:
        talk.send("transcribe", audio="slow.wav")
        talk.speak("u1")
        talk.send("flush")
        talk.decode()
        talk.speak("u2")
        talk.send("flush", id="f")
        assert talk.decode() == []
        talk.read("slow.wav")
        lines = talk.decode()
        assert [results(line) for line in lines if "items" in line] == [
            [("u1", "Seven three one.")],
            [("u2", "Seven three one.")],
        ]
        talk.monitor.finish()


class TestEvents:
    def test_a_full_batch_comes_as_an_event(self, live: Conversation) -> None:
        for name in ("u1", "u2", "u3"):
            assert kinds(live.speak(name, "s")) == ["utterance_queued"]
        events = [event for text in ("One.", "Two.", "Three.") for event in live.decode(transcript(text))]
        assert [(event["event"], event["n"], event["reason"], "id" in event) for event in events] == [
            (True, number, "batch_size", False) for number in (1, 2, 3)
        ]
        assert [results(event) for event in events] == [[("u1", "One.")], [("u2", "Two.")], [("u3", "Three.")]]

    def test_a_flood_of_utterances_is_bounded(self) -> None:
        live = loaded("events", max_pending_utterances=5)
        live.send("start_stream", stream_id="s", auto_flush=True, batch_size=2)
        lines = [line for _ in range(9) for line in live.speak("u", "s", pcm16=pcm(1))]
        assert kinds(lines) == ["utterance_queued"] * 5 + ["limit_exceeded"] * 4
        live.decode()
        live.decode()
        assert kinds(live.speak("u", "s")) == ["utterance_queued"]
        live.end_of_input()
        while live.jobs:
            live.decode()
        live.monitor.finish()

    def test_row_66_the_delay_counts_from_the_oldest(self, live: Conversation) -> None:
        live.speak("u1", "s")
        live.wait(0.09)
        live.speak("u2", "s")
        assert (live.wait(0.009), live.jobs) == ([], {})
        live.wait(0.001)
        events = [*live.decode(), *live.decode()]
        assert [(event["reason"], event["count"]) for event in events] == [("delay", 1)] * 2
        assert live.wait(1.0) == []

    def test_row_61_a_flush_and_the_timer_at_the_same_time(self, live: Conversation) -> None:
        live.speak("u1", "s")
        live.now += 0.1
        live.send("flush", id="f")
        assert live.wait(0.0) == []
        event, reply = live.decode()
        assert (event["reason"], results(event)) == ("flush", [("u1", "Seven three one.")])
        assert (reply["id"], reply["count"]) == ("f", 0)

    def test_a_flush_is_answered_after_the_batches_on_their_way(self, live: Conversation) -> None:
        live.speak("u1", "s")
        live.wait(0.1)
        assert live.send("flush", id="f") == []
        assert [line["reason"] for line in live.decode()] == ["delay", "flush"]

    def test_utterances_of_several_streams_share_a_batch_where_their_options_agree(self, live: Conversation) -> None:
        for name in ("t", "other"):
            live.send("start_stream", stream_id=name, auto_flush=True, batch_size=3, max_batch_delay_ms=1000)
        live.speak("u1", "s")
        live.speak("u2", "other", language="Arabic")
        live.speak("u3", "t")
        live.speak("u4", "s")
        events = [event for _ in range(3) for event in live.decode()]
        assert [(event["reason"], [name for name, _ in results(event)]) for event in events] == [
            ("batch_size", [name]) for name in ("u1", "u3", "u4")
        ]

    def test_a_stream_is_delivered_in_the_order_of_its_boundaries_whatever_the_options(
        self, live: Conversation
    ) -> None:
        live.speak("u1", "s", language="Arabic")
        for name in ("u2", "u3", "u4"):
            live.speak(name, "s")
        events = [event for _ in range(4) for event in live.decode()]
        assert [name for event in events for name, _ in results(event)] == ["u1", "u2", "u3", "u4"]

    def test_a_chunk_without_an_id_is_answered_only_by_its_failure(self, live: Conversation) -> None:
        assert live.chunk(10, "s", seq=7) == []
        assert live.chunk(10, "s", seq=7) == []
        (event,) = live.send("audio_chunk", stream_id="s", seq=8, pcm16="?")
        assert (event["type"], event["n"], event["stream_id"], event["seq"]) == ("stream_error", 1, "s", 8)
        assert (event["code"], event["dropped_samples"]) == ("bad_base64", 0)
        (event,) = live.chunk(10, "s", seq="x")
        assert (event["code"], event["seq"], event["dropped_samples"]) == ("invalid_params", None, 10)
        assert kinds(live.chunk(10, "s", id="c")) == ["partial_result"]
        assert kinds(live.chunk(10, "nowhere") + live.chunk(10, "nowhere", id="d")) == ["unknown_stream"] * 2

    def test_events_are_wanted_as_long_as_a_stream_needs_them(self, live: Conversation) -> None:
        (error,) = live.send("hello", want=[])
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "want")
        live.send("stop_stream", stream_id="s")
        assert live.send("hello", want=[])[0]["want"] == []

    def test_strict_about_streams(self, live: Conversation) -> None:
        assert kinds(live.send("start_stream", stream_id="s")) == ["stream_exists"]
        assert kinds(live.speak("u", "nowhere")) == ["unknown_stream"]
        live.chunk(5, "s")
        assert live.send("start_stream", stream_id="s", restart=True)[0]["dropped_samples"] == 5


class TestStopStream:
    def test_row_48_what_waits_for_a_flush_stays(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.chunk(77)
        (stopped,) = talk.send("stop_stream")
        assert (stopped["dropped_samples"], stopped["queued"], stopped["cancelled_utterances"]) == (77, 1, [])
        talk.send("flush")
        assert results(talk.decode()[0]) == [("u1", "Seven three one.")]

    def test_row_48_discard_names_what_it_ends(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.speak("u2", "other")
        (stopped,) = talk.send("stop_stream", mode="discard")
        assert (stopped["cancelled_utterances"], stopped["queued"]) == (["u1"], 0)
        talk.send("flush")
        assert results(talk.decode()[0]) == [("u2", "Seven three one.")]

    def test_boundaries_that_are_not_answered_yet_are_refused_when_their_stream_is_discarded(self) -> None:
        talk = loaded()
        talk.send("start_stream", batch_size=1)
        talk.speak("u1", audio="slow.wav", pcm16=None, id=1)
        talk.chunk(9)
        talk.send("end_utterance", utterance_id="u2", id=2)
        lines = talk.send("stop_stream", mode="discard", id=3)
        assert {line["id"]: line.get("code") for line in lines} == {1: "cancelled", 2: "cancelled", 3: None}
        assert lines[1]["data"] == {"dropped_samples": 9}
        assert (lines[2]["cancelled_utterances"], talk.session.pending) == ([], 0)
        talk.read("slow.wav")
        talk.end_of_input()
        talk.monitor.finish()

    def test_a_stream_that_flushes_itself_is_stopped_when_all_is_delivered(self, live: Conversation) -> None:
        live.speak("u1", "s")
        assert live.send("stop_stream", stream_id="s") == []
        assert [line["type"] for line in live.decode()] == ["realtime_batch_final", "stream_stopped"]


class TestCancel:
    def test_row_64_an_utterance_that_waits_fails_in_its_batch(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.speak("u2")
        assert talk.send("cancel", stream_id="default", utterance_id="u1")[0]["state"] == "cancelled"
        assert talk.send("cancel", stream_id="default", utterance_id="u1")[0]["state"] == "already_done"
        talk.send("flush")
        assert results(talk.decode()[0]) == [("u1", "cancelled"), ("u2", "Seven three one.")]

    @pytest.mark.parametrize("wins", [True, False])
    def test_row_64_what_runs_may_still_win(self, talk: Conversation, wins: bool) -> None:
        talk.speak("u1")
        talk.send("flush", id="f")
        assert talk.send("cancel", target="f")[0]["state"] == "cancelling"
        assert talk.cancelled == [1]
        (final,) = talk.decode(transcript("Won.") if wins else Cancelled("at the next step"))
        assert results(final) == [("u1", "Won." if wins else "cancelled")]
        assert talk.send("cancel", target="f")[0]["state"] == "already_done"
        assert talk.send("cancel", stream_id="default", utterance_id="u1")[0]["state"] == "already_done"
        assert talk.send("cancel", target="never")[0]["state"] == "unknown"

    def test_a_start_is_cancelled_and_the_load_goes_on(self) -> None:
        talk = Conversation()
        talk.send("start", id="a")
        talk.send("start", id="b")
        lines = talk.send("cancel", id="c", target="a")
        assert {line["id"]: line.get("code", line.get("state")) for line in lines} == {
            "a": "cancelled",
            "c": "cancelled",
        }
        assert [line["id"] for line in talk.load()] == ["b"]

    def test_a_start_of_a_stream_is_taken_back(self) -> None:
        talk = Conversation()
        talk.send("start_stream", id="a", stream_id="s")
        talk.chunk(9, "s", id=1)
        lines = talk.send("cancel", id="c", target="a")
        assert next(line for line in lines if line["id"] == "a")["data"] == {"dropped_samples": 9}
        assert kinds(talk.chunk(9, "s", id=2)) == ["unknown_stream"]

    def test_a_batch_keeps_what_was_finished(self) -> None:
        talk = loaded()
        talk.send("batch_transcribe", id="b", audio=["a", "b", "c"])
        talk.read("a")
        talk.decode(transcript("Kept."))
        talk.send("cancel", id="x", target="b")
        (reply,) = [line for line in talk.monitor.replies if line.get("id") == "b"]
        assert [item["text"] for item in reply["items"]] == ["Kept.", None, None]

    def test_timeout_ms_ends_what_waits_and_what_runs(self, talk: Conversation) -> None:
        talk.speak("u1", timeout_ms=500)
        talk.send("transcribe", id="t", audio="a", timeout_ms=500)
        talk.read("a")
        assert len(talk.jobs) == 1
        (error,) = talk.wait(0.5)
        assert (error["id"], error["code"], error["retryable"]) == ("t", "timeout", True)
        assert results(talk.send("flush")[0]) == [("u1", "timeout")]
        assert talk.decode(transcript("Too late.")) == []

    def test_a_stream_is_delivered_in_order_although_a_later_batch_is_done_first(self, talk: Conversation) -> None:
        talk.speak("u1", id=1)
        talk.send("flush", id="first")
        talk.speak("u2", id=2)
        talk.send("flush", id="second")
        assert [line["id"] for line in talk.send("cancel", target="second", id="c")] == ["c"]
        talk.decode(Cancelled("at the next step"), job_id=2)
        assert [line["id"] for line in talk.decode()] == ["first", "second"]


class TestTheEnd:
    def test_stop_reports_what_waited_in_its_one_line(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.chunk(5)
        assert talk.send("stop") == []
        assert talk.decode() == []
        (stopped,) = talk.finish()
        assert (stopped["reason"], stopped["completed"], stopped["dropped_samples"]) == ("stop", 1, 5)
        assert (results(stopped), stopped["unfinished"]) == ([("u1", "Seven three one.")], [])
        talk.monitor.finish()

    def test_row_53_the_end_of_input_says_nothing_more(self, talk: Conversation) -> None:
        talk.end_of_input()
        assert talk.finish() == []

    def test_row_53_the_end_of_input_still_reports_speech_that_would_vanish(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.chunk(5)
        talk.end_of_input()
        talk.decode()
        (final,) = talk.finish()
        assert (final["reason"], results(final)) == ("end_of_input", [("u1", "Seven three one.")])
        assert final["dropped_samples"] == 5
        talk.monitor.finish()

    def test_with_events_all_that_waits_is_an_event_and_stopped_comes(self, live: Conversation) -> None:
        live.speak("u1", "s")
        live.end_of_input()
        assert [line["reason"] for line in live.decode()] == ["flush"]
        assert [line["reason"] for line in live.finish()] == ["end_of_input"]
        live.monitor.finish()

    def test_row_62_abort_names_what_was_left(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.send("transcribe", id="t", audio="a")
        talk.read("a")
        assert kinds(talk.send("stop", mode="abort")) == ["shutting_down"]
        (stopped,) = talk.finish()
        assert stopped["reason"] == "abort"
        assert stopped["unfinished"] == [
            {"stream_id": "default", "utterance_id": "u1", "code": "shutting_down"},
            {"id": "t", "code": "shutting_down"},
        ]
        assert results(stopped) == [("u1", "shutting_down")]

    def test_row_62_a_deadline_ends_the_waiting(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.send("stop", deadline_ms=200)
        assert talk.wait(0.199) == []
        assert talk.session.pending
        talk.wait(0.001)
        assert not talk.session.pending
        assert talk.finish()[0]["reason"] == "deadline"

    def test_pings_are_answered_to_the_end_and_all_else_is_refused(self, talk: Conversation) -> None:
        talk.speak("u1")
        talk.send("stop")
        assert talk.send("ping")[0]["state"] == "draining"
        assert kinds(talk.send("status") + talk.send("cancel", target="x") + talk.chunk()) == [
            "status",
            "cancel_result",
            "shutting_down",
        ]

    def test_row_88_the_loss_of_the_engine_is_delivered_to_everyone(self, live: Conversation) -> None:
        live.speak("u1", "s")
        live.send("transcribe", id="t", audio="a")
        live.monitor.signalled()
        live.session.engine_lost(EngineStalled("it has not moved"))
        assert {line.get("code", line["type"]) for line in live.perform()} == {"engine_stalled", "realtime_batch_final"}
        (stopped,) = live.finish()
        assert (stopped["reason"], len(stopped["unfinished"])) == ("engine_stalled", 2)


class TestLoading:
    def test_row_65_a_failed_load_closes_the_streams_that_it_was_for(self) -> None:
        talk = Conversation()
        talk.send("start_stream", id="a", stream_id="s")
        talk.chunk(9, "s", id="c")
        (error,) = talk.fail_load()
        assert (error["code"], error["data"]["dropped_samples"]) == ("model_not_found", 9)
        assert kinds(talk.chunk(9, "s", id="d")) == ["unknown_stream"]

    def test_what_was_begun_ahead_waits_on_where_the_load_fails(self) -> None:
        talk = Conversation()
        talk.speak("u1")
        talk.wait(1.0)
        assert talk.loads == 1
        assert talk.fail_load() == []
        assert talk.wait(60.0) == []
        talk.send("flush")
        assert talk.loads == 2
        talk.load()
        (final,) = talk.decode()
        assert (results(final), final["load_seconds"]) == ([("u1", "Seven three one.")], 1.5)

    def test_a_flush_whose_load_fails_names_every_utterance(self) -> None:
        talk = Conversation()
        talk.speak("u1")
        talk.send("flush")
        assert results(talk.fail_load()[0]) == [("u1", "model_not_found")]


def test_g2_control_messages_with_an_id_overtake_work(talk: Conversation) -> None:
    talk.send("transcribe", audio="slow")
    for kind, reply in (("ping", "pong"), ("status", "status"), ("capabilities", "capabilities")):
        assert kinds(talk.send(kind, id=kind)) == [reply]
    assert talk.send("ping") == []


def test_row_49_nothing_is_begun_while_nobody_reads(talk: Conversation) -> None:
    talk.reads_lines = False
    talk.send("capabilities")
    talk.send("transcribe", audio="a", id="t")
    assert talk.reads == {}
    talk.send("cancel", target="t")
    talk.reads_lines = True
    assert kinds(talk.perform()) == ["capabilities", "cancelled", "cancel_result"]


def test_row_59_a_request_too_many_is_rejected_as_busy_and_one_without_an_id_never() -> None:
    talk = loaded(max_pending_requests=2)
    for name in ("a", "b", "c"):
        last = talk.send("transcribe", audio=name, id=name)
    assert (kinds(last), last[0]["retryable"], last[0]["data"]["retry_after_ms"] > 0) == (["busy"], True, True)
    assert talk.send("transcribe", audio="d") == []
    assert kinds(talk.send("ping", id="p") + talk.chunk(id="k")) == ["pong", "unknown_stream"]


def test_status_reports_numbers_alone(talk: Conversation) -> None:
    talk.speak("secret")
    talk.send("transcribe", audio="/secret", id="secret")
    talk.send("flush", id="f")
    talk.decode(DecodeFailed("secret"))
    status = talk.send("status")[0]
    assert (status["counters"]["errors"], status["streams"]) == ({"decode_failed": 1}, 1)
    assert (status["queues"]["requests"], status["state"]) == (2, "ready")
    assert "secret" not in str(status)


def test_a_generated_name_of_the_longest_stream_can_be_cancelled() -> None:
    talk = Conversation()
    stream = "s" * 128
    talk.send("start_stream", id="s", stream_id=stream, max_batch_delay_ms=60_000)
    talk.load()
    talk.send("end_utterance", id="b", stream_id=stream, pcm16=pcm(160))
    [result] = talk.send("cancel", id="c", stream_id=stream, utterance_id=f"{stream}-1")
    assert result["state"] == "cancelled"


@pytest.mark.parametrize(("member", "most"), [("stream_id", 128), ("utterance_id", 148)])
def test_a_name_that_is_too_long_is_refused(member: str, most: int) -> None:
    talk = Conversation()
    talk.send("start_stream", id="s", stream_id="s" * most if member == "stream_id" else "default")
    talk.load()
    assert talk.send("audio_chunk", id="c", pcm16=pcm(160), **{member: "s" * most})[0]["type"] == "partial_result"
    [error] = talk.send("audio_chunk", id="d", pcm16=pcm(160), **{member: "s" * (most + 1)})
    assert (error["code"], error["data"]["field"]) == ("invalid_params", member)
