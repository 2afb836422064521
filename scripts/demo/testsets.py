"""The utterances that the demonstration checkpoint is measured on, made from recordings it was not trained on.

Split `test` holds FSDD's takes 2 to 4 and three Arabic speakers, `val` FSDD's takes 5 to 7 and six other speakers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import prepare
import soxr
import text
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance

FSDD, ARABIC = "fsdd/fsdd.npz", "asc_digits/asc_digits.npz"
TAKES = {"test": (2, 4), "val": (5, 7)}
Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Digit:
    """One recording, 16 kHz float32."""

    samples: Sound
    digit: int
    speaker: str


@dataclass(frozen=True)
class Case:
    """One utterance and what it should give; `language` None: no speech. `spans`: each word's voice, in seconds."""

    utterance: Utterance
    text: str
    language: str | None
    spans: tuple[tuple[float, float], ...] = ()


def recordings(path: Path, split: str) -> list[Digit]:
    """The recordings of one split, resampled from 8 kHz."""
    data = dict(np.load(path))
    low, high = TAKES[split]
    wanted = (data["take"] >= low) & (data["take"] <= high) if "take" in data else data["split"] == split
    ends = np.cumsum(data["lengths"])
    return [
        Digit(
            np.asarray(
                soxr.resample(data["samples"][ends[i] - data["lengths"][i] : ends[i]] / 32768.0, 8000, SAMPLE_RATE),
                np.float32,
            ),
            int(data["digit"][i]),
            str(data["speaker"][i]),
        )
        for i in np.flatnonzero(wanted)
    ]


def decibels(value: float) -> float:
    return float(10 ** (value / 20))


def silence(seconds: float) -> Sound:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def case(rng: np.random.Generator, language: str, digits: list[Digit], gap: Callable[[], float]) -> Case:
    """Recordings with gaps before, between and after, each up to 3 dB up or down, the whole peaking at 0 to -24 dB."""
    parts, spans = [silence(gap())], []
    for digit in digits:
        begun = sum(map(len, parts))
        spans.append(tuple((begun + place) / SAMPLE_RATE for place in prepare.voiced(digit.samples, SAMPLE_RATE)))
        parts += [digit.samples * np.float32(decibels(rng.uniform(-3, 3))), silence(gap())]
    samples = np.concatenate(parts)
    samples = samples / max(1e-9, float(np.abs(samples).max())) * decibels(rng.uniform(-24, 0))
    transcript = text.transcript(language, [digit.digit for digit in digits])
    return Case(Utterance(samples.astype(np.float32)), transcript, language, tuple(spans))


def pool(rng: np.random.Generator, recorded: list[Digit]) -> list[Digit]:
    """Every other time one speaker's recordings, otherwise everyone's."""
    if rng.random() < 0.5:
        return recorded
    speaker = rng.choice(sorted({digit.speaker for digit in recorded}))
    return [digit for digit in recorded if digit.speaker == speaker]


def short_sequences(recorded: list[Digit], language: str, count: int, seed: int) -> Iterator[Case]:
    """1 to 12 digits, gaps of 0.05 to 0.5 s."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        available = pool(rng, recorded)
        digits = [available[i] for i in rng.integers(len(available), size=rng.integers(1, 13))]
        yield case(rng, language, digits, lambda: rng.uniform(0.05, 0.5))


def long_sequences(
    recorded: list[Digit], language: str, count: int, seed: int, seconds: tuple[float, float] = (20, 30)
) -> Iterator[Case]:
    """So many seconds of digits; the gaps' scale, 0.1 to 1 s, differs from one to the next."""
    rng, (shortest, longest) = np.random.default_rng(seed), seconds
    for _ in range(count):
        available, wanted, scale = pool(rng, recorded), rng.uniform(shortest, longest - 1), rng.uniform(0.1, 1.0)
        digits, total = [], 0.0
        while total < wanted:
            digits.append(available[rng.integers(len(available))])
            total += len(digits[-1].samples) / SAMPLE_RATE + scale
        whole = case(rng, language, digits[:-1], lambda scale=scale: scale * rng.uniform(0.5, 1.5))
        if shortest <= whole.utterance.seconds <= longest:
            yield whole


def repeated_sequences(recorded: list[Digit], language: str, count: int, seed: int) -> Iterator[Case]:
    """5 to 30 recordings of one or two digits, at most 30 s, with gaps of 0.02 to 0.3 s."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        available, wanted = pool(rng, recorded), rng.integers(10, size=rng.integers(1, 3))
        available = [digit for digit in available if digit.digit in wanted]
        digits = [available[i] for i in rng.integers(len(available), size=rng.integers(5, 31))]
        whole = case(rng, language, digits, lambda: rng.uniform(0.02, 0.3))
        if whole.utterance.seconds <= 30:
            yield whole


def noisy(cases: Iterator[Case], seed: int, snr: tuple[float, float] = (5, 20)) -> Iterator[Case]:
    """The same utterances in pink noise, as many dB below the mean of the whole as `snr` says, from and to."""
    rng = np.random.default_rng(seed)
    for item in cases:
        clean = item.utterance.samples
        noise = coloured(rng, len(clean) + 1, 0.5)[: len(clean)]
        level = np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * decibels(-rng.uniform(*snr))
        mixed = clean + noise * level
        mixed = mixed / max(1.0, float(np.abs(mixed).max()))
        yield replace(item, utterance=replace(item.utterance, samples=mixed.astype(np.float32)))


def coloured(rng: np.random.Generator, count: int, slope: float) -> NDArray[np.float64]:
    """Noise whose amplitude falls with frequency to the power of `slope`: 0 white, 0.5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** slope, count)


