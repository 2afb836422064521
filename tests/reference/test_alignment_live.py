"""Units and times of the forced aligner against the qwen-asr package, on random input."""

import json
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_mlx_runtime.model.word_times import monotonic
from qwen3_asr_mlx_runtime.model.word_units import word_units
from reference.oracles import Oracles

pytestmark = pytest.mark.reference

COUNT = int(os.environ.get("QWEN3_ASR_MLX_ALIGNMENT_DRAWS", "2000"))
SEED = 1
PUNCTUATION = " \u00a0\u3000\n\u2028.,!?'’“”—-_:%@()[]…。、「」・·♪\u0301\u200d\U0001f600"
# Fixed, so that no version of Unicode is newer than the oracle's.
ALPHABETS = (
    "abcxyzABCXYZ0123456789",
    "éàçñößÅøŁąčșțğİıﬁ½²Ⅷ①",
    "абвгдёжЯαβγώאבגابتثकखगािक्กขคาิ",
    "今天東京漢字々〆〇㐀\u9fff豈\ufa0e\U00020000\U0002a700\U0002ceaf\U0002ceb0",
    "あいうがぱんアイウガパンーｱｲｳﾞ",
    "가각힣안녕하세요ㅋㅡᄒ",
)


@pytest.fixture(scope="module")
def given(repository: Path) -> dict[str, list[Any]]:
    """Times, and pairs of language and transcript, of which not all are in NFC."""
    draw = random.Random(SEED)
    korean = (repository / "src/qwen3_asr_mlx_runtime/model/korean_words.txt").read_text(encoding="utf-8").split()
    languages = ["English"] * COUNT + ["Korean"] * COUNT + ["Japanese"] * (COUNT // 20)
    return {
        "times": [random_times(draw) for _ in range(COUNT)],
        "texts": [(language, random_text(draw, language, korean)) for language in languages],
    }


@pytest.fixture(scope="module")
def answers(oracles: Oracles, given: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alignment")
    texts = [(language, unicodedata.normalize("NFC", text)) for language, text in given["texts"]]
    (folder / "in.json").write_text(json.dumps(given | {"texts": texts}), encoding="utf-8")
    oracles.run_alignment(folder / "in.json", folder / "out.json")
    found: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return found


def test_times_are_mended_as_by_the_reference(answers: dict[str, Any]) -> None:
    assert len(answers["times"]) == COUNT
    assert [times for times, mended in answers["times"] if monotonic(times) != mended] == []
    assert sum(times != mended for times, mended in answers["times"]) > COUNT / 2


@pytest.mark.parametrize("language", ["English", "Korean"])
def test_units_are_those_of_the_reference(given: dict[str, Any], answers: dict[str, Any], language: str) -> None:
    compared = 0
    for (asked, text), (_, _, expected) in zip(given["texts"], answers["texts"], strict=True):
        if asked == language:
            assert [unit.letters for unit in word_units(text, language).units] == expected, ascii(text)
            compared += 1
    assert compared == COUNT


def test_japanese_units_are_those_of_the_reference(given: dict[str, Any], answers: dict[str, Any]) -> None:
    """Words that begin within one character are one unit, so only the letters of such texts are compared."""
    compared = 0
    for (asked, text), (_, _, expected) in zip(given["texts"], answers["texts"], strict=True):
        if asked == "Japanese":
            found = word_units(text, asked)
            assert found.warning is None
            letters = [unit.letters for unit in found.units]
            assert "".join(letters) == "".join(expected), ascii(text)
            if all(len(unicodedata.normalize("NFKC", one)) == 1 for one in text):
                assert letters == expected, ascii(text)
                compared += 1
    assert compared > COUNT / 40


def random_times(draw: random.Random) -> list[int]:
    """Mostly increasing, with any number of outliers, from few or many classes."""
    count, classes = draw.randrange(1, draw.choice([6, 20, 80])), draw.choice([6, 40, 400])
    times = [80 * draw.randrange(classes) for _ in range(count)]
    if draw.random() < 0.7:
        times.sort()
        for _ in range(draw.randrange(count // 2 + 1)):
            times[draw.randrange(count)] = 80 * draw.randrange(classes)
    return times


def random_text(draw: random.Random, language: str, korean: list[str]) -> str:
    """Of up to 30 parts: characters of one or two scripts, punctuation, in Korean words of the dictionary too."""
    alphabets = draw.sample(ALPHABETS, 2)
    if language == "Korean":
        alphabets[0] = ALPHABETS[-1]
    parts = [
        draw.choice(PUNCTUATION if draw.random() < 0.3 else draw.choice(alphabets)) for _ in range(draw.randrange(30))
    ]
    if language == "Korean":
        parts = [draw.choice(korean) if draw.random() < 0.2 else part for part in parts]
    return unicodedata.normalize(draw.choice(["NFC", "NFC", "NFD"]), "".join(parts))
