"""Random conversations, and those that broke something once; scripts/fuzz looks for more, guided by coverage."""

from pathlib import Path

import pytest
from fuzz.target import REQUESTS, Play, play
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.stream_registry import StreamRegistry

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.bin"))


@settings(max_examples=200)
@example(b"")
@given(st.binary(max_size=2000))
def test_every_byte_string_is_a_conversation_that_keeps_the_promises(data: bytes) -> None:
    play(data)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_broke_something_once(path: Path) -> None:
    play(path.read_bytes())


def test_a_defect_that_is_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio that is forgotten at the end of its stream: some conversation shows it."""
    monkeypatch.setattr(StreamRegistry, "buffered_samples", property(lambda _: 0))
    chunk_to_a_new_stream = bytes([0, 11, 0, 1, 1, 1])
    with pytest.raises(AssertionError):
        Play(chunk_to_a_new_stream).run()


def test_speech_whose_end_never_reaches_the_engine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def request_line(type_: str, **members: object) -> bytes:
        message = {"type": type_, **members}
        fitting = (place for place, each in enumerate(REQUESTS) if message.items() <= each.items())
        return bytes([0, next(fitting), 0, 1, 1, 1])

    wanted = request_line("hello") + request_line("start_stream", stream_id="c") + bytes([12, 1])
    with_chunk = wanted + request_line("audio_chunk", stream_id="c", utterance_id="u")
    Play(with_chunk).run()
    monkeypatch.setattr(Partials, "drop", Partials.end)
    Play(wanted).run()
    with pytest.raises(AssertionError, match="not forgotten"):
        Play(with_chunk).run()


def test_a_final_that_a_restart_loses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a batch is decoded when the engine ends, and again by the next."""
    asks = next(place for place, each in enumerate(REQUESTS) if each["type"] == "batch_transcribe")
    load, read, end = [12, 1], [13, 1], [12, 255]
    ended_in_a_decode = bytes([0, asks, 0, 1, 1, 1, *load, *read, *end])
    Play(ended_in_a_decode).run()
    monkeypatch.setattr(Scheduler, "_run_again", lambda *_, **__: None)
    with pytest.raises(AssertionError):
        Play(ended_in_a_decode).run()
