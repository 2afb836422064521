"""Every promise that the monitor watches was seen broken once."""

import base64
import json
import os
import subprocess
import sys

import msgspec
import pytest
from support import protocol_monitor
from support.fake_engine import transcript
from support.protocol_monitor import LINES, ProtocolMonitor

from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities
from qwen3_asr_mlx_runtime.protocol.replies import encode_line
from qwen3_asr_mlx_runtime.protocol.transcripts import FinalResult, ItemError
from qwen3_asr_mlx_runtime.settings import Settings

SMALLEST = {int: 0, float: 0.0, str: "x", bool: False}
PCM = base64.b64encode(bytes(200)).decode()
PROFILE = msgspec.to_builtins(transcript().profile)
GIVEN = {
    "capabilities": json.loads(encode_line(capabilities(Settings()))),
    "ready": {"load_profile": {}, "load": "none"},
    "error": {"data": {}},
    "stopped": {"reason": "stop", "items": [], "unfinished": []},
    "batch_transcript": {"items": [], "profile": PROFILE},
    "realtime_batch_final": {"reason": "flush", "items": [], "profile": PROFILE},
    "stream_stopped": {"cancelled_utterances": []},
    "stream_error": {"data": {}, "event": True},
    "progress": {"event": True},
    "pong": {"state": "ready"},
}


HINTS = {
    "changed_from": 0,
    "settled_ms": 0,
    "ends_sentence": False,
    "ends_sentence_probability": None,
    "trailing_silence_ms": 0,
}


def line(type: str, **members: object) -> bytes:
    """A line with every field of its type, each as small as it can be where it is not given."""
    struct = next(one for one in LINES if one.__struct_config__.tag == type)
    fields = {
        field.name: SMALLEST.get(field.type)
        for field in msgspec.structs.fields(struct)
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    }
    return json.dumps({"type": type, **fields, **GIVEN.get(type, {}), **members}).encode() + b"\n"


def ask(type: str, **members: object) -> bytes:
    return json.dumps({"type": type, **members}).encode()


def final(name: str, stream_id: str = "s", **members: object) -> dict:
    result = FinalResult(
        job=1, stream_id=stream_id, utterance_id=name, source="buffer", samples=100, queue_seconds=0.0, audio_gap=False
    )
    return {**msgspec.to_builtins(result), **members}


def batch(*items: dict, failed: int = 0, **members: object) -> bytes:
    return line("realtime_batch_final", count=len(items), failed=failed, items=list(items), **members)


def queued(name: str, **members: object) -> bytes:
    return line("utterance_queued", stream_id="s", utterance_id=name, samples=100, queued=1, batch_size=4, **members)


def converse(*lines: bytes | tuple[bytes, ...]) -> None:
    """Lines in, and tuples of lines out, in order; and the end."""
    monitor = ProtocolMonitor()
    for one in lines:
        if isinstance(one, tuple):
            for each in one:
                monitor.received(each)
        else:
            monitor.sent(one)
    monitor.finish()


HELLO, STOP, FLUSH = ask("hello"), ask("stop"), ask("flush")
WANT = ask("hello", want=["events"])
CHUNK, END = ask("audio_chunk", stream_id="s", pcm16=PCM), ask("end_utterance", stream_id="s")
CAPABILITIES, STOPPED, READY = line("capabilities"), line("stopped"), line("ready")
TAKEN = line("partial_result", stream_id="s", samples_buffered=100, chunks=1)
ERROR = ItemError(code="decode_failed", message="planted")
FAILED = msgspec.to_builtins(ERROR)

SLOW = ask("start_stream", stream_id="s", sample_rate=8_000)  # 100 samples of it are 200
READY_SLOW = line("stream_ready", stream_id="s")
READY_LATE = line("stream_ready", stream_id="s", sample_rate=8_000, dropped_samples=100)
SPLITTING = (WANT, ask("start_stream", stream_id="s", id=1, on_limit="split"), CHUNK, CHUNK, FLUSH)
BEGUN = (CAPABILITIES, line("stream_ready", stream_id="s", id=1))

PARTIALS = ask("start_stream", stream_id="s", id=1, partials=True)


def partial(n: int, revision: int, stable: str = "", **members: object) -> bytes:
    """An event of the first utterance of s."""
    reported = {"utterance_id": "s-1", "revision": revision, "stable_text": stable, "text": f"{stable} more", **HINTS}
    timing = {"seconds": 0.1, "queue_seconds": 0.1, "tokens": 3, "verified_tokens": 1}
    reported |= {"language": None, "audio_seconds": revision / 2, **timing, **members}
    return line("partial_result", event=True, n=n, stream_id="s", **reported)


