"""Checks that a streamed utterance gets the same transcript as the whole utterance.

    scripts/live-agreement [--count 1000] [--long 40] [--dtype float32] [--languages en,ar]
                           [--terms seven,nine=4]

Draws utterances from the example recordings (English, Arabic, noise), joined, with gaps, gains, loud ends and quiet
starts; feeds them to the demonstration checkpoint in chunks of 10 ms to 3 s, three streams at a time in any
interleaving; and compares tokens, text and language with those of `transcribe`. Prints one JSON object; exit code 1
if any differs.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engines.api import Append, Failed, Finalize, Finished, Partial, PartialDone
from qwen3_asr_mlx_runtime.engines.profile import Reuse
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.option_values import languages, terms

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "audio"
STREAMS = 3
KINDS = ("plain", "quiet start", "loud end", "noise")
LONGEST_CHUNK, SHORTEST_CHUNK = 3.0, 0.01  # seconds


def random_utterances(number: int, long: int, seed: int) -> Iterator[Utterance]:
    """`number` utterances of 1 to 30 s, and `long` utterances of 31 to 120 s, at 0 to −30 dB."""
    rng = np.random.default_rng(seed)
    for index in range(number + long):
        seconds = np.exp(rng.uniform(0, np.log(30))) if index < number else rng.uniform(31, 120)
        samples = joined_examples(int(seconds * SAMPLE_RATE), rng)
        _shape(samples, KINDS[index % len(KINDS)], rng)
        samples *= 10 ** (rng.uniform(-30, 0) / 20)
        yield Utterance(samples.clip(-1, 1).astype(np.float32))


def joined_examples(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Recordings joined with gaps between them: (length,)."""
    recorded = _recorded()
    parts: list[Samples] = []
    while sum(map(len, parts)) < length:
        gap = np.zeros(int(rng.choice([0.05, 0.3, 2.0], p=[0.5, 0.4, 0.1]) * SAMPLE_RATE), np.float32)
        parts += [gap, recorded[rng.integers(len(recorded))]]
    return np.concatenate(parts)[:length].astype(np.float64)


@cache
def _recorded() -> list[Samples]:
    return [read_file(str(file)).samples for file in sorted(EXAMPLES.glob("*.wav"))]


def _shape(samples: NDArray[np.float64], kind: str, rng: np.random.Generator) -> None:
    index = int(rng.uniform(0.3, 0.9) * len(samples))
    if kind == "quiet start":
        samples[:index] *= 0.003
    elif kind == "loud end":
        samples[:index] *= 0.05
    elif kind == "noise":
        samples += rng.standard_normal(len(samples)) * 10 ** rng.uniform(-4, -2)


