"""`resend` of the package's clients: a bridge with the demonstration checkpoint is killed, and no utterance is lost."""

import asyncio
import os
import signal
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from conformance.player import engine_command
from e2e.client import WAIT

from qwen3_asr_mlx_runtime.client import (
    AsyncBridge,
    Bridge,
    BridgeClosed,
    BridgeExited,
    BridgeLost,
    BridgeNotFound,
    Event,
    Limits,
    RequestFailed,
    RequestTimeout,
    Setup,
    Stream,
    UtteranceLost,
)
from qwen3_asr_mlx_runtime.client.kept import Kept
from qwen3_asr_mlx_runtime.client.results import FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, UtteranceQueued, WordsReady

TEN = "Zero one two three four five six seven eight nine."
FIVE = "Two nine four zero six."
SAMPLE = "Seven three one."
DEMO, COUNT = engine_command("demo"), engine_command("count")


@pytest.fixture(scope="module")
def pcm(repository: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        with wave.open(str(repository / "examples" / "audio" / f"{name}.wav")) as file:
            return file.readframes(file.getnframes())

    return read


@contextmanager
def resending(command: Sequence[str] = DEMO, **options: object) -> Iterator[Bridge]:
    """A client with `resend`, opened."""
    with Bridge(Setup(command=command, resend=True, **options)) as bridge:  # type: ignore[arg-type]
        yield bridge


def kept(bridge: Bridge) -> Kept:
    assert bridge._session.kept is not None
    return bridge._session.kept


def requests(bridge: Bridge, count: int) -> None:
    """Wait until other threads have sent so many that have no reply."""
    while len(kept(bridge).ids) != count:
        time.sleep(0.001)


def kill(bridge: Bridge | AsyncBridge, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(bridge.pid or 0, number)


def freeze(bridge: Bridge) -> None:
    """From now on the process reads nothing."""
    kill(bridge, signal.SIGSTOP)


def until(bridge: Bridge, kind: type[Event]) -> list[Event]:
    """Events up to the first of this kind."""
    events = []
    while (event := bridge.next_event(WAIT)) is not None:
        events.append(event)
        if isinstance(event, kind):
            return events
    raise AssertionError(f"no {kind} came, but {events}")


def finals(bridge: Bridge, count: int) -> list[FinalResult]:
    items: list[FinalResult] = []
    while len(items) < count:
        batch = until(bridge, RealtimeBatchFinal)[-1]
        assert isinstance(batch, RealtimeBatchFinal)
        items += batch.items
    return items


def outcome(item: FinalResult) -> tuple[str, str | None, bool]:
    return item.utterance_id, item.text, item.replayed


def rest(bridge: Bridge) -> list[Event]:
    """What comes until it is stopped."""
    bridge.stop()
    return [*bridge.events]


def test_an_utterance_goes_on_in_the_next_process(pcm: Callable[[str], bytes]) -> None:
    audio = pcm("english-ten")
    with resending() as bridge:
        bridge.start()
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1, partials=True)
        stream.append(pcm("sample"))
        stream.end_utterance()
        assert [outcome(item) for item in finals(bridge, 1)] == [("mic-1", SAMPLE, False)]
        stream.append(audio[:96_000])
        until(bridge, PartialResult)
        kill(bridge)
        stream.append(audio[96_000:200_000])
        events = until(bridge, PartialResult)
        stream.append(audio[200_000:])
        queued = stream.end_utterance()
        assert isinstance(queued, UtteranceQueued)
        assert (queued.utterance_id, queued.samples) == ("mic-2", len(audio) // 2)
        events += until(bridge, RealtimeBatchFinal)
        lost = [event for event in events if isinstance(event, BridgeLost)]
        assert [(event.streams, event.will_restart) for event in lost] == [((), True)]
        assert {event.utterance_id for event in events if isinstance(event, PartialResult)} == {"mic-2"}
        final = events[-1]
        assert isinstance(final, RealtimeBatchFinal)
        assert [outcome(item) for item in final.items] == [("mic-2", TEN, True)]
        assert not final.items[0].audio_gap
        stream.append(pcm("english-five"))
        stream.end_utterance()
        assert [outcome(item) for item in finals(bridge, 1)] == [("mic-3", FIVE, False)]
        assert bridge.restarts == 1
        assert stream.stop().dropped_samples == 0
        assert not [event for event in rest(bridge) if isinstance(event, RealtimeBatchFinal)]


def test_what_waits_in_two_streams_has_one_outcome_each(pcm: Callable[[str], bytes]) -> None:
    with resending() as bridge:
        one = bridge.start_stream("one", auto_flush=True, batch_size=3, max_batch_delay_ms=60_000)
        two = bridge.start_stream("two", auto_flush=True, batch_size=3, max_batch_delay_ms=60_000)
        one.append(pcm("english-five"))
        two.append(pcm("sample"))
        two.end_utterance(utterance_id="named")
        one.end_utterance()
        kill(bridge)
        assert isinstance(until(bridge, BridgeLost)[-1], BridgeLost)
        two.end_utterance(pcm("english-one"))
        items = finals(bridge, 3)
        by_stream = {name: [outcome(item) for item in items if item.stream_id == name] for name in ("one", "two")}
        assert by_stream == {
            "one": [("one-1", FIVE, True)],
            "two": [("named", SAMPLE, True), ("two-1", "Eight.", False)],
        }
        assert rest(bridge) == []


def test_a_delivered_text_stays_and_its_words_are_lost(pcm: Callable[[str], bytes]) -> None:
    audio = pcm("sample")
    seconds = round(len(audio) / 32_000, 3)
    with resending(engine_command("words_held")) as bridge:
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1, words=True)
        starts = []
        for end in ("lost", "over"):
            stream.append(audio)
            stream.end_utterance()
            final = finals(bridge, 1)[0]
            starts.append(final.stream_start)
            assert (final.words, final.words_pending, final.replayed) == (None, True, False)
            if end == "lost":
                kill(bridge)
                lost, words = until(bridge, WordsReady)[-2:]
                assert isinstance(lost, BridgeLost)
            else:
                bridge.stop(deadline_ms=50)
                [words] = bridge.events
            assert isinstance(words, WordsReady)
            assert (words.utterance_id, words.job) == (final.utterance_id, final.job)
            assert words.error
            assert words.error.code == {"lost": "bridge_exited", "over": "shutting_down"}[end]
        assert starts == [0.0, seconds]


def test_words_of_what_is_sent_again_come_from_the_next_process(pcm: Callable[[str], bytes], repository: Path) -> None:
    with resending() as bridge, ThreadPoolExecutor(1) as threads:
        bridge.start(words=True)
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1, words=True)
        stream.append(pcm("sample"))
        freeze(bridge)
        sample = repository / "examples" / "audio" / "sample.wav"
        aligned = threads.submit(bridge.align, sample, SAMPLE, "en", timeout=WAIT)
        requests(bridge, 1)
        kill(bridge)
        assert [word.text for word in aligned.result().words] == SAMPLE.split()
        assert aligned.result().replayed
        stream.end_utterance()
        words = until(bridge, WordsReady)[-1]
        assert isinstance(words, WordsReady)
        assert [word.text for word in words.words or ()] == SAMPLE.split()
        assert stream.stop().queued == 0
        assert rest(bridge) == []


