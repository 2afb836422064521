"""The progress of a command, on stderr if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int | None, int | None], None]]:
    """Yields a function of a stage, the amount done and the total, if known. The bar disappears at the end."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("start", total=None)
        stages = [""]

        def show(stage: str, done: int | None, total: int | None) -> None:
            if stage != stages[-1]:
                progress.reset(task, total=total, description=stage)
                stages.append(stage)
            progress.update(task, completed=done or 0, total=total)

        yield show
