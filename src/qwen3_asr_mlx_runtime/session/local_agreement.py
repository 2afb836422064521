"""Local agreement: which prefix of consecutive hypotheses is stable, so that an app may show it as such."""

import re
import unicodedata
from itertools import takewhile

from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES

STABLE_SECONDS = 1.0  # of audio

_CHARACTER = WRITTEN_WITHOUT_SPACES.pattern
_UNIT = re.compile(rf"\s*(?:{_CHARACTER}|(?:(?!{_CHARACTER})\S)+)")


class LocalAgreement:
    """The stable prefix of one utterance, from its hypotheses in their order.

    A unit is a word, or one character with its marks in scripts that are written without spaces, and the space before
    it. A unit is stable once it and all before it were the same in consecutive hypotheses, two at least and the latest
    among them, over STABLE_SECONDS of audio or more, and it is not the last one of the latest. What is stable stays so:
    `text` only grows, and ends where a unit does. A hypothesis that contradicts it changes nothing of it, and `text`
    does not grow until one agrees with all of it again.
    """

    def __init__(self) -> None:
        self._stable: list[str] = []
        self._units: list[str] = []
        self._since: list[float] = []  # for each unit, when it and all before it first appeared

    @property
    def text(self) -> str:
        return "".join(self._stable)

    def add(self, text: str, audio_seconds: float) -> None:
        """The next hypothesis, of so many seconds of audio."""
        units = _units(text)
        agreed = _agreement(self._units, units)
        self._since = self._since[:agreed] + [audio_seconds] * (len(units) - agreed)
        self._units = units
        old = takewhile(lambda since: _is_old(audio_seconds - since), self._since[:-1])
        stable = units[: len([*old])]
        if _agreement(self._stable, stable) == len(self._stable):
            self._stable = stable


def _is_old(seconds: float) -> bool:
    return round(seconds, 6) >= STABLE_SECONDS  # 2.3 - 1.3 is less than 1


def _units(text: str) -> list[str]:
    units: list[str] = []
    for match in _UNIT.finditer(text):
        unit = match[0]
        if units and unicodedata.category(unit[0]).startswith("M"):
            units[-1] += unit
        else:
            units.append(unit)
    return units


def _agreement(former: list[str], latter: list[str]) -> int:
    """How many units at the beginning are the same."""
    pairs = zip(former, latter, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(former), len(latter)))