class Streams:
    """Utterances on three streams at a time, appended, decoded and ended in random order."""

    def __init__(self, schedule: EngineScheduler, utterances: Sequence[Utterance], seed: int) -> None:
        self.transcripts: dict[int, Transcript] = {}
        self.hypotheses = 0
        self._schedule = schedule
        self._utterances = utterances
        self._rng = np.random.default_rng(seed)
        self._ids = count(1)
        self._waiting = list(range(len(utterances)))[::-1]
        self._streamed: dict[int, int] = {}  # samples that the client has sent
        self._appended: dict[int, int] = {}  # of these, the samples in the engine
        self._partials: dict[int, int] = {}
        self._jobs: dict[int, int] = {}

    def run(self) -> None:
        while self._waiting or self._streamed or self._jobs:
            while self._waiting and len(self._streamed) < STREAMS:
                number = self._waiting.pop()
                self._streamed[number] = self._appended[number] = 0
            if self._streamed:
                self._append(int(self._rng.choice(list(self._streamed))))
            self._step(int(self._rng.integers(0, 12)) if self._streamed else 1)

    def _append(self, number: int) -> None:
        chunk = np.exp(self._rng.uniform(np.log(SHORTEST_CHUNK), np.log(LONGEST_CHUNK)))
        samples = self._utterances[number].samples
        self._streamed[number] = min(self._streamed[number] + int(chunk * SAMPLE_RATE), len(samples))
        if self._streamed[number] == len(samples) and self._rng.random() < 0.5:
            self._end(number)
        elif number not in self._partials.values():
            start, self._appended[number] = self._appended[number], self._streamed[number]
            self._partials[job_id := next(self._ids)] = number
            self._schedule.append(Append(number, samples[start : self._streamed[number]]))
            asked = self._utterances[number]
            self._schedule.partial(Partial(job_id, number, languages=asked.languages, terms=asked.terms))

    def _end(self, number: int) -> None:
        self._jobs[job_id := next(self._ids)] = number
        asked = self._utterances[number]
        rest = asked.samples[self._appended[number] :]
        if len(rest):
            self._schedule.append(Append(number, rest))
        self._schedule.finalize(
            Finalize(job_id, number, languages=asked.languages, terms=asked.terms, interactive=True)
        )
        del self._streamed[number], self._appended[number]

    def _step(self, steps: int) -> None:
        for _ in range(steps):
            if not self._schedule.is_busy:
                return
            for outcome in self._schedule.step():
                self._take(outcome)

    def _take(self, outcome: Finished | PartialDone | Failed) -> None:
        match outcome:
            case PartialDone(job_id):
                del self._partials[job_id]
                self.hypotheses += 1
            case Finished(job_id, transcript):
                self.transcripts[self._jobs.pop(job_id)] = transcript
            case Failed(job_id, error):
                if job_id not in self._partials:
                    raise error
                del self._partials[job_id]


def compare(recognizer: Recognizer, utterances: Sequence[Utterance], seed: int) -> dict[str, object]:
    """Stream all utterances, and count equal transcripts and reused results."""
    streams = Streams(recognizer.schedule(), utterances, seed)
    streams.run()
    reuse, different = Reuse(), []
    for number, utterance in enumerate(utterances):
        whole, streamed = recognizer.transcribe(utterance), streams.transcripts[number]
        if _content(whole) != _content(streamed):
            different.append(number)
        reuse.add(streamed.reuse or Reuse())
    finals = streams.transcripts.values()
    return {
        "utterances": len(utterances),
        "audio_seconds": round(sum(utterance.seconds for utterance in utterances), 1),
        "equal": len(utterances) - len(different),
        "different": different,
        "hypotheses": streams.hypotheses,
        "final_tokens": sum(len(final.token_ids) for final in finals),
        "final_tokens_verified": sum(final.verified_tokens or 0 for final in finals),
        "finals_decoded_step_by_step": sum(not final.verified_tokens for final in finals),
        "reuse": asdict(reuse),
    }


def _content(transcript: Transcript) -> tuple[object, ...]:
    return transcript.token_ids, transcript.text, transcript.language, transcript.finish_reason


@guarded("live-agreement")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of utterances (default: 1000)")
    parser.add_argument("--long", type=int, default=40, help="of these, of 31 to 120 s (default: 40)")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--languages", type=languages, default=(), help="the model chooses among these")
    parser.add_argument("--terms", type=terms, default=(), help="what the texts are likely to have")
    options = parser.parse_args()
    recognizer = Recognizer.load(options.model, dtype=options.dtype)
    drawn = random_utterances(options.count - options.long, options.long, options.seed)
    utterances = [replace(utterance, languages=options.languages, terms=options.terms) for utterance in drawn]
    started = time.perf_counter()
    found = compare(recognizer, utterances, options.seed)
    seconds = round(time.perf_counter() - started, 1)
    asked = {**vars(options), "terms": msgspec.to_builtins(options.terms)}
    json.dump({**asked, "margin": recognizer._streaming_drift.margin, **found, "seconds": seconds}, sys.stdout)
    print()
    return int(bool(found["different"]))


if __name__ == "__main__":
    sys.exit(main())