def test_requests_without_a_reply_are_answered_by_the_next_process(
    pcm: Callable[[str], bytes], repository: Path
) -> None:
    with resending() as bridge, ThreadPoolExecutor(3) as threads:
        stream = bridge.start_stream("mic", batch_size=4)
        stream.append(pcm("sample"))
        stream.end_utterance()
        freeze(bridge)
        stream.append(pcm("english-five"))
        boundary = threads.submit(stream.end_utterance, timeout=WAIT)
        requests(bridge, 1)
        flush = threads.submit(bridge.flush, timeout=WAIT)
        file = threads.submit(bridge.transcribe, repository / "examples" / "audio" / "english-one.wav", timeout=WAIT)
        requests(bridge, 3)
        kill(bridge)
        queued = boundary.result()
        assert isinstance(queued, UtteranceQueued)
        assert queued.utterance_id == "mic-2"
        assert [outcome(item) for item in flush.result().items] == [("mic-1", SAMPLE, True), ("mic-2", FIVE, True)]
        assert (file.result().text, file.result().replayed) == ("Eight.", True)
        assert stream.flush().count == 0
        assert stream.stop().queued == 0


def test_a_process_that_is_killed_while_it_gets_them_again_is_followed_by_another(pcm: Callable[[str], bytes]) -> None:
    audio = pcm("english-ten")
    hellos = 0

    def trace(direction: str, line: bytes) -> None:
        nonlocal hellos
        hellos += direction == "sent" and b'"type":"hello"' in line
        if direction == "sent" and (hellos, b'"type":"hello"' in line, b'"seq":40' in line) in (
            (2, True, False),
            (3, False, True),
        ):
            kill(bridge)

    with resending(trace=trace) as bridge:
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1)
        stream.append(audio[:160_000])
        kill(bridge)
        stream.append(audio[160_000:])
        stream.end_utterance()
        assert [outcome(item) for item in finals(bridge, 1)] == [("mic-1", TEN, True)]
        assert (hellos, bridge.restarts) == (4, 3)
        assert not [event for event in rest(bridge) if isinstance(event, RealtimeBatchFinal)]


