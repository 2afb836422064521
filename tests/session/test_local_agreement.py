"""What is stable is what enough hypotheses agreed on over enough audio; it only grows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES
from qwen3_asr_mlx_runtime.session import local_agreement
from qwen3_asr_mlx_runtime.session.local_agreement import STABLE_SECONDS, LocalAgreement


def stable_texts(*hypotheses: tuple[float, str]) -> list[str]:
    """The stable text after each."""
    agreement = LocalAgreement()
    texts = []
    for audio_seconds, text in hypotheses:
        agreement.add(text, audio_seconds)
        texts.append(agreement.text)
    return texts


def half_seconds(*texts: str) -> list[str]:
    """The stable text after each, where one comes every half second."""
    return stable_texts(*((0.5 * place, text) for place, text in enumerate(texts, 1)))


def test_a_word_is_stable_after_a_second_of_agreement() -> None:
    hypotheses = ["one two", "one two three", "one two three four", "one two three four"]
    assert half_seconds(*hypotheses) == ["", "", "one two", "one two three"]


@pytest.mark.parametrize("count", [2, 3])
def test_a_word_is_stable_after_as_many_hypotheses_as_the_rule_requires(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_agreement, "STABLE_HYPOTHESES", count)
    hypotheses = [(30.0 * place, "one two") for place in range(1, count + 1)]
    assert stable_texts(*hypotheses) == [""] * (count - 1) + ["one"]


def test_one_hypothesis_is_not_enough_and_two_are() -> None:
    assert stable_texts((30.0, "one two"), (60.0, "one two")) == ["", "one"]


def test_a_second_is_enough_and_less_is_not() -> None:
    assert STABLE_SECONDS == 1.0
    before = [(1.3, "one two"), (1.8, "one two")]
    assert stable_texts(*before, (2.3, "one two")) == ["", "", "one"]  # 2.3 - 1.3 < 1.0 in floating point
    assert stable_texts(*before, (2.29, "one two")) == ["", "", ""]


def test_the_last_word_is_never_stable() -> None:
    assert stable_texts((1.0, "one"), (2.0, "one"), (9.0, "one")) == ["", "", ""]
    assert stable_texts((1.0, "one two"), (2.0, "one")) == ["", ""]


def test_a_word_that_was_another_one_in_between_starts_over() -> None:
    assert half_seconds("a b c", "a x c", "a b c", "a b c", "a b c") == ["", "", "a", "a", "a b"]


def test_a_word_is_as_young_as_the_youngest_before_it() -> None:
    assert half_seconds("a b c d", "x b c d", "x b c d", "x b c d") == ["", "", "", "x b c"]


def test_what_contradicts_it_changes_nothing_and_it_grows_again_where_they_agree() -> None:
    written = ["one two three"] * 3 + ["one too three four"] * 3
    assert half_seconds(*written) == ["", "", *["one two"] * 4]
    again = ["one two three four"] * 3
    assert half_seconds(*written, *again)[-3:] == ["one two", "one two", "one two three"]


def test_a_word_that_becomes_a_longer_one_is_another_word() -> None:
    assert half_seconds(*["the sea is"] * 3, *["the seas are"] * 3) == ["", "", *["the sea"] * 4]


@pytest.mark.parametrize(
    ("text", "stable"),
    [
        ("今日は", "今日"),
        ("ok今日は good", "ok今日は"),
        ("สวัสดี", "สวัส"),  # the last character has a mark
        ("안녕 하세요", "안녕"),  # Hangul has spaces
        ("قرأ الكتاب", "قرأ"),
        ("", ""),
    ],
)
def test_scripts_without_spaces_are_counted_by_characters_and_their_marks(text: str, stable: str) -> None:
    assert half_seconds(text, text, text)[-1] == stable


def test_silence_that_empties_the_hypothesis_leaves_what_is_stable() -> None:
    assert half_seconds("one two", "one two", "one two", "") == ["", "", "one", "one"]


WORDS = st.lists(st.sampled_from(["a", "ab", "b", "日", "本", "é", "ก็", " "]), max_size=6).map(" ".join) | st.text(
    alphabet="ab 日本ก็", max_size=8
)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 1.0, 2.0]), WORDS.map(str.strip)), max_size=12))
def test_it_only_grows_and_is_the_beginning_of_a_hypothesis_and_ends_where_a_unit_does(
    written: list[tuple[float, str]],
) -> None:
    agreement, now, former = LocalAgreement(), 0.0, ""
    for seconds, text in written:
        now += seconds
        agreement.add(text, now)
        assert agreement.text.startswith(former)
        if agreement.text != former:
            rest = text.removeprefix(agreement.text)
            assert rest
            assert rest != text
            assert re.match(r"\s", rest) or any(map(WRITTEN_WITHOUT_SPACES.match, (rest[0], agreement.text[-1])))
        former = agreement.text
