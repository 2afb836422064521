"""The daemon in this process, over pipes, with an engine that follows a script."""

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.conversation import pcm
from support.fake_engine import DIE, HANG, HOLD, LOOP, FakeEngine, transcript, transcript_of
from support.protocol_monitor import ProtocolMonitor
from support.wave_file import write_silence

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.bridge import file_reader
from qwen3_asr_mlx_runtime.bridge import loop as daemon_module
from qwen3_asr_mlx_runtime.bridge import stdin_reader as line_source
from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit, ParentWatch
from qwen3_asr_mlx_runtime.bridge.loop import Loop
from qwen3_asr_mlx_runtime.bridge.stdin_reader import Received
from qwen3_asr_mlx_runtime.diagnostics import Crash
from qwen3_asr_mlx_runtime.errors import DecodeFailed, ModelNotFound
from qwen3_asr_mlx_runtime.protocol.decode import decode_line
from qwen3_asr_mlx_runtime.session import session_state
from qwen3_asr_mlx_runtime.session.stream_registry import StreamRegistry
from qwen3_asr_mlx_runtime.settings import Settings

WAIT = 60
MANY = 30


class Clock:
    """Time that passes only when a test says so; real threads run under it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bridge:
    """A daemon on a thread of its own, its two pipes, and the monitor over what comes out."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        parents: Iterator[int] | None = None,
        inbox: queue.SimpleQueue | None = None,
        **script,
    ) -> None:
        self.monitor = ProtocolMonitor()
        self.inbox: queue.SimpleQueue = inbox or queue.SimpleQueue()
        self.exit: Exit | None = None
        self.crash: RuntimeError | None = None
        self.stdin, self.stdout = os.pipe(), os.pipe()
        engines: list[FakeEngine] = []

        def make_engine(settings: Settings, post: Callable) -> FakeEngine:
            engines.append(FakeEngine(post, **script))
            return engines[0]

        watch = ParentWatch(None, getppid=lambda: next(parents) if parents else 500)
        times = {} if clock is None else {"clock": clock}
        self.daemon = Loop(
            Settings(max_audio_seconds=10.0),
            self.stdin[0],
            self.stdout[1],
            make_engine,
            inbox=self.inbox,
            parent=watch,
            **times,
        )
        self.engine = engines[0]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.exit = self.daemon.run()
        except RuntimeError as crash:
            self.crash = crash

    def write(self, *lines: bytes) -> None:
        for line in lines:
            self.monitor.sent(line)
            os.write(self.stdin[1], line + b"\n")

    def send(self, type: str, **members: object) -> None:
        self.write(json.dumps({"type": type, **members}).encode())

    def signal(self, code: Exit) -> None:
        self.monitor.signalled()
        self.inbox.put(code)

    def close_stdin(self) -> None:
        os.close(self.stdin[1])
        self.stdin = (self.stdin[0], -1)

    def read(self) -> dict:
        """The next reply."""
        return self.monitor.next_reply(self._read_more)

    def _read_more(self) -> bytes:
        ready, _, _ = select.select([self.stdout[0]], [], [], WAIT)
        assert ready, f"no line for {WAIT} s"
        return os.read(self.stdout[0], 4096)

    def ended(self) -> Exit | None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "the daemon has not ended"
        os.set_blocking(self.stdout[0], False)
        self.monitor.received(b"")
        try:
            while rest := os.read(self.stdout[0], 65_536):
                self.monitor.received(rest)
        except BlockingIOError:
            self.monitor.finish()
        return self.exit

    def leave(self) -> None:
        """End the daemon's thread: one that lived on would write into whatever has its descriptors next."""
        self.engine.close()
        self.inbox.put(Exit.TERMINATED)
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "the daemon has not ended"

    def close(self) -> None:
        for fd in (*self.stdin, *self.stdout):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bridge]]:
    monkeypatch.setattr(daemon_module, "POLL_SECONDS", 0.02)  # it sees a clock that a test has set when it looks again
    bridges: list[Bridge] = []

    def make(**options: object) -> Bridge:
        bridges.append(Bridge(**options))
        return bridges[-1]

    yield make
    for one in bridges:
        one.leave()
        one.close()


@pytest.fixture
def speech(tmp_path: Path) -> str:
    return write_silence(tmp_path / "speech.wav", 8_000)


