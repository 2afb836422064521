"""The terminal output of scripts/qwen3-asr-mlx-evaluate."""

import re
from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.engines.profile import MIB
from qwen3_asr_mlx_runtime.tools.evaluate.evaluation import Evaluation, Result
from qwen3_asr_mlx_runtime.tools.score.comparison import Difference
from qwen3_asr_mlx_runtime.tools.score.scoring import Rate
from qwen3_asr_mlx_runtime.tools.score.table import between
from qwen3_asr_mlx_runtime.tools.score.word_table import NONE, WORD_COLUMNS, word_cells

CellsOf = Callable[[Result], Iterator[str]]
_ENDLESS = 10_000
_FOLDED = 16


def columns(evaluation: Evaluation) -> list[str]:
    """The fourth column names the baseline: the first configuration that has a result."""
    first = next((result.configuration.key for result in evaluation.results), "")
    difference = f"WER minus {first}’s (95 %)"
    return ["WER %", "95 % interval", "CER %", difference, "× real time", "p50 s", "p95 s", "load s", "MiB"]


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print a table, or a list if the terminal is too narrow for the numbers."""
    _show(console, evaluation, _title(evaluation), columns(evaluation), cells)
    if any(result.words for result in evaluation.results):
        console.print()
        _show(console, evaluation, "Words", list(WORD_COLUMNS), cells_of_words)


def _show(console: Console, evaluation: Evaluation, title: str, names: list[str], cells_of: CellsOf) -> None:
    table = _table(evaluation, title, names, cells_of)
    if _min_width(console, table) <= console.width:
        console.print(table)
    else:
        _show_list(console, evaluation, title, names, cells_of)


def _table(evaluation: Evaluation, title: str, names: list[str], cells_of: CellsOf) -> Table:
    table = Table(title=_text(title, "bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("configuration", overflow="fold")
    for column in names:
        table.add_column(re.sub(r" (?=\(|\S+$)", "\n", column, count=1), justify="right", no_wrap=True)
    for result in evaluation.results:
        configuration = result.configuration
        table.add_row(configuration.key, _text(configuration.label), *cells_of(result))
    for failure in evaluation.failures:
        table.add_row(failure.configuration.key, _text(failure.configuration.label), "failed")
    return table


def _min_width(console: Console, table: Table) -> int:
    """The width if only the names of configurations are folded."""
    whole = Measurement.get(console, console.options.update(max_width=_ENDLESS), table).maximum
    longest = max(cell_len(str(name)) for name in table.columns[1].cells)
    return whole - max(0, longest - _FOLDED)


def _show_list(console: Console, evaluation: Evaluation, title: str, names: list[str], cells_of: CellsOf) -> None:
    console.print(_text(title, "bold"))
    for result in evaluation.results:
        console.print(_text(f"{result.configuration.key} {result.configuration.label}", "bold"))
        for name, cell in zip(names, cells_of(result), strict=True):
            console.print(f"  {name:{max(map(len, names))}}  {cell}", soft_wrap=True)
    for failure in evaluation.failures:
        console.print(_text(f"{failure.configuration.key} {failure.configuration.label}: failed", "bold"))


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.data}: {evaluation.utterances} utterance{'' if evaluation.utterances == 1 else 's'}"


def cells(result: Result) -> Iterator[str]:
    """One cell for each column."""
    overall, figures = result.score.overall, result.figures
    yield _percent(overall.wer)
    yield between((overall.wer or overall.cer).interval)
    yield _percent(overall.cer)
    yield _apart(None if result.difference is None else result.difference.wer or result.difference.cer)
    yield _number(figures.realtime_factor, 1)
    yield _number(figures.median_seconds, 3)
    yield _number(figures.p95_seconds, 3)
    yield _number(figures.load_seconds, 2)
    yield _number(figures.memory_bytes and figures.memory_bytes / MIB, 0)


def cells_of_words(result: Result) -> Iterator[str]:
    """One cell for each of WORD_COLUMNS."""
    yield from [NONE] * len(WORD_COLUMNS) if result.words is None else word_cells(result.words)


def _percent(rate: Rate | None) -> str:
    return NONE if rate is None or rate.rate is None else f"{100 * rate.rate:.2f}"


def _apart(difference: Difference | None) -> str:
    if difference is None or difference.difference is None:
        return NONE
    text = f"{100 * difference.difference:+.2f}"
    if difference.interval is not None:
        text += f" ({between(difference.interval, '+')})"
    return text.replace("-", "−")


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
