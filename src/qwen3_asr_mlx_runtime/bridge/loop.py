"""The control loop on the main thread: inbox → session → effects, until there is a reason to end.

All input comes as messages in one inbox: requests from the stdin thread, audio from the audio threads, outcomes from
the engine's thread, news from the stdout thread, signals. The main thread never imports MLX and waits only on the
inbox, so it handles a signal or the parent's death at once, even during a computation.
"""

import contextlib
import os
import queue
import secrets
import time
from collections.abc import Callable

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.bridge.file_reader import FileReader
from qwen3_asr_mlx_runtime.bridge.input_allowance import InputAllowance
from qwen3_asr_mlx_runtime.bridge.lifecycle import FORCED_EXIT_SECONDS, Exit, ParentWatch
from qwen3_asr_mlx_runtime.bridge.line_writer import LineWriter, WriterNews
from qwen3_asr_mlx_runtime.bridge.stdin_reader import EndOfInput, Received, StdinReader
from qwen3_asr_mlx_runtime.bridge.watchdog import Watchdog, log_outcome, log_stacks
from qwen3_asr_mlx_runtime.diagnostics import Crash, diagnose
from qwen3_asr_mlx_runtime.engines.api import (
    Engine,
    Outcome,
    Post,
)
from qwen3_asr_mlx_runtime.errors import BridgeError, EngineUnavailable
from qwen3_asr_mlx_runtime.protocol.replies import Fatal, encode_any_line, encode_line
from qwen3_asr_mlx_runtime.session.effects import (
    AudioFailed,
    AudioRead,
    Effect,
    ReadAudio,
    ReadMore,
    StopReading,
    Unload,
    WatchParent,
)
from qwen3_asr_mlx_runtime.session.reply_queue import Outgoing
from qwen3_asr_mlx_runtime.session.session import Session
from qwen3_asr_mlx_runtime.session.session_state import ProcessHealth
from qwen3_asr_mlx_runtime.settings import Settings

POLL_SECONDS = 1.0  # how often the parent, the engine and memory are checked
GRACE_SECONDS = 0.1  # how long requests after a `stop` or a signal are still rejected before the last line
ENGINE_EXIT_SECONDS = 1.0
MESSAGES_IN_A_ROW = 64  # at most, before lines are written and work starts

Message = Received | EndOfInput | AudioRead | AudioFailed | Outcome | WriterNews | Exit | Crash
MakeEngine = Callable[[Settings, Post], Engine]


