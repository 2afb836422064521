"""The control loop on the main thread: inbox → session → effects, until there is a reason to end.

Everything that happens comes as a message in one inbox: requests from the stdin thread, audio from the audio threads,
outcomes from the engine's thread, news from the stdout thread, signals. Main never imports MLX and waits for nothing
else, so a signal or the parent's death is seen at once, whatever is being computed.
"""

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable

from qwen3_asr_mlx_runtime.audio_reader import AudioReader
from qwen3_asr_mlx_runtime.effects import AudioFailed, AudioRead, Cancel, Effect, LoadModel, ReadAudio, Send, Submit
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.jobs import Engine, Failed, Finished, Loaded, LoadFailed, Outcome, Post
from qwen3_asr_mlx_runtime.lifecycle import FORCED_EXIT_SECONDS, Exit, ParentWatch
from qwen3_asr_mlx_runtime.line_source import EndOfInput, LineSource, Received
from qwen3_asr_mlx_runtime.protocol.replies import Fatal, Reply, encode_reply, error_reply
from qwen3_asr_mlx_runtime.session import Session
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.wire.allowance import Allowance
from qwen3_asr_mlx_runtime.wire.descriptors import diagnose
from qwen3_asr_mlx_runtime.wire.writer import LineWriter, WriterNews

MAX_PENDING = 16  # requests in the session at a time; more of them wait here and in the pipe
PARENT_POLL_SECONDS = 1.0
GRACE_SECONDS = 0.1  # how long requests behind a `stop` or a signal are still refused before `stopped` is the last line
ENGINE_EXIT_SECONDS = 1.0

Message = Received | EndOfInput | AudioRead | AudioFailed | Outcome | WriterNews | Exit
MakeEngine = Callable[[Settings, Post], Engine]


class Daemon:
    """One conversation over two descriptors, from the first line to the exit code.

    An `Exit` in the `inbox` is a signal: end in an orderly way, soon, with that code.
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
        self._waiting: deque[Received | EndOfInput] = deque()
        self._session = Session(settings)
        self._allowance = Allowance()
        self._source = LineSource(stdin, self._inbox.put, self._allowance)
        self._writer = LineWriter(stdout, self._inbox.put)
        self._audio = AudioReader(settings.max_audio_seconds, self._inbox.put)
        self._engine = make_engine(settings, self._inbox.put)
        self._parent = parent
        self._next_parent_poll = clock() + PARENT_POLL_SECONDS
        self._input_ended = False
        self._grace_ends: float | None = None
        self._signal: Exit | None = None
        self._forced_exit: float | None = None
        self._closing = False
        self._exit: Exit | None = None

    def run(self) -> Exit:
        """Converse until the end; the exit code. Threads may be left behind: the process is to end without them."""
        self._writer.start()
        self._source.start()
        while self._exit is None:
            self._receive()
            self._advance()
        self._audio.close()
        if self._exit is not Exit.PARENT_GONE:
            self._engine.join(self._seconds_until(self._forced_exit, ENGINE_EXIT_SECONDS))
        return self._exit

    def fail(self, message: str) -> None:
        """A last line after an internal error, if it can still be written within a second."""
        self._writer.put(encode_reply(Fatal(code=BridgeError.code, message=message)))
        self._writer.finish()
        self._writer.join(1.0)

    def _receive(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._take(self._inbox.get(timeout=self._patience()))
        if self._clock() >= self._next_parent_poll:
            self._next_parent_poll = self._clock() + PARENT_POLL_SECONDS
            if self._parent.is_gone():
                self._exit = Exit.PARENT_GONE

    def _patience(self) -> float:
        """Seconds until something has to be looked at although nothing happened."""
        deadlines = (self._next_parent_poll, self._grace_ends, self._forced_exit)
        return min(self._seconds_until(deadline, PARENT_POLL_SECONDS) for deadline in deadlines)

    def _seconds_until(self, deadline: float | None, otherwise: float) -> float:
        return otherwise if deadline is None else max(0.0, deadline - self._clock())

    def _take(self, message: Message) -> None:
        match message:
            case Received() | EndOfInput():
                self._waiting.append(message)
            case AudioRead():
                self._perform(self._session.audio_read(message))
            case AudioFailed():
                self._perform(self._session.audio_failed(message))
            case WriterNews():
                self._heed(message)
            case Exit():
                self._terminate(message)
            case Loaded() | LoadFailed() | Finished() | Failed():
                self._note(message)
                self._perform(self._session.outcome(message))

    def _heed(self, news: WriterNews) -> None:
        if news is WriterNews.LOST:
            self._exit = Exit.PARENT_GONE
        elif news is WriterNews.WRITTEN:
            self._exit = self._signal or Exit.DONE

    def _terminate(self, code: Exit) -> None:
        self._signal = code
        self._forced_exit = self._clock() + FORCED_EXIT_SECONDS
        self._perform(self._session.terminate())

    def _note(self, outcome: Outcome) -> None:
        if isinstance(outcome, Loaded):
            diagnose(f"model loaded in {outcome.load_seconds:.2f} s")
        elif isinstance(outcome, LoadFailed):
            diagnose(f"loading failed: {outcome.error.code}")

    def _advance(self) -> None:
        """Take in what may be taken in, and close when nothing is left to do."""
        while self._waiting and self._has_room():
            self._admit(self._waiting.popleft())
        if self._session.ending and not self._session.pending and not self._closing and self._grace_is_over():
            self._close()
        if self._forced_exit is not None and self._clock() >= self._forced_exit:
            self._exit = self._exit or self._signal

    def _has_room(self) -> bool:
        return self._session.ending or (self._session.pending < MAX_PENDING and self._writer.has_room)

    def _admit(self, message: Received | EndOfInput) -> None:
        if isinstance(message, EndOfInput):
            self._input_ended = True
            self._perform(self._session.end_of_input())
            return
        self._allowance.give_back(message.size)
        self._perform(self._session.handle(message.request))

    def _grace_is_over(self) -> bool:
        if self._input_ended:
            return True
        if self._grace_ends is None:
            self._grace_ends = self._clock() + GRACE_SECONDS
        return self._clock() >= self._grace_ends

    def _close(self) -> None:
        self._closing = True
        self._perform(self._session.finish())
        self._writer.finish()
        self._engine.close()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(reply):
                    self._writer.put(_encode(reply))
                case LoadModel():
                    self._engine.load()
                case ReadAudio(job_id, path):
                    self._audio.start_reading(job_id, path)
                case Submit(job):
                    self._engine.submit(job)
                case Cancel(job_id):
                    self._engine.cancel(job_id)


def _encode(reply: Reply) -> bytes:
    try:
        return encode_reply(reply)
    except (TypeError, ValueError):
        failure = error_reply(BridgeError("the result holds a value that JSON cannot carry"))
        failure.id = reply.id
        return encode_reply(failure)
