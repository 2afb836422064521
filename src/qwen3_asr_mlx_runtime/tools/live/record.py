"""The partials and the final of one utterance with their times, and the figures derived from them."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Figures = dict[str, object]
Line = dict[str, Any]


@dataclass(frozen=True)
class Partial:
    """`at`: when it arrived, by the clock of the run. `seconds`: of work, as the bridge reports."""

    at: float
    audio_seconds: float
    text: str
    stable_text: str
    seconds: float

    @property
    def stable_part(self) -> str:
        """The stable part of the hypothesis: shorter than the stable text if the hypothesis revises a stable word."""
        same = (character == stable for character, stable in zip(self.text, self.stable_text, strict=False))
        return self.text[: next((index for index, equal in enumerate(same) if not equal), len(self.stable_text))]


@dataclass
class Record:
    """One utterance of one stream. All times are by one clock, in seconds."""

    name: str
    stream: int
    audio_seconds: float
    started: float = 0.0
    sent: list[tuple[float, float]] = field(default_factory=list)  # (seconds of audio, when all of it was sent)
    ended: float = 0.0
    partials: list[Partial] = field(default_factory=list)
    final: Line | None = None
    final_at: float = 0.0

    @property
    def sent_seconds(self) -> float:
        return self.sent[-1][0] if self.sent else 0.0

    @property
    def partial_seconds(self) -> float:
        return self.partials[-1].audio_seconds if self.partials else 0.0

    @property
    def text(self) -> str:
        return (self.final or {}).get("text") or ""

    @property
    def lags(self) -> list[float]:
        """For each partial, the seconds from sending its last audio until the partial arrived."""
        return [partial.at - self._sent_at(partial.audio_seconds) for partial in self.partials]

    @property
    def gaps(self) -> list[float]:
        return [after.at - before.at for before, after in pairwise(self.partials)]

    @property
    def first_partial(self) -> float | None:
        """Seconds from the beginning of the first chunk to the first partial; None without partials."""
        return self.partials[0].at - self.started if self.partials else None

    @property
    def first_text(self) -> float | None:
        """The same for the first partial that is not empty."""
        return next((partial.at - self.started for partial in self.partials if partial.text), None)

    @property
    def end_to_final(self) -> float:
        return self.final_at - self.ended

    @property
    def work_seconds(self) -> float:
        return sum(partial.seconds for partial in self.partials) + ((self.final or {}).get("decode_seconds") or 0.0)

    @property
    def stable_errors(self) -> int:
        """The number of partials whose stable text is no prefix of the final."""
        return sum(not self.text.startswith(partial.stable_text) for partial in self.partials)

    @property
    def stable_words(self) -> list[str]:
        """All words that were ever stable: stable text only grows."""
        return self.partials[-1].stable_text.split() if self.partials else []

    @property
    def wrong_stable_words(self) -> int:
        return prefix_distance(self.stable_words, self.text.split())

    def figures(self) -> Figures:
        final = self.final or {}
        return {
            "file": self.name,
            "stream": self.stream,
            "audio_seconds": round(self.audio_seconds, 3),
            "partials": len(self.partials),
            "first_partial_seconds": rounded(self.first_partial),
            "first_text_seconds": rounded(self.first_text),
            **spread("cadence", self.gaps),
            **spread("lag", self.lags),
            "end_to_final_seconds": rounded(self.end_to_final),
            "real_time_factor": rounded((self.final_at - self.started) / self.audio_seconds),
            "work_seconds": rounded(self.work_seconds),
            "text": self.text,
            "language": final.get("language"),
            "final_policy": final.get("final_policy"),
            "generated_tokens": final.get("generated_tokens"),
            "verified_tokens": final.get("verified_tokens"),
            "stable_errors": self.stable_errors,
            "stable_words": len(self.stable_words),
            "wrong_stable_words": self.wrong_stable_words,
        }

    def _sent_at(self, audio_seconds: float) -> float:
        return next((when for seconds, when in self.sent if seconds >= audio_seconds - 1e-3), self.ended)


def summary(records: Sequence[Record], wall_seconds: float) -> Figures:
    """Figures of all utterances. `real_time_factor`: of the whole run, seconds for each second of audio of all streams;
    `work_share`: the share of the time in which the engine worked for them."""
    audio = sum(record.audio_seconds for record in records)
    return {
        "utterances": [record.figures() for record in records],
        "audio_seconds": round(audio, 3),
        "wall_seconds": rounded(wall_seconds),
        "real_time_factor": rounded(wall_seconds / audio),
        "work_share": rounded(sum(record.work_seconds for record in records) / wall_seconds),
        "partials": sum(len(record.partials) for record in records),
        **spread("first_partial", [seconds for record in records if (seconds := record.first_partial) is not None]),
        **spread("first_text", [seconds for record in records if (seconds := record.first_text) is not None]),
        **spread("cadence", [gap for record in records for gap in record.gaps]),
        **spread("lag", [lag for record in records for lag in record.lags]),
        **spread("end_to_final", [record.end_to_final for record in records]),
        "stable_errors": sum(record.stable_errors for record in records),
        "stable_words": sum(len(record.stable_words) for record in records),
        "wrong_stable_words": sum(record.wrong_stable_words for record in records),
    }


def spread(name: str, seconds: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    return {f"{name}_p{share}_seconds": rounded(percentile(ordered, share)) for share in (50, 95)}


def percentile(ordered: Sequence[float], share: int) -> float | None:
    """The smallest value that `share` per cent of the values do not exceed; None without values."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else None


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def prefix_distance(words: Sequence[str], final: Sequence[str]) -> int:
    """The fewest words to insert, delete or substitute until `words` are a prefix of `final`."""
    row = list(range(len(final) + 1))
    for number, word in enumerate(words, 1):
        before, row[0] = row[0], number
        for column, other in enumerate(final, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (word != other))
    return min(row)


def printable(text: str) -> str:
    """The text without control characters."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
