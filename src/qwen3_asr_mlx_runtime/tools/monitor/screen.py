"""The picture of a session's figures, and the thread that draws it without delaying the relay."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.engines.profile import MIB
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.tools.distribution import Spread
from qwen3_asr_mlx_runtime.tools.monitor.figures import Summary
from qwen3_asr_mlx_runtime.tools.monitor.record import Note, Outcome, Partial

_DRAWN_EVERY = 0.5
_PATIENCE_SECONDS = 1.0
_TEXTS, _STREAMS = 5, 8


class Texts:
    """The last partial of each stream and a few last transcripts; empty unless the notes have texts."""

    def __init__(self) -> None:
        self._partials: dict[int, str] = {}
        self._finals: deque[str] = deque(maxlen=_TEXTS)

    def take(self, note: Note) -> None:
        if isinstance(note, Partial) and note.text is not None:
            self._partials.pop(note.stream, None)
            self._partials[note.stream] = note.text
            if len(self._partials) > _STREAMS:
                del self._partials[next(iter(self._partials))]
        if isinstance(note, Outcome) and note.text is not None:
            self._finals.append(note.text)

    def lines(self) -> list[Text]:
        finals = [Text(printable(text)) for text in self._finals]
        return finals + [Text(f"{stream}… {printable(text)}", "dim") for stream, text in self._partials.items()]


def picture(summary: Summary, texts: Texts, pane: Iterable[RenderableType] = ()) -> RenderableType:
    return Group(_head(summary), *pane, _times(summary), _rest(summary), *texts.lines())


def _head(summary: Summary) -> Text:
    ended = "" if summary.exit_code is None else f", ended with {summary.exit_code}"
    return Text(
        f"qwen3-asr-mlx-monitor: {_duration(summary.seconds)}, {summary.state or 'state unknown'}{ended}; waiting now "
        f"(at most): {summary.requests_waiting} ({summary.requests_waiting_most}) requests, "
        f"{summary.utterances_waiting} ({summary.utterances_waiting_most}) utterances; {summary.streams} streams"
    )


def _times(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("seconds", overflow="fold")
    for name in ("count", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = {f"reply to {name}": spread for name, spread in summary.answers.items()} | {
        "final: queue": summary.final_queue_seconds,
        "final: decode": summary.decode_seconds,
        "partial: queue": summary.partial_queue_seconds,
        "partial: work": summary.partial_seconds,
        "words: work": summary.align_seconds,
        "words: after the final": summary.words_wait_seconds,
        "real-time factor": summary.realtime_factors,
    }
    for name, spread in rows.items():
        if spread.count:
            table.add_row(name, *_cells(spread))
    return table


def _cells(spread: Spread) -> list[str]:
    return [str(spread.count), *(f"{value:.3g}" for value in (spread.p50, spread.p90, spread.p99, spread.maximum))]


def _rest(summary: Summary) -> Table:
    table = Table.grid(padding=(0, 2))
    recent = summary.recent
    factor = "" if summary.realtime_factor is None else f", real-time factor {summary.realtime_factor:g}"
    table.add_row(
        "throughput",
        f"{recent.audio_seconds_per_second:g} s of audio and {recent.tokens_per_second:g} tokens a second in the last "
        f"minute; in all {summary.audio_seconds:g} s{factor}",
    )
    table.add_row(
        "results",
        f"{summary.utterances} utterances, {summary.files} files, {summary.partials} partials, {summary.chunks} "
        f"chunks ({summary.streamed_seconds:g} s); tokens {summary.generated_tokens}, {summary.verified_tokens} of "
        f"them verified; redecoded {summary.redecoded}; {_counts(summary.finish_reasons)}",
    )
    if summary.words or summary.words_waiting_most or summary.words_unavailable:
        table.add_row(
            "words",
            f"{summary.words} found; finals whose words are to follow: {summary.words_waiting} (at most "
            f"{summary.words_waiting_most}); transcripts without words: {_counts(summary.words_unavailable)}",
        )
    table.add_row("memory, MiB", _memory(summary))
    table.add_row("errors", _counts(summary.errors))
    unseen = f", {summary.unseen_bytes} bytes not looked at" if summary.unseen_bytes else ""
    table.add_row(
        "pipe",
        f"{summary.lines_in} lines in, {summary.lines_out} out, {summary.bytes_in + summary.bytes_out} bytes{unseen}",
    )
    return table


def _memory(summary: Summary) -> str:
    if summary.memory is None or summary.first_memory is None:
        return "unknown yet"
    names = {
        "resident": "rss_bytes",
        "footprint": "footprint_bytes",
        "most": "rss_peak_bytes",
        "MLX": "mlx_active_bytes",
        "MLX at most": "mlx_peak_bytes",
        "MLX cache": "mlx_cache_bytes",
    }
    parts = []
    for name, field in names.items():
        first, now = getattr(summary.first_memory, field), getattr(summary.memory, field)
        if now is not None:
            since = "" if first is None else f" ({(now - first) / MIB:+.1f})"
            parts.append(f"{name} {now / MIB:.1f}{since}")
    return ", ".join(parts)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def find_terminal(chosen: Path | None) -> TextIO | None:
    """Where to draw: the chosen terminal; else stderr or the controlling terminal. None if stdout is a terminal, where
    lines of the bridge would disturb the drawing. Raises OSError if the chosen one cannot be opened, and InvalidParams
    if it is no terminal."""
    if chosen is not None:
        file = os.fdopen(os.open(chosen, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), "w", encoding="utf-8")
        if not file.isatty():
            raise InvalidParams(f"expected a terminal, as `tty` names it: {chosen}")
        os.set_blocking(file.fileno(), True)
        return file
    if os.isatty(1):
        return None
    for path in ("/dev/stderr", "/dev/tty"):
        try:
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_NOCTTY), "w", encoding="utf-8")
        except OSError:
            continue
        if file.isatty():
            return file
        file.close()
    return None


class Screen:
    """Draws twice a second on its own thread. A blocked terminal delays only that thread."""

    def __init__(self, file: TextIO, render: Callable[[], RenderableType]) -> None:
        self._file = file
        self._console = Console(file=file, force_terminal=True)
        self._render = render
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw a last time, waiting at most a second for it."""
        self._ends.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            with Live(console=self._console, auto_refresh=False, get_renderable=self._render, transient=False) as live:
                while not self._ends.wait(_DRAWN_EVERY):
                    self._draw(live)
                self._draw(live)
        except OSError:  # the terminal was closed
            return

    def _draw(self, live: Live) -> None:
        """Draw at this terminal's current size: rich would use that of stdin, stdout or stderr."""
        self._console.size = ConsoleDimensions(*os.get_terminal_size(self._file.fileno()))
        live.refresh()