def test_the_oldest_utterance_beyond_the_bound_is_lost_alone(pcm: Callable[[str], bytes]) -> None:
    two = 2 * len(pcm("sample"))
    with resending(limits=Limits(kept_bytes=two)) as bridge:
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=3, max_batch_delay_ms=60_000)
        for name in ("english-five", "sample"):
            stream.append(pcm(name))
            stream.end_utterance()
        kill(bridge)
        lost = until(bridge, UtteranceLost)
        assert [type(event) for event in lost[-2:]] == [BridgeLost, UtteranceLost]
        assert isinstance(lost[-1], UtteranceLost)
        assert (lost[-1].stream_id, lost[-1].utterance_id) == ("mic", "mic-1")
        assert isinstance(lost[-1].error, BridgeExited)
        stream.append(pcm("english-one"))
        stream.end_utterance()
        stream.stop()
        assert [outcome(item) for item in finals(bridge, 2)] == [("mic-2", SAMPLE, True), ("mic-3", "Eight.", False)]


def test_an_open_utterance_beyond_the_bound_fails_until_its_boundary(pcm: Callable[[str], bytes]) -> None:
    with resending(limits=Limits(kept_bytes=50_000)) as bridge:
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1)
        stream.append(pcm("english-ten"))
        kill(bridge)
        until(bridge, BridgeLost)
        with pytest.raises(BridgeExited):
            stream.append(pcm("sample"))
        with pytest.raises(BridgeExited):
            stream.end_utterance()
        stream.append(pcm("english-one")[:20_000])
        stream.append(pcm("english-one")[20_000:])
        stream.end_utterance()
        assert [outcome(item) for item in finals(bridge, 1)] == [("mic-1", "Eight.", False)]


def test_a_stream_that_the_bridge_splits_ends_with_its_process(pcm: Callable[[str], bytes]) -> None:
    with resending(COUNT) as bridge:
        split = bridge.start_stream("split", on_limit="split")
        bridge.start_stream("mic")
        kill(bridge)
        lost = until(bridge, BridgeLost)[-1]
        assert isinstance(lost, BridgeLost)
        assert lost.streams == ("split",)
        with pytest.raises(BridgeExited):
            split.append(pcm("sample"))


def test_a_cancel_is_repeated_and_one_during_the_restart_waits_for_it(pcm: Callable[[str], bytes]) -> None:
    with resending() as bridge:
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=4, max_batch_delay_ms=60_000)
        for name in ("sample", "english-one", "english-five"):
            stream.append(pcm(name))
            stream.end_utterance()
        freeze(bridge)
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(bridge.cancel_utterance, "mic", "mic-1")
            requests(bridge, 1)
            kill(bridge)
            until(bridge, BridgeLost)
            assert bridge.cancel_utterance("mic", "mic-2").state == "cancelled"
            assert first.result().state == "cancelled"
        stream.stop()
        items = finals(bridge, 3)
        assert [(item.utterance_id, item.text, item.replayed) for item in items] == [
            ("mic-1", None, True),
            ("mic-2", None, True),
            ("mic-3", FIVE, True),
        ]


