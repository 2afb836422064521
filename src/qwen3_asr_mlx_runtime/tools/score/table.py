"""The terminal output of scripts/qwen3-asr-mlx-score."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.tools.score.alignment import diff_rows
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Interval
from qwen3_asr_mlx_runtime.tools.score.comparison import Changed, Comparison, Difference, Differences
from qwen3_asr_mlx_runtime.tools.score.scoring import Rate, Report, Scores, Worst

_SHOWN_CHANGES = 20


def show_report(console: Console, report: Report) -> None:
    table = _table(f"{report.predictions}", "language", "utterances", "", "rate", "95 %", "S", "D", "I", "of")
    for name, scores in report.languages.items():
        _add_scores(table, name, scores)
    table.add_section()
    _add_scores(table, "all", report.overall)
    console.print(table)
    for name, scores in report.languages.items():
        console.print(Text(f"{name}: {', '.join(scores.normalisers)}", style="dim"))
    for worst in report.worst:
        _show_worst(console, worst)
    _show_unmatched(console, report)


def show_comparison(console: Console, comparison: Comparison) -> None:
    table = _table("second − first", "language", "utterances", "", "first", "second", "difference", "95 %")
    for name, differences in [*comparison.languages.items(), ("all", comparison.overall)]:
        _add_differences(table, name, differences)
    console.print(table)
    console.print(Text(f"{len(comparison.changed)} of {comparison.overall.utterances} utterances changed", "bold"))
    for changed in _most_changed(comparison.changed):
        _show_changed(console, changed)
    if len(comparison.changed) > _SHOWN_CHANGES:
        console.print(Text(f"… and {len(comparison.changed) - _SHOWN_CHANGES} more: see --json", style="dim"))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(printable(title), style="bold"), title_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _add_scores(table: Table, name: str, scores: Scores) -> None:
    if scores.wer is not None:
        table.add_row(name, str(scores.utterances), "WER", *_rate_cells(scores.wer))
        name = ""
    table.add_row(name, str(scores.utterances) if name else "", "CER", *_rate_cells(scores.cer))


def _rate_cells(rate: Rate) -> list[str]:
    counted = (rate.substitutions, rate.deletions, rate.insertions, rate.length)
    return [percent(rate.rate), between(rate.interval), *map(str, counted)]


def _add_differences(table: Table, name: str, differences: Differences) -> None:
    if differences.wer is not None:
        table.add_row(name, str(differences.utterances), "WER", *_difference_cells(differences.wer))
        name = ""
    table.add_row(name, str(differences.utterances) if name else "", "CER", *_difference_cells(differences.cer))


def _difference_cells(rates: Difference) -> list[str]:
    signed = "–" if rates.difference is None else f"{100 * rates.difference:+.2f}"
    return [percent(rates.first), percent(rates.second), signed, between(rates.interval, "+")]


def percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.2f} %"


def between(interval: Interval | None, sign: str = "") -> str:
    """The interval in per cent; `sign`: `+` shows the sign."""
    return "–" if interval is None else f"{100 * interval[0]:{sign}.2f} to {100 * interval[1]:{sign}.2f}"


def _show_worst(console: Console, worst: Worst) -> None:
    counts = worst.alignment.counts
    parts = f"{counts.substitutions} S, {counts.deletions} D, {counts.insertions} I of {counts.length}"
    title = f"{worst.audio} ({worst.language}): {percent(worst.rate)}, {parts} {worst.alignment.unit}s"
    console.print()
    _line(console, title, "bold")
    for expected, predicted, marks in diff_rows(worst.alignment, console.width - 10):
        _line(console, f"  expected {expected}")
        _line(console, f"  got      {predicted}")
        if marks:
            _line(console, f"           {marks}", "red")


def _show_changed(console: Console, changed: Changed) -> None:
    errors = f"{changed.first_errors} → {changed.second_errors} errors"
    console.print()
    _line(console, f"{changed.audio} ({changed.language}): {errors}", "bold")
    for name, text in (("expected", changed.reference), ("first", changed.first), ("second", changed.second)):
        _line(console, f"  {name:8} {text}")


def _most_changed(changed: Sequence[Changed]) -> list[Changed]:
    """The utterances whose errors differ most, in unchanged order."""
    by_size = sorted(changed, key=lambda change: -abs(change.first_errors - change.second_errors))[:_SHOWN_CHANGES]
    return [change for change in changed if change in by_size]


def _show_unmatched(console: Console, report: Report) -> None:
    for title, names in (
        ("expected, and not predicted", report.missing),
        ("predicted, and not expected", report.unexpected),
        ("failed", report.failed),
    ):
        if names:
            console.print()
            _line(console, f"{title}: {len(names)}", "bold yellow")
        for name in names:
            _line(console, f"  {name}")
    if report.unnamed:
        _line(console, f"{report.unnamed} predictions name no audio and were ignored", "yellow")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=True)
