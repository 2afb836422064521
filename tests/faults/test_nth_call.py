"""Every n-th call of read, write, open, fstat and the engine fails, each in every way it can, in one conversation:
hello, load, two streams, six utterances, files, a cancel, stop; and in others with partials and with a pause. What was
accepted is answered or named; nothing hangs.
"""

import base64
import errno
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from faults.calls import READ_BYTES, Ended, Fault, converse, line, planted, raising
from support.fake_engine import FakeEngine
from support.loop_engine import LoopEngine

from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit
from qwen3_asr_mlx_runtime.engine import recognizer as engine_module
from qwen3_asr_mlx_runtime.engine import sequence as recognition
from qwen3_asr_mlx_runtime.engine.align import Alignments
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Segment
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.settings import Settings

PCM = base64.b64encode(np.zeros(160, "<i2").tobytes()).decode()


def os_error(number: int) -> Callable:
    return raising(OSError(number, os.strerror(number)))


def short_write(write: Callable[[int, memoryview], int], arguments: tuple) -> int:
    fd, data = arguments
    return write(fd, data[:1])


TRANSPARENT = {"EINTR": raising(InterruptedError()), "EAGAIN": raising(BlockingIOError())}
FATAL = {name: os_error(getattr(errno, name)) for name in ("EIO", "EPIPE", "ENOSPC", "EBADF", "ENOMEM")}
OF_ONE_FILE = {
    **{name: os_error(getattr(errno, name)) for name in ("EIO", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "ENOSPC")},
    "MemoryError": raising(MemoryError()),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    soundfile.write(path, np.zeros(1600, np.int16), 16_000)
    return str(path)


@pytest.fixture(scope="module")
def scenario(recording: str) -> list[bytes]:
    chunks = [
        line("audio_chunk", id=f"c{name}{number}", stream_id=name, seq=number, pcm16=PCM)
        for number in range(2)
        for name in "ab"
    ]
    boundaries = [
        line("end_utterance", id=f"e{name}{number}", stream_id=name, utterance_id=f"{name}{number}", pcm16=PCM)
        for number in range(2)
        for name in "ab"
    ]
    ends = [line("end_utterance", id=f"e{name}", stream_id=name, utterance_id=name) for name in "ab"]
    return [
        line("hello", id="h", want=["events"]),
        line("start", id="s"),
        line("start_stream", id="a", stream_id="a", auto_flush=True, batch_size=2),
        line("start_stream", id="b", stream_id="b", auto_flush=True, batch_size=2, words=True),
        *chunks,
        *ends,
        *boundaries,
        line("transcribe", id="t", audio=recording, words=True),
        line("align", id="al", audio=recording, text="Seven three one.", language="en"),
        line("batch_transcribe", id="bt", audio=[recording, "/nowhere", recording]),
        line("transcribe", id="victim", audio=recording),
        line("cancel", id="x", target="victim"),
        line("flush", id="f"),
        line("stop", id="stop"),
    ]


UTTERANCES = {"a", "b", "a0", "b0", "a1", "b1"}


def outcomes(ended: Ended) -> dict[str, str | None]:
    """What became of each utterance, by its name."""
    items = [item for reply in ended.replies for item in reply.get("items", ()) if "utterance_id" in item]
    assert len(items) == len({item["utterance_id"] for item in items}), "an utterance has two outcomes"
    return {item["utterance_id"]: item["text"] for item in items}


def assert_untouched(ended: Ended, scenario: list[bytes]) -> None:
    """All requests have their reply, all utterances their text, and the last line is the last."""
    ended.monitor.finish()
    assert (ended.exit, ended.error) == (Exit.DONE, None)
    assert sum("id" in reply for reply in ended.replies) == len(scenario)
    assert ended.replies[-1]["type"] == "stopped"
    found = outcomes(ended)
    assert set(found) == UTTERANCES
    assert None not in found.values()


def calls_of(kind: str, scenario: list[bytes]) -> int:
    fault = Fault(0, lambda *_: None)
    with planted(kind, fault):
        assert_untouched(converse(scenario), scenario)
    assert fault.calls > 0
    return fault.calls


@pytest.mark.parametrize("name", TRANSPARENT)
@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_interrupted_call_is_made_again(scenario: list[bytes], kind: str, name: str) -> None:
    for n in range(1, calls_of(kind, scenario) + 1):
        with planted(kind, Fault(n, TRANSPARENT[name])):
            assert_untouched(converse(scenario), scenario)


def test_a_short_write_is_continued(scenario: list[bytes]) -> None:
    for n in range(1, calls_of("write", scenario) + 1):
        with planted("write", Fault(n, short_write)):
            assert_untouched(converse(scenario), scenario)


@pytest.mark.parametrize("name", FATAL)
def test_a_read_that_fails_is_the_end_of_the_input(scenario: list[bytes], name: str) -> None:
    """Whatever came before it is finished, and every utterance that was accepted has its text."""
    for n in range(1, calls_of("read", scenario) + 1):
        with planted("read", Fault(n, FATAL[name])):
            ended = converse(scenario, bytes_read=(n - 1) * READ_BYTES)
        ended.monitor.finish()
        assert (ended.exit, ended.error) == (Exit.DONE, None)
        accepted = {reply["utterance_id"] for reply in ended.replies if reply["type"] == "utterance_queued"}
        found = outcomes(ended)
        assert set(found) == accepted
        assert None not in found.values()


@pytest.mark.parametrize("name", FATAL)
def test_a_write_that_fails_is_the_end(scenario: list[bytes], name: str) -> None:
    for n in range(1, calls_of("write", scenario) + 1):
        with planted("write", fault := Fault(n, FATAL[name])):
            ended = converse(scenario)
        if fault.happened:
            assert (ended.exit, ended.error) == (Exit.PARENT_GONE, None)


@pytest.mark.parametrize("name", OF_ONE_FILE)
@pytest.mark.parametrize("kind", ["open", "fstat"])
def test_a_file_that_cannot_be_read_fails_alone(scenario: list[bytes], kind: str, name: str) -> None:
    for n in range(1, calls_of(kind, scenario) + 1):
        with planted(kind, Fault(n, OF_ONE_FILE[name])):
            assert_untouched(converse(scenario), scenario)


class FakePreparation:
    """One segment for each utterance, which may fail to be cut and to be prepared."""

    packs = False

    def __init__(self, fault: Fault) -> None:
        self.cut = fault.around(lambda utterance, watch: [Segment(utterance, utterance.samples, watch)])
        self.prepare = fault.around(lambda segments: [DecoderInput(None, 0, 100, 13) for _ in segments])


class FakeRecognizer:
    """The real schedule over a decoder that takes two steps for each utterance."""

    model_dir = "/models/fake"
    load_profile: dict = {"total_seconds": 0.0}  # noqa: RUF012
    load_source = "warm"

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def schedule(self, settings: Settings) -> EngineScheduler:
        config = SimpleNamespace(text=SimpleNamespace(hidden_size=256))
        model = SimpleNamespace(config=config, quantization=None, model=SimpleNamespace(parameters=dict))
        written = "language English<asr_text>Seven three one."
        tokenizer = SimpleNamespace(
            eos_ids=frozenset(), decode=lambda _: written, ends=lambda ids: [len(written)] * len([*ids])
        )
        governor = SimpleNamespace(after_job=lambda: None, on_idle=lambda: None, rows=lambda _: 16)
        drift = SimpleNamespace(is_known=lambda _: True, margin=lambda _: 0.0, try_again=lambda: None)
        streaming_drift = SimpleNamespace(is_known=True)
        preparation, alignments = FakePreparation(self._fault), Alignments(settings, governor)
        return EngineScheduler(model, tokenizer, preparation, governor, drift, streaming_drift, alignments)


def two_steps(fault: Fault) -> Callable[..., Iterator[Token]]:
    step = fault.around(lambda: None)

    def generate(*_: object, **__: object) -> Iterator[Token]:
        for reason in (None, "stop"):
            step()
            yield Token(5, -0.5, reason)

    return generate


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("planted"), OSError(28, "no"), AssertionError()], ids=repr
)
def test_a_decoder_step_that_fails_fails_one_utterance(
    scenario: list[bytes], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_run(n: int) -> tuple[Ended, Fault]:
        fault = Fault(n, raising(error))
        load = fault.around(lambda *_, **__: FakeRecognizer(fault))
        monkeypatch.setattr(engine_module.Recognizer, "load", load)
        monkeypatch.setattr(recognition, "generate", two_steps(fault))
        return converse(scenario, lambda post: LoopEngine(Settings(aligner="/nowhere"), post)), fault

    ended, counted = one_run(0)
    assert_untouched(ended, scenario)
    for n in range(1, counted.calls + 1):
        ended, fault = one_run(n)
        assert (ended.exit, ended.error) == (Exit.DONE, None)
        ended.monitor.finish()
        failed = [name for name, text in outcomes(ended).items() if text is None]
        if fault.happened and n > 1:  # the first is the load, which all wait for
            assert len(failed) <= 1


class FailingEngine(FakeEngine):
    """An engine whose own n-th call fails, which is a bug of the engine, and ends the process."""

    def __init__(self, post: Callable, fault: Fault) -> None:
        super().__init__(post)
        self.send = fault.around(self.send)


def test_an_engine_whose_call_fails_ends_the_conversation(scenario: list[bytes]) -> None:
    count = Fault(0, lambda *_: None)
    assert_untouched(converse(scenario, lambda post: FailingEngine(post, count)), scenario)
    for n in range(1, count.calls + 1):
        fault = Fault(n, raising(RuntimeError("planted")))
        ended = converse(scenario, lambda post, fault=fault: FailingEngine(post, fault))
        if fault.happened:
            assert isinstance(ended.error, RuntimeError)


@pytest.fixture(scope="module")
def partial_conversation() -> list[bytes]:
    """An utterance with partials that ends, and one without a boundary."""
    tenth = base64.b64encode(np.zeros(1600, "<i2").tobytes()).decode()
    chunks = [line("audio_chunk", id=f"c{n}", stream_id="p", pcm16=tenth) for n in range(4)]
    how = {"partials": True, "partial_interval_ms": 100, "auto_flush": True, "batch_size": 1}
    return [
        line("hello", id="h", want=["events"]),
        line("start_stream", id="p", stream_id="p", **how),
        *chunks[:2],
        line("end_utterance", id="e", stream_id="p", utterance_id="u"),
        *chunks[2:],
        line("stop_stream", id="x", stream_id="p"),
        line("stop", id="stop"),
    ]


def test_an_engine_whose_call_fails_while_somebody_speaks_ends_the_conversation(
    partial_conversation: list[bytes],
) -> None:
    for n in range(1, 9):
        fault = Fault(n, raising(RuntimeError("planted")))
        ended = converse(partial_conversation, lambda post, fault=fault: FailingEngine(post, fault))
        if fault.happened:
            assert isinstance(ended.error, RuntimeError)
        else:
            ended.monitor.finish()
            assert outcomes(ended) == {"u": "Seven three one."}


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_interrupted_call_loses_no_audio(partial_conversation: list[bytes], kind: str) -> None:
    for n in range(1, 13):
        with planted(kind, Fault(n, TRANSPARENT["EINTR"])):
            ended = converse(partial_conversation)
        ended.monitor.finish()
        assert outcomes(ended) == {"u": "Seven three one."}


BEGUN = {"ready", "running"}
PAUSE = [
    line("hello", id="h", want=["events"]),
    line("start", id="s"),
    line("start_stream", id="p", stream_id="p", auto_flush=True, batch_size=1),
    line("audio_chunk", id="c", stream_id="p", pcm16=PCM),
    line("pause", id="u", stream_id="p"),
]
END_AT_THE_PAUSE = [
    line("audio_chunk", id="rest", stream_id="p", pcm16=PCM),
    line("end_utterance", id="e", stream_id="p", utterance_id="u", samples=160, rest="drop"),
    line("audio_chunk", id="open", stream_id="p", pcm16=PCM),
    line("pause", id="without a boundary", stream_id="p"),
    line("stop_stream", id="x", stream_id="p"),
    line("stop", id="stop"),
]


def converse_with_pause(make_engine: Callable = FakeEngine) -> Ended:
    return converse(END_AT_THE_PAUSE, make_engine, answered_first=PAUSE)


def assert_final_of_a_pause(ended: Ended, provisional: set[str]) -> None:
    ended.monitor.finish()
    assert (ended.exit, ended.error) == (Exit.DONE, None)
    assert outcomes(ended) == {"u": "Seven three one."}
    [item] = [item for reply in ended.replies for item in reply.get("items", ())]
    assert item["provisional"] in provisional
    assert not any(reply["type"] == "error" for reply in ended.replies)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_interrupted_call_costs_no_final_of_a_pause(kind: str) -> None:
    with planted(kind, count := Fault(0, lambda *_: None)):
        assert_final_of_a_pause(converse_with_pause(), BEGUN)
    for n in range(1, count.calls + 1):
        with planted(kind, Fault(n, TRANSPARENT["EINTR"])):
            assert_final_of_a_pause(converse_with_pause(), BEGUN)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("planted")], ids=repr)
