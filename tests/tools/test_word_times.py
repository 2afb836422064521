"""Times of words against those of a manifest: what belongs together, and how far apart it is."""

import json
from pathlib import Path

import pytest
from tools.test_score import lines

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.protocol.transcripts import Aligner, ItemError, Word
from qwen3_asr_mlx_runtime.tools.manifest import ReferenceWord, read_manifest
from qwen3_asr_mlx_runtime.tools.perftest.performance import Item
from qwen3_asr_mlx_runtime.tools.score.word_times import matches, word_figures

SPOKEN = [ReferenceWord("seven", 0.0, 0.5), ReferenceWord("three", 0.5, 1.0), ReferenceWord("one", 1.0, 1.5)]


def word(text: str, start: float, end: float, time_confidence: float | None = 0.9) -> Word:
    return Word(
        text=text, start=start, end=end, char_start=0, char_end=1, confidence=None, time_confidence=time_confidence
    )


def item(audio: str, *words: Word, seconds: float = 0.5) -> Item:
    return Item(
        audio=audio,
        text="x",
        words=[*words],
        aligner=Aligner(model="m", seconds=seconds, decoder="viterbi"),
        profile=Profile(stage="x", audio_seconds=10.0),
    )


def without(audio: str, *warnings: str) -> Item:
    return Item(audio=audio, text="x", words=None, warnings=warnings)


def texts(found: list[Word], reference: list[ReferenceWord] = SPOKEN) -> list[tuple[str, str]]:
    return [(match.reference.text, match.found.text) for match in matches(reference, found)]


class TestMatches:
    def test_case_and_punctuation_are_no_difference_and_a_word_that_was_misheard_counts_not(self) -> None:
        found = [word("SEVEN,", 0, 1), word("tree", 1, 2), word("«One».", 2, 3)]
        assert texts(found) == [("seven", "SEVEN,"), ("one", "«One».")]

    def test_words_too_many_and_too_few_move_no_other(self) -> None:
        found = [word("Oh", 0, 1), word("seven", 1, 2), word("one", 2, 3), word("one", 3, 4)]
        assert texts(found) == [("seven", "seven"), ("one", "one")]
        assert next(matches(SPOKEN, found)).found.start == 1

    def test_punctuation_alone_is_no_word(self) -> None:
        dashed = [SPOKEN[0], ReferenceWord("–", 0.5, 0.5), *SPOKEN[1:]]
        found = [word("Seven", 0, 1), word("three", 1, 2), word("…", 2, 2), word("one", 2, 3)]
        assert len(texts(found, dashed)) == 3

    def test_a_whole_segment_without_times_is_no_word(self) -> None:
        assert texts([word("seven", 0, 30, None), word("three", 30, 31)]) == [("three", "three")]

    def test_nothing_matches_nothing(self) -> None:
        assert texts([]) == []
        assert texts([word("seven", 0, 1)], []) == []
        assert texts([], []) == []


class TestFigures:
    def test_they_are_those_of_all_starts_and_ends(self) -> None:
        found = [word("Seven", 0.08, 0.5), word("three", 0.4, 1.3), word("won", 1.2, 1.2)]
        figures = word_figures([item("a", *found), item("b", word("x", 0, 1), seconds=1.5)], {"a": SPOKEN, "b": None})
        errors = figures.errors
        assert (figures.utterances, figures.words, figures.zero_length) == (2, 4, 1)
        assert (figures.seconds, figures.realtime_factor) == (2.0, 10.0)
        assert (errors.reference_words, errors.matched) == (3, 2)
        assert (errors.starts_ms, errors.ends_ms) == ([-100, 80], [0, 300])
        assert (errors.mean_ms, errors.start_mean_ms, errors.end_mean_ms) == (120.0, 90.0, 150.0)
        assert errors.median_ms == 90.0
        assert errors.within == {80: 0.5, 160: 0.75, 240: 0.75}

    def test_utterances_without_words_are_counted_by_reason(self) -> None:
        late = without("a", "resampled", "words_unavailable: timeout")
        known = [without("b", "words_unavailable: language"), without("c", "words_unavailable: language")]
        figures = word_figures([late, *known, item("d")], {"a": SPOKEN})
        assert figures.without == {"language": 2, "timeout": 1}
        assert (figures.utterances, figures.words, figures.errors.matched) == (1, 0, 0)
        assert (figures.errors.mean_ms, figures.errors.within[80]) == (None, None)

    def test_files_that_failed_or_were_not_asked_have_none(self) -> None:
        failed = Item(audio="a", error=ItemError(code="audio_empty", message="…"))
        assert word_figures([failed, Item(audio="b", text="x")], {}) is None
        figures = word_figures([failed, item("b", word("x", 0, 1))], {})
        assert (figures.utterances, figures.words, figures.errors) == (1, 1, None)


class TestManifest:
    def test_a_line_may_have_words(self, tmp_path: Path) -> None:
        words = [{"text": "Hi", "start": 0.25, "end": 0.5}, {"text": "you.", "start": 0.5, "end": 0.5}]
        path = lines(
            tmp_path / "m.jsonl", {"audio": "a", "text": "Hi you.", "words": words}, {"audio": "b", "text": ""}
        )
        first, second = read_manifest(path)
        assert first.words == (ReferenceWord("Hi", 0.25, 0.5), ReferenceWord("you.", 0.5, 0.5))
        assert second.words is None

    @pytest.mark.parametrize(
        ("words", "trouble"),
        [
            ([{"text": "secret", "start": 0.5, "end": 0.4}], "got 0.5 to 0.4 as no. 1"),
            ([{"text": "secret", "start": -1, "end": 0}], "got -1 to 0"),
            ([{"text": "a", "start": 1, "end": 2}, {"text": "b", "start": 0, "end": 3}], "got 0 to 3 as no. 2"),
            ([{"text": "secret", "start": 0}], "end"),
            ([{"text": "secret", "start": "0", "end": 1}], "start"),
            ({"text": "secret"}, "words"),
        ],
    )
    def test_times_that_no_word_can_have_are_named_with_their_line(
        self, tmp_path: Path, words: object, trouble: str
    ) -> None:
        path = lines(tmp_path / "m.jsonl", "", json.dumps({"audio": "a", "text": "", "words": words}))
        with pytest.raises(InvalidParams) as raised:
            read_manifest(path)
        assert f"{path}: line 2: " in raised.value.message
        assert trouble in raised.value.message
        assert "secret" not in raised.value.message