def notes(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decaying tones with overtones."""
    sound = np.zeros_like(time)
    for onset in np.arange(0, time[-1], 0.35):
        since, pitch = np.maximum(time - onset, 0), 220 * 2 ** (rng.integers(24) / 12)
        sound += np.exp(-4 * since) * (since > 0) * sum(np.sin(2 * np.pi * k * pitch * since) / k for k in (1, 2, 3))
    return sound


def no_speech(count: int, seed: int) -> Iterator[Case]:
    """Silence, noises, hum, clicks and notes of 0.1 to 30 s, from a whisper to full scale."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        time = np.arange(int(SAMPLE_RATE * np.exp(rng.uniform(np.log(0.1), np.log(30))))) / SAMPLE_RATE
        kinds: list[Callable[[], NDArray[np.float64]]] = [
            lambda time=time: np.zeros_like(time),
            lambda time=time: coloured(rng, len(time), 0.0),
            lambda time=time: coloured(rng, len(time), 0.5),
            lambda time=time: coloured(rng, len(time), 1.0),
            lambda time=time: sum(np.sin(2 * np.pi * 50 * k * time + k) / k for k in range(1, 8)),
            lambda time=time: (rng.random(len(time)) < 1e-4) * rng.standard_normal(len(time)),
            lambda time=time: notes(rng, time),
            lambda time=time: coloured(rng, len(time), 0.5) * (1 + np.sin(2 * np.pi * 1.5 * time)),
        ]
        sound = kinds[index % len(kinds)]()
        sound = sound / max(1e-9, float(np.abs(sound).max())) * decibels(rng.uniform(-70, 0))
        yield Case(Utterance(sound.astype(np.float32)), "", None)


def with_context(cases: Iterator[Case], seed: int) -> Iterator[Case]:
    """The same utterances with digits and other words as context."""
    rng = np.random.default_rng(seed)
    for item in cases:
        context = " ".join(rng.choice([*text.ENGLISH, *text.ARABIC, *text.CONTEXT_ENGLISH[:40]], rng.integers(2, 9)))
        yield replace(item, utterance=replace(item.utterance, context=context))


def forced(cases: Iterator[Case]) -> Iterator[Case]:
    """The same utterances with their language given."""
    for item in cases:
        yield replace(item, utterance=replace(item.utterance, language=item.language))


def test_sets(data: Path, split: str, seed: int, scale: float) -> Iterator[tuple[str, Iterator[Case]]]:
    """Each set's name and its utterances."""
    english, arabic = recordings(data / FSDD, split), recordings(data / ARABIC, split)

    def size(count: int) -> int:
        return max(1, round(count * scale))

    yield "English, 1 to 12 digits", short_sequences(english, "English", size(300), seed)
    yield "Arabic, 1 to 12 digits", short_sequences(arabic, "Arabic", size(300), seed + 1)
    yield "English, 20 to 30 s", long_sequences(english, "English", size(60), seed + 2)
    yield "Arabic, 20 to 30 s", long_sequences(arabic, "Arabic", size(60), seed + 3)
    yield "silence and noise", no_speech(size(100), seed + 4)
    yield "English with context", with_context(short_sequences(english, "English", size(100), seed + 5), seed)
    yield "Arabic with context", with_context(short_sequences(arabic, "Arabic", size(100), seed + 6), seed)
    yield "English, language given", forced(short_sequences(english, "English", size(100), seed + 7))
    yield "Arabic, language given", forced(short_sequences(arabic, "Arabic", size(100), seed + 8))


def aligner_sets(data: Path, split: str, seed: int, scale: float) -> Iterator[tuple[str, Iterator[Case]]]:
    """Each set's name and its utterances, for the aligner."""
    for offset, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)]):
        recorded, first = recordings(data / path, split), seed + 10 * offset
        few, many = max(1, round(200 * scale)), max(1, round(60 * scale))
        yield f"{language}, 1 to 12 digits", short_sequences(recorded, language, few, first)
        yield f"{language}, 20 to 30 s", long_sequences(recorded, language, many, first + 1)
        yield f"{language}, repeated digits", repeated_sequences(recorded, language, many, first + 2)
        yield f"{language}, 1 to 12, noisy", noisy(short_sequences(recorded, language, few, first + 3), first)
        yield f"{language}, 20 to 30 s, noisy", noisy(long_sequences(recorded, language, many, first + 4), first)
