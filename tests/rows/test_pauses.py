"""Rows 108 to 113: what may go wrong where a final is computed ahead, in the real process; from 109 to
112 with its own engine."""

import base64
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import WAIT, Client
from rows.bridge import command
from support.marks import rest_once

RATE = 16_000
FRAMES = 2 * RATE


def encoded(samples: np.ndarray) -> str:
    return base64.b64encode(samples.astype("<i2").tobytes()).decode()


SILENCE = encoded(np.zeros(60))


@pytest.fixture(scope="module")
def pcm(repository: Path) -> np.ndarray:
    samples, _ = soundfile.read(repository / "examples" / "audio" / "english-ten.wav", dtype="int16")
    return samples


@pytest.fixture
def whole(pcm: np.ndarray, tmp_path: Path) -> str:
    """A file of the frames before the pause."""
    path = tmp_path / "whole.wav"
    soundfile.write(path, pcm[:FRAMES], RATE)
    return str(path)


NUMBERS = [0, -1, 161, 2**53, 1.5, "x", True, [1]]


@pytest.mark.parametrize(
    ("request_type", "members"),
    [
        *((name, {"samples": number}) for name in ("pause", "end_utterance", "vad_boundary") for number in NUMBERS),
        ("end_utterance", {"samples": 100, "pcm16": SILENCE}),
        ("end_utterance", {"samples": 100, "audio": "/nowhere.wav"}),
        ("end_utterance", {"rest": "maybe"}),
        ("vad_boundary", {"samples": 100, "rest": 1}),
    ],
    ids=str,
)
def test_row_108_samples_that_the_utterance_does_not_have_change_nothing(
    bridge: Client, request_type: str, members: dict
) -> None:
    bridge.ask("start")
    bridge.ask("start_stream", stream_id="pauses", batch_size=16)
    bridge.ask("audio_chunk", stream_id="pauses", pcm16=encoded(np.zeros(100)))
    assert bridge.ask("pause", stream_id="pauses")["samples"] == 100
    bridge.ask("audio_chunk", stream_id="pauses", pcm16=SILENCE)
    refused = bridge.ask(request_type, stream_id="pauses", **members)
    assert refused["code"] == "invalid_params"
    assert refused["data"]["field"] == ("rest" if "rest" in members else "samples")
    queued = bridge.ask("end_utterance", stream_id="pauses", samples=100, rest="drop")
    assert (queued["frames"], queued["dropped_samples"]) == (100, 60)
    (item,) = bridge.ask("flush")["items"]
    assert (item["text"], item["audio_gap"]) == ("100 samples", False)
    assert item["provisional"] in ("ready", "running")


def test_row_108_a_pause_of_nothing(bridge: Client) -> None:
    bridge.ask("start_stream", stream_id="nothing")
    assert bridge.ask("pause", stream_id="nothing")["code"] == "invalid_params"
    assert bridge.ask("end_utterance", stream_id="nothing", samples=1)["code"] == "no_audio"
    bridge.ask("stop_stream", stream_id="nothing")
    assert bridge.ask("pause", stream_id="nothing")["code"] in ("invalid_params", "unknown_stream")
    assert bridge.ask("flush")["count"] == 0


class Speaker:
    """A stream of a bridge whose finals are computed ahead, each with `fault` in its first step, not before `go`."""

    def __init__(self, client: Client, folder: Path, *, partials: bool = False) -> None:
        self.client = client
        self._begun = folder / "begun"
        self._go = folder / "go"
        self._partials = partials
        client.ask("hello", want=["events"])
        client.ask("start")
        self.start_stream()

    def ask(self, type: str, **members: object) -> dict:
        self.client.send(type, id="ask", **members)
        return self._read(lambda line: line.get("id") == "ask")

    def start_stream(self) -> dict:
        return self.ask("start_stream", stream_id="mic", auto_flush=True, batch_size=1, partials=self._partials)

    def say(self, samples: np.ndarray) -> dict:
        """Up to a pause, behind the first partial if there are any: the answer to it."""
        first, second = np.array_split(samples, 2)
        self.client.send("audio_chunk", stream_id="mic", pcm16=encoded(first))
        if self._partials:
            self._read(lambda line: line["type"] == "partial_result")
        self.client.send("audio_chunk", stream_id="mic", pcm16=encoded(second))
        return self.pause()

    def pause(self, **members: object) -> dict:
        return self.ask("pause", stream_id="mic", **members)

    def end(self, **members: object) -> dict:
        return self.ask("end_utterance", stream_id="mic", **members)

    def final(self) -> dict:
        (item,) = self._read(lambda line: line["type"] == "realtime_batch_final")["items"]
        return item

    def _read(self, is_it: Callable[[dict], bool]) -> dict:
        while not is_it(line := self.client.read()):
            assert line["type"] == "partial_result", line
        return line

    @property
    def begun(self) -> bytes:
        """For each final that was begun ahead `x`, or `p` where it uses the work of partials."""
        return self._begun.read_bytes() if self._begun.exists() else b""

    def go(self) -> None:
        self._go.touch()

    def finish(self, *, finals: int = 1, errors: int = 0) -> None:
        """The end: so many finals and errors came."""
        assert self.client.wait() == 0
        lines = self.client.monitor.replies
        assert sum(len(line["items"]) for line in lines if line["type"] == "realtime_batch_final") == finals
        assert sum(line["type"] in ("error", "stream_error") for line in lines) == errors


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