def test_a_time_out_during_the_restart_is_the_apps(repository: Path) -> None:
    with resending(COUNT) as bridge:
        freeze(bridge)
        with pytest.raises(RequestTimeout):
            bridge.transcribe(repository / "examples" / "audio" / "sample.wav", timeout=0.05)
        kill(bridge)
        until(bridge, BridgeLost)
        assert bridge.status().counters.transcripts == 0


def test_beyond_the_limit_of_restarts_all_fails_as_without_resend(pcm: Callable[[str], bytes]) -> None:
    with resending(COUNT, limits=Limits(restarts=0)) as bridge, ThreadPoolExecutor(1) as threads:
        stream = bridge.start_stream("mic", auto_flush=True)
        stream.append(pcm("sample"))
        freeze(bridge)
        boundary = threads.submit(stream.end_utterance)
        requests(bridge, 1)
        kill(bridge)
        with pytest.raises(BridgeExited):
            boundary.result(WAIT)
        lost = until(bridge, BridgeLost)[-1]
        assert isinstance(lost, BridgeLost)
        assert (lost.streams, lost.will_restart, bridge.state) == (("mic",), False, "failed")
        bridge.open()
        with pytest.raises(BridgeExited):
            stream.flush()


def test_a_program_that_is_gone_fails_whoever_waits(tmp_path: Path, pcm: Callable[[str], bytes]) -> None:
    program = tmp_path / "bridge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    with Bridge(Setup(command=[str(program), *COUNT[1:]], resend=True)) as bridge, ThreadPoolExecutor(1) as threads:
        stream = bridge.start_stream("mic", auto_flush=True)
        stream.append(pcm("sample"))
        freeze(bridge)
        boundary = threads.submit(stream.end_utterance)
        requests(bridge, 1)
        program.unlink()
        kill(bridge)
        with pytest.raises(BridgeNotFound):
            boundary.result(WAIT)
        until(bridge, BridgeLost)
        lost = until(bridge, BridgeLost)[-1]
        assert isinstance(lost, BridgeLost)
        assert (lost.error.code, lost.streams, lost.will_restart) == ("bridge_not_found", ("mic",), False)


def test_a_stop_while_it_starts_again_ends_what_waits(pcm: Callable[[str], bytes]) -> None:
    with resending(COUNT) as bridge, ThreadPoolExecutor(1) as threads:
        stream = bridge.start_stream("mic", auto_flush=True)
        stream.append(pcm("sample"))
        freeze(bridge)
        boundary = threads.submit(stream.end_utterance)
        requests(bridge, 1)
        kill(bridge)
        bridge.kill()
        with pytest.raises(BridgeClosed):
            boundary.result(WAIT)
        assert bridge.state == "stopped"


def test_a_stop_does_not_wait_for_the_next_process(tmp_path: Path, pcm: Callable[[str], bytes]) -> None:
    with resending(held(tmp_path)) as bridge:
        stream = bridge.start_stream("mic")
        stream.append(pcm("sample"))
        kill(bridge)
        started(bridge)
        pid = bridge.pid or 0
        bridge.stop()
        assert bridge.state == "stopped"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(BridgeClosed):
            stream.append(bytes(2))


def test_with_asyncio_a_stop_does_not_wait_either(tmp_path: Path, pcm: Callable[[str], bytes]) -> None:
    async def talk() -> None:
        async with AsyncBridge(Setup(command=held(tmp_path), resend=True)) as bridge:
            stream = await bridge.start_stream("mic")
            await stream.append(pcm("sample"))
            kill(bridge)
            started(bridge)
            waits = asyncio.create_task(stream.append(bytes(2)))
            await asyncio.sleep(0)
            await bridge.stop()
            with pytest.raises(BridgeClosed):
                await waits

    asyncio.run(talk())


