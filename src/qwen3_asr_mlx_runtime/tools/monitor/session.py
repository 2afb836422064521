"""One session: a thread parses the relayed lines into figures, a record and a picture."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from rich.console import RenderableType

from qwen3_asr_mlx_runtime.client.messages import LineBuffer
from qwen3_asr_mlx_runtime.tools.monitor.figures import Figures, Summary
from qwen3_asr_mlx_runtime.tools.monitor.record import Began, Ended, Note, Recorder
from qwen3_asr_mlx_runtime.tools.monitor.relay import Block, Side, Tap
from qwen3_asr_mlx_runtime.tools.monitor.screen import Screen, Texts, picture
from qwen3_asr_mlx_runtime.tools.monitor.stderr_pane import StderrPane
from qwen3_asr_mlx_runtime.tools.monitor.watch import Watch

_PATIENCE_SECONDS = 5.0

Report = Callable[[str], object]


class Session:
    """Parses the relayed lines on its own thread, and holds the figures."""

    def __init__(
        self, tap: Tap, watch: Watch, recorder: Recorder | None, report: Report, pane: StderrPane | None
    ) -> None:
        self._tap = tap
        self._watch = watch
        self._recorder = recorder
        self._report = report
        self._pane = pane
        self._buffers: dict[Side, LineBuffer] = {"app": LineBuffer(), "bridge": LineBuffer()}
        self._figures, self._texts = Figures(), Texts()
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._take([Began(at=0.0, time=time.time())])
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def summary(self) -> Summary:
        with self._lock:
            return self._figures.summary(self._now())

    def draw(self, terminal: TextIO) -> Screen:
        def render() -> RenderableType:
            with self._lock:
                pane = [] if self._pane is None else self._pane.picture()
                return picture(self._figures.summary(self._now()), self._texts, pane)

        return Screen(terminal, render)

    def end(self, code: int) -> None:
        """Parse the remaining lines, for some seconds at most."""
        self._tap.close()
        self._thread.join(_PATIENCE_SECONDS)
        self._take([*self._watch.traffic(self._now(), self._tap.take_unseen()), Ended(at=self._now(), code=code)])
        self._note(None)

    def _now(self) -> float:
        return round(time.monotonic() - self._start, 6)

    def _run(self) -> None:
        last_traffic = 0.0
        while True:
            try:
                block = self._tap.take(timeout=1.0)
            except EOFError:
                return
            if block is not None:
                self._take(self._notes(block))
            if (now := self._now()) - last_traffic >= 1.0:
                last_traffic = now
                self._take(self._watch.traffic(now, self._tap.take_unseen()))
                self._note(None)

    def _notes(self, block: Block) -> Iterator[Note]:
        data, at = block.data, max(0.0, round(block.at - self._start, 6))
        if block.torn:  # go on with the next whole line
            self._buffers[block.side] = LineBuffer()
            data = data.partition(b"\n")[2]
        try:
            lines = self._buffers[block.side].feed(data)
        except ValueError:
            self._buffers[block.side] = LineBuffer()
            return
        for line in lines:
            yield from self._watch.sent(at, line) if block.side == "app" else self._watch.received(at, line)

    def _take(self, notes: Iterable[Note]) -> None:
        for note in notes:
            with self._lock:
                self._figures.take(note)
                self._texts.take(note)
            self._note(note)

    def _note(self, note: Note | None) -> None:
        """Write a note to the record; None flushes it."""
        if self._recorder is None:
            return
        try:
            if note is None:
                self._recorder.flush()
            else:
                self._recorder.write(note)
        except OSError as error:
            self._recorder = None
            self._report(f"the record ends here: {error.strerror}")
