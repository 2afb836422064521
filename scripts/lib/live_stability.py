"""How often a word that was shown as stable is not in the final, by how long it had to stay the same.

    scripts/live-stability [--set test] [--scale 0.2] [--after 0.5 1.0 1.5]

Listens to utterances as a stream with partials does, every interval, and puts the hypotheses through the rule of stable
text with each of the ages. `examples`: 300 utterances of 1 to 30 s of the example recordings, joined, with gains; of a
quarter each nothing else, with a quiet start (by 50 dB), a loud end (all before it is 26 dB down), or with noise.
`test` and `val`: the demonstration checkpoint's sets of that name, from recordings in QWEN3_ASR_MLX_TEST_DATA (default
../shared/data, seen from the repository). Prints a Markdown table.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from live_agreement import KINDS, spoken

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
SPOKEN_SETS = 4  # of the checkpoint's: the others are silence, or the same speech with context or its language given


@dataclass(frozen=True)
class HeardOut:
    """One utterance: what was heard of it every interval, and in the end."""

    hypotheses: Sequence[Hypothesis]
    final: str


@dataclass
class Count:
    """Words of finals, words that were ever stable and those of them that the finals have not, utterances with such,
    and words as they were shown: stable, and all."""

    utterances: int = 0
    words: int = 0
    stable: int = 0
    wrong: int = 0
    with_wrong: int = 0
    shown_stable: int = 0
    shown: int = 0

    def add(self, one: HeardOut) -> None:
        rule = agreement.LocalAgreement()
        for hypothesis in one.hypotheses:
            rule.add(hypothesis.text, hypothesis.audio_seconds)
            self.shown_stable += len(rule.text.split())
            self.shown += len(hypothesis.text.split())
        final, stable = one.final.split(), rule.text.split()
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


class Listener:
    """Hears utterances out, one after the other."""

    def __init__(self, schedule: EngineScheduler, interval_ms: int) -> None:
        self._schedule = schedule
        self._interval = SAMPLE_RATE * interval_ms // 1000
        self._ids = count(1)

    def hear(self, utterance: Utterance) -> HeardOut:
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
        return HeardOut(hypotheses, self._outcome().transcript.text)

    def _outcome(self) -> PartialDone | Finished:
        while True:
            for outcome in self._schedule.step():
                if isinstance(outcome, Failed):
                    raise outcome.error
                return outcome


def sets(name: str, seed: int, scale: float) -> Iterator[tuple[str, Iterator[Utterance]]]:
    """Each set's name and its utterances."""
    if name == "examples":
        utterances = [*spoken(max(len(KINDS), round(EXAMPLES * scale)), 0, seed)]
        yield from ((kind, iter(utterances[place :: len(KINDS)])) for place, kind in enumerate(KINDS))
        return
    from testsets import test_sets

    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    for place, (title, cases) in enumerate(test_sets(data, name, seed, scale)):
        if place < SPOKEN_SETS:
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
    listener = Listener(Recognizer.load(options.model, dtype=options.dtype).schedule(), options.interval_ms)
    print(HEAD, flush=True)
    for name, utterances in sets(options.set, options.seed, options.scale):
        counts = {seconds: Count() for seconds in options.after}
        for utterance in utterances:
            heard = listener.hear(utterance)
            for agreement.STABLE_SECONDS, counted in counts.items():
                counted.add(heard)
        for seconds, counted in counts.items():
            print(counted.row(name, seconds), flush=True)


if __name__ == "__main__":
    sys.exit(main())
