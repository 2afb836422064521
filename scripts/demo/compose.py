"""Decide what each training clip holds: which recordings, where, and the tokens around them. NumPy only, no audio."""

from dataclasses import dataclass
from pathlib import Path

import make_tokenizer
import numpy as np
import text
from model import audio_tokens
from numpy.typing import NDArray

RATE, HOP = 16000, 160
SPEEDS = [0.8, 0.87, 0.93, 1.0, 1.0, 1.07, 1.15, 1.25]
IGNORE = -100
# The clips' lengths are drawn from these alone: a GPU plans its transforms for each new one.
_random = np.random.default_rng(3)
LENGTHS = np.concatenate([_random.uniform(0.12, 2, 14), _random.uniform(2, 9, 18), _random.uniform(9, 30, 23), [30.0]])
CHANCES = np.array([0.2 / 14] * 14 + [0.35 / 18] * 18 + [0.45 / 24] * 24)
FRAME_CLASSES, ORDINAL_CLASSES = 21, 80


@dataclass(frozen=True)
class Bank:
    """Where the clips lie in the samples, `start` and `length` [speed, clip], what prepare.py says of each, and where
    its voice begins and ends, as shares of its length: `voiced` [clip, 2]."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    labels: NDArray[np.int8]
    arabic: NDArray[np.bool_]
    voice: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    voiced: NDArray[np.float64]


@dataclass(frozen=True)
class Spoken:
    """One recording in a clip: its digits, and where its voice begins and ends, in samples."""

    digits: list[int]
    start: float
    end: float


@dataclass
class Batch:
    """One batch of equally long clips, still without sound.

    Placed recordings: `source` in the bank, `length`, `target` (row * samples + offset). Tokens: `tokens` (B, L),
    `labels` (B, L), what each position is to tell, `starts` (B,), where the audio begins. `frames`, `ordinals` (B, T):
    what is spoken at each audio token, and how many digits have begun. `quiet` (B,): rows without speech.
    """

    samples: int
    source: NDArray[np.int64]
    length: NDArray[np.int64]
    target: NDArray[np.int64]
    tokens: NDArray[np.int64]
    labels: NDArray[np.int64]
    starts: NDArray[np.int64]
    frames: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    quiet: NDArray[np.bool_]


class Prompts:
    """Token ids of the prompt's parts, and of contexts."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = make_tokenizer.load(folder)
        self.pad = self.ids("<|audio_pad|>")[0]
        self.end = self.ids("<|im_end|>")
        self.head = self.ids("<|im_start|>system\n")
        self.middle = self.ids("<|im_end|>\n<|im_start|>user\n<|audio_start|>")
        self.tail = self.ids("<|audio_end|><|im_end|>\n<|im_start|>assistant\n")
        self.meta = {name: self.ids(f"language {name}<asr_text>") for name in ("English", "Arabic", "None")}
        rng = np.random.default_rng(0)
        self.contexts = [self.ids(context(rng)) for _ in range(6000)]

    def ids(self, string: str) -> list[int]:
        return list(self.tokenizer.encode(string).ids)


def context(rng: np.random.Generator) -> str:
    """Random words, a list of digits, or a sentence, for the system turn."""
    kind, count = rng.random(), int(rng.integers(1, 9))
    if kind < 0.15:
        return str(rng.choice(text.CONTEXT_SENTENCES))
    pools = [text.CONTEXT_ENGLISH, text.CONTEXT_ARABIC, text.CONTEXT_ENGLISH + text.CONTEXT_ARABIC + text.CONTEXT_OTHER]
    digits = [text.ENGLISH, [word.capitalize() for word in text.ENGLISH], text.ARABIC, text.ENGLISH + text.ARABIC]
    pool = (digits if kind < 0.45 else pools)[rng.integers(len(digits if kind < 0.45 else pools))]
    words = [str(word) for word in rng.choice(pool, count)]
    if kind > 0.9:
        words = ["".join(chr(rng.integers(97, 123)) for _ in range(rng.integers(2, 9))).capitalize() for _ in words]
    return [" ", ", ", "\n"][rng.choice(3, p=[0.7, 0.2, 0.1])].join(words) + (" " if rng.random() < 0.05 else "")


