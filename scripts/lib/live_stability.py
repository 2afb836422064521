"""How often a word of stable text is not in the final, by the seconds of audio until a word is stable.

    scripts/live-stability [--set test] [--scale 0.2] [--after 0.5 1.0 1.5]

Computes a partial of each utterance every interval, as a stream does, and applies local agreement with each of the
ages. `examples`: 300 utterances of 1 to 30 s of the example recordings, joined, with gains; a quarter each without
change, with a quiet start (by 50 dB), with a loud end (all before it is 26 dB down), and with noise. `test` and `val`:
the demonstration checkpoint's sets of that name, from recordings in QWEN3_ASR_MLX_TEST_DATA (default ../shared/data,
relative to the repository). Prints a Markdown table.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from live_agreement import KINDS, random_utterances

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engines.api import Append, Failed, Finalize, Finished, Partial, PartialDone
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.session import local_agreement as agreement
from qwen3_asr_mlx_runtime.tools.live.record import prefix_distance

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 300
SPEECH_SETS = 4  # of the checkpoint's sets: the others are silence, or the same speech with context or a language


@dataclass(frozen=True)
class StreamedTexts:
    """One utterance: its partials, one for each interval, and its final."""

    hypotheses: Sequence[Hypothesis]
    final: str


@dataclass
class Count:
    """Words of finals, stable words, stable words that the finals lack (`wrong`), utterances with such words, and words
    shown in partials: stable, and all."""

    utterances: int = 0
    words: int = 0
    stable: int = 0
    wrong: int = 0
    with_wrong: int = 0
    shown_stable: int = 0
    shown: int = 0

    def add(self, texts: StreamedTexts) -> None:
        rule = agreement.LocalAgreement()
        for hypothesis in texts.hypotheses:
            rule.add(hypothesis.text, hypothesis.audio_seconds)
            self.shown_stable += len(rule.text.split())
            self.shown += len(hypothesis.text.split())
        final, stable = texts.final.split(), rule.text.split()
        wrong = prefix_distance(stable, final)
        self.utterances += 1
        self.words += len(final)
        self.stable += len(stable)
        self.wrong += wrong
        self.with_wrong += wrong > 0

    def row(self, name: str, seconds: float) -> str:
        wrong = f"{self.wrong} ({100 * self.wrong / max(1, self.stable):.2f} %)"
        shown = f"{100 * self.shown_stable / max(1, self.shown):.0f} %"
        return f"| {name} | {self.utterances} | {seconds:g} s | {self.stable} | {wrong} | {self.with_wrong} | {shown} |"


HEAD = (
    "| set | utterances | the same for | stable words | of these not in the final | in utterances | shown as stable |\n"
    "|---|---|---|---|---|---|---|"
)


class PartialStream:
    """Streams utterances with partials, one after the other."""

    def __init__(self, schedule: EngineScheduler, interval_ms: int) -> None:
        self._schedule = schedule
        self._interval = SAMPLE_RATE * interval_ms // 1000
        self._ids = count(1)

    def stream(self, utterance: Utterance) -> StreamedTexts:
        audio_id, hypotheses = next(self._ids), []
        for start in range(0, len(utterance.samples) - self._interval + 1, self._interval):
            samples = utterance.samples[start : start + self._interval]
            self._schedule.append(Append(audio_id, samples))
            self._schedule.partial(Partial(next(self._ids), audio_id))
            hypotheses.append(self._outcome().hypothesis)
        rest = utterance.samples[len(hypotheses) * self._interval :]
        if len(rest):
            self._schedule.append(Append(audio_id, rest))
        self._schedule.finalize(Finalize(next(self._ids), audio_id, interactive=True))
        return StreamedTexts(hypotheses, self._outcome().transcript.text)

    def _outcome(self) -> PartialDone | Finished:
        while True:
            for outcome in self._schedule.step():
                if isinstance(outcome, Failed):
                    raise outcome.error
                return outcome


def sets(name: str, seed: int, scale: float) -> Iterator[tuple[str, Iterator[Utterance]]]:
    """Each set's name and its utterances."""
    if name == "examples":
        utterances = [*random_utterances(max(len(KINDS), round(EXAMPLES * scale)), 0, seed)]
        yield from ((kind, iter(utterances[index :: len(KINDS)])) for index, kind in enumerate(KINDS))
        return
    from testsets import test_sets

    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    for index, (title, cases) in enumerate(test_sets(data, name, seed, scale)):
        if index < SPEECH_SETS:
            yield title, (case.utterance for case in cases)


@guarded("live-stability")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("examples", "test", "val"), default="examples")
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks the sets (default: %(default)s)")
    parser.add_argument("--interval-ms", type=int, default=500)
    parser.add_argument("--after", type=float, nargs="+", default=[agreement.STABLE_SECONDS], metavar="SECONDS")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    partial_stream = PartialStream(Recognizer.load(options.model, dtype=options.dtype).schedule(), options.interval_ms)
    print(HEAD, flush=True)
    for name, utterances in sets(options.set, options.seed, options.scale):
        counts = {seconds: Count() for seconds in options.after}
        for utterance in utterances:
            texts = partial_stream.stream(utterance)
            for agreement.STABLE_SECONDS, counted in counts.items():
                counted.add(texts)
        for seconds, counted in counts.items():
            print(counted.row(name, seconds), flush=True)


if __name__ == "__main__":
    sys.exit(main())