class Loop:
    """One session over two descriptors, from the first line to the exit code.

    An `Exit` in the `inbox` is a signal: end soon, with that code. Raises RuntimeError if a thread cannot be started.
    """

    def __init__(
        self,
        settings: Settings,
        stdin: int,
        stdout: int,
        make_engine: MakeEngine,
        *,
        inbox: queue.SimpleQueue[Message],
        parent: ParentWatch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._inbox = inbox
        self._allowance = InputAllowance()
        self._source = StdinReader(stdin, self._inbox.put, self._allowance)
        self._writer = LineWriter(stdout, self._inbox.put)
        self._audio = FileReader(settings.max_audio_seconds, settings.segment_seconds, self._inbox.put)
        self._engine = make_engine(settings, self._inbox.put)
        self._watchdog = Watchdog(self._engine, clock)
        self._parent = parent
        self._trimming = process_memory.Trimming()
        self._health = ProcessHealth(
            started_at=clock(),
            progress_at=clock(),
            partial_line_bytes=lambda: self._source.partial_bytes,
            session=secrets.token_hex(8),
            pid=os.getpid(),
            worker_memory=lambda: self._engine.memory,
            worker_pid=lambda: self._engine.pid,
        )
        self._session = Session(settings, clock, self._health)
        self._next_poll = clock() + POLL_SECONDS
        self._input_ended = False
        self._grace_ends: float | None = None
        self._forced_exit: float | None = None
        self._closing = False
        self._code = Exit.DONE
        self._exit: Exit | None = None
        self._writer.start()
        self._source.start()

    def run(self) -> Exit:
        """Run until the end; return the exit code. Threads may still run: the process must end without them."""
        while self._exit is None:
            self._receive()
            self._check()
            self._session.tick()
            self._advance()
        if self._exit is Exit.DONE:
            self._engine.join(ENGINE_EXIT_SECONDS)
        elif self._forced_exit is not None:
            self._engine.join(self._seconds_until(self._forced_exit))
        return self._exit

    def fail(self, message: str) -> None:
        """Send a last line after an internal error, waiting at most a second for the write."""
        self._writer.put(encode_line(Fatal(code=BridgeError.code, message=message)))
        self._writer.finish()
        self._writer.join(1.0)

    def _receive(self) -> None:
        """Wait for a message, and handle it and those behind it."""
        timeout = self._seconds_to_next_timer()
        with contextlib.suppress(queue.Empty):
            with self._health.timed(timeout):
                message = self._inbox.get(timeout=timeout)
            self._take(message)
            for _ in range(MESSAGES_IN_A_ROW):
                self._take(self._inbox.get_nowait())

    def _seconds_to_next_timer(self) -> float:
        """Seconds until the next timer expires."""
        deadlines = (self._next_poll, self._grace_ends, self._forced_exit, self._session.deadline)
        return min(self._seconds_until(deadline) for deadline in deadlines if deadline is not None)

    def _seconds_until(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock())

    def _check(self) -> None:
        """The engine, and once a second the parent and memory: buffers of ever new lengths leave gaps in it."""
        self._watchdog.check()
        self._health.progress_at = self._watchdog.progress_at
        if self._clock() < self._next_poll:
            return
        self._next_poll = self._clock() + POLL_SECONDS
        if self._parent.is_gone():
            self._exit = Exit.PARENT_GONE
        elif self._watchdog.is_stuck(self._session.busy_since, self._session.decoding_seconds):
            log_stacks()
            self._engine.kill("stalled")
        self._trimming.after_growth()

    def _take(self, message: Message) -> None:
        match message:
            case Received(request, size):
                self._session.handle(request, size)
            case EndOfInput():
                self._input_ended = True
                self._session.end_of_input()
            case AudioRead():
                self._session.audio_read(message)
            case AudioFailed():
                self._session.audio_failed(message)
            case WriterNews():
                self._handle_writer_news(message)
            case Exit():
                self._end_soon(message)
                self._session.terminate()
            case Crash(thread):
                self._handle_crash(thread)
            case _:
                self._take_outcome(message)

    def _take_outcome(self, outcome: Outcome) -> None:
        log_outcome(outcome)
        self._session.outcome(outcome)
        if self._session.engine_is_lost:
            self._lose_engine(EngineUnavailable("the engine has ended too often"))

    def _handle_writer_news(self, news: WriterNews) -> None:
        if news is WriterNews.LOST:
            self._exit = Exit.PARENT_GONE
        elif news is WriterNews.WRITTEN:
            self._exit = self._code

    def _end_soon(self, code: Exit) -> None:
        self._code = code
        self._forced_exit = self._clock() + FORCED_EXIT_SECONDS

    def _handle_crash(self, thread: str) -> None:
        """The session survives only a crash of the engine's thread: all others are needed to reply."""
        if thread != "engine":
            raise RuntimeError(f"the thread {thread} has failed")
        self._lose_engine(EngineUnavailable("the engine has failed"))

    def _lose_engine(self, trouble: BridgeError) -> None:
        if self._closing or self._code is not Exit.DONE:
            return  # the process is ending already
        diagnose(f"the engine is lost: {trouble.code}")
        self._end_soon(Exit.ENGINE_LOST)
        self._session.engine_lost(trouble)

    def _advance(self) -> None:
        """Write pending lines, perform effects, and close when nothing is left to do."""
        if not self._closing:  # nothing follows the last line: later input is read but not answered
            self._write()
        self._perform(self._session.effects())
        if self._session.is_draining and not self._session.pending and not self._closing and self._grace_is_over():
            self._close()
        if self._forced_exit is not None and self._clock() >= self._forced_exit:
            self._exit = self._exit or self._code

    def _write(self) -> None:
        while self._writer.has_room and (outgoing := self._session.take_line()) is not None:
            self._put(outgoing)
        while self._session.has_partials and self._writer.is_empty_or_notifies():
            if (partial := self._session.take_partial()) is None:
                return
            self._put(partial)

    def _put(self, outgoing: Outgoing) -> None:
        if outgoing.line is not None:
            self._writer.put(encode_any_line(outgoing.line))
        self._allowance.give_back(outgoing.size)

    def _grace_is_over(self) -> bool:
        if self._input_ended:
            return True
        if self._grace_ends is None:
            self._grace_ends = self._clock() + GRACE_SECONDS
        return self._clock() >= self._grace_ends

    def _close(self) -> None:
        self._closing = True
        self._session.finish()
        if (last := self._session.take_line()) is not None:  # put even if the queue is full
            self._put(last)
        self._writer.finish()
        self._engine.close()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case ReadAudio():
                    self._audio.start(effect)
                case ReadMore(job_id):
                    self._audio.read_more(job_id)
                case StopReading(job_id):
                    self._audio.stop(job_id)
                case WatchParent(pid):
                    self._parent.watch(pid)
                case Unload():
                    self._engine.unload()
                case _:
                    self._engine.send(effect)