AHEAD = """
import os, pathlib, signal, time
import mlx.core as mx
from qwen3_asr_mlx_runtime.engine.single import SingleDecoder
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.model import generate
_folder, _prefill = pathlib.Path({folder!r}), generate.prefill_prompt
_segment, _provisional = SingleDecoder._segment, StreamingUtterance.provisional
def _poison(*arguments):
    generate.prefill_prompt = _prefill
    return _prefill(*arguments) * mx.array(float("nan"))
def _fault(recognition, mark):
    if recognition.job.provisional:
        with (_folder / "begun").open("ab") as begun:
            begun.write(mark)
        while not (_folder / "go").exists():
            time.sleep(0.01)
        {fault}
def _alone(self, recognition, index):
    _fault(recognition, b"x")
    yield from _segment(self, recognition, index)
def _with_partials(self, recognition, tail):
    _fault(recognition, b"p")
    yield from _provisional(self, recognition, tail)
SingleDecoder._segment, StreamingUtterance.provisional = _alone, _with_partials
"""
FAULTS = {
    "out of memory": "raise MemoryError",
    "no GPU": 'raise RuntimeError("[METAL] Command buffer execution failed: Caused GPU Timeout Error")',
    "no numbers": "generate.prefill_prompt = _poison",
}


def bridge_with(folder: Path, fault: str = "pass") -> Client:
    before = AHEAD.format(folder=str(folder), fault=fault)
    return Client(command(None, "--model", "demo", "--local-files-only", before=before))


ENDS = "os.kill(os.getpid(), signal.SIGKILL)"


PARTIALS = pytest.mark.parametrize("partials", rest_once([True, False]), ids=["partials", ""])


@PARTIALS
def test_row_109_the_final_comes_once_where_the_worker_ends_ahead_of_the_boundary(
    tmp_path: Path, pcm: np.ndarray, whole: str, partials: bool
) -> None:
    with bridge_with(tmp_path, ENDS) as client:
        speaker = Speaker(client, tmp_path, partials=partials)
        speaker.say(pcm[:FRAMES])
        speaker.go()
        until(lambda: speaker.ask("status")["engine_restarts"] == 1)
        text = speaker.ask("transcribe", audio=whole)["text"]
        for frames in (FRAMES, FRAMES - 1, FRAMES):
            assert speaker.pause(samples=frames)["samples"] == frames  # none is tried again
        assert speaker.end()["frames"] == FRAMES
        item = speaker.final()
        assert (item["text"], item["provisional"]) == (text, "none")
        assert speaker.begun == (b"p" if partials else b"x")
        assert speaker.ask("status")["engine_restarts"] == 1
        speaker.finish()


@PARTIALS
def test_row_109_the_final_comes_once_where_the_worker_ends_behind_the_boundary(
    tmp_path: Path, pcm: np.ndarray, whole: str, partials: bool
) -> None:
    with bridge_with(tmp_path, ENDS) as client:
        speaker = Speaker(client, tmp_path, partials=partials)
        speaker.say(pcm[:FRAMES])
        until(lambda: len(speaker.begun) == 1)
        speaker.end()
        speaker.go()
        item = speaker.final()
        assert (item["text"], item["provisional"]) == (speaker.ask("transcribe", audio=whole)["text"], "running")
        assert speaker.begun == (b"p" if partials else b"x")
        assert speaker.ask("status")["engine_restarts"] == 1
        speaker.finish()