def test_a_conversation_from_start_to_stop(bridge, speech: str) -> None:
    talk = bridge()
    talk.send("start")
    talk.send("transcribe", audio=speech, max_new_tokens=0)
    talk.send("stop")
    assert [talk.read()["type"] for _ in range(3)] == ["ready", "transcript", "stopped"]
    assert talk.ended() is Exit.DONE
    assert len(talk.engine.submitted[0].utterance.samples) == 8_000
    assert talk.engine.join(WAIT)


def test_row_68_a_bad_file_of_a_batch_fails_alone(bridge, speech: str, tmp_path: Path) -> None:
    talk = bridge()
    long = write_silence(tmp_path / "long.wav", 176_000)
    talk.send("batch_transcribe", audio=[speech, str(tmp_path / "missing.wav"), speech, long])
    items = talk.read()["items"]
    assert [item.get("error", {}).get("code") for item in items] == [None, "audio_not_found", None, "audio_too_long"]


def test_an_item_of_a_batch_that_is_no_path_fails_alone(bridge, speech: str) -> None:
    talk = bridge()
    talk.send("batch_transcribe", audio=["", speech, "x" * 4097, "a\0b", "-"])
    codes = [item.get("error", {}).get("code") for item in talk.read()["items"]]
    assert codes == ["invalid_params", None, "invalid_params", "invalid_params", "path_not_allowed"]


def test_row_53_the_end_of_input_finishes_what_was_accepted(bridge, speech: str) -> None:
    talk = bridge(script=[HOLD])
    talk.send("transcribe", audio=speech)
    talk.close_stdin()
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.release()
    assert talk.read()["type"] == "transcript"
    assert talk.ended() is Exit.DONE


def test_row_16_a_last_line_without_a_newline_is_answered(bridge) -> None:
    talk = bridge()
    for line in (b'{"type":"hello"}\n', b'{"type":"start"'):
        talk.monitor.sent(line)
        os.write(talk.stdin[1], line)
    talk.close_stdin()
    assert talk.read()["type"] == "capabilities"
    error = talk.read()
    assert (error["code"], error["data"]["truncated"]) == ("invalid_json", True)
    assert talk.ended() is Exit.DONE


def test_row_16_input_that_is_cut_within_a_character_says_so(bridge) -> None:
    talk = bridge()
    line = '{"type":"transcribe","audio":"é'.encode()[:-1]
    talk.monitor.sent(line)
    os.write(talk.stdin[1], line)
    talk.close_stdin()
    error = talk.read()
    assert (error["code"], error["data"]["truncated"]) == ("invalid_utf8", True)
    assert talk.ended() is Exit.DONE


def test_row_9_a_line_over_the_limit_is_reported_and_the_next_one_answered(bridge, monkeypatch) -> None:
    talk = bridge()
    line = b'{"type":"hello","x":"' + b"x" * 9_000_000 + b'"}'
    talk.monitor.sent(b"too long to be read")
    writing = threading.Thread(target=_write_whole, args=(talk.stdin[1], line + b"\n"), daemon=True)
    writing.start()
    error = talk.read()
    writing.join(WAIT)
    assert (error["code"], error["data"]) == ("line_too_long", {"limit": 8 * 2**20, "bytes": len(line)})
    talk.send("hello")
    assert talk.read()["type"] == "capabilities"


