"""The grammar of the model's output, the repetition fixer, and the joining of segments."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.engines.transcript import (
    TextSegment,
    ends_sentence,
    fix_repetitions,
    join_languages,
    join_segments,
    join_transcripts,
    loops,
    parse_transcript,
    place_segments,
    text_tokens,
    word_confidence,
)
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES

LANGUAGES = st.sampled_from(sorted(LANGUAGE_CODES))
TEXTS = st.text(alphabet="ab ,.ñ你好", max_size=60).map(str.strip)


def slow_fixer(text: str) -> str:
    """The two stages as they are described, step by step, without regular expressions."""
    kept = []
    i = 0
    while i < len(text):
        run = 1
        while text[i + run : i + run + 1] == text[i]:
            run += 1
        kept.append(text[i] if run > 20 else text[i] * run)
        i += run
    return slow_pattern_stage("".join(kept))


def slow_pattern_stage(text: str) -> str:
    for i in range(max(0, len(text) - 39)):
        for k in range(1, 21):
            pattern, repeats = text[i : i + k], 1
            while len(pattern) == k and text.startswith(pattern, i + k * repeats):
                repeats += 1
            if repeats >= 20:
                return text[:i] + pattern + slow_pattern_stage(text[i + k * repeats :])
    return text


@st.composite
def texts_with_loops(draw: st.DrawFn) -> str:
    normal = st.text(alphabet="abc ", max_size=45)
    loop = st.builds(lambda unit, times: unit * times, st.text(alphabet="abc", max_size=21), st.integers(15, 24))
    return "".join(draw(st.lists(st.one_of(normal, loop), max_size=5)))


# The grammar.


@pytest.mark.parametrize("raw", ["", "  ", "\n\t"])
@pytest.mark.parametrize("forced", [None, "English"])
def test_nothing_written_is_an_empty_text_of_no_language(raw: str, forced: str | None) -> None:
    assert parse_transcript(raw, forced) == (None, "")


@given(LANGUAGES, TEXTS)
def test_language_and_text_come_apart_at_the_tag(language: str, text: str) -> None:
    assert parse_transcript(f"language {language}<asr_text>{text}", None) == (language, text)


@pytest.mark.parametrize(
    ("raw", "language", "text"),
    [
        ("language english<asr_text> Hello. ", "English", "Hello."),
        ("LANGUAGE FRENCH<asr_text>Bonjour.", "French", "Bonjour."),
        (" \nlanguage  German \n<asr_text>\nHallo.\n", "German", "Hallo."),
        ("language Chinese,English<asr_text>你好 Bob", "Chinese,English", "你好 Bob"),
        ("language chinese, english<asr_text>你好 Bob", "Chinese,English", "你好 Bob"),
        ("language Chinese,None<asr_text>你好", "Chinese", "你好"),
        ("language klingon<asr_text>nuqneH", "Klingon", "nuqneH"),
        ("language <asr_text>Hello.", None, "Hello."),
        ("<asr_text>Hello.", None, "Hello."),
        ("Hm. <asr_text>Hello.", None, "Hello."),
        ("language English<asr_text>One <asr_text>two.", "English", "One <asr_text>two."),
    ],
)
def test_metadata_is_read_as_it_comes(raw: str, language: str | None, text: str) -> None:
    assert parse_transcript(raw, None) == (language, text)


@pytest.mark.parametrize("metadata", ["language None", "language none", " Language NONE\n", "language Nonesuch"])
@pytest.mark.parametrize("text", ["", "Mm."])
def test_language_none_is_null_and_keeps_what_was_written(metadata: str, text: str) -> None:
    assert parse_transcript(f"{metadata}<asr_text>{text}", None) == (None, text)


@pytest.mark.parametrize(
    ("raw", "language"),
    [
        ("language", None),
        ("language English", "English"),
        (" language english\n", "English"),
        ("language Eng", None),
        ("language None", None),
        ("language Chinese,", "Chinese"),
        ("language Chinese,English", "Chinese,English"),
        ("language Chinese,Engl", "Chinese"),
    ],
)
def test_metadata_that_the_budget_cut_off_is_not_text(raw: str, language: str | None) -> None:
    assert parse_transcript(raw, None) == (language, "")


@pytest.mark.parametrize("raw", ["Hello.", "language models are large", "languages", "The language English"])
def test_text_without_a_tag_is_kept_whole(raw: str) -> None:
    assert parse_transcript(raw, None) == (None, raw)


@given(LANGUAGES, TEXTS.filter(bool))
@example("Arabic", "language English<asr_text>Hello.")
def test_a_forced_language_stands_before_text_that_is_not_parsed(language: str, text: str) -> None:
    assert parse_transcript(text, language) == (language, fix_repetitions(text))


def test_a_loop_is_undone_before_the_parts_are_distinguished() -> None:
    assert parse_transcript("language English<asr_text>" + "ha " * 50 + "ho", None) == ("English", "ha ho")


@given(st.text())
def test_any_output_parses(raw: str) -> None:
    language, text = parse_transcript(raw, None)
    assert text == text.strip()
    assert language is None or language


# The repetition fixer.


@given(texts_with_loops())
@example("a" * 20 + "b" * 20)
@example("b" * 19 + "a" * 20 + "b")
@example("ab" * 20)
@example("x" + "ab" * 20 + "y" * 39)
@example("\n" * 21 + "z")
def test_the_fixer_equals_its_description_step_by_step(text: str) -> None:
    assert fix_repetitions(text) == slow_fixer(text)


@given(st.lists(st.integers(0, 9999), max_size=60, unique=True))
def test_text_that_does_not_loop_is_not_touched(numbers: list[int]) -> None:
    text = " ".join(f"{number:04}" for number in numbers)
    assert fix_repetitions(text) == text


@pytest.mark.parametrize(
    ("looping", "fixed"),
    [
        ("a" * 20, "a" * 20),
        ("a" * 21, "a"),
        ("嗯" * 300, "嗯"),
        ("ab" * 19, "ab" * 19),
        ("ab" * 20, "ab"),
        ("So: " + "no, " * 30 + "yes.", "So: no, yes."),
        ("a pattern of twenty " * 20 + "!", "a pattern of twenty !"),
        ("one of twenty - one, " * 20 + "!", "one of twenty - one, " * 20 + "!"),
    ],
)
def test_a_loop_counts_from_twenty_repeats_of_at_most_twenty_characters(looping: str, fixed: str) -> None:
    assert fix_repetitions(looping) == fixed


# Joining.


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["", " ", ""], ""),
        (["One.", "Two."], "One. Two."),
        (["One.", "", " Two. "], "One. Two."),
        (["今天天气很好。", "我们走吧。"], "今天天气很好。我们走吧。"),
        (["今天天气", "很好"], "今天天气很好"),
        (["我喜欢", "Python"], "我喜欢Python"),
        (["Python", "很好"], "Python很好"),
        (["ありがとう", "ございます"], "ありがとうございます"),
        (["コーヒー", "です"], "コーヒーです"),
        (["안녕하세요.", "반갑습니다."], "안녕하세요. 반갑습니다."),
        (["안녕", "하세요"], "안녕 하세요"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["ສະບາຍດີ", "ເຈົ້າ"], "ສະບາຍດີເຈົ້າ"),
        (["សួស្តី", "បង"], "សួស្តីបង"),
        (["မင်္ဂလာ", "ပါ"], "မင်္ဂလာပါ"),
        (["سبعة", "ثلاثة"], "سبعة ثلاثة"),
        (["नमस्ते।", "कैसे हैं"], "नमस्ते। कैसे हैं"),
        (["Привет.", "Как дела?"], "Привет. Как дела?"),
        (["Yes", ", no"], "Yes, no"),
        (["سبعة", "، ثلاثة"], "سبعة، ثلاثة"),
        (["(Yes", ") no"], "(Yes) no"),
        (["He said (", "no)"], "He said (no)"),
        (["Hola.", "¿Qué tal?"], "Hola. ¿Qué tal?"),
        (["¿", "Qué tal?"], "¿Qué tal?"),
        (["Er sagte: „Hallo.“", "Und ging."], "Er sagte: „Hallo.“ Und ging."),
        (["She said.", "“Hello.”"], "She said. “Hello.”"),
        (["नमस", "्ते"], "नमस्ते"),
        (["全角！", "ＡＢＣ"], "全角！ＡＢＣ"),
    ],
)
def test_segments_are_joined_as_their_script_demands(texts: list[str], joined: str) -> None:
    assert join_segments(texts) == joined


@given(st.lists(st.text(alphabet="aé1.,(“ 你かไ한 ْ", max_size=6), max_size=6))
def test_joining_adds_nothing_but_single_spaces(texts: list[str]) -> None:
    joined = join_segments(texts)
    stripped = [text.strip() for text in texts if text.strip()]
    assert joined.replace(" ", "") == "".join(stripped).replace(" ", "")
    assert sum(map(len, stripped)) <= len(joined) <= sum(map(len, stripped)) + max(0, len(stripped) - 1)


@given(TEXTS)
def test_one_segment_is_the_text_itself(text: str) -> None:
    assert join_segments([text]) == text


@pytest.mark.parametrize(
    ("languages", "joined"),
    [
        ([], None),
        ([None, None], None),
        (["English"], "English"),
        ([None, "English", "English", None, "English"], "English"),
        (["English", "Chinese", "English"], "English,Chinese,English"),
        (["Chinese,English", "English"], "Chinese,English"),
    ],
)
def test_languages_are_joined_without_repeating_themselves(languages: list[str | None], joined: str | None) -> None:
    assert join_languages(languages) == joined


# Segments and their tokens.


@given(st.lists(st.text(alphabet="aé1.,(“ 你かไ한 ْ", max_size=6), max_size=6))
def test_each_segment_is_found_where_it_is_placed(texts: list[str]) -> None:
    joined, starts = place_segments(texts)
    assert joined == join_segments(texts)
    assert [joined[start : start + len(text.strip())] for start, text in zip(starts, texts, strict=True)] == [
        text.strip() for text in texts
    ]


def segment(text: str, start: int, end: int, at: int = 0) -> TextSegment:
    return TextSegment(start, end, text, "English", "stop", at, (len(text),), (-0.5,))


def test_segments_move_when_transcripts_are_joined() -> None:
    one = transcript("One.", audio_samples=1_000, segments=(segment("One.", 0, 900),))
    none = transcript("", audio_samples=150, audio_output_lengths=(), segments=())
    more = transcript(
        "Two. Three.", audio_samples=500, segments=(segment("Two.", 0, 200), segment("Three.", 200, 500, 5))
    )
    joined = join_transcripts([one, none, more])
    assert joined.segments == (
        segment("One.", 0, 900),
        segment("Two.", 1_150, 1_350, 5),
        segment("Three.", 1_350, 1_650, 10),
    )
    assert [joined.text[each.char_start :][: len(each.text)] for each in joined.segments] == ["One.", "Two.", "Three."]


def test_probabilities_of_joined_transcripts_are_weighted_by_their_length() -> None:
    one = transcript("One.", audio_samples=3_000, language_probabilities={"English": 0.9, "Arabic": 0.1})
    none = transcript("", audio_samples=150, audio_output_lengths=(), language_probabilities=None)
    two = transcript("Two.", audio_samples=1_000, language_probabilities={"English": 0.5, "Arabic": 0.3})
    joined = join_transcripts([one, none, two]).language_probabilities
    assert joined == pytest.approx({"English": 0.8, "Arabic": 0.15})
    assert join_transcripts([none, none]).language_probabilities is None


def spans_of(ends: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(min(before, end - 1), end) for before, end in pairwise([0, *ends])]


@given(
    st.text(alphabet="aé你\U0001f600 .", max_size=12),
    st.sampled_from(["", "language English<asr_text>", "  "]),
    st.data(),
)
def test_the_tokens_of_a_text_cover_it_and_nothing_else(text: str, before: str, data: st.DataObject) -> None:
    raw = before + text
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8).map(sorted))
    _, clean = parse_transcript(raw, None if "<" in before else "English")
    found = text_tokens(raw, clean, [*cuts, len(raw), None], [-0.5] * (len(cuts) + 2))
    assert found is not None
    ends, logprobs = found
    assert len(ends) == len(logprobs)
    assert [*ends] == sorted(ends)
    assert {place for start, end in spans_of(ends) for place in range(start, end)} >= {*range(len(clean))}
    assert all(end <= len(clean) for end in ends)


def test_metadata_whitespace_and_the_end_have_no_part_in_the_text() -> None:
    raw = "language English<asr_text> One two. "
    ends = [8, 16, 26, 27, 30, 34, 35, 36, None]
    logprobs = [-9.0, -9.0, -9.0, -9.0, -0.1, -0.2, -0.3, -9.0, -9.0]
    assert text_tokens(raw, "One two.", ends, logprobs) == ((3, 7, 8), (-0.1, -0.2, -0.3))


def test_a_text_whose_loop_was_undone_has_no_tokens() -> None:
    raw = "ha " * 50 + "ho"
    assert text_tokens(raw, "ha ho", [len(raw)], [-0.5]) is None


def test_the_confidence_of_a_word_is_the_mean_of_the_tokens_that_overlap_it() -> None:
    one = TextSegment(0, 16_000, "One two.", "English", "stop", 0, (3, 5, 7, 8), (-0.1, -0.2, -0.4, -0.8))
    assert word_confidence(one, 0, 3) == round(math.exp(-0.1), 4)
    assert word_confidence(one, 4, 7) == round(math.exp(-0.3), 4)
    assert word_confidence(one, 4, 8) == round(math.exp(-1.4 / 3), 4)
    assert word_confidence(one, 3, 3) is None
    assert word_confidence(replace(one, token_ends=None), 0, 3) is None


def test_tokens_that_are_parts_of_one_character_all_count_for_it() -> None:
    one = TextSegment(0, 16_000, "a你b", "Chinese", "stop", 0, (1, 2, 2, 2, 3), (-0.0, -0.3, -0.6, -0.9, -0.0))
    assert word_confidence(one, 1, 2) == round(math.exp(-0.6), 4)
    assert word_confidence(one, 2, 3) == 1.0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Seven.", "English"),
        ("Seven? ", "English"),
        ("Seven!”", "English"),
        ('"Seven."', "English"),
        ("(Sept.)", "French"),
        ("« Sept. »", "French"),
        ("你好。", "Chinese"),
        ("はい！", "Japanese"),
        ("「はい。」", "Japanese"),
        ("कैसे हो।", "Hindi"),
        ("كيف حالك؟", "Arabic"),
        ("Τι κάνεις;", "Greek"),
        ("Τι κάνεις;", "English,Greek"),
        ("كيف حالك؟\u200f", "Arabic"),
        ("Τι κάνεις\u037e", "Greek"),
    ],
)
def test_a_sentence_mark_ends_a_sentence(text: str, language: str) -> None:
    assert ends_sentence(text, language)


@pytest.mark.parametrize("text", ["", " ", "Seven", "Seven,", "seven;", "...well", "a.b", "!?x", "”", "3.5", "etc…"])
def test_other_ends_end_no_sentence(text: str) -> None:
    assert not ends_sentence(text, "English")


@given(head=st.lists(st.integers(0, 5), max_size=30), period=st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_twenty_repeats_are_a_loop_whatever_came_before(head, period):
    assert loops(head + period * 20)


@given(st.integers(2, 8))
def test_nineteen_repeats_are_no_loop(length):
    assert not loops([99, *list(range(length)) * 19])
