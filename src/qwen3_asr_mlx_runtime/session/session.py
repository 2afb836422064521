"""The session: requests, files and outcomes go in, lines and effects come out. No thread and no descriptor; the clock
is an argument.

Requests without an `id` are answered in order, one reply each; others as they finish. Work overlaps despite that order,
and all requests that wait for the model share one load.
"""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import (
    Aligned,
    EngineEnded,
    Failed,
    Finished,
    Loaded,
    LoadFailed,
    Outcome,
    PartialDone,
    Progress,
    Unloaded,
)
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import BridgeError, ShuttingDown
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request
from qwen3_asr_mlx_runtime.session.dispatcher import Dispatcher
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, Effect
from qwen3_asr_mlx_runtime.session.reply_queue import Outgoing
from qwen3_asr_mlx_runtime.session.session_state import ProcessHealth, SessionState
from qwen3_asr_mlx_runtime.session.shutdown import END_OF_INPUT
from qwen3_asr_mlx_runtime.settings import Settings


class Session:
    """One client's session. After every call, `take_line` returns the lines to write, `take_partial` the partials to
    write after them, and then `effects` the effects to perform."""

    def __init__(self, settings: Settings, clock: Callable[[], float], health: ProcessHealth | None = None) -> None:
        self._state = SessionState(settings, clock, health or ProcessHealth(started_at=clock(), progress_at=clock()))
        self._dispatcher = Dispatcher(self._state)

    @property
    def pending(self) -> int:
        """The number of open replies, results and lines not yet taken, without the last line."""
        return self._state.pending

    @property
    def is_draining(self) -> bool:
        """True once nothing new is accepted: after `stop`, the end of input, a signal or the loss of the engine."""
        return self._state.shutdown.is_draining

    @property
    def deadline(self) -> float | None:
        """When to call `tick` next."""
        return self._state.deadline

    @property
    def busy_since(self) -> float | None:
        """Start of the engine's current work without a pause; None if it is idle."""
        return self._state.scheduler.slots.busy_since

    @property
    def decoding_seconds(self) -> float:
        """The longest audio that one step of the engine may process now."""
        return self._state.scheduler.slots.seconds

    def take_line(self) -> Outgoing | None:
        """Take the next line, for a writer that has room."""
        return self._state.replies.take()

    @property
    def has_partials(self) -> bool:
        """Whether `take_partial` returns a partial once all lines are taken."""
        return self._state.replies.has_partials

    def take_partial(self) -> Outgoing | None:
        """Take the next partial, for a writer with nothing else to write. Until then a later one may replace it."""
        return self._state.replies.take_partial()

    def effects(self) -> list[Effect]:
        """The effects to perform now. No work starts while lines wait to be taken, because the client does not read."""
        state, scheduler = self._state, self._state.scheduler
        if state.replies.is_clear:
            scheduler.advance()
            state.deliver()
            state.partials.advance()
        state.utterances.free_audio()
        if state.partials.are_due and state.model.is_unloaded:
            state.model.need(None)
        effects = [*scheduler.effects]
        scheduler.effects.clear()
        return effects

    def handle(self, request: Request | Rejected, size: int = 0) -> None:
        """Handle a request. `size`: the bytes of input that are freed once its line is answered."""
        self._dispatcher.handle(request, size)
        self._state.settle()

    def tick(self) -> None:
        """Handle expired timers."""
        state = self._state
        state.model.tick()
        state.scheduler.tick()
        state.deliver()
        state.utterances.tick()
        state.deliver()
        state.send_progress()
        state.settle()
        deadline = state.shutdown.deadline
        if deadline is not None and deadline <= state.clock():
            self._abort("deadline", ShuttingDown("the deadline of `stop` came before this was finished"))

    def audio_read(self, audio: AudioRead) -> None:
        transcription = self._state.scheduler.audio_read(audio)
        if transcription is not None and transcription.stream_id is not None:
            self._state.utterances.audio_read(transcription)
        self._state.settle()

    def audio_failed(self, failure: AudioFailed) -> None:
        self._state.scheduler.audio_failed(failure)
        self._state.settle()

    def outcome(self, outcome: Outcome) -> None:
        """Handle an outcome that the engine has posted."""
        state = self._state
        match outcome:
            case Progress() | Loaded() | LoadFailed() | EngineEnded() if state.residency.is_under_way:
                pass  # it ends: Unloaded follows
            case Progress():
                state.model.progress(outcome)
                state.send_progress()
            case Loaded():
                state.loaded(outcome)
            case LoadFailed(error):
                state.load_failed(error)
            case EngineEnded(reason):
                state.engine_ended(reason)
            case Unloaded(freed_bytes):
                state.residency.unloaded(freed_bytes)
            case PartialDone() | Failed() if state.scheduler.partial_ended(outcome):
                state.partials.ended(outcome)
            case Finished() | Aligned() | Failed():
                self._job_ended(outcome)
        state.settle()

    def _job_ended(self, outcome: Finished | Aligned | Failed) -> None:
        state = self._state
        if isinstance(outcome, Failed):
            state.scheduler.ended(outcome.job_id, outcome.error)
            return
        state.recovery.job_finished()
        if isinstance(outcome, Aligned):
            state.scheduler.ended(outcome.job_id, outcome)
            return
        profile = outcome.transcript.profile
        profile.memory = Memory.of_bridge(profile.memory)
        state.scheduler.ended(outcome.job_id, outcome.transcript)

    @property
    def engine_is_lost(self) -> bool:
        """Whether the engine has ended too often to be started again."""
        return self._state.engine_is_lost

    def end_of_input(self) -> None:
        """No more requests will come: finish what was accepted."""
        self._state.drain(END_OF_INPUT)
        self._state.settle()

    def terminate(self) -> None:
        """After a signal: fail unfinished work, deliver finished results."""
        self._abort("signal", ShuttingDown("the process was ended by a signal before this was finished"))

    def engine_lost(self, error: BridgeError) -> None:
        """The engine is lost: fail all unfinished work."""
        self._abort(error.code, error)

    def finish(self) -> None:
        """Send the last line, once nothing is pending."""
        state = self._state
        dropped = state.streams.registry.buffered_samples
        state.shutdown.send_last_line(state.utterances, state.scheduler, dropped, as_events=state.has_events)

    def _abort(self, reason: str, error: BridgeError) -> None:
        self._state.abort(reason, error)
        self._state.settle()