def hypothesis(revision: int, stable: str = "", **members: object) -> bytes:
    """The reply to a chunk of s."""
    reported = {
        "utterance_id": "s-1",
        "revision": revision,
        "stable_text": stable,
        "text": "",
        "language": None,
        **HINTS,
    }
    return line("partial_result", **{**reported, "stream_id": "s", "audio_seconds": revision / 2, **members})


SPEAKING = (WANT, PARTIALS, CHUNK, CHUNK)
LISTENED = (WANT, PARTIALS, CHUNK, ask("end_utterance", stream_id="s", id=2))
IN_STEP = (ask("start_stream", stream_id="s", partials=True), CHUNK, CHUNK)
OPENED = line("stream_ready", stream_id="s")

RESTARTS = ask("hello", want=["events", "progress"])
SEEN = line("capabilities", want=["events", "progress"])
CRASHED = {"code": "engine_crashed", "message": "planted"}
FILE, FAILS = ask("transcribe", id=3, audio="a"), line("error", id=3, **CRASHED)
LOST = line("stopped", reason="engine_unavailable")
AT_WORK = (RESTARTS, ask("transcribe", id=3, audio="a", progress=True))
REFUSED = line("error", id=3, code="decode_failed")


def done(n: int, done: int | None, total: int | None = 9, request_id: int | None = 3) -> bytes:
    """Progress of a file."""
    whose = {} if request_id is None else {"request_id": request_id}
    return line("progress", event=True, n=n, stage="transcribe", done=done, total=total, **whose)


def restart(n: int, attempt: int) -> bytes:
    return line("engine_restarting", event=True, n=n, attempt=attempt)


