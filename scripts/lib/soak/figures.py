"""Samples of a process over time → slopes and tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, variance
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """The idle process after so many utterances. Sizes in MiB; None if unknown."""

    utterances: int
    seconds: float
    rss: float
    footprint: float | None
    active: float
    cache: float
    peak: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, utterances: int, seconds: float, status: dict[str, Any], descriptors: int, threads: int) -> "Sample":
        memory = status["memory"]
        return cls(
            utterances,
            round(seconds, 1),
            memory["rss_mb"],
            memory["footprint_mb"],
            memory["mlx_active_mb"],
            memory["mlx_cache_mb"],
            memory["mlx_peak_mb"],
            descriptors,
            threads,
        )


def after(samples: Sequence[Sample], warm_up: int) -> list[Sample]:
    """Samples after the warm-up; all samples if too few remain for a regression."""
    warm = [sample for sample in samples if sample.utterances >= warm_up]
    return warm if len(warm) > 2 else list(samples)


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """Growth in MiB per thousand utterances, of the footprint if known, else of resident memory: the slope of the
    least-squares line, and its standard error."""
    x = [sample.utterances / 1000 for sample in samples]
    y = [sample.rss if sample.footprint is None else sample.footprint for sample in samples]
    line = linear_regression(x, y)
    left = sum((b - line.slope * a - line.intercept) ** 2 for a, b in zip(x, y, strict=True))
    spread = variance(x) * (len(x) - 1)
    return line.slope, math.sqrt(left / max(1, len(x) - 2) / spread)


def table(samples: Sequence[Sample], rows: int = 12) -> str:
    """A Markdown table: the first sample, the last, and samples between them."""
    step = max(1, -(-(len(samples) - 1) // (rows - 1)))
    shown = [*samples[:-1][::step], samples[-1]]
    lines = [
        "| utterances | s | RSS MiB | footprint MiB | MLX active | cache | peak | descriptors | threads |",
        "|---" * 9 + "|",
    ]
    for sample in shown:
        sizes = (sample.rss, sample.footprint, sample.active, sample.cache, sample.peak)
        values = (sample.utterances, sample.seconds, *sizes, sample.descriptors, sample.threads)
        cells = ["–" if value is None else f"{value:g}" for value in values]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
