"""scripts/qwen3-asr-mlx-monitor: what it relays, its figures, and what it never reveals."""

import base64
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import wave
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import msgspec
import numpy as np
import pytest
from conformance.player import Player, engine_command, scenario_files
from e2e.client import TESTS, Client
from rich.console import Console
from support.schema_check import check_lines
from support.wave_file import write_silence
from tools.test_score import launched

from qwen3_asr_mlx_runtime.engines.profile import Memory, Profile
from qwen3_asr_mlx_runtime.protocol import replies, streams, transcripts
from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities
from qwen3_asr_mlx_runtime.protocol.replies import encode_line
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.tools.monitor import record as notes
from qwen3_asr_mlx_runtime.tools.monitor.figures import Figures
from qwen3_asr_mlx_runtime.tools.monitor.main import _with_parent, main, split
from qwen3_asr_mlx_runtime.tools.monitor.relay import Tap, _pump
from qwen3_asr_mlx_runtime.tools.monitor.screen import Texts, picture
from qwen3_asr_mlx_runtime.tools.monitor.watch import MAX_REMEMBERED, Watch

SECRETS = ("seven", "three", "one.", "zanzibar", "quixote", "confidential", "mallory")


class Wire:
    """Lines through a watch, one a second."""

    def __init__(self, shows_text: bool = False) -> None:
        self.watch = Watch(shows_text)
        self.now = 0.0
        self.notes: list[notes.Note] = []

    def sent(self, type: str, **members: object) -> None:
        self.line(json.dumps({"type": type, **members}).encode())

    def line(self, line: bytes) -> None:
        self.now += 1
        self.notes += self.watch.sent(self.now, line)

    def received(self, message: replies.Line) -> None:
        self.now += 1
        self.notes += self.watch.received(self.now, encode_line(message)[:-1])

    def all(self, kind: type) -> list:
        return [note for note in self.notes if isinstance(note, kind)]

    def answers(self) -> list[tuple[str, float]]:
        return [(note.type, note.seconds) for note in self.all(notes.Answered)]


def pong(**members: object) -> replies.Pong:
    return replies.Pong(uptime_s=1.0, state="ready", busy_ms=None, last_progress_ms_ago=None, **members)


def error(code: str, **members: object) -> replies.ErrorReply:
    return replies.ErrorReply(code=code, message="no zanzibar here", retryable=False, data={}, **members)


def partial(**members: object) -> streams.PartialResult:
    reported = {"stream_id": "mallory", "text": "quixote", "samples_buffered": 10, "chunks": 1}
    return streams.PartialResult(**reported, **members)


# From lines to notes


def test_replies_find_their_requests_by_id_or_else_in_their_order() -> None:
    wire = Wire()
    wire.sent("ping")
    wire.sent("ping", id="1")
    wire.sent("status")
    wire.received(pong(id="1"))
    wire.received(pong())
    wire.received(error("busy"))
    assert wire.answers() == [("ping", 2.0), ("ping", 4.0), ("status", 3.0)]
    assert [note.code for note in wire.all(notes.Answered)] == [None, None, "busy"]
    assert wire.all(notes.Waiting)[-1].requests == 0


def test_ids_that_are_a_number_and_a_string_are_two() -> None:
    wire = Wire()
    wire.sent("ping", id=1)
    wire.sent("status", id="1")
    wire.received(pong(id=1))
    assert wire.answers() == [("ping", 2.0)]


def test_chunks_without_a_reply_do_not_stand_in_the_way_of_others() -> None:
    wire = Wire()
    wire.sent("hello", want=["events"])
    wire.sent("audio_chunk", pcm16="AAAA")  # before the answer: nobody knows yet that it has none
    granted = capabilities(Settings())
    granted.want = ["events"]
    wire.received(granted)
    wire.sent("audio_chunk", pcm16="AAAA")
    wire.sent("ping")
    wire.received(pong())
    assert wire.answers() == [("hello", 2.0), ("ping", 1.0)]
    assert wire.all(notes.Waiting)[-1].requests == 0