VIOLATIONS = {
    "no object": ("I1", STOP, (b'"stopped"\n',)),
    "not ascii": ("I1", STOP, ('{"type":"stopped","x":"é"}\n'.encode(),)),
    "not a number": ("I1", STOP, (b'{"type":"stopped","x":NaN}\n',)),
    "unknown type": ("I1", STOP, (b'{"type":"goodbye"}\n',)),
    "missing field": ("I1", STOP, (b'{"type":"stopped"}\n',)),
    "wrong field": ("I1", STOP, (line("stopped", completed="many"),)),
    "half a line": ("I1", STOP, (STOPPED, b"{")),
    "no reply": ("I2", HELLO, HELLO, (CAPABILITIES,)),
    "two replies": ("I2", HELLO, (CAPABILITIES, CAPABILITIES)),
    "two replies to an id": (
        "I2",
        ask("hello", id=7),
        (line("capabilities", id=7), line("capabilities", id=7)),
    ),
    "no request": ("I2", (STOPPED,)),
    "no reply to an id": ("I2", ask("hello", id=7), HELLO, (CAPABILITIES,)),
    "a reply to a silent chunk": ("I2", WANT, CHUNK, (CAPABILITIES, TAKEN)),
    "out of order": ("I3", HELLO, ask("start"), (READY, CAPABILITIES)),
    "another id": ("I2", ask("hello", id=7), (line("capabilities", id="7"),)),
    "the id is not echoed": ("I2", ask("hello", id=7), (CAPABILITIES,)),
    "an id that was not sent": ("I2", HELLO, (line("capabilities", id=7),)),
    "a reply that does not fit": ("I3", ask("ping", id=7), (line("capabilities", id=7),)),
    "an utterance that is never delivered": ("I4", CHUNK, END, (TAKEN, queued("s-1"))),
    "an utterance that was not accepted": ("I4", FLUSH, (batch(final("s-1")),)),
    "an utterance delivered twice": (
        "I4",
        *(CHUNK, END, FLUSH, FLUSH, (TAKEN, queued("s-1"), batch(final("s-1")), batch(final("s-1")))),
    ),
    "utterances out of order": (
        "I4",
        *(END, END, FLUSH, (queued("s-1"), queued("s-2"), batch(final("s-2"), final("s-1")))),
    ),
    "an utterance that no split can have made": (
        "I4",
        *(WANT, ask("start_stream", stream_id="s", id=1), CHUNK, FLUSH),
        (CAPABILITIES, line("stream_ready", stream_id="s", id=1), batch(final("s-1"))),
    ),
    "a split that is named otherwise": ("I4", *SPLITTING, (*BEGUN, batch(final("u"), final("s-2")))),
    "a split delivered twice": ("I4", *SPLITTING, (*BEGUN, batch(final("s-1"), final("s-1")))),
    "splits out of order": ("I4", *SPLITTING, (*BEGUN, batch(final("s-2"), final("s-1")))),
    "more splits than chunks": ("I4", *SPLITTING, (*BEGUN, batch(final("s-1"), final("s-2"), final("s-3")))),
    "an utterance discarded that was not accepted": (
        "I4",
        *(ask("stop_stream", stream_id="s"), (line("stream_stopped", stream_id="s", cancelled_utterances=["s-1"]),)),
    ),
    "a boundary answered with a batch of others": (
        "I4",
        *(END, (batch(final("s-1"), utterance_id="s-2"),)),
    ),
    "a batch that is miscounted": ("I4", END, FLUSH, (queued("s-1"), batch(final("s-1", error=FAILED)))),
    "files out of order": (
        "I4",
        ask("batch_transcribe", audio=["a", "b"]),
        (line("batch_transcript", count=1, items=[{"audio": "a", "text": "x"}]),),
    ),
    "failed files that are not counted": (
        "I4",
        ask("batch_transcribe", audio=["a"]),
        (line("batch_transcript", count=1, items=[{"audio": "a", "text": None, "error": FAILED}]),),
    ),
    "an event that is not wanted": ("I5", HELLO, (CAPABILITIES, batch(event=True, n=1))),
    "progress that is not wanted": ("I5", WANT, (CAPABILITIES, line("progress", n=1))),
    "progress of a file after its reply": ("I13", *AT_WORK, (SEEN, done(1, 5), REFUSED, done(2, 6))),
    "progress of a file that nobody asked for": ("I13", RESTARTS, FILE, (SEEN, done(1, 0))),
    "progress of no request": ("I13", *AT_WORK, (SEEN, done(1, 0, request_id=4))),
    "progress of a file after its cancel": (
        "I13",
        *(*AT_WORK, ask("cancel", id=9, target=3)),
        (SEEN, line("cancel_result", id=9, state="cancelling"), done(1, 0)),
    ),
    "progress of a file that goes back": ("I13", *AT_WORK, (SEEN, done(1, 5), done(2, 4))),
    "progress of a file beyond its end": ("I13", *AT_WORK, (SEEN, done(1, 10, total=9))),
    "progress of a file without a number": ("I13", *AT_WORK, (SEEN, done(1, None))),
    "progress of a file before its beginning": ("I13", *AT_WORK, (SEEN, done(1, -1))),
    "progress without id that goes back": (
        *("I13", RESTARTS, ask("transcribe", audio="a", progress=True)),
        (SEEN, done(1, 5, request_id=None), done(2, 4, request_id=None)),
    ),
    "a gap in the events": ("I5", WANT, (CAPABILITIES, batch(event=True, n=2))),
    "samples lost": ("I6", CHUNK, (TAKEN,)),
    "samples invented": (
        "I6",
        *(CHUNK, END, FLUSH, (TAKEN, queued("s-1"), batch(final("s-1", samples=101)))),
    ),
    "resampled samples lost": (
        "I6",
        *(SLOW, CHUNK, CHUNK, STOP, (READY_SLOW, TAKEN, TAKEN, line("stopped", dropped_samples=397))),
    ),
    "silent samples lost": ("I6", WANT, CHUNK, STOP, (CAPABILITIES, STOPPED)),
    "partial text that was not asked for": ("I9", WANT, SLOW, (CAPABILITIES, READY_SLOW, partial(1, 1))),
    "a partial in a reply that was not requested": ("I9", CHUNK, (hypothesis(1),)),
    "a text without a revision": ("I9", *IN_STEP, (OPENED, hypothesis(0, text="too soon"))),
    "a reply without all members": ("I9", *IN_STEP, (OPENED, line("partial_result", stream_id="s", stable_text="x"))),
    "a reply with the time of an event": ("I9", *IN_STEP, (OPENED, hypothesis(1, seconds=0.1))),
    "an event without its time": ("I9", *SPEAKING, (*BEGUN, hypothesis(1, event=True, n=1))),
    "a revision twice": ("I9", *SPEAKING, (*BEGUN, partial(1, 1), partial(2, 1))),
    "a revision that goes back": ("I9", *SPEAKING, (*BEGUN, partial(1, 2), partial(2, 1))),
    "a reply whose revision goes back": ("I9", *IN_STEP, (OPENED, hypothesis(2), hypothesis(1))),
    "partial text after the boundary": ("I9", *LISTENED, (*BEGUN, queued("s-1", id=2), partial(1, 1))),
    "partial text after the cancel": (
        "I9",
        *(WANT, PARTIALS, CHUNK, ask("cancel", id=2, stream_id="s", utterance_id="s-1")),
        (*BEGUN, line("cancel_result", id=2, state="cancelled", dropped_samples=100), partial(1, 1)),
    ),
    "partial text after a split": (
        "I9",
        *IN_STEP,
        (OPENED, hypothesis(1), hypothesis(0, split={"utterance_id": "s-1", "samples": 1}), partial(1, 2)),
    ),
    "stable text that changes": ("I10", *SPEAKING, (*BEGUN, partial(1, 2, "one"), partial(2, 3, "won"))),
    "stable text that shrinks": ("I10", *SPEAKING, (*BEGUN, partial(1, 2, "one two"), partial(2, 3, "one"))),
    "stable text that changes in a reply": ("I10", *IN_STEP, (OPENED, hypothesis(2, "one"), hypothesis(3, "won"))),
    "stable text of one hypothesis": ("I10", *SPEAKING, (*BEGUN, partial(1, 1, "one"))),
    "less audio than before": ("I10", *SPEAKING, (*BEGUN, partial(1, 2), partial(2, 3, audio_seconds=0.5))),
    "an attempt that is none": ("I11", RESTARTS, (SEEN, restart(1, 0))),
    "an attempt after the last": ("I11", RESTARTS, (SEEN, restart(1, 5))),
    "an attempt left out": ("I11", RESTARTS, (SEEN, restart(1, 1), restart(2, 3))),
    "audio that fails at its first end": ("I11", RESTARTS, (SEEN, restart(1, 1)), FILE, (restart(2, 2), FAILS)),
    "an utterance that fails at its first end": (
        *("I11", RESTARTS, (SEEN, restart(1, 1)), END, (queued("s-1"), restart(2, 2))),
        (batch(final("s-1", error=CRASHED), failed=1, event=True, n=3),),
    ),
    "two that fail at one end": (
        *("I11", RESTARTS, (SEEN,), ask("batch_transcribe", audio=["a", "b"]), (restart(1, 1), restart(2, 2))),
        (
            line(
                "batch_transcript",
                count=2,
                failed=2,
                items=[{"audio": name, "text": None, "error": CRASHED} for name in "ab"],
                decoder_mode="sequential",
            ),
        ),
    ),
    "a line after stopped": ("I7", STOP, HELLO, (STOPPED, CAPABILITIES)),
}