def test_a_decoder_step_that_fails_costs_no_final_of_a_pause(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_run(n: int) -> tuple[Ended, Fault]:
        fault = Fault(n, raising(error))
        monkeypatch.setattr(engine_module.Recognizer, "load", lambda *_, **__: FakeRecognizer(fault))
        monkeypatch.setattr(recognition, "generate", two_steps(fault))
        return converse_with_pause(lambda post: LoopEngine(Settings(aligner="/nowhere"), post)), fault

    ended, counted = one_run(0)
    assert_final_of_a_pause(ended, BEGUN)
    assert counted.calls >= 4  # to cut, to prepare, two to decode
    for n in range(1, counted.calls + 1):
        assert_final_of_a_pause(one_run(n)[0], {*BEGUN, "none"})


def test_an_engine_whose_call_fails_around_a_pause_ends_the_conversation() -> None:
    count = Fault(0, lambda *_: None)
    assert_final_of_a_pause(converse_with_pause(lambda post: FailingEngine(post, count)), BEGUN)
    for n in range(1, count.calls + 1):
        fault = Fault(n, raising(RuntimeError("planted")))
        ended = converse_with_pause(lambda post, fault=fault: FailingEngine(post, fault))
        if fault.happened:
            assert isinstance(ended.error, RuntimeError)


def test_no_thread_is_left_behind(scenario: list[bytes]) -> None:
    before = {thread.name for thread in threading.enumerate()}
    assert_untouched(converse(scenario), scenario)
    left = [thread for thread in threading.enumerate() if thread.name not in before]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)