def test_chunks_in_lock_step_are_answered_by_their_partial() -> None:
    wire = Wire()
    wire.sent("audio_chunk", pcm16="AAAA")
    wire.received(partial())
    assert wire.answers() == [("audio_chunk", 1.0)]
    assert wire.all(notes.Partial) == []


def test_an_event_answers_nothing_and_a_partial_reports_its_cost() -> None:
    wire = Wire()
    wire.sent("ping")
    wire.received(partial(event=True, n=1, seconds=0.5, queue_seconds=0.25, tokens=4, verified_tokens=3))
    assert wire.answers() == []
    (note,) = wire.all(notes.Partial)
    assert (note.seconds, note.queue_seconds, note.tokens, note.verified_tokens) == (0.5, 0.25, 4, 3)


def word(text: str = "zanzibar") -> transcripts.Word:
    return transcripts.Word(
        text=text, start=0.0, end=0.1, char_start=0, char_end=1, confidence=None, time_confidence=0.5
    )


ALIGNER = transcripts.Aligner(model="quixote", seconds=0.25, decoder="viterbi")


def finals(*jobs: int, **members: object) -> transcripts.RealtimeBatchFinal:
    items = [
        transcripts.FinalResult(
            job=job, stream_id="mallory", utterance_id=f"u{job}", source="buffer", samples=1, text="quixote",
            queue_seconds=0.1, audio_gap=False, **members,
        )
        for job in jobs
    ]  # fmt: skip
    return transcripts.RealtimeBatchFinal(
        event=True, n=1, reason="delay", count=len(items), failed=0, items=items, total_seconds=None, load_seconds=0.0,
        decoder_mode="sequential", redecoded=0, profile=Profile(stage="x"),
    )  # fmt: skip


def words_ready(job: int, **members: object) -> streams.WordsReady:
    return streams.WordsReady(n=2, job=job, stream_id="mallory", utterance_id=f"u{job}", **members)


def test_words_wait_from_their_final_to_their_event() -> None:
    wire = Wire()
    wire.received(finals(1, 2, words=None, words_pending=True))
    wire.received(words_ready(2, words=[word(), word("quixote")], aligner=ALIGNER))
    assert [note.words for note in wire.all(notes.Waiting)] == [2, 1]
    wire.received(words_ready(1, error=transcripts.ItemError(code="timeout", message="no zanzibar")))
    wire.received(words_ready(9, error=transcripts.ItemError(code="quixote", message="no zanzibar")))
    found, late, other = wire.all(notes.Words)
    assert (found.count, found.seconds, found.wait_seconds, found.reason) == (2, 0.25, 1.0, None)
    assert (late.count, late.seconds, late.wait_seconds, late.reason) == (0, None, 2.0, "timeout")
    assert (other.wait_seconds, other.reason) == (None, "other")
    assert wire.all(notes.Waiting)[-1].words == 0
    summary = figures(*wire.notes).summary()
    assert (summary.words, summary.words_waiting, summary.words_waiting_most) == (2, 0, 2)
    assert (summary.words_wait_seconds.count, summary.align_seconds.maximum) == (2, 0.25)
    assert summary.words_unavailable == {"other": 1, "timeout": 1}
    assert summary.errors == {}
    kept = msgspec.json.encode(wire.notes)
    assert not any(word.encode() in kept for word in SECRETS)


def test_words_of_a_reply_wait_for_nothing_and_who_did_not_ask_has_none() -> None:
    wire = Wire()
    wire.received(finals(1))
    assert wire.all(notes.Words) == []
    wire.received(finals(2, words=[word()], aligner=ALIGNER))
    wire.received(finals(3, words=None, warnings=["resampled", "words_unavailable: language"]))
    wire.received(finals(4, words=None, warnings=["words_unavailable: zanzibar"]))
    assert [(note.count, note.wait_seconds, note.reason) for note in wire.all(notes.Words)] == [
        (1, None, None),
        (0, None, "language"),
        (0, None, "other"),
    ]
    assert wire.all(notes.Waiting) == []


