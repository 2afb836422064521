import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.model import word_units as module
from qwen3_asr_mlx_runtime.model.word_units import WITHOUT_NAGISA, word_units

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "alignment.json").read_text(encoding="utf-8"))
SEVERAL_WORDS = "ｶﾞｽ代は３．５㌔で㍿ソニー"
LANGUAGES = [None, "English", "Chinese", "Korean", "Japanese"]

# Scripts whose characters change or combine when they are normalised, beside every other character there is.
hard = st.sampled_from(
    "aé\u0301\u0323\u0334\u0345İıßᾳﬁ½①\u0660 .'’!\n\ud800\U0001f600\U0001f469\u200d\ufe0f\U0001d15e\u0344"
    "가각\u1100\u1161\u11a8\u302e학생안녕今東々〇豈\u2f80\U0002f800㍿㌔ｶﾞﾟがーァ\u3099"
    "क\u093c\u09c7\u09be\u0bc6\u0bbe\u0f71\u0f72\u0f73สิ\u05e9\u05c1"
)
transcripts = st.text(st.one_of(hard, hard, st.characters()), max_size=30)


@pytest.fixture
def without_nagisa(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "nagisa", None)
    module._nagisa.cache_clear()
    yield
    module._nagisa.cache_clear()


def letters(transcript, language):
    return [unit.letters for unit in word_units(transcript, language).units]


def kept(text):
    return "".join(one for one in text if one == "'" or unicodedata.category(one)[0] in ("L", "N"))


def normal(text, language):
    if language == "Japanese":  # nagisa writes the Turkish letter without its dot
        return unicodedata.normalize("NFKC", text).replace("İ", "I")
    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(("language", "text", "expected"), [one for one in GOLDEN["texts"] if one[1] != SEVERAL_WORDS])
def test_units_are_those_of_the_reference(language, text, expected):
    assert letters(text, language) == expected
    assert word_units(text, language).warning is None


def test_words_within_one_character_are_one_unit():
    (expected,) = (units for _, text, units in GOLDEN["texts"] if text == SEVERAL_WORDS)
    assert expected[-3:] == ["株式", "会社", "ソニー"]
    assert letters(SEVERAL_WORDS, "Japanese") == [*expected[:-3], "株式会社", "ソニー"]
    assert [unit.text for unit in word_units(SEVERAL_WORDS, "Japanese").units] == [
        *("ｶﾞｽ", "代", "は", "３．", "５", "㌔", "で", "㍿", "ソニー")
    ]


def assert_units_cover(transcript, language):
    units = word_units(transcript, language).units
    slices = [transcript[unit.char_start : unit.char_end] for unit in units]
    assert "".join(slices) == (transcript if units else "")
    assert [unit.text for unit in units] == [part.strip() for part in slices]
    assert [unit.letters for unit in units] == [kept(normal(part, language)) for part in slices]
    assert all(unit.letters for unit in units)
    assert bool(units) == bool(kept(normal(transcript, language)))


@pytest.mark.parametrize("language", LANGUAGES)
@given(transcript=transcripts)
@example("¿Qué?  — e\u0301l")
@example("한\u302e글을")
@example("㍿㍿ｶﾞ")
def test_the_ranges_cover_the_transcript_and_hold_what_the_model_is_given(language, transcript):
    assert_units_cover(transcript, language)


@given(transcript=transcripts.map(lambda text: text.replace("İ", "")))
def test_ranges_without_nagisa_cover_the_transcript_too(transcript):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_nagisa", lambda: None)
        assert_units_cover(transcript, "Japanese")


@pytest.mark.parametrize("language", LANGUAGES)
@given(transcript=transcripts)
@example("a\u0334\u0301")
@example("a\u0f73\u0301")  # which is no mark by itself, and is two when it is decomposed
def test_composed_and_decomposed_text_have_the_same_units(language, transcript):
    expected = letters(unicodedata.normalize("NFC", transcript), language)
    assert letters(unicodedata.normalize("NFD", transcript), language) == expected
    assert letters(transcript, language) == expected


def test_offsets_count_the_characters_of_the_transcript_as_it_is_given():
    units = word_units(' "Cafe\u0301", \U0001f600 e\u0323\u0301!', "French").units
    assert [(unit.letters, unit.char_start, unit.char_end) for unit in units] == [("Café", 0, 12), ("\u1eb9", 12, 16)]
    assert [unit.text for unit in units] == ['"Cafe\u0301", \U0001f600', "e\u0323\u0301!"]


def test_compatibility_ideographs_are_units_as_the_characters_that_they_stand_for():
    assert letters("a\U0002f800\uf900b", "Chinese") == ["a", "\u4e3d", "\u8c48", "b"]


@pytest.mark.parametrize("transcript", ["", "  \n", "…", "♪ ♪", "\U0001f600", "\u0301"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_transcript_without_letters_has_no_units(language, transcript):
    assert word_units(transcript, language).units == ()


def test_without_nagisa_japanese_is_cut_by_script_and_says_so(without_nagisa):
    found = word_units("今日はTシャツを３枚、らーめん人々。 コーヒー㍿", "Japanese")
    expected = ["今", "日", "は", "T", "シャツ", "を", "3", "枚", "らーめん", "人", "々", "コーヒー", "株式会社"]
    assert [unit.letters for unit in found.units] == expected
    assert found.warning == WITHOUT_NAGISA
    assert word_units("今日は", "Chinese").warning is None


def test_nagisa_is_imported_for_japanese_alone_and_writes_to_neither_stream(repository, tmp_path):
    """Nor does Python, which has warnings when it compiles the module for the first time."""
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(repository / "src")!r})
        from qwen3_asr_mlx_runtime.model.word_units import word_units
        word_units("안녕하세요", "Korean")
        assert "nagisa" not in sys.modules
        assert [unit.letters for unit in word_units("東京タワー", "Japanese").units] == ["東京", "タワー"]
        assert "nagisa" in sys.modules
        assert sys.float_info.min / 2 > 0  # a library with fast arithmetic would change that of its thread"""
    compiling = [sys.executable, "-I", "-W", "always", "-X", f"pycache_prefix={tmp_path}", "-c", code]
    done = subprocess.run(compiling, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_dictionary_holds_what_the_rule_can_use(repository):
    words = (repository / "src/qwen3_asr_mlx_runtime/model/korean_words.txt").read_text(encoding="utf-8").split("\n")
    assert words.pop() == ""
    assert len(words) == 16_867
    assert words == sorted(set(words))
    assert min(map(len, words)) == 2
    assert all(kept(word) == word == unicodedata.normalize("NFC", word) for word in words)


def test_the_import_of_nagisa_leaves_small_floats_alone():
    word_units("今日はいい天気ですね。", "Japanese")
    smallest = np.float64(np.nextafter(0.0, 1.0))
    assert smallest * 1.0 > 0.0