def test_a_reply_is_received_when_it_is_asked_for() -> None:
    monitor = ProtocolMonitor()
    for name in ("a", "b"):
        monitor.sent(ask("ping", id=name))
    both = line("pong", id="a") + line("pong", id="b")
    pieces = iter([both[:9], both[9:-1], both[-1:]])
    assert monitor.next_reply(lambda: next(pieces))["id"] == "a"
    assert len(monitor.replies) == 1
    with pytest.raises(AssertionError, match="I1: the output ends within a line"):
        monitor.finish()
    assert monitor.next_reply(lambda: next(pieces))["id"] == "b"
    monitor.finish()


def test_what_was_read_ahead_is_received_before_what_follows() -> None:
    monitor = ProtocolMonitor()
    for name in ("a", "b"):
        monitor.sent(ask("ping", id=name))
    monitor.next_reply(lambda: line("pong", id="a") + line("pong", id="b")[:5])
    assert [reply["id"] for reply in monitor.received(line("pong", id="b")[5:])] == ["b"]
    monitor.finish()


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_planted_violation_is_named(violation: tuple) -> None:
    broken, *lines = violation
    with pytest.raises(AssertionError, match=f"^{broken}:"):
        converse(*lines)


def test_every_invariant_is_broken_by_a_plan() -> None:
    """I8 is about processes, and is broken below."""
    assert {broken for broken, *_ in VIOLATIONS.values()} == {f"I{number}" for number in (*range(1, 12), 13)} - {"I8"}


def test_i4_what_was_accepted_before_a_signal_is_delivered_before_the_last_line() -> None:
    monitor = ProtocolMonitor()
    monitor.sent(END)
    monitor.received(queued("s-1"))
    monitor.signalled()
    monitor.received(line("stopped", reason="signal"))
    with pytest.raises(AssertionError, match=r"^I4:"):
        monitor.finish()


def test_a_line_that_is_no_json_is_a_violation() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        converse(STOP, (b"downloading...\n",))


def test_i8_a_code_without_a_meaning_is_named() -> None:
    with pytest.raises(AssertionError, match=r"^I8: exit code 3"):
        ProtocolMonitor().exited(3)