def test_an_event_that_it_does_not_know_answers_nothing_and_is_quoted_nowhere() -> None:
    wire = Wire()
    wire.sent("ping")
    before = len(wire.notes)
    wire.notes += wire.watch.received(2.0, b'{"type":"zanzibar","event":true,"n":1,"text":"quixote"}')
    assert wire.notes[before:] == []
    wire.notes += wire.watch.received(3.0, b'{"type":"words_ready","event":true,"words":["quixote"]}')
    assert not any(word.encode() in msgspec.json.encode(wire.notes) for word in SECRETS)


def test_a_line_that_is_no_request_and_its_error_belong_together() -> None:
    wire = Wire()
    wire.line(b'{"type":"pi')
    wire.received(error("invalid_json", id=None))
    assert wire.answers() == [("other", 1.0)]


def test_what_is_no_message_is_counted_and_quoted_nowhere() -> None:
    wire = Wire()
    wire.notes += wire.watch.received(1.0, b"Mallory, confidential")
    assert [note.code for note in wire.all(notes.Failed)] == ["other"]


def test_a_word_that_is_on_no_list_becomes_another() -> None:
    wire = Wire()
    wire.sent("zanzibar")
    wire.received(error("quixote"))
    assert [(note.type, note.code) for note in wire.all(notes.Answered)] == [("other", "other")]


def test_a_stream_is_open_when_the_bridge_says_so() -> None:
    wire = Wire()
    wire.sent("start_stream", stream_id="mallory", batch_size=99)
    wire.received(error("invalid_params"))
    wire.sent("ping")
    assert wire.all(notes.Waiting)[-1].streams == 0


@pytest.mark.parametrize(("rate", "seconds"), [(None, 2.0), (8000, 4.0)])
def test_audio_is_counted_at_its_streams_rate(rate: int | None, seconds: float) -> None:
    wire = Wire()
    wire.sent("start_stream", **({} if rate is None else {"sample_rate": rate}))
    for samples in (16_000, 15_999, 1):
        wire.sent("audio_chunk", pcm16=base64.b64encode(bytes(2 * samples)).decode())
    (traffic,) = wire.watch.traffic(9.0)
    assert (traffic.chunks, traffic.audio_seconds, traffic.lines_in) == (3, pytest.approx(seconds), 4)
    assert list(wire.watch.traffic(9.0)) == []


def test_what_is_remembered_is_bounded_although_nothing_is_ever_answered() -> None:
    wire = Wire()
    for number in range(MAX_REMEMBERED + 10):
        wire.line(b'{"type":"ping","id":%d}' % number)
        wire.line(b'{"type":"ping"}')
    assert wire.all(notes.Waiting)[-1].requests == 2 * MAX_REMEMBERED


# From notes to figures


def figures(*some: notes.Note) -> Figures:
    taken = Figures()
    for note in some:
        taken.take(note)
    return taken


def test_throughput_is_of_the_last_minute() -> None:
    work = [notes.Work(at=float(at), audio_seconds=2.0, total_seconds=1.0, realtime_factor=2.0) for at in range(600)]
    taken = figures(*work)
    summary = taken.summary()
    assert summary.recent.audio_seconds_per_second == pytest.approx(2.0, rel=0.05)
    assert (summary.audio_seconds, summary.work_seconds, summary.realtime_factor) == (1200.0, 600.0, 2.0)
    assert taken.summary(now=700.0).recent.audio_seconds_per_second == 0.0
    assert len(taken._recent) <= 61