def _write_whole(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def test_a_line_that_crashes_the_decoder_is_reported_and_the_next_one_answered(bridge, monkeypatch) -> None:
    def crash(line: bytes) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(line_source, "decode_line", crash)
    talk = bridge()
    talk.write(b"any")
    assert talk.read()["code"] == "internal_error"
    talk.send("hello")
    assert talk.read()["type"] == "capabilities"


def test_capabilities_wait_for_nothing_but_their_turn(bridge, speech: str) -> None:
    talk = bridge(load_script=[HOLD])
    talk.send("capabilities")
    assert talk.read()["type"] == "capabilities"
    talk.send("start")
    talk.send("capabilities")
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.release()
    assert [talk.read()["type"] for _ in range(2)] == ["ready", "capabilities"]


def test_row_65_a_failed_load_is_tried_again(bridge, speech: str) -> None:
    talk = bridge(load_script=[ModelNotFound("not there"), None])
    talk.send("start")
    assert talk.read()["code"] == "model_not_found"
    talk.send("transcribe", audio=speech)
    assert talk.read()["load_seconds"] == 1.5
    assert talk.engine.loads == 2


def test_a_failed_decode_leaves_the_daemon_up(bridge, speech: str) -> None:
    talk = bridge(script=[DecodeFailed("planted"), transcript("Nine.")])
    talk.send("transcribe", audio=speech)
    assert talk.read()["code"] == "decode_failed"
    talk.send("transcribe", audio=speech)
    assert talk.read()["text"] == "Nine."


def test_a_result_that_json_cannot_carry_is_an_error_of_its_request(bridge, speech: str) -> None:
    bad = transcript()
    bad.profile.decode_seconds = float("nan")
    talk = bridge(script=[bad, transcript()])
    talk.send("transcribe", audio=speech, id="r1")
    error = talk.read()
    assert (error["code"], error["id"]) == ("internal_error", "r1")
    talk.send("transcribe", audio=speech)
    assert talk.read()["type"] == "transcript"


def test_a_file_that_crashes_its_reader_fails_alone(bridge, speech: str, monkeypatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    talk = bridge()
    monkeypatch.setattr(file_reader, "read_segments", crash)
    talk.send("transcribe", audio=speech)
    assert talk.read()["code"] == "audio_unreadable"


def test_row_36_a_slow_file_keeps_neither_the_others_nor_the_engine_waiting(bridge, speech: str, monkeypatch) -> None:
    talk = bridge()
    gate = threading.Event()
    read = file_reader.read_segments

    def slow(path: str, *limits: float, **options: float) -> object:
        if path == "/slow":
            gate.wait(WAIT)
        return read(path, *limits, **options)

    monkeypatch.setattr(file_reader, "read_segments", slow)
    talk.send("batch_transcribe", audio=["/slow", speech, speech, speech, speech, speech])
    for _ in range(6):  # the load and five decodes
        assert talk.engine.started.acquire(timeout=WAIT)
    gate.set()
    assert talk.read()["failed"] == 1


@pytest.mark.parametrize("code", [Exit.TERMINATED, Exit.INTERRUPTED])
def test_rows_56_57_a_signal_cancels_refuses_and_says_stopped(bridge, speech: str, code: Exit) -> None:
    talk = bridge(script=[HOLD])
    for _ in range(MANY + 9):
        talk.send("transcribe", audio=speech)
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    talk.send("capabilities")
    talk.close_stdin()
    talk.daemon._source._thread.join(WAIT)  # all lines are read
    talk.signal(code)
    answers = [talk.read() for _ in range(MANY + 11)]
    assert {answer.get("code") for answer in answers[:-2]} == {"shutting_down"}
    assert answers[-2]["type"] == "capabilities"  # it was answered, and waited for its turn
    assert answers[-1]["type"] == "stopped"
    assert talk.ended() is code


def test_a_signal_ends_a_daemon_whose_engine_hangs_and_whose_parent_does_not_read(
    bridge, speech: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "FORCED_EXIT_SECONDS", 0.2)
    talk = bridge(script=[lambda _: threading.Event().wait(WAIT)])
    talk.send("transcribe", audio=speech)
    for _ in range(1_000):  # their errors fill any pipe
        talk.write(b"x")
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    talk.signal(Exit.TERMINATED)
    talk._thread.join(WAIT)
    assert talk.exit is Exit.TERMINATED


def test_row_55_a_closed_stdout_ends_the_daemon(bridge) -> None:
    talk = bridge()
    os.close(talk.stdout[0])
    talk.stdout = (os.open(os.devnull, os.O_RDONLY), talk.stdout[1])
    talk.send("hello")
    talk._thread.join(WAIT)
    assert talk.exit is Exit.PARENT_GONE


def test_row_52_the_parents_death_ends_the_daemon_while_a_decode_runs(bridge, speech: str) -> None:
    clock = Clock()
    parents = iter([500, 1])
    talk = bridge(clock=clock, parents=parents, script=[HOLD])
    talk.send("transcribe", audio=speech)
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    clock.now += 1.0
    talk._thread.join(WAIT)
    assert talk.exit is Exit.PARENT_GONE


def test_once_a_second_memory_is_given_back_where_the_process_has_grown(
    bridge, speech: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, trims = [100 << 20], queue.SimpleQueue()
    monkeypatch.setattr(process_memory, "rss_bytes", lambda _=None: resident[0])
    monkeypatch.setattr(process_memory, "trim", lambda: trims.put(resident[0]))
    clock = Clock()
    talk = bridge(clock=clock, parents=iter([500, 500, 500, 500, 1]))
    for resident[0] in (100 << 20, 103 << 20, 110 << 20):
        clock.now += 1.0
        for _ in range(2):  # the second is answered after the check that follows the first
            talk.send("ping")
            talk.read()
    assert [trims.get_nowait() for _ in range(trims.qsize())] == [100 << 20, 110 << 20]
    clock.now += 1.0
    talk._thread.join(WAIT)
    assert talk.exit is Exit.PARENT_GONE


def test_row_63_requests_behind_stop_are_refused_before_stopped(bridge, speech: str) -> None:
    talk = bridge(script=[HOLD])
    talk.send("transcribe", audio=speech)
    talk.send("stop")
    talk.send("capabilities")
    talk.close_stdin()
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.release()
    assert [talk.read()["type"] for _ in range(3)] == ["transcript", "error", "stopped"]
    assert talk.ended() is Exit.DONE


def test_row_63_requests_that_arrive_just_after_stop_are_still_refused(bridge) -> None:
    talk = bridge(clock=Clock())  # the grace does not run out, only the input does
    lines = [b'{"type":"stop"}', b'{"type":"capabilities"}']
    for line in lines:
        talk.monitor.sent(line)
    os.write(talk.stdin[1], b"\n".join(lines) + b"\n")
    assert talk.read()["code"] == "shutting_down"
    talk.close_stdin()
    assert talk.read()["type"] == "stopped"
    assert talk.ended() is Exit.DONE


def test_row_63_nothing_is_said_behind_stopped(bridge, monkeypatch) -> None:
    talk = bridge()
    writer = talk.daemon._writer
    put, finish, lines = writer.put, writer.finish, []

    def watched(line: bytes) -> None:
        lines.append(json.loads(line)["type"])
        put(line)

    def finish_with_news() -> None:
        talk.inbox.put(Received(decode_line(b'{"type":"ping"}'), 0))
        finish()

    monkeypatch.setattr(writer, "put", watched)
    monkeypatch.setattr(writer, "finish", finish_with_news)
    talk.send("stop")
    assert talk.read()["type"] == "stopped"
    assert talk.ended() is Exit.DONE
    assert lines == ["stopped"]


def test_row_49_work_stops_while_nobody_reads_and_goes_on_when_somebody_does(bridge, monkeypatch) -> None:
    talk = bridge()
    writer = talk.daemon._writer
    writer._limit = 100_000
    put, queued = writer.put, []

    def watched(line: bytes) -> None:
        queued.append(writer._queued_bytes)
        put(line)

    monkeypatch.setattr(writer, "put", watched)
    count = 400
    for _ in range(count):
        talk.send("capabilities")
    talk.close_stdin()
    assert talk.read()["type"] == "capabilities"
    talk.daemon._source._thread.join(WAIT)  # all lines are read
    assert {talk.read()["type"] for _ in range(count - 1)} == {"capabilities"}
    assert talk.ended() is Exit.DONE
    assert max(queued) < 100_000
    assert talk.daemon._allowance.taken == 0


def hang_for(talk: Bridge, clock: Clock, seconds: int) -> None:
    """Time passes while the engine is busy; pings are answered."""
    for _ in range(seconds):
        clock.now += 1.0
        talk.send("ping", id="p")
        assert talk.read()["state"] == "busy"
    clock.now += 1.0


def test_row_88_a_stuck_engine_is_killed_and_the_job_decoded_again(bridge, speech: str) -> None:
    clock = Clock()
    talk = bridge(clock=clock, script=[HANG, transcript_of])
    talk.send("transcribe", audio=speech, id="t")
    for _ in range(2):  # the load, and what hangs
        talk.engine.started.acquire(timeout=WAIT)
    hang_for(talk, clock, 31)  # half a second of audio, and thirty
    assert talk.read()["type"] == "transcript"
    assert (talk.engine.loads, len(talk.engine.submitted)) == (2, 2)
    talk.send("status")
    status = talk.read()
    assert (status["engine_restarts"], status["engine_last_end"]) == (1, "stalled")
    talk.close_stdin()
    assert talk.ended() is Exit.DONE


def test_row_88_audio_on_which_the_engine_hangs_again_fails_alone(bridge, speech: str) -> None:
    clock = Clock()
    talk = bridge(clock=clock, script=[HANG, HANG, transcript_of])
    talk.send("transcribe", audio=speech, id="t")
    for _ in range(2):
        for _ in range(2):  # the load, and what hangs
            talk.engine.started.acquire(timeout=WAIT)
        hang_for(talk, clock, 31)
    error = talk.read()
    assert (error["code"], error["retryable"]) == ("engine_crashed", False)
    clock.now += 1.0  # before the second start in a row
    talk.send("transcribe", audio=speech, id="u")
    assert talk.read()["type"] == "transcript"
    talk.close_stdin()
    assert talk.ended() is Exit.DONE


def test_row_88_an_engine_that_hangs_during_a_partial_is_started_again(bridge) -> None:
    clock = Clock()
    talk = bridge(clock=clock, partial_script=[HANG, None])
    speak(talk)
    for _ in range(2):  # the load, and what hangs
        talk.engine.started.acquire(timeout=WAIT)
    hang_for(talk, clock, 31)
    assert (talk.read()["text"], talk.engine.loads) == ("one", 2)
    talk.close_stdin()
    assert talk.ended() is Exit.DONE


def test_an_engine_that_ends_during_a_partial_gets_all_samples_again(bridge) -> None:
    talk = bridge(partial_script=[None, DIE, None])
    speak(talk)
    assert talk.read()["text"] == "one"
    talk.send("audio_chunk", stream_id="s", pcm16=pcm(8_000))
    assert talk.read()["text"] == "one two"
    assert [len(partial.samples) for partial in talk.engine.partials] == [8_000, 8_000, 16_000]


def test_partials_of_an_open_utterance_are_delivered_and_then_its_final(bridge) -> None:
    talk = bridge(script=[lambda job: transcript_of(job, "Done.")])
    speak(talk)
    assert talk.read()["text"] == "one"
    talk.send("audio_chunk", stream_id="s", pcm16=pcm(8_000))
    assert talk.read()["text"] == "one two"
    talk.send("end_utterance", stream_id="s", id="e")
    assert talk.read()["samples"] == 16_000
    talk.send("flush", id="f")
    (item,) = talk.read()["items"]
    assert (item["text"], item["verified_tokens"], item["final_policy"]) == ("Done.", 2, "guarded")
    assert [len(partial.samples) for partial in talk.engine.partials] == [8_000, 8_000]
    assert talk.engine.submitted[0].audio_id == talk.engine.partials[0].audio_id
    talk.send("audio_chunk", stream_id="s", pcm16=pcm(8_000))
    assert talk.read()["revision"] == 1
    talk.send("stop_stream", stream_id="s", id="x")
    assert talk.read()["dropped_samples"] == 8_000
    talk.close_stdin()
    assert talk.read()["type"] == "stopped"
    assert talk.ended() is Exit.DONE
    assert talk.engine.forgotten == [talk.engine.partials[-1].audio_id]


def test_while_nobody_reads_no_more_than_one_partial_text_of_a_stream_waits(bridge, monkeypatch) -> None:
    talk = bridge()
    speak(talk)
    assert talk.read()["revision"] == 1
    taken = threading.Semaphore(0)
    chunk = StreamRegistry.chunk

    def watched(*arguments: object, **members: object) -> object:
        taken.release()
        return chunk(*arguments, **members)

    monkeypatch.setattr(StreamRegistry, "chunk", watched)
    many = 60
    for _ in range(many):  # their replies fill any pipe
        talk.send("capabilities", id="c")
    for number in range(MANY):
        talk.send("audio_chunk", stream_id="s", pcm16=pcm(8_000))
        taken.acquire(timeout=WAIT)
        for _ in range(3 if number == 0 else 0):  # the load, and two partials: no other is computed
            assert talk.engine.started.acquire(timeout=WAIT)
    for _ in range(MANY):  # what the engine says meanwhile is heard too
        talk.send("ping", id="p")
    assert {talk.read()["type"] for _ in range(many)} == {"capabilities"}
    events = [line for line in (talk.read() for _ in range(MANY + 2)) if line["type"] == "partial_result"]
    assert [event["audio_seconds"] for event in events] == [1.0, 0.5 + MANY * 0.5]
    assert len(talk.engine.partials) == 3


def speak(talk: Bridge) -> None:
    """Half a second, with partial text wanted."""
    talk.send("hello", want=["events"])
    talk.send("start_stream", id="begin", stream_id="s", partials=True, batch_size=16, max_batch_delay_ms=60_000)
    assert [talk.read()["type"] for _ in range(2)] == ["capabilities", "stream_ready"]
    talk.send("audio_chunk", stream_id="s", pcm16=pcm(8_000))


def test_row_83_what_an_engine_had_when_it_ended_is_decoded_again(bridge, speech: str) -> None:
    talk = bridge(script=[DIE, transcript_of])
    for name in ("a", "b", "c"):
        talk.send("transcribe", audio=speech, id=name)
    replies = [talk.read() for _ in range(3)]
    assert sorted((reply["id"], reply["type"]) for reply in replies) == [(name, "transcript") for name in "abc"]
    assert talk.engine.loads == 2


def test_row_83_an_engine_that_ends_five_times_in_a_row_is_lost(bridge, speech: str) -> None:
    clock = Clock()
    talk = bridge(clock=clock, script=[DIE])
    talk.send("hello", want=["progress"])
    assert talk.read()["type"] == "capabilities"
    talk.monitor.signalled()
    for name in ("a", "b", "c"):
        talk.send("transcribe", audio=speech, id=name)
    lines = []
    while not lines or lines[-1]["type"] != "stopped":
        clock.now += 8.0
        lines.append(talk.read())
    events = [line for line in lines if line["type"] == "engine_restarting"]
    assert [(event["reason"], event["attempt"]) for event in events] == [("SIGKILL", n) for n in (1, 2, 3, 4)]
    codes = {line["id"]: line["code"] for line in lines if line["type"] == "error"}
    assert sorted(codes) == ["a", "b", "c"]
    assert {*codes.values()} <= {"engine_crashed", "engine_unavailable"}
    assert lines[-1]["reason"] == "engine_unavailable"
    clock.now += 2.0
    talk._thread.join(WAIT)
    assert talk.exit is Exit.ENGINE_LOST


def test_an_endless_decode_ends_at_the_next_step_when_it_is_cancelled(bridge, speech: str) -> None:
    talk = bridge(script=[LOOP])
    talk.send("start")
    assert talk.read()["type"] == "ready"
    talk.send("transcribe", audio=speech, id="t")
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    talk.send("cancel", target="t", id="c")
    assert {talk.read()["id"] for _ in range(2)} == {"t", "c"}
    assert {reply.get("code", reply.get("state")) for reply in talk.monitor.replies[-2:]} == {"cancelled", "cancelling"}


def test_g5_pings_are_answered_while_a_decode_runs(bridge, speech: str) -> None:
    talk = bridge(script=[HOLD])
    talk.send("transcribe", audio=speech)
    talk.engine.started.acquire(timeout=WAIT)
    talk.engine.started.acquire(timeout=WAIT)
    talk.send("ping", id="p")
    pong = talk.read()
    assert (pong["id"], pong["state"]) == ("p", "busy")
    assert pong["busy_ms"] >= 0


def test_a_thread_that_crashes_ends_the_daemon(bridge) -> None:
    talk = bridge()
    talk.inbox.put(Crash("audio"))
    talk._thread.join(WAIT)
    assert isinstance(talk.crash, RuntimeError)


def test_hello_names_a_process_to_live_with(bridge) -> None:
    clock = Clock()
    other = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE)
    talk = bridge(clock=clock)
    talk.send("hello", parent_pid=other.pid)
    assert talk.read()["type"] == "capabilities"
    other.communicate(b"\n", timeout=WAIT)
    clock.now += 1.0
    talk._thread.join(WAIT)
    assert talk.exit is Exit.PARENT_GONE


def test_row_96_the_lag_of_timers_reports_of_sleep_to_the_first_request_behind_it(
    bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine sleeps for an hour before each message, and only the clock that goes on in sleep notes it."""
    clock = Clock()

    class Inbox(queue.SimpleQueue):
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            message = super().get(block, timeout)
            clock.now += 3600
            return message

    monkeypatch.setattr(session_state, "running_in_sleep", clock, raising=False)
    talk = bridge(inbox=Inbox())
    talk.send("status")
    assert 3_599_000 <= talk.read()["timer_lag_ms"] <= 3_600_000  # a timer is due each second


@pytest.mark.parametrize(("platform", "clock"), [("darwin", "CLOCK_MONOTONIC"), ("linux", "CLOCK_BOOTTIME")])
def test_the_lag_of_timers_goes_by_a_clock_that_goes_on_in_sleep(
    monkeypatch: pytest.MonkeyPatch, platform: str, clock: str
) -> None:
    clocks = {"CLOCK_MONOTONIC": 6.0, "CLOCK_BOOTTIME": 7.0}
    for name, number in clocks.items():
        monkeypatch.setattr(time, name, number, raising=False)
    monkeypatch.setattr(time, "clock_gettime", float)
    monkeypatch.setattr(sys, "platform", platform)
    assert session_state.running_in_sleep() == clocks[clock]
