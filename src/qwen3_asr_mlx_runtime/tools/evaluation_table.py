"""What scripts/qwen3-asr-mlx-evaluate shows to people in the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwen3_asr_mlx_runtime.tools.command import printable
from qwen3_asr_mlx_runtime.tools.comparison import Difference
from qwen3_asr_mlx_runtime.tools.evaluation import Evaluation, Result
from qwen3_asr_mlx_runtime.tools.scoring import Rate

_MIB = 1024 * 1024
COLUMNS = ("WER %", "95 % interval", "CER %", "− first (95 %)", "× real time", "p50 s", "p95 s", "load s", "MiB")
NONE = "–"


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    table = Table(title=_text(f"{evaluation.data}: {evaluation.utterances} utterances", "bold"), title_justify="left")
    table.add_column("")
    table.add_column("configuration", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for result in evaluation.results:
        one = result.configuration
        table.add_row(one.key, _text(one.label), *cells(result))
    for failure in evaluation.failures:
        table.add_row(failure.configuration.key, _text(failure.configuration.label), "failed")
    console.print(table)


def cells(result: Result) -> Iterator[str]:
    """One for each of COLUMNS."""
    overall, figures = result.score.overall, result.figures
    yield _percent(overall.wer)
    yield _between(overall.wer or overall.cer)
    yield _percent(overall.cer)
    yield _apart(None if result.difference is None else result.difference.wer or result.difference.cer)
    yield _number(figures.realtime_factor, 1)
    yield _number(figures.median_seconds, 3)
    yield _number(figures.p95_seconds, 3)
    yield _number(figures.load_seconds, 2)
    yield _number(figures.memory_bytes and figures.memory_bytes / _MIB, 0)


def _percent(rate: Rate | None) -> str:
    return NONE if rate is None or rate.rate is None else f"{100 * rate.rate:.2f}"


def _between(rate: Rate) -> str:
    return NONE if rate.interval is None else "{:.2f} to {:.2f}".format(*(100 * end for end in rate.interval))


def _apart(difference: Difference | None) -> str:
    if difference is None or difference.difference is None:
        return NONE
    told = f"{100 * difference.difference:+.2f}"
    if difference.interval is not None:
        told += " ({:+.2f} to {:+.2f})".format(*(100 * end for end in difference.interval))
    return told.replace("-", "−")


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