def test_the_most_that_waited_and_memory_then_and_now_are_reported() -> None:
    first, last = Memory(rss_bytes=100), Memory(rss_bytes=300)
    summary = figures(
        notes.Waiting(at=1.0, requests=3, utterances=2, streams=1),
        notes.Waiting(at=2.0, requests=0, utterances=1, streams=1),
        notes.MemoryRead(at=3.0, memory=first),
        notes.MemoryRead(at=4.0, memory=Memory(rss_bytes=200)),
        notes.MemoryRead(at=5.0, memory=last),
    ).summary()
    assert (summary.requests_waiting, summary.requests_waiting_most) == (0, 3)
    assert (summary.utterances_waiting, summary.utterances_waiting_most) == (1, 2)
    assert (summary.first_memory, summary.memory) == (first, last)


# A tap


def test_a_reader_that_is_too_slow_loses_lines_and_not_the_count_of_their_bytes() -> None:
    tap = Tap(limit=10)
    tap.put("app", b"0123456789")
    tap.put("app", b"lost")
    assert tap.take(0).data == b"0123456789"
    tap.put("app", b"next\n")
    block = tap.take(0)
    assert (block.data, block.torn) == (b"next\n", True)
    assert (tap.take_unseen(), tap.take_unseen()) == (4, 0)
    tap.close()
    with pytest.raises(EOFError):
        tap.take(0)


# On the screen


@pytest.mark.parametrize("width", [40, 80])
def test_no_number_is_cut_however_narrow_the_terminal_is(width: int) -> None:
    answers = [notes.Answered(at=1.0, type="transcribe", seconds=0.01234 * times) for times in (1, 2, 3)]
    file = io.StringIO()
    Console(file=file, width=width).print(picture(figures(*answers).summary(), Texts()))
    assert "…" not in file.getvalue()
    assert "0.037" in file.getvalue()


# The process


def monitor(bridge: Path, *arguments: object) -> list[str]:
    """Without the terminal that the tests may have been started from, on which it would draw."""
    start = f"import os, sys; sys.path.insert(0, {str(TESTS.parent / 'src')!r})\n"
    start += "if os.getpgrp() != os.getpid(): os.setsid()\n"
    start += "from qwen3_asr_mlx_runtime.tools.monitor.main import main; sys.exit(main())"
    return [sys.executable, "-I", "-c", start, "--bridge", str(bridge), *map(str, arguments)]


def program(path: Path, command: list[str]) -> Path:
    """A program of one file, as `--bridge` names it."""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
    path.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    path.chmod(0o755)
    return path


