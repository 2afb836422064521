"""The parts of the client that need no process: time, events, lines."""

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from support.client_children import CAPABILITIES

from qwen3_asr_mlx_runtime import client
from qwen3_asr_mlx_runtime.client import BridgeHung, BridgePipeClosed, EventsLost, Exit, Limits, Unknown
from qwen3_asr_mlx_runtime.client.events import Event, EventQueue
from qwen3_asr_mlx_runtime.client.life import Due, Life
from qwen3_asr_mlx_runtime.client.messages import LineBuffer, decode, encode, encoded_pcm
from qwen3_asr_mlx_runtime.protocol.commands import Id, Start, Transcribe
from qwen3_asr_mlx_runtime.protocol.decode import Request, decode_line
from qwen3_asr_mlx_runtime.protocol.replies import CapabilitiesReply
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, Progress

LIMITS = Limits(open_seconds=60, hang_seconds=20, grace_seconds=2)


def greeted() -> Life:
    life = Life(LIMITS, 0.0)
    life.greeted(0.0)
    return life


def looks(life: Life, start: float, end: float, *, waits: bool = True, writes: bool = False) -> list[tuple[float, Due]]:
    """What is due at each half second."""
    times = [start + step / 2 for step in range(int(2 * (end - start)) + 1)]
    due = [(time, life.due(time, waits=waits, writes=writes)) for time in times]
    return [(time, each) for time, each in due if each != Due()]


class TestLife:
    def test_a_ping_goes_out_at_half_of_the_time_and_silence_to_its_end_is_hanging(self) -> None:
        life = greeted()
        life.request_sent(0.0)
        assert looks(life, 0, 30) == [(10.0, Due(ping=True)), (20.0, Due(signal=signal.SIGKILL))]
        assert isinstance(life.blamed, BridgeHung)

    def test_any_output_counts_as_a_sign_of_life(self) -> None:
        life = greeted()
        life.request_sent(0.0)
        assert looks(life, 0, 15) == [(10.0, Due(ping=True))]
        life.output_received(15.0)
        assert looks(life, 15, 30) == [(25.0, Due(ping=True))]

    def test_silence_without_a_question_is_peace(self) -> None:
        life = greeted()
        assert looks(life, 0, 100, waits=False) == []
        life.request_sent(100.0)
        assert looks(life, 100, 105) == []

    def test_a_pipe_that_takes_nothing_is_hanging(self) -> None:
        life = greeted()
        life.input_taken(5.0)
        assert looks(life, 5, 30, waits=False, writes=True) == [(25.0, Due(signal=signal.SIGKILL))]

    def test_a_sleep_of_the_app_is_not_the_bridges_fault(self) -> None:
        life = greeted()
        life.request_sent(0.0)
        assert looks(life, 0, 9) == []
        assert looks(life, 1000, 1000.5) == []
        assert looks(life, 1000.5, 1030)[-1][1] == Due(signal=signal.SIGKILL)

    def test_a_start_has_time_of_its_own_and_is_not_pinged(self) -> None:
        life = Life(LIMITS, 0.0)
        life.request_sent(0.0)
        assert looks(life, 0, 70) == [(60.0, Due(signal=signal.SIGKILL))]

    def test_a_stop_is_followed_by_sigterm_and_sigkill_in_their_time_and_by_nothing_else(self) -> None:
        life = greeted()
        life.request_sent(0.0)
        life.end_within(12.0, 0.0)
        due = [(time, each) for time, each in looks(life, 0, 60) if not each.ping]
        assert due == [(12.0, Due(signal=signal.SIGTERM)), (14.0, Due(signal=signal.SIGKILL))]
        assert life.loss(Exit(signal=9), has_half_line=True, is_closing=True) is None

    def test_a_closed_pipe_is_given_time_to_be_followed_by_the_end(self) -> None:
        life = greeted()
        life.pipe_closed(1.0)
        assert looks(life, 1, 10, waits=False) == [(3.0, Due(signal=signal.SIGKILL))]
        assert isinstance(life.loss(Exit(signal=9), has_half_line=False, is_closing=False), BridgePipeClosed)

    def test_what_was_blamed_first_stays_the_reason(self) -> None:
        life, first = greeted(), BridgeHung("first")
        life.blame(first)
        life.blame(BridgeHung("second"))
        assert life.loss(Exit(signal=9), has_half_line=True, is_closing=False) is first


def partial(utterance: str, revision: int, stream: str = "s") -> PartialResult:
    return PartialResult(
        event=True, stream_id=stream, utterance_id=utterance, revision=revision, samples_buffered=0, chunks=0
    )


def progress(done: int, stage: str = "load", request: Id | UnsetType = UNSET) -> Progress:
    return Progress(n=done, request_id=request, stage=stage, done=done, total=None)


def other(n: int) -> Unknown:
    return Unknown(message={"type": "other", "n": n})


def read(queue: EventQueue) -> list[Event]:
    events = []
    while (event := queue.take()) is not None:
        events.append(event)
    return events