class Composer:
    """Draws batches from the clips for training, or plain ones from the clips held out.

    `QUIET`: the share of rows without speech. Of a recording's length, `MARGIN` at either end is not marked as speech,
    and its digit counts as begun from `BEGUN` on.
    """

    QUIET, MARGIN, BEGUN = 0.1, 0.15, 0.5

    def __init__(self, bank: Bank, prompts: Prompts, seed: int, held_out: bool = False) -> None:
        self.bank, self.prompts, self.rng = bank, prompts, np.random.default_rng(seed)
        usable = self.usable() & (bank.held_out == held_out)
        self.pools = {True: np.flatnonzero(usable & bank.arabic), False: np.flatnonzero(usable & ~bank.arabic)}
        self.voices = {
            arabic: [pool[bank.voice[pool] == voice] for voice in np.unique(bank.voice[pool])]
            for arabic, pool in self.pools.items()
        }
        self.clean = held_out

    def usable(self) -> NDArray[np.bool_]:
        """The clips that may be drawn."""
        return np.ones(len(self.bank.voice), bool)

    def seconds(self, longest: float) -> float:
        chances = CHANCES * (LENGTHS <= longest)
        return float(self.rng.choice(LENGTHS, p=chances / chances.sum()))

    def pool(self, arabic: bool) -> NDArray[np.int64]:
        """The clips that one row draws from."""
        rng, pool = self.rng, self.pools[arabic]
        if rng.random() < 0.5:
            voices = self.voices[arabic]
            pool = voices[rng.integers(len(voices))]
        if not self.clean and rng.random() < 0.06:
            pool = rng.choice(pool, min(3, len(pool)))
        return pool

    def choose(self, arabic: bool, samples: int) -> tuple[list[tuple[int, int]], NDArray[np.float64]]:
        """The (clip, speed index) of one row and the gaps before, between and after them in samples."""
        rng, bank = self.rng, self.bank
        pool = self.pool(arabic)
        speed = 3 if self.clean else int(rng.integers(len(SPEEDS)))
        pool = pool[bank.length[speed, pool] <= samples]
        if not len(pool):
            return [], np.zeros(1)
        fill = rng.random()
        limit = int(rng.integers(1, 31)) if fill < 0.25 else 64
        scale = RATE * float(np.exp(rng.uniform(np.log(0.02), np.log(1.0))))
        chosen: list[tuple[int, int]] = []
        gaps, used, lead = [], 0.0, min(scale, samples / 20) * rng.random()
        for clip in rng.choice(pool, 64):
            if not self.clean and rng.random() < 0.2:
                speed = int(rng.integers(len(SPEEDS)))
            gap = scale * rng.uniform(0.2, 1.8) if chosen else lead
            length = int(bank.length[speed, clip])
            if used + gap + length <= samples and len(chosen) < limit:
                chosen.append((int(clip), speed))
                gaps.append(gap)
                used += gap + length
            elif chosen:
                break
        share = rng.exponential(size=len(chosen) + 1) ** rng.choice([1.0, 4.0])
        if fill > 0.5:
            share[1:-1] = 0
        return chosen, np.append(gaps, 0.0) + share / share.sum() * (samples - used)

    def span(self, clip: int, start: int, length: int) -> tuple[float, float]:  # noqa: ARG002
        """Where the digits of a clip placed at `start` begin and end: with the recording."""
        return start, start + length

    def sequence(self, language: str, spoken: list[Spoken]) -> tuple[list[int], list[int], list[int]]:
        """Prompt ids before the audio, ids after it, and what each of the latter is to tell."""
        rng, prompts, digits = self.rng, self.prompts, [digit for one in spoken for digit in one.digits]
        before = prompts.head + prompts.middle
        if not self.clean and rng.random() < 0.4:
            before = prompts.head + prompts.contexts[rng.integers(len(prompts.contexts))][:64] + prompts.middle
        forced = not self.clean and rng.random() < 0.3
        name = language if digits else "None"
        if forced and not digits:
            name = str(rng.choice(["English", "Arabic"]))
        after = prompts.tail + prompts.meta[name]
        prompted = len(after) if forced else len(prompts.tail)
        after += prompts.ids(text.transcript(language, digits)) + prompts.end
        return before, after, [IGNORE] * (prompted - 1) + after[prompted:] + [IGNORE]

    def batch(self, longest: float, budget: float, most: int, seconds: float | None = None) -> Batch:
        """Clips of one random length (or `seconds`), together about `budget` seconds, at most `most` of them."""
        rng = self.rng
        samples = int((seconds or self.seconds(longest)) * RATE)
        rows = int(np.clip(budget * RATE / samples, 8, most))
        T = audio_tokens(samples // HOP)
        placed: list[tuple[int, int, int]] = []
        frames, ordinals = np.zeros((rows, T), np.int64), np.zeros((rows, T), np.int64)
        sequences, quiet = [], np.zeros(rows, bool)
        for row in range(rows):
            arabic = bool(rng.random() < 0.55)
            chosen, gaps = ([], np.zeros(1)) if rng.random() < self.QUIET else self.choose(arabic, samples)
            position, spoken, exact = 0.0, [], True
            for (clip, speed), gap in zip(chosen, gaps, strict=False):
                start = int(position + gap)
                length = min(int(self.bank.length[speed, clip]), samples - start)
                placed.append((int(self.bank.start[speed, clip]), length, row * samples + start))
                position = start + length
                digits = [int(digit) for digit in self.bank.labels[clip] if digit >= 0]
                spoken.append(Spoken(digits, *self.span(clip, start, length)))
                exact = self.mark(frames[row], ordinals[row], spoken[-1], 10 * arabic, exact)
            quiet[row] = not chosen
            sequences.append(self.sequence("Arabic" if arabic else "English", spoken))
        tokens, labels, starts = pad(sequences, T, self.prompts.pad)
        source, length, target = np.array(placed, np.int64).reshape(-1, 3).T.copy()
        return Batch(samples, source, length, target, tokens, labels, starts, frames, ordinals, quiet)

    def mark(
        self, frames: NDArray[np.int64], ordinals: NDArray[np.int64], spoken: Spoken, base: int, exact: bool
    ) -> bool:
        """Write one recording into a row's auxiliary labels.

        Where the words of a phrase lie is unknown, and so is the count from there on: the result says whether it is
        known.
        """
        first, middle, last = (
            token_at(spoken.start + share * (spoken.end - spoken.start), len(frames))
            for share in (self.MARGIN, self.BEGUN, 1 - self.MARGIN)
        )
        single = len(spoken.digits) == 1
        frames[first : last + 1] = 1 + base + spoken.digits[0] if single else IGNORE
        ordinals[middle:] = ordinals[middle - 1 if middle else 0] + 1 if exact and single else IGNORE
        return exact and single


def token_at(sample: float, T: int) -> int:
    """The audio token that covers this sample: 13 a second, the last of each second a short one."""
    frame = int(sample) // HOP
    return min(13 * (frame // 100) + frame % 100 // 8, T - 1)


def pad(
    sequences: list[tuple[list[int], list[int], list[int]]], T: int, placeholder: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ids and of what they are to tell, padded on the right, and where the audio starts in each."""
    width = max(len(before) + T + len(after) for before, after, _ in sequences)
    width += -width % 32
    tokens = np.zeros((len(sequences), width), np.int64)
    labels = np.full((len(sequences), width), IGNORE, np.int64)
    for row, (before, after, told) in enumerate(sequences):
        ids = before + [placeholder] * T + after
        tokens[row, : len(ids)] = ids
        labels[row, len(before) + T : len(ids)] = told
    return tokens, labels, np.array([len(before) for before, _, _ in sequences])
