"""What a person sees on stderr: a bar with the remaining time on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from qwen3_asr_mlx_runtime.command import note, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 10.0  # between lines that say how far a file is


class Screen(Protocol):
    def loading(self, stage: str, done: int | None, total: int | None) -> None:
        """The model is being loaded: `done` of `total` bytes, where they are known."""

    def loaded(self) -> None:
        """The model is loaded: the files come now."""

    def working(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` milliseconds of a file are transcribed."""

    def ended(self, name: str) -> None:
        """A file has its outcome."""

    def say(self, line: str) -> None:
        """Show a line, and keep it."""

    def print(self, text: str) -> None:
        """Write to stdout. Raises OSError."""


class Lines:
    """For pipes and logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at = clock()

    def loading(self, stage: str, done: int | None, total: int | None) -> None:
        if self._is_due():
            self.say(f"model: {stage}{_share(done, total)}")

    def loaded(self) -> None:
        pass

    def working(self, name: str, done: int, total: int | None) -> None:
        if self._is_due():
            self.say(f"{name}: {length(done / 1000)}{f' of {length(total / 1000)}' if total else ''}")

    def ended(self, name: str) -> None:
        pass

    def say(self, line: str) -> None:
        self._said_at = self._clock()
        note(line)

    def print(self, text: str) -> None:
        _print(text)

    def _is_due(self) -> bool:
        return self._clock() - self._said_at >= _LINE_SECONDS


class Bars:
    """For terminals: a bar for all files by their sizes, and one for each that takes longer."""

    def __init__(self, progress: "Progress", sizes: dict[str, int]) -> None:
        self._progress = progress
        self._sizes = sizes
        self._done: dict[str, float] = {}  # by file, of its size
        self._bars: dict[str, TaskID] = {}
        self._ended = 0
        self._all = progress.add_task("", total=sum(sizes.values()) or None, start=False)
        self._show_all()

    def loading(self, stage: str, done: int | None, total: int | None) -> None:
        self._progress.update(self._all, description=f"model: {stage}{_share(done, total)}")

    def loaded(self) -> None:
        self._progress.start_task(self._all)
        self._show_all()

    def working(self, name: str, done: int, total: int | None) -> None:
        if len(self._sizes) > 1:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(printable(name), total=total)
            self._progress.update(self._bars[name], completed=done, total=total)
        if total:
            self._done[name] = self._sizes[name] * done / total
        self._show_all()

    def ended(self, name: str) -> None:
        if name in self._bars:
            self._progress.remove_task(self._bars.pop(name))
        self._done[name] = self._sizes[name]
        self._ended += 1
        self._show_all()

    def say(self, line: str) -> None:
        self._progress.console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def print(self, text: str) -> None:
        if sys.stdout.isatty():  # the terminal of the bar
            self._progress.stop()
            _print(text)
            self._progress.start()
        else:
            _print(text)

    def _show_all(self) -> None:
        several = f"{self._ended} of {count(len(self._sizes))}"
        label = several if len(self._sizes) > 1 else printable(next(iter(self._sizes), ""))
        self._progress.update(self._all, description=label, completed=sum(self._done.values()))


@contextmanager
def screen(sizes: dict[str, int]) -> Iterator[Screen]:
    """`sizes`: the bytes of each file by its name."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
        from rich.text import Text
    except ModuleNotFoundError:  # the extra `transcribe`
        yield Lines()
        return

    class Remaining(ProgressColumn):
        """By all that is done. Rich's own looks at the latest steps, and segments that are decoded together come in
        one moment."""

        def render(self, task: Task) -> Text:
            if not task.elapsed or not task.completed or not task.total:
                return Text("-:--", style="progress.remaining")
            left = task.elapsed * (task.total - task.completed) / task.completed
            return Text(length(left), style="progress.remaining")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), Remaining())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=4) as progress:
        yield Bars(progress, sizes)


def count(files: int) -> str:
    return f"{files} {'file' if files == 1 else 'files'}"


def length(seconds: float) -> str:
    """`0:05`, `24:10`, `1:02:03`."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _share(done: int | None, total: int | None) -> str:
    return f" {100 * done // total} %" if done is not None and total else ""