def python(path: Path, code: str) -> Path:
    return program(path, [sys.executable, "-I", "-c", code])


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A bridge that echoes its input, byte for byte, and ends with 7."""
    code = "import os, sys\nwhile data := os.read(0, 65536):\n os.write(1, data)\nsys.exit(7)"
    return python(tmp_path / "echo", code)


def test_every_byte_passes_unchanged_and_the_exit_code_too(echo: Path) -> None:
    data = np.random.default_rng(1).bytes(3_000_000)
    ran = subprocess.run(monitor(echo), input=data, capture_output=True, check=False)
    assert ran.returncode == 7
    assert ran.stdout == data


def test_a_byte_that_is_no_line_passes_at_once(echo: Path) -> None:
    with subprocess.Popen(monitor(echo), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdin.write(b"{")
        assert process.stdout.read(1) == b"{"
        process.stdin.close()
        assert process.wait() == 7


def test_what_passes_is_noted_before_its_answer_can_come() -> None:
    into, source = os.pipe()
    sink, out = os.pipe()
    seen: list[bytes] = []

    def tap(_side: str, data: bytes) -> None:
        os.set_blocking(sink, False)
        with pytest.raises(BlockingIOError):
            os.read(sink, 1)  # nobody can have answered it
        seen.append(data)

    os.write(source, b"ping")
    os.close(source)
    _pump("app", into, out, tap)
    assert (seen, os.read(sink, 9)) == ([b"ping"], b"ping")
    for descriptor in (into, sink, out):
        os.close(descriptor)


def test_after_a_signal_a_parent_that_reads_nothing_is_not_waited_for(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n"
        "os.write(1, b'x')\nwhile True: os.write(1, b'x' * 65536)"
    )
    command = monitor(python(tmp_path / "bridge", code))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout.read(1) == b"x"
        process.terminate()
        assert process.wait() == 143


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_reaches_the_bridge_once_and_its_exit_code_comes_back(tmp_path: Path, number: str) -> None:
    code = (
        "import os, signal, sys\nreceived = []\n"
        "def count(*_):\n received.append(1)\n os.write(1, b's')\n"
        f"signal.signal(signal.{number}, count)\n"
        "os.write(1, b'r')\nos.read(0, 1)\nsys.exit(20 + len(received))"
    )
    command = monitor(python(tmp_path / "bridge", code))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout.read(1) == b"r"
        process.send_signal(signal.Signals[number])
        assert process.stdout.read(1) == b"s"
        process.stdin.close()
        assert process.wait() == 21


@pytest.mark.parametrize("number", ["SIGKILL", "SIGABRT", "SIGTERM"])
def test_a_bridge_that_a_signal_ends_is_seen_to_end_by_it(tmp_path: Path, number: str) -> None:
    code = f"import os, signal\nos.kill(os.getpid(), signal.{number})"
    ran = subprocess.run(monitor(python(tmp_path / "bridge", code)), capture_output=True, check=False)
    assert ran.returncode == -signal.Signals[number]


def test_a_parent_that_no_longer_reads_is_reported_to_the_bridge(tmp_path: Path) -> None:
    code = (
        "import os, sys\ntry:\n while True: os.write(1, b'x' * 65536)\n"
        "except BrokenPipeError:\n os._exit(5)"
    )  # fmt: skip
    command = monitor(python(tmp_path / "bridge", code))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait() == 5


def test_the_bridge_gets_process_is_its_app(tmp_path: Path) -> None:
    bridge = python(tmp_path / "bridge", "import sys; sys.stdout.write(' '.join(sys.argv[1:]))")
    named = subprocess.run(monitor(bridge, "--parent-pid=3", "x"), capture_output=True, text=True, check=False)
    assert named.stdout == "--parent-pid=3 x"
    left_out = subprocess.run(monitor(bridge, "x"), capture_output=True, text=True, check=False)
    assert left_out.stdout == f"x --parent-pid {os.getpid()}"


def test_a_parent_outside_of_the_container_cannot_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert _with_parent(["x"]) == ["x"]


@pytest.mark.once
@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: path.stem)
def test_it_can_stand_in_every_scenario(path: Path, tmp_path: Path) -> None:
    speech = write_silence(tmp_path / "speech.wav", 8_000)
    write_silence(tmp_path / "minute.wav", 960_000)
    scenario = json.loads(path.read_text(encoding="utf-8"))
    bridge = program(tmp_path / "bridge", engine_command(scenario["engine"]))
    reported = tmp_path / "figures.json"
    with Client(monitor(bridge, "--json", reported, *scenario.get("options", ()))) as client:
        player = Player(client, speech)
        player.play(scenario["steps"])
        check_lines(player.lines)
        client.wait(close=False, alone=False)
    assert json.loads(reported.read_text())["lines_out"] == len(player.lines)


# What it reports


COLUMNS = 70


@pytest.fixture
def terminal() -> Iterable[tuple[str, int]]:
    """Its name, and where what is drawn can be read."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, COLUMNS))
    yield os.ttyname(slave), master
    os.close(master)
    with suppress(OSError):
        os.close(slave)