class TestEvents:
    def test_what_is_newer_takes_the_place_of_the_same_and_of_nothing_else(self) -> None:
        queue = EventQueue()
        for event in (partial("u", 1), progress(1), other(1), partial("v", 1), partial("u", 2), progress(2), other(2)):
            queue.put(event)
        assert read(queue) == [other(1), partial("v", 1), partial("u", 2), progress(2), other(2)]
        queue.put(partial("u", 1, "s"))
        queue.put(partial("u", 1, "t"))
        assert len(read(queue)) == 2

    def test_progress_takes_the_place_of_that_of_its_request_and_stage_alone(self) -> None:
        queue = EventQueue()
        others = [progress(1, "transcribe", "f"), progress(1, "transcribe", 1), progress(1, "transcribe", "1")]
        others += [progress(1, "load", "f"), progress(1, "transcribe")]
        for event in (*others, progress(2, "transcribe", "f")):
            queue.put(event)
        assert read(queue) == [*others[1:], progress(2, "transcribe", "f")]

    def test_a_partial_that_replaces_an_unread_one_has_changed_from_the_earlier_place(self) -> None:
        queue = EventQueue()
        for place in (4, 2, 6):
            event = partial("u", 1)
            event.changed_from = place
            queue.put(event)
        assert [event.changed_from for event in read(queue)] == [2]

    @given(st.integers(1, 8), st.integers(0, 30))
    def test_no_event_is_lost_without_being_counted(self, limit: int, count: int) -> None:
        queue = EventQueue(limit)
        for n in range(count):
            queue.put(other(n))
        events = read(queue)
        lost = [event.count for event in events if isinstance(event, EventsLost)]
        assert sum(lost) + len(events) - len(lost) == count
        assert events[len(lost) :] == [other(n) for n in range(max(0, count - limit), count)]

    def test_whoever_waits_gets_it_or_the_end(self) -> None:
        queue = EventQueue()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(queue.wait, None)
            queue.put(other(1))
            assert waiting.result(60) == other(1)
            waiting = threads.submit(queue.wait, None)
            queue.end()
            assert waiting.result(60) is None
        assert queue.is_ended
        queue.begin()
        assert not queue.is_ended
        assert queue.wait(0.01) is None

    def test_what_came_before_the_end_is_still_read(self) -> None:
        queue = EventQueue()
        queue.put(other(1))
        queue.end()
        assert not queue.is_ended
        assert queue.wait(None) == other(1)
        assert queue.is_ended


class TestLines:
    @given(st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
    def test_any_blocks_make_the_same_lines(self, lines: list[bytes], data: st.DataObject) -> None:
        text, buffer, found = b"".join(line + b"\n" for line in lines), LineBuffer(), []
        while text:
            size = data.draw(st.integers(1, len(text)))
            found += buffer.feed(text[:size])
            text = text[size:]
        assert found == lines
        assert not buffer.has_rest

    @pytest.mark.parametrize("blocks", [[b"12345"], [b"123", b"45"], [b"12345\n"], [b"1\n12345\n1\n"]])
    def test_a_line_over_the_limit_is_refused(self, blocks: list[bytes]) -> None:
        buffer = LineBuffer(4)
        with pytest.raises(ValueError, match="longer than 4 bytes"):
            [buffer.feed(block) for block in blocks]

    def test_requests_are_lines_that_the_bridge_takes(self) -> None:
        for command in (Start(), Transcribe(audio="/دقيقة.wav", language="ar")):
            line = encode(command, "c1")
            assert line.isascii()
            assert decode_line(line.removesuffix(b"\n")) in (
                Request(command, "c1"),
                Request(Transcribe(audio="/دقيقة.wav", language="Arabic"), "c1"),
            )

    def test_half_a_surrogate_pair_is_refused_before_it_is_sent(self) -> None:
        assert json.loads(encode({"type": "transcribe", "audio": "é语😀"}))["audio"] == "é语😀"
        with pytest.raises(UnicodeEncodeError):
            encode({"type": "transcribe", "audio": "/\udcff.wav"})

    def test_replies_are_typed_and_unknown_members_passed_over(self) -> None:
        reply = decode(encode({**CAPABILITIES, "weather": "fine"}))
        assert isinstance(reply, CapabilitiesReply)
        assert reply.limits.max_streams == 64

    def test_half_a_sample_is_refused(self) -> None:
        assert encoded_pcm(b"\x00\x01") == "AAE="
        with pytest.raises(ValueError, match="odd"):
            encoded_pcm(b"\x00")


@pytest.mark.parametrize(
    ("status", "name"),
    [(0, "done"), (5, "parent_gone"), (126, "not_executable"), (77, "unknown"), (-11, "SIGSEGV"), (-250, "unknown")],
)
def test_exits_have_names(status: int, name: str) -> None:
    assert Exit.of(status).name == name


def test_the_document_names_every_error_by_its_code_and_class(repository: Path) -> None:
    document = (repository / "docs" / "clients.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \| `([A-Z]\w+)` \|", document, re.MULTILINE)
    errors = [one for one in vars(client).values() if isinstance(one, type) and issubclass(one, client.ClientError)]
    ends = [one for one in errors if "code" in vars(one) and one is not client.ClientError]
    assert sorted(documented) == sorted((one.code, one.__name__) for one in ends)


def test_the_document_reports_the_defaults(repository: Path) -> None:
    document = (repository / "docs" / "clients.md").read_text(encoding="utf-8")
    documented = dict(
        re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]*\|$", document.partition("## Defaults")[2], re.MULTILINE)
    )
    limits = Limits()
    assert documented["`openTimeout`"] == f"{limits.open_seconds:g} s"
    assert documented["`hangTimeout`"] == f"{limits.hang_seconds:g} s"
    assert documented["grace after a deadline, and after SIGTERM"] == f"{limits.grace_seconds:g} s"
    assert documented["unwritten bytes"] == f"{limits.unwritten_bytes >> 20} MiB"
    assert documented["kept bytes"] == f"{limits.kept_bytes >> 20} MiB"
    assert documented["chunk"] == f"{1000 * limits.chunk_seconds:g} ms"
    assert documented["line"] == f"{limits.line_bytes >> 20} MiB"
    assert documented["events"] == str(limits.events)
    assert documented["stderr"] == f"{limits.stderr_bytes >> 10} KiB"
    assert documented["restarts"] == f"{limits.restarts} in {limits.restart_seconds:g} s"