def test_a_request_that_ran_out_of_time_while_none_runs_is_over(tmp_path: Path) -> None:
    with resending(held(tmp_path)) as bridge, ThreadPoolExecutor(1) as threads:
        freeze(bridge)
        status = threads.submit(bridge.request, {"type": "status", "id": "mine"}, timeout=0.5)
        requests(bridge, 1)
        kill(bridge)
        with pytest.raises(RequestTimeout):
            status.result(WAIT)
        (tmp_path / "go").touch()
        bridge.ping()
        assert len(kept(bridge).requests) == 0
        assert bridge.request({"type": "status", "id": "mine"}, timeout=WAIT)


def test_an_id_may_be_used_again_although_its_utterance_waits() -> None:
    with resending(COUNT) as bridge:
        stream = {"stream_id": "mic", "id": "x"}
        bridge.request({**stream, "type": "start_stream", "max_batch_delay_ms": 60_000})
        bridge.request({**stream, "type": "end_utterance", "pcm16": "AAABAAIA"})
        freeze(bridge)
        with ThreadPoolExecutor(1) as threads:
            flush = threads.submit(bridge.request, {**stream, "type": "flush"}, timeout=WAIT)
            requests(bridge, 1)
            kill(bridge)
            batch = flush.result()
        assert isinstance(batch, RealtimeBatchFinal)
        assert [(item.utterance_id, item.replayed) for item in batch.items] == [("mic-1", True)]


def test_a_cancelled_utterance_is_no_gap_in_the_next() -> None:
    with resending(COUNT) as bridge:
        stream = bridge.start_stream("mic", max_batch_delay_ms=60_000)
        for name, is_cancelled in (("one", False), ("two", True)):
            stream.append(bytes(3200), name)
            if is_cancelled:
                assert bridge.cancel_utterance("mic", name).dropped_samples
            else:
                stream.end_utterance()
        kill(bridge)
        until(bridge, BridgeLost)
        stream.append(bytes(3200), "three")
        stream.end_utterance()
        items = stream.flush().items
        assert [(item.utterance_id, item.audio_gap) for item in items] == [("one", False), ("three", False)]


def test_a_stream_does_not_outlive_a_kill() -> None:
    with resending(COUNT) as bridge:
        stream = bridge.start_stream("mic")
        bridge.kill()
        bridge.open()
        with pytest.raises(BridgeClosed):
            stream.append(bytes(2))


def test_without_resend_a_stream_ends_with_its_process() -> None:
    with Bridge(COUNT) as bridge:
        stream = bridge.start_stream("mic")
        kill(bridge)
        with pytest.raises(BridgeExited):
            append_for_ever(stream)


def test_with_asyncio(pcm: Callable[[str], bytes]) -> None:
    async def talk() -> None:
        async with AsyncBridge(Setup(command=DEMO, resend=True)) as bridge:
            stream = await bridge.start_stream("mic", batch_size=1)
            await stream.append(pcm("sample")[:40_000])
            kill(bridge)
            await stream.append(pcm("sample")[40_000:])
            batch = await stream.end_utterance()
            assert isinstance(batch, RealtimeBatchFinal)
            assert [outcome(item) for item in batch.items] == [("mic-1", SAMPLE, True)]
            with pytest.raises(RequestFailed):
                await stream.end_utterance()
            assert (await stream.stop()).queued == 0

    asyncio.run(talk())


def held(folder: Path) -> list[str]:
    """A command whose second process waits for the file `go`."""
    script = f"""
import os, pathlib, time
folder = pathlib.Path({str(folder)!r})
while (folder / "started").exists() and not (folder / "go").exists():
    time.sleep(0.01)
(folder / "started").touch()
os.execv({COUNT[0]!r}, {list(COUNT)!r})
"""
    return [sys.executable, "-c", script]


def started(bridge: Bridge | AsyncBridge) -> None:
    """Wait for another process."""
    while bridge.restarts == 0 or bridge.exit is None or bridge.state != "opening":
        time.sleep(0.001)


def append_for_ever(stream: Stream) -> None:
    while True:
        stream.append(bytes(2))