@pytest.fixture
def drawn(terminal: tuple[str, int]) -> Callable[[], bytes]:
    """All that has appeared on the terminal, which is read as it comes."""
    seen, mark = bytearray(), b"\0all of it"
    marked = Event()

    def read() -> None:
        with suppress(OSError):
            while data := os.read(terminal[1], 4096):
                seen.extend(data)
                if seen.endswith(mark):
                    marked.set()

    def everything() -> bytes:
        with Path(terminal[0]).open("wb", buffering=0) as file:
            file.write(mark)
        marked.wait()
        return bytes(seen.removesuffix(mark))

    Thread(target=read, daemon=True).start()
    return everything


def requests(repository: Path) -> bytes:
    """Files and a stream with partial text, with words to be kept everywhere they can stand."""
    with wave.open(str(repository / "examples" / "audio" / "sample.wav")) as file:
        pcm = file.readframes(file.getnframes())
    messages = [
        {"type": "hello", "id": "zanzibar", "want": ["events"], "client": {"name": "Mallory"}},
        {"type": "transcribe", "audio": str(repository / "examples/audio/sample.wav"), "context": "quixote"},
        {"type": "transcribe", "id": "quixote", "audio": "/confidential/mallory.wav"},
        {"type": "transcribe", "audio": str(repository / "examples/audio/sample.wav"), "words": True},
        {"type": "start_stream", "stream_id": "mallory", "partials": True, "partial_interval_ms": 100, "words": True},
        *(
            {"type": "audio_chunk", "stream_id": "mallory", "pcm16": base64.b64encode(pcm[at : at + 3200]).decode()}
            for at in range(0, len(pcm), 3200)
        ),
        {"type": "end_utterance", "stream_id": "mallory", "utterance_id": "zanzibar"},
        {"type": "flush"},
        {"type": "status", "confidential": "quixote"},
        {"type": "stop"},
    ]
    return "".join(json.dumps(message) + "\n" for message in messages).encode() + b"Mallory: not JSON\n"


def converse(command: list[str], written: bytes, **options: object) -> subprocess.CompletedProcess:
    """The conversation; the utterance ends after its first partial."""
    chunks, end, rest = written.partition(b'{"type": "end_utterance"')
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as process:
        process.stdin.write(chunks)
        process.stdin.flush()
        received_text = b""
        while b'"type":"partial_result"' not in received_text:
            received_text += process.stdout.readline()
        stdout, stderr = process.communicate(end + rest)
    return subprocess.CompletedProcess(command, process.returncode, received_text + stdout, stderr)


def secrets_in(*data: bytes, audio: bytes) -> list[str]:
    reported = b"\n".join(data).lower()
    return [word for word in SECRETS if word.encode() in reported] + ["audio"] * (audio[:24].lower() in reported)


