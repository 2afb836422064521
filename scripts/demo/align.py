"""What the aligner learns: behind each word two marks, whose classes say when its voice begins and ends."""

import numpy as np
import text
from compose import CHANCES, IGNORE, LENGTHS, RATE, Bank, Composer, Prompts, Spoken
from model import CLASS_SECONDS
from numpy.typing import NDArray


def classes(start: float, end: float) -> list[int]:
    """The classes of one word's two marks, from seconds: the nearest, and never the same."""
    first = int(start / CLASS_SECONDS + 0.5)
    return [first, max(first + 1, int(end / CLASS_SECONDS + 0.5))]


def units(transcript: str) -> list[str]:
    """The words of a transcript, without its punctuation."""
    return transcript.replace(".", "").split()


def with_trimmed(bank: Bank) -> Bank:
    """The bank, and all its clips once more, cut to their voice: these can follow each other without a pause."""
    first, end = (bank.voiced[:, edge] * bank.length for edge in (0, 1))
    names = ("labels", "arabic", "voice", "held_out")
    return Bank(
        np.hstack([bank.start, bank.start + first.astype(np.int64)]),
        np.hstack([bank.length, (end - first).astype(np.int64)]),
        *(np.concatenate([getattr(bank, name)] * 2) for name in names),
        np.concatenate([bank.voiced, np.tile([0.0, 1.0], (len(bank.voiced), 1))]),
    )


class AlignerComposer(Composer):
    """Clips of single digits, their words, and two marks behind each word."""

    QUIET, MARGIN, BEGUN = 0.0, 0.0, 0.0

    def __init__(self, bank: Bank, prompts: Prompts, seed: int, held_out: bool = False) -> None:
        super().__init__(with_trimmed(bank), prompts, seed, held_out)

    def usable(self) -> NDArray[np.bool_]:
        """Not the phrases: nobody knows where their words begin."""
        return self.bank.labels[:, 1] < 0

    def seconds(self, longest: float) -> float:
        """Lengths into which a word fits, the long ones more often."""
        chances = CHANCES * ((LENGTHS > 0.7) & (LENGTHS <= longest)) * np.where(LENGTHS > 9, 2, 1)
        return float(self.rng.choice(LENGTHS, p=chances / chances.sum()))

    def pool(self, arabic: bool) -> NDArray[np.int64]:
        """Three times in ten one or two digits alone, which follow each other again and again."""
        pool = super().pool(arabic)
        if self.rng.random() < 0.3:
            pool = pool[np.isin(self.bank.labels[pool, 0], self.rng.integers(10, size=self.rng.integers(1, 3)))]
        return pool

    def span(self, clip: int, start: int, length: int) -> tuple[float, float]:
        first, end = self.bank.voiced[clip] * length
        return start + first, start + end

    def sequence(self, language: str, spoken: list[Spoken]) -> tuple[list[int], list[int], list[int]]:
        prompts = self.prompts
        words = units(text.transcript(language, [digit for one in spoken for digit in one.digits]))
        after, told = prompts.ids("<|audio_end|>"), [IGNORE]
        for word, one in zip(words, spoken, strict=True):
            ids = prompts.ids(word)
            after += ids + 2 * prompts.ids("<timestamp>")
            told += [IGNORE] * len(ids) + classes(one.start / RATE, one.end / RATE)
        return prompts.ids("<|audio_start|>"), after, told
