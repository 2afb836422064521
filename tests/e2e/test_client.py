"""The package's client and the real process; the protocol monitor watches what both of them say."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conformance.player import engine_command
from e2e.client import WAIT, command, watched
from msgspec import UNSET
from processes import is_gone

from qwen3_asr_mlx_runtime.client import (
    AsyncBridge,
    Bridge,
    BridgeExited,
    BridgeFatal,
    Exit,
    RequestFailed,
    RequestTimeout,
)
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, Progress, StreamError, UtteranceQueued, WordsReady
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal

SECOND = bytes(32_000)


@pytest.fixture(scope="module")
def sample(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "sample.wav")


def test_files_alone_and_together(sample: str) -> None:
    with watched(engine_command("speak")) as bridge:
        assert bridge.start().model
        assert bridge.transcribe(sample, language="en").text == "Seven three one."
        batch = bridge.batch_transcribe([sample, "/nowhere.wav"], timeout_ms=60_000)
        assert [item.text for item in batch.items] == ["Seven three one.", None]
        with pytest.raises(RequestFailed) as caught:
            bridge.transcribe("/nowhere.wav")
        assert (caught.value.wire_code, caught.value.retryable) == ("audio_not_found", False)
        assert bridge.status().counters.transcripts == 2
        stopped = bridge.stop()
        assert stopped is not None
        assert (stopped.reason, stopped.completed) == ("stop", 2)
    assert bridge.exit == Exit(code=0)


def test_the_model_is_unloaded_and_loaded_again(sample: str) -> None:
    with watched(engine_command("speak")) as bridge:
        assert bridge.start(keep_alive_seconds=300).load == "cold"
        assert bridge.unload(timeout_ms=60_000).freed_bytes > 0
        assert bridge.ping().state == "unloaded"
        assert bridge.transcribe(sample).text == "Seven three one."
        assert bridge.unload("abort").freed_bytes > 0


def test_a_stream_with_partial_texts_and_a_final() -> None:
    with watched(engine_command("count")) as bridge:
        stream = bridge.start_stream("mic", partials=True, partial_interval_ms=100, auto_flush=True, batch_size=1)
        stream.append(SECOND, "hello")
        queued = stream.end_utterance()
        assert isinstance(queued, UtteranceQueued)
        assert (queued.utterance_id, queued.samples) == ("hello", 16_000)
        final = next(event for event in bridge.events if isinstance(event, RealtimeBatchFinal))
        assert [(item.utterance_id, item.text) for item in final.items] == [("hello", "16000 samples")]
        assert stream.stop().dropped_samples == 0


def test_a_partial_text_comes_while_somebody_speaks() -> None:
    with watched(engine_command("count")) as bridge:
        stream = bridge.start_stream("mic", partials=True, partial_interval_ms=100, auto_flush=True)
        stream.append(SECOND)
        partial = next(event for event in bridge.events if isinstance(event, PartialResult))
        assert partial.audio_seconds > 0
        assert bridge.cancel_utterance("mic", partial.utterance_id).state


def test_boundaries_without_events_and_a_flush() -> None:
    with watched(engine_command("count")) as bridge:
        stream = bridge.start_stream("mic", batch_size=2)
        assert isinstance(stream.end_utterance(bytes(6)), UtteranceQueued)
        full = stream.vad_boundary(bytes(4), utterance_id="last words")
        assert isinstance(full, RealtimeBatchFinal)
        assert [item.text for item in full.items] == ["3 samples", "2 samples"]
        stream.append(bytes(8))
        stream.end_utterance()
        assert [item.text for item in stream.flush().items] == ["4 samples"]
        assert bridge.flush().count == 0


def test_a_pause_and_a_boundary_that_lies_there() -> None:
    with watched(engine_command("count")) as bridge:
        stream = bridge.start_stream("mic", auto_flush=True)
        stream.append(SECOND)
        paused = stream.pause()
        assert (paused.utterance_id, paused.samples) == ("mic-1", 16_000)
        stream.append(bytes(200))
        queued = stream.end_utterance(samples=paused.samples, rest="drop")
        assert isinstance(queued, UtteranceQueued)
        assert (queued.frames, queued.dropped_samples) == (16_000, 100)
        final = next(event for event in bridge.events if isinstance(event, RealtimeBatchFinal))
        assert final.items[0].text == "16000 samples"
        with pytest.raises(RequestFailed):
            stream.pause(1)


def test_words_of_files_of_a_stream_and_of_a_known_text(sample: str) -> None:
    with watched(engine_command("speak")) as bridge:
        bridge.start(words=True)
        one = bridge.transcribe(sample, words=True, segments=True)
        assert [word.text for word in one.words or ()] == ["Seven", "three", "one."]
        assert [part.text for part in one.segments or ()] == ["Seven three one."]
        batch = bridge.batch_transcribe([sample], words=True)
        assert [len(item.words or ()) for item in batch.items] == [3]
        aligned = bridge.align(sample, "Seven, three", "en", timeout_ms=60_000)
        assert ([word.text for word in aligned.words], aligned.language) == (["Seven,", "three"], "English")
        with pytest.raises(RequestFailed) as caught:
            bridge.align(sample, "Seven", "Klingon")
        assert caught.value.wire_code == "invalid_params"
        stream = bridge.start_stream("mic", auto_flush=True, batch_size=1, words=True)
        stream.append(SECOND)
        stream.end_utterance()
        words = next(event for event in bridge.events if isinstance(event, WordsReady))
        assert [word.end for word in words.words or ()] == [0.333, 0.666, 1.0]
        lock_step = bridge.start_stream("lock", segments=True)
        lock_step.end_utterance(SECOND, words=True)
        lock_step.vad_boundary(SECOND)
        with_words, without = lock_step.flush().items
        assert (len(with_words.words or ()), without.words) == (3, UNSET)
        assert len(without.segments or ()) == 1
        lock_step.end_utterance(SECOND)
        assert [len(item.words or ()) for item in bridge.flush(words=True).items] == [3]


def test_audio_that_is_refused_is_reported() -> None:
    with watched(engine_command("count")) as bridge:
        stream = bridge.start_stream("mic")
        stream.append(SECOND, "one")
        stream.append(bytes(2), "another")  # while there is audio of the one
        error = next(event for event in bridge.events if isinstance(event, StreamError))
        assert (error.code, error.stream_id, error.seq, error.dropped_samples) == ("invalid_params", "mic", 10, 1)


def test_a_request_that_takes_too_long_is_cancelled_in_the_bridge_too(sample: str) -> None:
    with watched(engine_command("hold")) as bridge:
        bridge.start()
        with pytest.raises(RequestTimeout):
            bridge.transcribe(sample, timeout=0.05)
        deadline = time.monotonic() + WAIT
        while bridge.status().counters.errors.get("cancelled") != 1:
            assert time.monotonic() < deadline


def test_what_a_stop_cannot_finish_by_its_deadline_is_named() -> None:
    with watched(engine_command("hold")) as bridge:
        stream = bridge.start_stream("mic")
        stream.end_utterance(bytes(6), utterance_id="u")
        stopped = bridge.stop(deadline_ms=50)
        assert stopped is not None
        assert [(one.utterance_id, one.code) for one in stopped.unfinished] == [("u", "shutting_down")]
    assert bridge.exit == Exit(code=0)


def test_a_model_that_is_missing_is_an_error_and_a_load_reports_its_progress(tmp_path: Path) -> None:
    with watched(command(None, "--local-files-only", "--cache-dir", str(tmp_path), "nobody/nothing")) as bridge:
        with pytest.raises(RequestFailed) as caught:
            bridge.start()
        assert caught.value.wire_code == "model_not_found"
    with watched(engine_command("demo")) as bridge:
        bridge.start()
        assert isinstance(bridge.next_event(WAIT), Progress)


def test_one_that_is_terminated_from_outside_is_not_started_again(sample: str) -> None:
    bridge = Bridge(engine_command("speak"))
    bridge.open()
    os.kill(bridge.pid or 0, signal.SIGTERM)
    assert bridge._session.connected().join(WAIT)
    with pytest.raises(BridgeExited) as caught:
        bridge.ping()
    assert (caught.value.exit, bridge.state) == (Exit(code=143), "failed")
    bridge.kill()


def test_a_bug_of_the_runtime_is_fatal_and_the_next_request_has_another_process(sample: str) -> None:
    bridge = Bridge(engine_command("broken"))
    with pytest.raises(BridgeFatal) as caught:
        bridge.transcribe(sample)
    assert (caught.value.fatal_code, caught.value.exit, bridge.state) == ("internal_error", Exit(code=1), "lost")
    assert bridge.ping().state
    assert bridge.restarts == 1
    bridge.stop()


def test_options_that_are_wrong_are_reported_on_stderr() -> None:
    bridge = Bridge([*engine_command("speak"), "--nonsense"])
    with pytest.raises(BridgeExited) as caught:
        bridge.open()
    assert (caught.value.exit, bridge.state) == (Exit(code=2), "failed")
    assert "--nonsense" in caught.value.stderr[-1]


APP = """
import sys
sys.path.insert(0, sys.argv[1])
from qwen3_asr_mlx_runtime.client import Bridge
bridge = Bridge(sys.argv[3:])
bridge.start()
print(bridge.pid, flush=True)
bridge.transcribe(sys.argv[2])
"""


def test_an_app_that_is_killed_leaves_no_bridge_behind(repository: Path, sample: str) -> None:
    argv = [sys.executable, "-I", "-c", APP, str(repository / "src"), sample, *engine_command("hold")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as app:
        assert app.stdout is not None
        bridge = int(app.stdout.readline())
        app.kill()
    deadline = time.monotonic() + WAIT
    while not is_gone(bridge):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_asyncio_cancels_one_of_two_and_streams(sample: str) -> None:
    async def talk() -> None:
        async with AsyncBridge(engine_command("hold")) as bridge:
            await bridge.start()
            task = asyncio.create_task(bridge.transcribe(sample))
            while (await bridge.status()).queues.decoding == 0:
                pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (await bridge.status()).counters.errors.get("cancelled") != 1:
                pass
        assert bridge.exit == Exit(code=0)
        async with AsyncBridge(engine_command("count")) as bridge:
            stream = await bridge.start_stream("mic", auto_flush=True, batch_size=1)
            await stream.append(SECOND)
            assert (await stream.pause(8_000)).samples == 8_000
            await stream.vad_boundary()
            async for event in bridge.events:
                if isinstance(event, RealtimeBatchFinal):
                    assert event.items[0].text == "16000 samples"
                    break
            assert (await stream.stop()).queued == 0
        async with AsyncBridge(engine_command("speak")) as bridge:
            assert (await bridge.start(words=True)).model
            assert len((await bridge.align(sample, "Seven three", "en")).words) == 2
            assert len((await bridge.transcribe(sample, words=True)).words or ()) == 3

    asyncio.run(talk())
