"""Measured configurations → their error rates, speed and memory side by side."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.tools.evaluate.configuration import Configuration
from qwen3_asr_mlx_runtime.tools.evaluate.measurement import Measured
from qwen3_asr_mlx_runtime.tools.evaluate.waveform import Spoken
from qwen3_asr_mlx_runtime.tools.machine import Machine
from qwen3_asr_mlx_runtime.tools.manifest import Entry
from qwen3_asr_mlx_runtime.tools.score import scoring
from qwen3_asr_mlx_runtime.tools.score.bootstrap import CONFIDENCE, Bootstrap
from qwen3_asr_mlx_runtime.tools.score.comparison import Differences, compare
from qwen3_asr_mlx_runtime.tools.score.matching import match
from qwen3_asr_mlx_runtime.tools.score.predictions import Prediction, Predictions
from qwen3_asr_mlx_runtime.tools.score.scoring import Scored, Scores
from qwen3_asr_mlx_runtime.tools.score.word_times import WordFigures
from qwen3_asr_mlx_runtime.tools.stages import stage_seconds

DURATIONS = (0, 2, 5, 10, 20, 30)


class Figures(msgspec.Struct, frozen=True):
    """Speed and memory. `work_seconds`: the engine's work on each successful utterance, ascending; in a batch, the
    utterance's share. `stages`: seconds of work by stage, over all utterances. `memory_bytes`: the peak, of MLX's
    buffers on a GPU, of the process on a CPU."""

    device: str
    batch_size: int
    load_seconds: float
    run_seconds: float
    audio_seconds: float | None
    realtime_factor: float | None
    realtime_factor_with_load: float | None
    tokens_per_second: float | None
    work_seconds: list[float]
    median_seconds: float | None
    p95_seconds: float | None
    stages: dict[str, float]
    memory: Memory | None
    memory_bytes: int | None


class Result(msgspec.Struct, frozen=True):
    """`difference`: from the first configuration that has a result; null for that one. With --words: `words`, and
    `spoken` has each of the worst utterances."""

    configuration: Configuration
    figures: Figures
    score: scoring.Report
    durations: dict[str, Scores]
    difference: Differences | None
    file_error: str | None
    words: WordFigures | None = None
    spoken: list[Spoken] = []


class Failure(msgspec.Struct, frozen=True):
    configuration: Configuration
    reason: str


class Evaluation(msgspec.Struct, frozen=True):
    """The whole evaluation, as --json writes it. `made`: the time, UTC, ISO 8601."""

    command: str
    made: str
    machine: Machine
    data: str
    utterances: int
    confidence: float
    resamples: int
    seed: int
    results: list[Result]
    failures: list[Failure]


class Scoring:
    """Scores one configuration after the other against the same manifest. The first is the baseline of differences."""

    def __init__(self, manifest: Path, entries: Sequence[Entry], worst: int, bootstrap: Bootstrap) -> None:
        self._manifest = manifest
        self._entries = entries
        self._worst = worst
        self._bootstrap = bootstrap
        self._first: Sequence[Scored] | None = None

    def result(self, configuration: Configuration, measured: Measured) -> Result:
        items = [Prediction(item.audio, item.text, 1) for item in measured.items]
        matching = match(self._entries, Predictions(self._manifest, items, 0))
        scored = [scoring.score(pair) for pair in matching.pairs]
        first, self._first = self._first, scored if self._first is None else self._first
        return Result(
            configuration,
            _figures(measured),
            scoring.report(configuration.label, matching, scored, 0, self._bootstrap, self._worst),
            self._by_duration(scored, measured),
            None if first is None else compare(first, scored, self._bootstrap).overall,
            _file_error(measured),
            measured.words,
        )

    def _by_duration(self, scored: Sequence[Scored], measured: Measured) -> dict[str, Scores]:
        seconds = {item.audio: item.profile.audio_seconds or 0.0 for item in measured.items if item.profile}
        groups: dict[str, list[Scored]] = {name: [] for name in BANDS}
        for utterance in scored:
            groups[_band(seconds[utterance.audio])].append(utterance)
        return {name: scoring.scores(group, self._bootstrap) for name, group in groups.items() if group}


def error_rate(scores: Scores) -> scoring.Rate:
    """The word error rate, or the character error rate if no language among them counts words."""
    return scores.wer or scores.cer


def evaluation(
    command: str,
    made: str,
    machine: Machine,
    data: tuple[str, int],
    bootstrap: Bootstrap,
    outcomes: Sequence[Result | Failure],
) -> Evaluation:
    """`data`: the name of the data set, and its number of utterances."""
    return Evaluation(
        command,
        made,
        machine,
        *data,
        CONFIDENCE,
        bootstrap.resamples,
        bootstrap.seed,
        [outcome for outcome in outcomes if isinstance(outcome, Result)],
        [outcome for outcome in outcomes if isinstance(outcome, Failure)],
    )


def _figures(measured: Measured) -> Figures:
    work = sorted(item.profile.total_seconds or 0.0 for item in measured.items if item.profile)
    memory = measured.profile.memory
    return Figures(
        measured.device,
        measured.batch_size,
        measured.load_seconds,
        measured.run_seconds,
        measured.audio_seconds,
        measured.realtime_factor,
        measured.realtime_factor_with_load,
        measured.generated_tokens_per_second,
        work,
        float(np.quantile(work, 0.5)) if work else None,
        float(np.quantile(work, 0.95)) if work else None,
        stage_seconds(measured.profile),
        memory,
        _peak_bytes(measured.device, memory),
    )


def _peak_bytes(device: str, memory: Memory | None) -> int | None:
    if memory is None:
        return None
    return memory.mlx_peak_bytes if device == "gpu" else memory.rss_peak_bytes


def _band(seconds: float) -> str:
    low = max(edge for edge in DURATIONS if edge <= seconds)
    above = [edge for edge in DURATIONS if edge > low]
    return f"{low} to {above[0]} s" if above else f"{low} s and more"


BANDS = tuple(map(_band, DURATIONS))
"""Names of the duration bands, in ascending order."""


def _file_error(measured: Measured) -> str | None:
    errors = [item.error for item in measured.items if item.error is not UNSET]
    return f"{len(errors)} of {len(measured.items)} files failed; the first: {errors[0].message}" if errors else None