def test_row_109_a_worker_that_hangs_ahead_of_the_boundary_is_replaced() -> None:
    impatient = "from qwen3_asr_mlx_runtime.bridge import watchdog; watchdog.STALL_SECONDS = 0.5"
    with Client(command("hang once", before=impatient)) as client:
        client.ask("start")
        client.ask("start_stream")
        client.ask("audio_chunk", pcm16=SILENCE)
        client.ask("pause")
        until(lambda: client.ask("status")["engine_last_end"] == "stalled")
        client.ask("end_utterance")
        (item,) = client.ask("flush")["items"]
        assert (item["text"], item["provisional"]) == ("60 samples", "none")
        assert client.wait() == 0


@pytest.mark.parametrize("is_behind", [False, True], ids=["ahead", "behind"])
@pytest.mark.parametrize("fault", rest_once(FAULTS))
def test_row_110_a_final_that_fails_ahead_is_decoded_again_and_told_to_nobody(
    tmp_path: Path, pcm: np.ndarray, whole: str, fault: str, is_behind: bool
) -> None:
    with bridge_with(tmp_path, FAULTS[fault]) as client:
        speaker = Speaker(client, tmp_path)
        speaker.say(pcm[:FRAMES])
        until(lambda: len(speaker.begun) == 1)
        if is_behind:
            speaker.end()
        speaker.go()
        item = speaker.final() if is_behind else None
        text = speaker.ask("transcribe", audio=whole)["text"]  # behind what is computed ahead
        if item is None:
            speaker.end()
            item = speaker.final()
        assert (item["text"], item["provisional"]) == (text, "running" if is_behind else "none")
        assert speaker.ask("status")["engine_restarts"] == 0
        speaker.finish()


@pytest.mark.parametrize(
    ("discards", "answer"),
    rest_once(
        [
            ({"type": "cancel", "stream_id": "mic", "utterance_id": "mic-1"}, {"state": "cancelled"}),
            ({"type": "start_stream", "stream_id": "mic", "restart": True, "auto_flush": True, "batch_size": 1}, {}),
            ({"type": "stop_stream", "stream_id": "mic"}, {}),
        ]
    ),
    ids=["cancel", "restart", "stop_stream"],
)
def test_row_111_what_drops_the_utterance_drops_what_was_computed_ahead(
    tmp_path: Path, pcm: np.ndarray, whole: str, discards: dict, answer: dict
) -> None:
    with bridge_with(tmp_path) as client:
        speaker = Speaker(client, tmp_path)
        speaker.go()
        speaker.say(pcm[-FRAMES:])  # as long as the next one
        text = speaker.ask("transcribe", audio=whole)["text"]
        reply = speaker.ask(**discards)
        assert answer.items() <= reply.items()
        assert reply["dropped_samples"] == FRAMES
        if discards["type"] == "stop_stream":
            speaker.start_stream()
        speaker.say(pcm[:FRAMES])
        speaker.end()
        assert speaker.final()["text"] == text
        speaker.finish()


@pytest.mark.parametrize(
    "options",
    rest_once([{"language": "en"}, {"context": "digits"}, {"max_new_tokens": 7}, {"logprobs": True}]),
    ids=str,
)
def test_row_111_a_boundary_with_other_options_has_its_own_final(
    tmp_path: Path, pcm: np.ndarray, whole: str, options: dict
) -> None:
    with bridge_with(tmp_path) as client:
        speaker = Speaker(client, tmp_path)
        speaker.go()
        speaker.say(pcm[:FRAMES])
        expected = speaker.ask("transcribe", audio=whole, **options)
        speaker.end(**options)
        item = speaker.final()
        same = ("text", "finish_reason", "generated_tokens", "token_logprobs")
        assert [item.get(name) for name in same] == [expected.get(name) for name in same]
        assert (item["provisional"], speaker.begun) == ("none", b"x")
        speaker.finish()


