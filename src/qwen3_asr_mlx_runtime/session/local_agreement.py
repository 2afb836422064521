"""Local agreement: the stable prefix of consecutive hypotheses."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile

from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES

STABLE_HYPOTHESES = 2  # consecutive ones that agree
STABLE_SECONDS = 1.0  # of audio, over which they do

_CHARACTER = WRITTEN_WITHOUT_SPACES.pattern
_UNIT = re.compile(rf"\s*(?:{_CHARACTER}|(?:(?!{_CHARACTER})\S)+)")


class LocalAgreement:
    """The stable prefix of one utterance, from its hypotheses in order.

    A unit is a word, or in scripts without spaces one character with its marks, and the space before it. A unit becomes
    stable once it and all units before it were the same in the latest STABLE_HYPOTHESES over at least STABLE_SECONDS,
    and it is not the last unit of the latest. A stable unit stays stable: `text` only grows, and ends at the end of a
    unit. A hypothesis that contradicts `text` does not change it; `text` grows again once a hypothesis agrees with all
    of it.
    """

    def __init__(self) -> None:
        self._stable: list[str] = []
        self._units: list[str] = []
        self._number = 0  # of the latest hypothesis
        self._since: list[tuple[int, float]] = []  # number and audio of the first with each unit and all before it

    @property
    def text(self) -> str:
        return "".join(self._stable)

    def add(self, text: str, audio_seconds: float) -> None:
        """Add the next hypothesis, which covers `audio_seconds` of audio."""
        units = _units(text)
        agreed = agreement(self._units, units)
        self._number += 1
        self._since = self._since[:agreed] + [(self._number, audio_seconds)] * (len(units) - agreed)
        self._units = units
        old = takewhile(lambda since: self._is_old(*since, audio_seconds), self._since[:-1])
        stable = units[: len([*old])]
        if agreement(self._stable, stable) == len(self._stable):
            self._stable = stable

    def _is_old(self, since_number: int, since_seconds: float, audio_seconds: float) -> bool:
        hypotheses = self._number - since_number + 1
        seconds = round(audio_seconds - since_seconds, 6)  # because 2.3 - 1.3 < 1 in floating point
        return hypotheses >= STABLE_HYPOTHESES and seconds >= STABLE_SECONDS


def _units(text: str) -> list[str]:
    units: list[str] = []
    for match in _UNIT.finditer(text):
        unit = match[0]
        if units and unicodedata.category(unit[0]).startswith("M"):
            units[-1] += unit
        else:
            units.append(unit)
    return units


def agreement(former: Sequence[str], latter: Sequence[str]) -> int:
    """The number of equal units, or of code points of two strings, at the beginning."""
    pairs = zip(former, latter, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(former), len(latter)))
