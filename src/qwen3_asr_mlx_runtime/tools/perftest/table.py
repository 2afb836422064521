"""The terminal output of scripts/qwen3-asr-mlx-perftest."""

from collections.abc import Iterable, Iterator

from msgspec import UNSET
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.engines.profile import Memory, Profile
from qwen3_asr_mlx_runtime.tools.perftest.performance import Item
from qwen3_asr_mlx_runtime.tools.perftest.report import Performance
from qwen3_asr_mlx_runtime.tools.score.word_table import WORD_COLUMNS, word_cells
from qwen3_asr_mlx_runtime.tools.stages import stage_seconds

_MEMORY = {
    "resident": "rss_mb",
    "resident, peak": "rss_peak_mb",
    "footprint": "footprint_mb",
    "MLX, peak": "mlx_peak_mb",
    "MLX, active": "mlx_active_mb",
    "MLX, cache": "mlx_cache_mb",
}


def show_performance(console: Console, performance: Performance, show_text: bool) -> None:
    console.print(_items(performance, show_text))
    for title, rows in (
        ("time", _times(performance)),
        ("words", zip(WORD_COLUMNS, word_cells(performance.words), strict=True) if performance.words else ()),
        ("stages, in seconds of work", _stages(performance.profile)),
        ("memory", _memory(performance.profile.memory)),
    ):
        if found := list(rows):
            console.print()
            console.print(_pairs(title, found))


def _items(performance: Performance, show_text: bool) -> Table:
    title = (
        f"{performance.model} on {performance.device}, {performance.decoder_mode}, {performance.batch_size} at a time"
    )
    table = Table(title=Text(printable(title), style="bold"), title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("language")
    for column in ("audio s", "work s", "× real time", "tokens", "embeddings"):
        table.add_column(column, justify="right")
    table.add_column("ended by")
    if performance.words:
        table.add_column("words", justify="right")
        table.add_column("align s", justify="right")
    if show_text:
        table.add_column("text", overflow="fold")
    for item in performance.items:
        word_cells = _item_word_cells(item) if performance.words else []
        table.add_row(*map(_safe, [*_item_cells(item), *word_cells, *([item.text or ""] if show_text else [])]))
    return table


def _item_cells(item: Item) -> list[str]:
    if item.error is not UNSET:
        return [item.audio, *[""] * 6, item.error.code]
    profile = item.profile or Profile(stage="")
    shape = "" if item.audio_embeddings_shape is None else "×".join(map(str, item.audio_embeddings_shape))
    return [
        item.audio,
        item.language or "–",
        _number(profile.audio_seconds, 2),
        _number(profile.total_seconds, 3),
        _number(profile.realtime_factor, 1),
        str(item.generated_tokens),
        shape,
        item.finish_reason or "",
    ]


def _item_word_cells(item: Item) -> list[str]:
    seconds = item.aligner.seconds if item.aligner else None
    return [str(len(item.words)) if isinstance(item.words, list) else "–", _number(seconds, 3)]


def _safe(text: str) -> Text:
    return Text(printable(text))


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _times(performance: Performance) -> Iterator[tuple[str, str]]:
    runs = f", median of {len(performance.runs)}" if len(performance.runs) > 1 else ""
    yield "load", f"{performance.load_seconds:.3f} s"
    yield "warm-up", f"{performance.warmup_seconds:.3f} s"
    yield "reading files", f"{performance.read_seconds:.3f} s"
    yield f"run{runs}", f"{performance.run_seconds:.3f} s"
    yield "audio", f"{_number(performance.audio_seconds, 2)} s"
    yield "× real time", _number(performance.realtime_factor, 2)
    yield "× real time, with load", _number(performance.realtime_factor_with_load, 2)
    if performance.aligner_load_seconds is not None and performance.align_seconds is not None:
        yield "load of the aligner", f"{performance.aligner_load_seconds:.3f} s"
        yield "alignment", f"{performance.align_seconds:.3f} s"
    yield "tokens", str(performance.generated_tokens)
    yield "tokens a second", _number(performance.generated_tokens_per_second, 1)


def _stages(profile: Profile) -> Iterator[tuple[str, str]]:
    whole = profile.total_seconds
    for name, seconds in stage_seconds(profile).items():
        yield name, f"{seconds:.3f}" + (f"  {seconds / whole:4.0%}" if whole else "")


def _memory(memory: Memory | None) -> Iterator[tuple[str, str]]:
    for name, field in _MEMORY.items():
        if memory is not None and (size := getattr(memory, field)) is not None:
            yield name, f"{size:.0f} MiB"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
