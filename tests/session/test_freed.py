"""What is delivered is freed at once: audio must not wait for a garbage collection, which comes late where few objects
are made."""

import gc
from collections.abc import Callable, Iterator

import pytest
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed
from qwen3_asr_mlx_runtime.session.transcription import FileRequest, Job, StreamUtterance, Transcription

KEPT = Transcription | FileRequest | StreamUtterance | Job


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def talk() -> Conversation:
    talk = Conversation()
    talk.send("hello", want=["events"])
    talk.send("start")
    talk.load()
    talk.send("start_stream", stream_id="s", auto_flush=True, batch_size=1)
    talk.send("start_stream", stream_id="lock step", batch_size=2)
    return talk


def inline(talk: Conversation) -> None:
    talk.speak("u", "s")
    talk.decode()


def in_chunks(talk: Conversation) -> None:
    talk.chunk(1600, "s")
    talk.send("end_utterance", stream_id="s")
    talk.decode(DecodeFailed("planted"))


def with_words(talk: Conversation) -> None:
    talk.speak("u", "s", words=True)
    talk.decode()
    talk.align()


def a_batch(talk: Conversation) -> None:
    for name in ("u", "v"):
        talk.speak(name, "lock step")
    for _ in range(2):
        talk.decode()


def a_pause_that_was_none(talk: Conversation) -> None:
    talk.chunk(1600, "s")
    talk.send("pause", stream_id="s")
    talk.chunk(1600, "s")
    talk.decode(Cancelled("planted"))
    talk.send("end_utterance", stream_id="s")
    talk.decode()


def a_file(talk: Conversation) -> None:
    talk.send("transcribe", audio="a")
    talk.read("a")
    talk.decode()


def files_with_words(talk: Conversation) -> None:
    talk.send("batch_transcribe", audio=["a", "b"], words=True)
    for path in "ab":
        talk.read(path)
    for _ in range(2):
        talk.decode()
    for _ in range(2):
        talk.align()


def a_file_that_is_cancelled(talk: Conversation) -> None:
    talk.send("transcribe", id="t", audio="a")
    talk.read("a")
    talk.send("cancel", target="t")
    talk.decode(Cancelled("planted"))


def a_file_that_is_late(talk: Conversation) -> None:
    talk.send("transcribe", audio="a", timeout_ms=100)
    talk.wait(1)
    talk.fail_read("a")


def an_utterance_that_is_discarded(talk: Conversation) -> None:
    talk.speak("u", "lock step")
    talk.send("stop_stream", stream_id="lock step", mode="discard")


@pytest.mark.parametrize(
    "speak",
    [
        inline,
        in_chunks,
        with_words,
        a_batch,
        a_pause_that_was_none,
        a_file,
        files_with_words,
        a_file_that_is_cancelled,
        a_file_that_is_late,
        an_utterance_that_is_discarded,
    ],
)
def test_nothing_of_what_was_delivered_waits_for_a_collection(
    talk: Conversation, speak: Callable[[Conversation], None]
) -> None:
    speak(talk)
    for _ in range(2):  # audio is freed behind the line
        talk.send("ping")
    assert (talk.jobs, talk.reads, talk.aligns) == ({}, {}, {})
    assert [each for each in gc.get_objects() if isinstance(each, KEPT)] == []