def test_lines_of_stderr_have_a_pane_of_their_own_where_they_would_break_up_the_drawing(
    tmp_path: Path, terminal: tuple[str, int], drawn: Callable[[], bytes]
) -> None:
    code = r"import os; os.write(2, b'12 %\r57 %\r\n\x1b[31mno \xff model\x1b[0m\nunfinished'); os.read(0, 1)"
    with (
        Path(terminal[0]).open("wb", buffering=0) as stderr,
        subprocess.Popen(
            monitor(python(tmp_path / "bridge", code)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        process.communicate(b"x")
    rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", drawn().decode()).split("\n")
    assert any(row.startswith("╭─ stderr, 3 lines ─") for row in rows)
    for line in ("57 %", "no � model", "unfinished"):
        assert {row for row in rows if line in row} == {f"│ {line:<{COLUMNS - 4}} │"}
    assert not any("12 %" in row for row in rows)


def test_stderr_is_left_where_it_goes_if_nothing_is_drawn_there(
    tmp_path: Path, terminal: tuple[str, int], drawn: Callable[[], bytes]
) -> None:
    bridge = python(tmp_path / "bridge", "import os; os.write(2, b'12 %\\r57 %\\n')")
    ran = subprocess.run(monitor(bridge, "--screen", terminal[0]), capture_output=True, check=False)
    assert ran.stderr == b"12 %\r57 %\n"
    assert b"57 %" not in drawn()


@pytest.mark.parametrize("asked", [False, True])
def test_no_word_and_no_audio_reach_screen_record_or_figures_unless_asked(
    repository: Path, tmp_path: Path, terminal: tuple[str, int], drawn: Callable[[], bytes], asked: bool
) -> None:
    record, reported = tmp_path / "session.jsonl", tmp_path / "figures.json"
    bridge = program(tmp_path / "bridge", engine_command("demo"))
    options = ["--record", record, "--json", reported, "--screen", terminal[0], *(["--show-text"] if asked else [])]
    written = requests(repository)
    ran = converse(monitor(bridge, *options), written)
    assert ran.returncode == 0, ran.stderr
    assert b"Seven three one." in ran.stdout, "the conversation had no such words"
    audio = base64.b64encode(base64.b64decode(json.loads(written.splitlines()[7])["pcm16"]))
    replayed = replay(record, *(["--show-text"] if asked else []))
    shown = drawn()
    everywhere = (record.read_bytes(), reported.read_bytes(), shown, replayed, ran.stderr)
    if asked:
        assert {"seven", "three", "one."} <= set(secrets_in(record.read_bytes(), audio=audio))
        assert {"seven", "three"} <= set(secrets_in(replayed, audio=audio))
        assert b"Seven three one." in shown
    else:
        assert secrets_in(*everywhere, audio=audio) == []
    assert b"reply to transcribe" in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", shown.decode()).split("\n"))) <= COLUMNS
    assert record.stat().st_mode & 0o077 == 0, "others may read the record"


def replay(record: Path, *arguments: object) -> bytes:
    ran = subprocess.run(monitor(Path("unused"), "--replay", record, *arguments), capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b""), ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def session(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """A record, the figures, and what stood on stderr, of a session without a terminal."""
    folder = tmp_path_factory.mktemp("session")
    bridge = program(folder / "bridge", engine_command("speak"))
    options = ["--record", folder / "record", "--json", folder / "figures"]
    ran = converse(monitor(bridge, *options), requests(repository), start_new_session=True)
    assert ran.returncode == 0, ran.stderr
    return folder / "record", json.loads((folder / "figures").read_text()), ran.stderr.decode()


def test_the_figures_are_those_of_the_session(session: tuple[Path, dict, str]) -> None:
    _, reported, _ = session
    assert reported["exit_code"] == 0
    assert (reported["files"], reported["utterances"], reported["finish_reasons"]) == (2, 1, {"stop": 3})
    assert reported["errors"]["audio_not_found"] == 1
    assert reported["partials"] == reported["partial_seconds"]["count"] > 0
    assert reported["answers"]["transcribe"]["count"] == 3
    assert (reported["words"], reported["words_waiting"], reported["words_unavailable"]) == (6, 0, {})
    assert reported["align_seconds"]["count"] == 2
    assert reported["final_queue_seconds"]["count"] == 1
    assert reported["streamed_seconds"] == pytest.approx(1.7025, abs=0.01)
    assert (reported["requests_waiting"], reported["utterances_waiting"]) == (0, 0)
    assert reported["queues"] is not None
    assert reported["memory"]["rss_bytes"] > 0


def test_a_record_has_the_same_figures(session: tuple[Path, dict, str], tmp_path: Path) -> None:
    record, reported, _ = session
    replay(record, "--json", tmp_path / "again")
    again = json.loads((tmp_path / "again").read_text())
    of_the_clock = {"seconds", "recent"}
    assert {name: again[name] for name in again.keys() - of_the_clock} == {
        name: reported[name] for name in reported.keys() - of_the_clock
    }


def test_without_a_terminal_the_figures_are_on_stderr_at_the_end(session: tuple[Path, dict, str]) -> None:
    assert "reply to transcribe" in session[2]
    assert "ended with 0" in session[2]


def test_a_record_that_was_cut_off_is_read_up_to_there(session: tuple[Path, dict, str], tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(session[0].read_bytes()[:-20])
    assert b"reply to transcribe" in replay(cut)


def test_a_terminal_that_takes_nothing_holds_nothing_up(echo: Path, terminal: tuple[str, int]) -> None:
    """Nobody reads it, and it holds a few thousand bytes."""
    full = os.open(terminal[0], os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(full, b"x" * 4096):
            pass
    ran = subprocess.run(
        monitor(echo, "--screen", terminal[0]), input=b"a\n" * 20_000, capture_output=True, check=False
    )
    os.close(full)
    assert (ran.returncode, len(ran.stdout)) == (7, 40_000)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--replay", "x", "--record", "y"], "--replay starts no bridge"),
        (["--replay", "x", "--model", "demo"], "--replay starts no bridge"),
        (["--record"], "expected one argument"),
        (["--record", "x", "--json", "x", "--bridge", "y"], "name the same file"),
        ([], "name one by --bridge"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    stderr = capsys.readouterr().err
    assert (ended.value.code, len(stderr.splitlines())) == (2, 1)
    assert complaint in stderr


def test_a_record_that_is_none_is_reported_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(msgspec.json.encode(notes.Began(at=0.0, time=1.0)) + b'\n{"what":"zanzibar"}\n')
    assert main(["--replay", str(bad)]) == 1
    assert capsys.readouterr().err == f"qwen3-asr-mlx-monitor: {bad}, line 2: not a note of a monitor\n"
    assert main(["--replay", str(tmp_path / "missing")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--record", "--json", "--screen"])
def test_what_cannot_be_written_is_reported_before_the_bridge_starts(echo: Path, tmp_path: Path, option: str) -> None:
    ran = subprocess.run(
        monitor(echo, option, tmp_path / "no" / "folder"), input=b"a", capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("screen", ["no/folder", "a-file"])
def test_a_screen_that_is_none_is_reported_before_the_bridge_starts(tmp_path: Path, screen: str) -> None:
    (tmp_path / "a-file").touch()
    bridge = python(tmp_path / "bridge", f"open({str(tmp_path / 'started')!r}, 'w')")
    ran = subprocess.run(monitor(bridge, "--screen", tmp_path / screen), capture_output=True, check=False)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("content", [b"", b"a line of another file", b'{"what":"loaded","at":1,"load_seconds":1}\n'])
def test_a_file_that_does_not_begin_as_a_record_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "other").write_bytes(content)
    assert main(["--replay", str(tmp_path / "other")]) == 1
    assert "not a record of a monitor" in capsys.readouterr().err


def test_a_record_over_a_file_that_others_could_read_is_for_its_user_alone(echo: Path, tmp_path: Path) -> None:
    (tmp_path / "record").touch(0o644)
    subprocess.run(monitor(echo, "--record", tmp_path / "record"), input=b"", capture_output=True, check=False)
    assert (tmp_path / "record").stat().st_mode & 0o077 == 0


def test_a_bridge_that_is_not_there_is_reported(tmp_path: Path) -> None:
    ran = subprocess.run(monitor(tmp_path / "missing"), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "missing" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_its_own_options_end_where_the_bridges_begin() -> None:
    assert split(["--json=a", "--record", "b", "--model", "demo", "--json", "c"]) == (
        ["--json=a", "--record", "b"],
        ["--model", "demo", "--json", "c"],
    )


def test_the_launcher_starts_it_and_help_shows_an_example(repository: Path, tmp_path: Path) -> None:
    reported = launched(repository, tmp_path, "qwen3-asr-mlx-monitor", "--help")
    assert (reported.returncode, reported.stderr) == (0, "")
    assert "qwen3-asr-mlx-monitor --replay session.jsonl" in reported.stdout
