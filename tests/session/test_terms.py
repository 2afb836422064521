"""Terms of a text: which request says them, and what decides that a text is decoded again."""

import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.protocol.commands import EndUtterance, Flush, StartStream
from qwen3_asr_mlx_runtime.session.transcription import resolve
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term

ADA, MENABREA = [Term("Ada")], [Term("Menabrea", 3.0)]
NONE: list[Term] = []


@pytest.mark.parametrize(
    ("process", "stream", "flush", "boundary", "expected"),
    [
        (NONE, None, None, None, NONE),
        (ADA, None, None, None, ADA),
        (ADA, MENABREA, None, None, MENABREA),
        (ADA, NONE, None, None, NONE),
        (NONE, ADA, MENABREA, None, MENABREA),
        (NONE, ADA, NONE, None, NONE),
        (NONE, ADA, NONE, MENABREA, MENABREA),
        (ADA, MENABREA, MENABREA, NONE, NONE),
    ],
)
def test_the_innermost_level_that_has_terms_decides_and_none_switches_off(
    process: list, stream: list | None, flush: list | None, boundary: list | None, expected: list
) -> None:
    levels = [EndUtterance(terms=boundary), Flush(terms=flush), StartStream(terms=stream)]
    assert resolve(Settings(terms=tuple(process)), levels).terms == tuple(expected)


def test_a_transcript_of_other_terms_does_not_serve() -> None:
    asked = (None, [Term("Ada")], [Term("Ada", 3.0)])
    options = [resolve(Settings(), [EndUtterance(terms=terms)]) for terms in asked]
    assert [[mine.serve(other) for other in options] for mine in options] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_the_engine_gets_the_terms_of_each_request() -> None:
    talk = Conversation(Settings(terms=(Term("Ada"),)))
    talk.send("transcribe", audio="/a", terms=[{"text": "Menabrea", "weight": 3}])
    talk.send("batch_transcribe", audio=["/b"], terms=[])
    talk.send("transcribe", audio="/c")
    for path in ("/a", "/b", "/c"):
        talk.read(path)
    talk.load()
    asked = []
    for _ in range(3):
        asked.append(talk.jobs[min(talk.jobs)].utterance.terms)
        talk.decode()
    assert asked == [(Term("Menabrea", 3.0),), (), (Term("Ada"),)]


def test_an_utterance_is_decoded_again_for_a_flush_with_other_terms() -> None:
    talk = Conversation()
    talk.send("start_stream", stream_id="s", batch_size=8, max_batch_delay_ms=10)
    talk.load()
    talk.speak("one", "s")
    talk.wait(0.02)
    talk.decode()
    assert talk.send("flush", terms=[{"text": "Ada"}]) == []
    [job] = talk.jobs.values()
    assert job.utterance.terms == (Term("Ada"),)
    [final] = talk.decode()
    assert final["count"] == 1


def test_every_kind_of_result_says_where_an_echo_was_dropped_and_only_there() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="/a", context="Ada")
    talk.send("batch_transcribe", audio=["/b"], context="Ada")
    for path in ("/a", "/b"):
        talk.read(path)
    talk.load()
    [one] = talk.decode(transcript("", context_echo=True))
    [batch] = talk.decode(transcript("", context_echo=True))
    talk.send("start_stream", stream_id="s", batch_size=2, context="Ada")
    talk.speak("one", "s")
    talk.speak("two", "s")
    talk.decode(transcript("", context_echo=True))
    [final] = talk.decode(transcript("Ada"))
    assert [one["context_echo"], batch["items"][0]["context_echo"], final["items"][0]["context_echo"]] == [True] * 3
    assert "context_echo" not in final["items"][1]


def test_terms_that_are_none_are_refused_and_nothing_else_is_lost() -> None:
    talk = Conversation()
    talk.send("start_stream", stream_id="s", batch_size=1)
    talk.load()
    talk.chunk(1600, "s")
    [error] = talk.send("end_utterance", stream_id="s", terms=[{"text": "Ada", "weight": 5}])
    assert (error["code"], error["data"]["field"]) == ("invalid_params", "terms")
    talk.send("end_utterance", stream_id="s", terms=[])
    [final] = talk.decode()
    assert final["items"][0]["samples"] == 1600
