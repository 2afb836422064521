"""The figures of words in tables."""

from collections.abc import Iterator

from qwen3_asr_mlx_runtime.tools.score.word_times import WordFigures

NONE = "–"
WORD_COLUMNS = (
    "words",
    "empty",
    "without words",
    "align s",
    "× real time",
    "matched",
    "error ms (start, end)",
    "median ms",
    "≤ 80, 160, 240 ms %",
)


def word_cells(figures: WordFigures) -> Iterator[str]:
    """One cell for each of WORD_COLUMNS."""
    yield str(figures.words)
    yield str(figures.zero_length)
    yield ", ".join(f"{reason} {count}" for reason, count in figures.without.items()) or "0"
    yield f"{figures.seconds:.3f}"
    yield NONE if figures.realtime_factor is None else f"{figures.realtime_factor:,.1f}"
    errors = figures.errors
    yield NONE if errors is None else f"{errors.matched} of {errors.reference_words}"
    if errors is None or errors.mean_ms is None:
        yield from [NONE] * 3
        return
    yield f"{errors.mean_ms:.0f} ({errors.start_mean_ms:.0f}, {errors.end_mean_ms:.0f})"
    yield f"{errors.median_ms:.0f}"
    yield ", ".join(f"{100 * share:.1f}" for share in errors.within.values() if share is not None)