@pytest.mark.parametrize("paused", rest_once([FRAMES - 1, FRAMES // 2]))
def test_row_111_a_boundary_at_other_frames_has_its_own_final(
    tmp_path: Path, pcm: np.ndarray, whole: str, paused: int
) -> None:
    with bridge_with(tmp_path) as client:
        speaker = Speaker(client, tmp_path)
        speaker.go()
        client.send("audio_chunk", stream_id="mic", pcm16=encoded(pcm))
        assert speaker.pause(samples=paused)["samples"] == paused
        text = speaker.ask("transcribe", audio=whole)["text"]
        assert speaker.end(samples=FRAMES, rest="drop")["dropped_samples"] == len(pcm) - FRAMES
        item = speaker.final()
        assert (item["text"], item["provisional"], speaker.begun) == (text, "none", b"x")
        speaker.finish()


@pytest.mark.parametrize("is_behind", rest_once([False, True]), ids=["before", "behind"])
@pytest.mark.parametrize(
    ("garbage", "code"),
    rest_once([("!", "bad_base64"), ("AAAA", "odd_pcm_length"), (encoded(np.zeros(31 * RATE)), "invalid_params")]),
    ids=["base64", "half a sample", "too long"],
)
def test_row_112_audio_that_is_refused_does_not_count(
    tmp_path: Path, pcm: np.ndarray, whole: str, garbage: str, code: str, is_behind: bool
) -> None:
    with bridge_with(tmp_path) as client:
        speaker = Speaker(client, tmp_path)
        speaker.go()
        for number, part in enumerate(np.split(pcm, [RATE, FRAMES])):
            if number == 1 + is_behind:
                assert speaker.ask("audio_chunk", stream_id="mic", pcm16=garbage)["code"] == code
            client.send("audio_chunk", stream_id="mic", pcm16=encoded(part))
            if number == 1:
                assert speaker.pause()["samples"] == FRAMES
                text = speaker.ask("transcribe", audio=whole)["text"]
        speaker.end(samples=FRAMES)
        item = speaker.final()
        assert (item["text"], item["provisional"], item["audio_gap"]) == (text, "ready", not is_behind)
        speaker.end()
        assert speaker.final()["audio_gap"] == is_behind
        speaker.finish(finals=2, errors=1)


SOUNDS = {
    "silence": (np.zeros(RATE), 1500),
    "one bit": (np.ones(RATE), 500),
    "the least sample": (np.full(RATE, -(2**15)), 500),
    "full scale": (np.where(np.arange(RATE) % 32 < 16, 2**15 - 1, -(2**15)), 500),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_row_113_hints_of_any_samples_are_numbers(bridge: Client, sound: str) -> None:
    samples, silent_ms = SOUNDS[sound]
    bridge.ask("start_stream", stream_id="hints", partials=True, partial_interval_ms=100)
    bridge.ask("audio_chunk", stream_id="hints", pcm16=encoded(samples))
    bridge.ask("audio_chunk", stream_id="hints", pcm16=encoded(np.zeros(RATE // 2)))

    def hints() -> dict:
        return bridge.ask("audio_chunk", stream_id="hints", pcm16="")

    until(lambda: hints().get("audio_seconds") == 1.5)
    found = hints()
    assert (found["trailing_silence_ms"], found["ends_sentence"], found["ends_sentence_probability"]) == (
        silent_ms,
        False,
        None,
    )
    assert 0 <= found["settled_ms"] <= 500
    bridge.ask("stop_stream", stream_id="hints")


PARTIAL_ENDS = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
_partial, _calls = StreamingUtterance.partial, pathlib.Path({calls!r})
def _ends(self, watch):
    calls = len(_calls.read_bytes()) if _calls.exists() else 0
    _calls.write_bytes(b"x" * (calls + 1))
    if calls == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return _partial(self, watch)
StreamingUtterance.partial = _ends
"""


def test_row_113_hints_go_on_where_the_worker_ends(tmp_path: Path, pcm: np.ndarray) -> None:
    before = PARTIAL_ENDS.format(calls=str(tmp_path / "calls"))
    with Client(command(None, "--model", "demo", "--local-files-only", before=before)) as client:
        client.ask("start_stream", partials=True, partial_interval_ms=500)
        seen = []
        for sent in range(1, 4):
            part = pcm[(sent - 1) * RATE : sent * RATE] if sent < 3 else np.zeros(RATE)
            client.ask("audio_chunk", pcm16=encoded(part))
            until(lambda sent=sent: client.ask("audio_chunk", pcm16="").get("audio_seconds") == sent)
            seen.append(client.ask("audio_chunk", pcm16=""))
        assert client.ask("status")["engine_restarts"] == 1
        assert [hints["revision"] for hints in seen] == [1, 2, 3]
        assert [hints["trailing_silence_ms"] < 1000 for hints in seen] == [True, True, False]
        assert all(0 <= hints["settled_ms"] < 1000 * hints["audio_seconds"] for hints in seen)
        client.ask("end_utterance")
        assert client.ask("flush")["items"][0]["text"].startswith(seen[1]["stable_text"])
        assert client.wait() == 0
