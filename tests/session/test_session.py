import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from support.conversation import Conversation
from support.conversation_rules import ConversationRules
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.errors import Cancelled, NonFiniteOutput
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_FILES
from qwen3_asr_mlx_runtime.session.file_prefetch import READ_AHEAD
from qwen3_asr_mlx_runtime.settings import Settings


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


@pytest.fixture
def ready() -> Conversation:
    talk = Conversation()
    talk.send("start")
    talk.load()
    return talk


def types(replies: list[dict]) -> list[str]:
    return [reply.get("code", reply["type"]) for reply in replies]


class TestStart:
    def test_capabilities_are_delivered_without_a_model(self, talk: Conversation) -> None:
        assert types(talk.send("capabilities") + talk.send("hello")) == ["capabilities", "capabilities"]
        assert talk.loads == 0

    def test_ready_reports_what_was_loaded(self, talk: Conversation) -> None:
        assert talk.send("start") == []
        assert talk.load() == [
            {
                "type": "ready",
                "runtime": "qwen3-asr-mlx",
                "protocol": "qwen3-asr-mlx-jsonl-v1",
                "model": "demo",
                "model_dir": "/models/demo",
                "use_cache": True,
                "load_seconds": 1.5,
                "load_profile": {"stage": "load"},
                "load": "cold",
            }
        ]

    def test_row_65_a_second_start_joins_the_load_and_a_third_is_answered_at_once(self, talk: Conversation) -> None:
        talk.send("start")
        talk.send("start")
        assert types(talk.load()) == ["ready", "ready"]
        assert types(talk.send("start")) == ["ready"]
        assert talk.loads == 1

    def test_row_65_a_failed_load_answers_all_that_wait_and_the_next_request_tries_again(
        self, talk: Conversation
    ) -> None:
        talk.send("start")
        talk.send("transcribe", audio="a")
        talk.send("batch_transcribe", audio=["b", "c"])
        assert types(talk.fail_load()) == ["model_not_found"] * 3
        for path in ("a", "b", "c"):
            assert talk.read(path) == []
        talk.send("transcribe", audio="d")
        assert talk.loads == 2
        talk.read("d")
        talk.load()
        assert types(talk.decode()) == ["transcript"]

    def test_a_transcribe_loads_the_model_and_says_how_long_that_took(self, talk: Conversation) -> None:
        talk.send("transcribe", audio="a")
        talk.send("transcribe", audio="b")
        talk.read("a")
        talk.read("b")
        assert (talk.loads, talk.jobs) == (1, {})
        talk.load()
        assert [talk.decode()[0]["load_seconds"] for _ in range(2)] == [1.5, 0.0]


