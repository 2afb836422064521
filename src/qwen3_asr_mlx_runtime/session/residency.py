"""When the model leaves memory: on `unload`, or after it has been idle for so long."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.errors import Cancelled, TimedOut
from qwen3_asr_mlx_runtime.protocol import commands
from qwen3_asr_mlx_runtime.protocol.replies import Unloaded
from qwen3_asr_mlx_runtime.session.effects import Unload
from qwen3_asr_mlx_runtime.session.model_state import ModelState
from qwen3_asr_mlx_runtime.session.partials import OpenUtterance, Partials
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.utterances import Utterances


@dataclass(slots=True, eq=False)
class PendingUnload:
    """One unload from its request to its end. `request`: None where the model was idle for too long. `barrier`: the
    scheduler's. `partials`: those that were wanted before it."""

    request: PendingRequest | None
    barrier: int
    partials: list[OpenUtterance]
    is_abort: bool
    expires: float | None

    @property
    def is_wanted(self) -> bool:
        return self.request is None or self.request.answered is None


class Residency:
    """What was read before an unload is decoded, or cancelled; what is read after it waits and loads again.

    `has_outcome`: whether a transcription has ended since the last `start`. `is_under_way`: the engine unloads.
    """

    def __init__(
        self,
        keep_seconds: float | None,
        scheduler: Scheduler,
        model: ModelState,
        utterances: Utterances,
        partials: Partials,
        clock: Callable[[], float],
    ) -> None:
        self.has_outcome = self.is_under_way = False
        self._keep_seconds = keep_seconds
        self._scheduler = scheduler
        self._model = model
        self._utterances = utterances
        self._partials = partials
        self._clock = clock
        self._unloads: deque[PendingUnload] = deque()
        self._had_model = False
        self._idle_since: float | None = None

    @property
    def is_pending(self) -> bool:
        return bool(self._unloads)

    @property
    def is_active(self) -> bool:
        """Whether `advance` may have something to do: an unload is pending, or comes once the model is idle."""
        return self.is_pending or self._keep_seconds is not None

    @property
    def deadline(self) -> float | None:
        """When to call `advance` at the latest."""
        times = (unload.expires for unload in self._waiting if unload.is_wanted)
        return min((when for when in (*times, self._idle_until) if when is not None), default=None)

    def keep_for(self, seconds: float) -> None:
        """From now on unload the model after so many idle seconds; never if negative."""
        self._keep_seconds = seconds if seconds >= 0 else None

    def used(self) -> None:
        """A client has use for the model: its idle time starts over."""
        self._idle_since = None
        self.has_outcome = False

    def unload(self, request: PendingRequest | None, command: commands.Unload) -> None:
        """Unload once all that was read before is decoded, or at once."""
        is_abort = command.mode == "abort"
        if not is_abort:
            self._decode_waiting()
        self._model.add_barrier()
        expires = None if command.timeout_ms is None else self._clock() + command.timeout_ms / 1000
        barrier = self._scheduler.add_barrier()
        unload = PendingUnload(request, barrier, self._partials.wanted, is_abort, expires)
        if request is not None:
            request.subject = unload
        if is_abort:
            self._abort(Cancelled("`unload` ended it before it was finished"))
        self._unloads.append(unload)

    def cancel(self, unload: PendingUnload) -> CancelState:
        if unload not in self._waiting:
            return "cancelling"
        self._refuse(unload, Cancelled("cancelled before the model was unloaded"))
        return "cancelled"

    def advance(self, *, is_idle: bool) -> None:
        """Refuse what has timed out, and begin the first unload if nothing is left to do before it."""
        now = self._clock()
        for unload in self._waiting:
            if unload.expires is not None and unload.expires <= now:
                self._refuse(unload, TimedOut("not unloaded within `timeout_ms`"))
        self._note_idle(is_idle=is_idle)
        if self._idle_until is not None and self._idle_until <= now:
            self.unload(None, commands.Unload())
        while self._unloads and not self.is_under_way:
            if not self._unloads[0].is_wanted:
                self._end_first()
            elif self._is_due(self._unloads[0]):
                self._begin()
            else:
                break

    def unloaded(self, freed_bytes: int) -> None:
        """The engine has unloaded."""
        self.is_under_way = False
        self._scheduler.engine_ended()
        self._partials.unloaded(self._unloads[0].partials)
        if (request := self._unloads[0].request) is not None:
            request.answer(Unloaded(freed_bytes=freed_bytes if self._had_model else 0))
        self._end_first()

    @property
    def _waiting(self) -> list[PendingUnload]:
        """Those that have not begun."""
        return [*self._unloads][self.is_under_way :]

    @property
    def _idle_until(self) -> float | None:
        if self._keep_seconds is None or self._idle_since is None:
            return None
        return self._idle_since + self._keep_seconds if self._keep_seconds or self.has_outcome else None

    def _note_idle(self, *, is_idle: bool) -> None:
        if not is_idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._clock()

    def _decode_waiting(self) -> None:
        """Decode what waits: for events at once, for a flush ahead of it."""
        waiting = [*self._utterances.waiting]
        self._utterances.start_events([each for each in waiting if each.utterance.stream.auto_flush], "flush")
        self._utterances.decode_ahead([*self._utterances.waiting])

    def _abort(self, error: Cancelled) -> None:
        """End all that was read before."""
        for unload in self._waiting:
            self._refuse(unload, error)
        self._model.fail_all(error)
        self._scheduler.fail_all(error)

    def _is_due(self, unload: PendingUnload) -> bool:
        is_needed = self._model.is_loading or self._scheduler.must_decode_before(unload.barrier)
        return unload.is_abort or not is_needed

    def _begin(self) -> None:
        self.is_under_way, self._idle_since = True, None
        self._had_model = self._model.model is not None or self._model.is_loading
        self._model.unload()
        self._scheduler.model_loaded = False
        self._scheduler.effects.append(Unload())

    def _end_first(self) -> None:
        """The first unload is over: what waits for it goes on."""
        self._unloads.popleft()
        self._scheduler.lift_barrier()
        self._model.lift_barrier(is_needed=self._scheduler.needs_model)

    def _refuse(self, unload: PendingUnload, error: Cancelled | TimedOut) -> None:
        if unload.request is not None:
            unload.request.refuse(error)
