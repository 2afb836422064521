"""Languages that the model may choose from: which request says so, and what the results say."""

import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.protocol.commands import EndUtterance, Flush, StartStream
from qwen3_asr_mlx_runtime.session.transcription import resolve
from qwen3_asr_mlx_runtime.settings import Settings

EN, AR, BOTH = ("English",), ("Arabic",), ("English", "Arabic")
PROCESS = {
    "free": Settings(),
    "named": Settings(language="French"),
    "among": Settings(languages=("French", "German")),
}


@pytest.mark.parametrize(
    ("process", "stream", "flush", "boundary", "expected"),
    [
        ("free", {}, {}, {}, (None, ())),
        ("named", {}, {}, {}, ("French", ())),
        ("among", {}, {}, {}, (None, ("French", "German"))),
        ("named", {"languages": [*BOTH]}, {}, {}, (None, BOTH)),
        ("among", {"language": "English"}, {}, {}, ("English", ())),
        ("among", {"language": "auto"}, {}, {}, (None, ())),
        ("free", {"languages": [*AR]}, {"languages": [*EN]}, {}, (None, EN)),
        ("free", {"language": "Arabic"}, {"languages": [*EN]}, {}, (None, EN)),
        ("free", {"languages": [*AR]}, {"language": "Dutch"}, {}, ("Dutch", ())),
        ("among", {"language": "Arabic"}, {"language": "Dutch"}, {"languages": [*BOTH]}, (None, BOTH)),
        ("named", {"languages": [*AR]}, {"languages": [*EN]}, {"language": "Dutch"}, ("Dutch", ())),
        ("named", {"languages": [*AR]}, {"languages": [*EN]}, {"language": "auto"}, (None, ())),
    ],
)
def test_the_innermost_level_that_says_something_decides(
    process: str, stream: dict, flush: dict, boundary: dict, expected: tuple
) -> None:
    levels = [EndUtterance(**boundary), Flush(**flush), StartStream(**stream)]
    options = resolve(PROCESS[process], levels)
    assert (options.language, options.languages) == expected


def test_a_transcript_of_other_languages_does_not_serve() -> None:
    options = [resolve(Settings(), [EndUtterance(**how)]) for how in ({}, {"languages": [*EN]}, {"languages": [*AR]})]
    assert [[mine.serve(other) for other in options] for mine in options] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_a_file_and_each_item_of_a_batch_say_what_was_allowed() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="/a", languages=["ar", "en"])
    talk.send("batch_transcribe", audio=["/b", "/c"], languages=["Arabic"], decoder_mode="batched")
    talk.send("transcribe", audio="/d")
    for path in ("/a", "/b", "/c", "/d"):
        talk.read(path)
    talk.load()
    first = talk.jobs[min(talk.jobs)]
    assert (first.utterance.language, first.utterance.languages) == (None, BOTH)
    [reply] = talk.decode()
    assert (reply["language"], reply["language_probabilities"]) == ("English", {"English": 0.3333, "Arabic": 0.3333})
    [] = talk.decode()
    [batch] = talk.decode()
    assert [item["language_probabilities"] for item in batch["items"]] == [{"Arabic": 0.5}] * 2
    [plain] = talk.decode()
    assert "language_probabilities" not in plain


def test_an_utterance_says_what_was_allowed_and_one_without_audio_frames_says_null() -> None:
    talk = Conversation()
    talk.send("start_stream", stream_id="s", batch_size=2, languages=["en", "ar"])
    talk.load()
    talk.speak("one", "s")
    talk.speak("two", "s", languages=["ar"])
    talk.decode()
    [final] = talk.decode(transcript("", language=None, language_probabilities=None))
    one, two = final["items"]
    assert one["language_probabilities"] == {"English": 0.3333, "Arabic": 0.3333}
    assert two["language_probabilities"] is None
    talk.speak("three", "s", language="fr")
    talk.speak("four", "s")
    talk.decode()
    [final] = talk.decode()
    assert ["language_probabilities" in item for item in final["items"]] == [False, True]


def test_both_in_one_request_are_refused_and_nothing_else_is_lost() -> None:
    talk = Conversation()
    talk.send("start_stream", stream_id="s", batch_size=1)
    talk.load()
    talk.chunk(1600, "s")
    [error] = talk.send("end_utterance", stream_id="s", language="en", languages=["ar"])
    assert (error["code"], error["data"]["field"]) == ("invalid_params", "languages")
    talk.send("end_utterance", stream_id="s", languages=["ar"])
    [final] = talk.decode()
    assert final["items"][0]["samples"] == 1600


def test_the_process_has_languages_too() -> None:
    talk = Conversation(Settings(languages=AR))
    talk.send("transcribe", audio="/a")
    talk.read("/a")
    talk.load()
    [reply] = talk.decode()
    assert reply["language_probabilities"] == {"Arabic": 0.5}