def test_i8_a_process_that_is_left_behind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_monitor, "GRACE_SECONDS", 0.2)
    command = [sys.executable, "-I", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        with pytest.raises(AssertionError, match=r"^I8: a process"):
            ProtocolMonitor().exited(0, os.getpgid(child.pid))
        group = child.pid
        child.communicate(b"\n")
    ProtocolMonitor().exited(0, group)


SOUND = {
    "audio that fails at its second end": (
        *(RESTARTS, (SEEN,), FILE, (restart(1, 1), restart(2, 2), FAILS, restart(3, 1), restart(4, 2))),
    ),
    "audio that fails at the last end": (
        *(RESTARTS, (SEEN, restart(1, 1), restart(2, 2), restart(3, 3)), FILE, (restart(4, 4), FAILS, LOST)),
    ),
    "audio that fails at ends that were not wanted": (FILE, (FAILS,)),
    "audio that fails at ends that were wanted no more": (
        *(RESTARTS, FILE, ask("hello", want=["events"]), (SEEN, CAPABILITIES, FAILS)),
    ),
    "partial text, and that of the next utterance of the name": (
        *(*LISTENED, ask("audio_chunk", stream_id="s", pcm16=PCM, utterance_id="s-1"), STOP),
        (*BEGUN, partial(1, 1), partial(2, 3, "one"), queued("s-1", id=2), partial(3, 1)),
        (line("stopped", dropped_samples=100, items=[final("s-1")]),),
    ),
    "partial text of another stream of the name": (
        *(WANT, PARTIALS, ask("stop_stream", stream_id="s", id=2), PARTIALS),
        (*BEGUN, partial(1, 2, "one"), line("stream_stopped", stream_id="s", id=2), BEGUN[1], partial(2, 1)),
    ),
    "partial text in replies": (
        *(*IN_STEP, CHUNK, STOP),
        (OPENED, hypothesis(0), hypothesis(2, "one"), hypothesis(2, "one"), line("stopped", dropped_samples=300)),
    ),
    "refused behind stop": (
        *(b"{", b"\n", HELLO, STOP, ask("start")),
        (line("error", code="invalid_json", id=None), CAPABILITIES, line("error", code="shutting_down"), STOPPED),
    ),
    "replies overtake": (HELLO, ask("hello", id=7), (line("capabilities", id=7), CAPABILITIES)),
    "a duplicate id": (
        *(ask("start", id=7), ask("hello", id=7)),
        (line("error", code="duplicate_id", id=7), line("ready", id=7)),
    ),
    "speech and its outcome": (CHUNK, END, FLUSH, (TAKEN, queued("s-1"), batch(final("s-1")))),
    "speech at another rate": (SLOW, CHUNK, STOP, (READY_SLOW, TAKEN, line("stopped", dropped_samples=200))),
    "speech before another rate": (CHUNK, SLOW, STOP, (TAKEN, READY_LATE, line("stopped"))),
    "speech that was dropped": (CHUNK, STOP, (TAKEN, line("stopped", dropped_samples=100))),
    "an event": (WANT, CHUNK, END, (CAPABILITIES, queued("s-1"), batch(final("s-1"), event=True, n=1))),
    "a chunk that was refused": (
        *(WANT, CHUNK),
        (CAPABILITIES, line("stream_error", n=1, stream_id="s", dropped_samples=100)),
    ),
    "events that could not be dropped": (
        *(WANT, ask("start_stream", stream_id="s", auto_flush=True), ask("hello", want=[]), CHUNK, CHUNK, STOP),
        (CAPABILITIES, line("stream_ready", stream_id="s"), line("error", code="invalid_params")),
        (line("stopped", dropped_samples=200),),
    ),
    "events that were dropped": (
        *(WANT, ask("hello", want=[]), CHUNK, STOP),
        (CAPABILITIES, CAPABILITIES, TAKEN, line("stopped", dropped_samples=100)),
    ),
    "splits that no reply announced": (*SPLITTING, (*BEGUN, batch(final("s-1"), final("s-2")))),
    "a split after another stream of the name": (
        *(WANT, ask("start_stream", stream_id="s", id=1, on_limit="split"), CHUNK, CHUNK, FLUSH),
        *(ask("stop_stream", stream_id="s", id=2), FLUSH),
        (*BEGUN, batch(final("s-1")), line("stream_stopped", stream_id="s", id=2), batch(final("s-1"))),
    ),
    "what waited at the end": (CHUNK, END, (TAKEN, queued("s-1"), batch(final("s-1"), reason="end_of_input"))),
}


@pytest.mark.parametrize("lines", SOUND.values(), ids=SOUND)
def test_a_sound_conversation_passes(lines: tuple) -> None:
    converse(*lines)