class TestTranscribe:
    def test_the_engine_gets_what_the_request_says(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a", language="ar", context="names", max_new_tokens=9)
        ready.read("a", samples=np.ones(3, np.float32))
        utterance = ready.jobs[1].utterance
        assert (utterance.language, utterance.context, utterance.max_new_tokens) == ("Arabic", "names", 9)
        assert utterance.samples.tolist() == [1.0, 1.0, 1.0]

    def test_what_the_request_leaves_out_comes_from_the_settings(self) -> None:
        talk = Conversation(Settings(language="Arabic", context="names", token_budget=9))
        talk.send("transcribe", audio="a")
        talk.send("transcribe", audio="b", language="English", context="", max_new_tokens=0)
        talk.read("a")
        talk.read("b")
        talk.load()
        utterances = [job.utterance for job in talk.jobs.values()]
        assert [(one.language, one.context, one.max_new_tokens) for one in utterances] == [
            ("Arabic", "names", 9),
            ("English", "", 0),
        ]

    def test_a_request_may_leave_the_language_to_the_model_again(self) -> None:
        talk = Conversation(Settings(language="Arabic"))
        talk.send("transcribe", audio="a", language="Auto")
        talk.read("a")
        talk.load()
        (job,) = talk.jobs.values()
        assert job.utterance.language is None

    def test_warnings_of_the_request_and_of_the_audio_stand_in_the_reply(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a", beam=4)
        ready.read("a", warnings=("clipped_samples",))
        reply = ready.decode()[0]
        assert reply["warnings"] == ["unknown_field: beam", "clipped_samples"]

    def test_an_id_is_echoed_by_every_kind_of_reply(self, talk: Conversation) -> None:
        talk.send("capabilities", id="c")
        talk.send("start", id=2)
        talk.send("transcribe", id="t", audio="a")
        talk.send("batch_transcribe", id="b", audio=["b"])
        talk.send("nonsense", id="n")
        talk.send("stop", id="s")
        talk.load()
        talk.fail_read("a")
        talk.fail_read("b")
        talk.finish()
        assert [reply["id"] for reply in talk.monitor.replies] == ["c", "n", 2, "t", "b", "s"]

    def test_a_file_that_cannot_be_read_fails_with_its_code(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a")
        assert types(ready.fail_read("a")) == ["audio_not_found"]
        assert ready.jobs == {}

    def test_a_decode_that_fails_says_so_and_the_next_one_goes_on(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a")
        ready.send("transcribe", audio="b")
        ready.read("a")
        ready.read("b")
        assert types(ready.decode(NonFiniteOutput("NaN")) + ready.decode()) == ["non_finite_output", "transcript"]

    def test_replies_keep_the_order_of_the_requests(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="slow")
        ready.send("transcribe", audio="missing")
        assert ready.send("capabilities") == []
        assert ready.fail_read("missing") == []
        ready.read("slow")
        assert types(ready.decode()) == ["transcript", "audio_not_found", "capabilities"]


class TestBatch:
    def test_row_68_one_bad_file_fails_alone(self, ready: Conversation) -> None:
        ready.send("batch_transcribe", audio=["a", "bad", "c"])
        ready.fail_read("bad")
        ready.read("c")
        ready.read("a")
        ready.decode(transcript("First."))
        reply = ready.decode(NonFiniteOutput("NaN"))[0]
        assert (reply["count"], reply["failed"]) == (3, 2)
        assert [item["text"] for item in reply["items"]] == ["First.", None, None]
        assert [item.get("error", {}).get("code") for item in reply["items"]] == [
            None,
            "audio_not_found",
            "non_finite_output",
        ]

    def test_reading_ahead_is_bounded(self, ready: Conversation) -> None:
        ready.send("batch_transcribe", audio=[f"f{number}" for number in range(256)])
        assert len(ready.reads) == READ_AHEAD
        for path in list(ready.reads.values()):
            ready.read(path)
        assert (len(ready.reads), len(ready.jobs)) == (0, MAX_FILES["sequential"])
        ready.decode()
        assert list(ready.reads.values()) == [f"f{READ_AHEAD}"]

    def test_reading_ahead_is_bounded_also_before_the_model_is_there(self, talk: Conversation) -> None:
        talk.send("batch_transcribe", audio=["a", "b", "c", "d", "e"])
        for path in ("a", "b", "c", "d"):
            talk.read(path)
        assert (talk.reads, talk.jobs) == ({}, {})
        talk.load()
        assert len(talk.jobs) == MAX_FILES["sequential"]
        assert len([talk.decode() for _ in range(4)]) == 4

    def test_reads_of_a_failed_load_count_until_they_are_over(self, talk: Conversation) -> None:
        talk.send("batch_transcribe", audio=["a", "b", "c", "d"])
        talk.fail_load()
        talk.send("transcribe", audio="e")
        assert "e" not in talk.reads.values()
        talk.fail_read("a")
        assert "e" in talk.reads.values()


class TestEnd:
    def test_stop_finishes_what_came_before_it_and_stopped_is_the_last_line(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a")
        assert ready.send("stop") == []
        assert types(ready.send("transcribe", audio="late")) == []
        ready.read("a")
        assert types(ready.decode()) == ["transcript", "shutting_down"]
        assert (ready.session.is_draining, ready.session.pending) == (True, 0)
        assert types(ready.finish()) == ["stopped"]
        ready.monitor.finish()

    def test_the_end_of_input_finishes_everything_and_adds_no_line(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="a")
        ready.end_of_input()
        ready.read("a")
        assert types(ready.decode()) == ["transcript"]
        assert ready.finish() == []

    def test_row_56_a_signal_refuses_what_waits_and_cancels_what_runs(self, ready: Conversation) -> None:
        ready.send("transcribe", audio="running")
        ready.send("transcribe", audio="reading")
        ready.read("running")
        replies = ready.terminate()
        assert types(replies) == ["shutting_down", "shutting_down"]
        assert ready.cancelled == [1]
        assert types(ready.send("transcribe", audio="new")) == ["shutting_down"]
        assert types(ready.finish()) == ["stopped"]
        assert ready.decode(Cancelled("too late")) == []
        ready.monitor.finish()

    def test_row_56_a_signal_keeps_what_a_batch_has_finished(self, ready: Conversation) -> None:
        ready.send("batch_transcribe", audio=["a", "b"])
        ready.read("a")
        ready.decode(transcript("Kept."))
        reply = ready.terminate()[0]
        assert [item["text"] for item in reply["items"]] == ["Kept.", None]
        assert reply["items"][1]["error"]["code"] == "shutting_down"

    def test_a_signal_while_loading_refuses_the_start(self, talk: Conversation) -> None:
        talk.send("start")
        talk.send("stop")
        assert types(talk.terminate()) == ["shutting_down"]
        assert types(talk.finish()) == ["stopped"]
        assert talk.load() == []

    def test_a_bad_line_behind_stop_gets_its_own_error(self, ready: Conversation) -> None:
        ready.send("stop")
        assert types(ready.send("nonsense")) == ["unknown_type"]


class AnyInterleaving(ConversationRules):
    """Requests, loads, reads, decodes, failures and the end in any order: the monitor finds no promise broken."""

    def __init__(self) -> None:
        super().__init__(Conversation())
        self.names = iter(range(10**6))

    @precondition(lambda self: not self.talk.session.is_draining)
    @rule(kind=st.sampled_from(["capabilities", "start", "nonsense"]), id=st.none() | st.integers(0, 9))
    def ask(self, kind: str, id: int | None) -> None:
        self.talk.send(kind, **({} if id is None else {"id": id}))

    @rule()
    def transcribe(self) -> None:
        self.talk.send("transcribe", audio=f"f{next(self.names)}")

    @rule(size=st.integers(1, 6))
    def batch(self, size: int) -> None:
        self.talk.send("batch_transcribe", audio=[f"f{next(self.names)}" for _ in range(size)])

    @precondition(lambda self: self.talk.reads)
    @rule(works=st.booleans(), data=st.data())
    def answer_read(self, works: bool, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.talk.reads.values())))
        if works:
            self.talk.read(path)
        else:
            self.talk.fail_read(path)

    @precondition(lambda self: self.talk.jobs)
    @rule(works=st.booleans())
    def answer_job(self, works: bool) -> None:
        self.talk.decode(None if works else NonFiniteOutput("NaN"))

    @rule(how=st.sampled_from(["stop", "end_of_input", "terminate"]))
    def end(self, how: str) -> None:
        if self.talk.session.is_draining and how != "terminate":
            return
        if how == "stop":
            self.talk.send("stop")
        else:
            getattr(self.talk, how)()

    @invariant()
    def no_more_is_in_memory_than_allowed(self) -> None:
        assert len(self.talk.reads) + len(self.talk.jobs) <= READ_AHEAD

    def teardown(self) -> None:
        """Whatever came before: when the work is done, everything is answered."""
        self.end("end_of_input")
        while self.talk.session.pending:
            if self.talk.loads > self.loads_answered:
                self.answer_load(True)
            elif self.talk.reads:
                self.talk.read(next(iter(self.talk.reads.values())))
            elif self.talk.jobs:
                self.talk.decode()
            else:
                assert self.talk.session._state.model.load_at is not None, "requests wait, and nothing is left to do"
                self.talk.wait(8.0)
        self.talk.finish()
        self.talk.monitor.finish()


TestAnyInterleaving = AnyInterleaving.TestCase


@given(st.lists(st.binary(max_size=30).filter(lambda line: line.strip(b" \t\r\n"))))
def test_any_lines_get_one_reply_each(lines: list[bytes]) -> None:
    talk = Conversation()
    for line in lines:
        talk.write(line)
    talk.monitor.finish()
