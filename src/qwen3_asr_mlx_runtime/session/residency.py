"""When the model leaves memory: on `unload`, or after it has been idle for so long."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.errors import Cancelled, TimedOut
from qwen3_asr_mlx_runtime.protocol import commands
from qwen3_asr_mlx_runtime.protocol.replies import Unloaded
from qwen3_asr_mlx_runtime.session.effects import Unload
from qwen3_asr_mlx_runtime.session.model_state import ModelState
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.utterances import Utterances


@dataclass(slots=True, eq=False)
class PendingUnload:
    """One unload from its request to its end. `request`: None where the model was idle for too long. `number`: its
    place among all unloads."""

    request: PendingRequest | None
    number: int
    is_abort: bool
    expires: float | None

    @property
    def is_wanted(self) -> bool:
        return self.request is None or self.request.answered is None


class Residency:
    """What was read before an unload is decoded, or cancelled; what is read after it waits and loads again.

    `has_outcome`: whether a transcription has ended since the last unload.
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
        self.has_outcome = False
        self._keep_seconds = keep_seconds
        self._scheduler = scheduler
        self._model = model
        self._utterances = utterances
        self._partials = partials
        self._clock = clock
        self._unloads: deque[PendingUnload] = deque()
        self._is_under_way = False  # the engine unloads for the first of them
        self._had_model = False
        self._idle_since: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = [unload.expires for unload in self._unloads if unload.is_wanted]
        return min((when for when in (*times, self._idle_until) if when is not None), default=None)

    def keep(self, seconds: float | None) -> None:
        """A client has use for the model. `seconds`: how long to keep it idle from now on, negative for ever, None as
        before."""
        self._idle_since = None
        if seconds is not None:
            self._keep_seconds = seconds if seconds >= 0 else None

    def unload(self, request: PendingRequest | None, command: commands.Unload) -> None:
        """Unload once all that was read before is decoded, or at once."""
        is_abort = command.mode == "abort"
        if not is_abort:
            self._utterances.decode_ahead([*self._utterances.waiting])
        self._partials.withdraw()
        self._model.hold()
        expires = None if command.timeout_ms is None else self._clock() + command.timeout_ms / 1000
        unload = PendingUnload(request, self._scheduler.hold(), is_abort, expires)
        self._unloads.append(unload)
        if request is not None:
            request.subject = unload
        if is_abort:
            error = Cancelled("`unload` ended it before it was finished")
            for earlier in [*self._unloads][:-1]:
                self._refuse(earlier, error)
            self._model.fail_all(error)
            self._scheduler.fail_all(error)

    def cancel(self, unload: PendingUnload) -> CancelState:
        if self._is_under_way and unload is self._unloads[0]:
            return "cancelling"
        self._refuse(unload, Cancelled("cancelled before the model was unloaded"))
        return "cancelled"

    def tick(self, *, is_idle: bool) -> None:
        self._note_idle(is_idle=is_idle)
        now = self._clock()
        for unload in self._unloads:
            if unload.expires is not None and unload.expires <= now:
                self._refuse(unload, TimedOut("not unloaded within `timeout_ms`"))
        if self._idle_until is not None and self._idle_until <= now:
            self._idle_since = None
            self.unload(None, commands.Unload())

    def advance(self, *, is_idle: bool) -> None:
        """Begin the first unload, if nothing is left to do before it."""
        self._note_idle(is_idle=is_idle)
        while self._unloads and not self._is_under_way:
            if not self._unloads[0].is_wanted:
                self._release()
            elif self._is_due(self._unloads[0]):
                self._begin()
            else:
                return

    def unloaded(self, freed_bytes: int) -> None:
        """The engine has unloaded."""
        self._is_under_way = self.has_outcome = False
        self._scheduler.engine_ended()
        self._partials.unloaded()
        self._model.unload()  # again, if its load has ended meanwhile
        self._scheduler.model_loaded = False
        if (request := self._unloads[0].request) is not None:
            request.answer(Unloaded(freed_bytes=freed_bytes if self._had_model else 0))
        self._release()

    @property
    def is_under_way(self) -> bool:
        return self._is_under_way

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

    def _is_due(self, unload: PendingUnload) -> bool:
        if unload.is_abort:
            return True
        is_busy = self._model.is_loading or not self._scheduler.slots.is_empty
        return not is_busy and not self._scheduler.must_decode_before(unload.number)

    def _begin(self) -> None:
        self._is_under_way = True
        self._had_model = self._model.model is not None or self._model.is_loading
        self._model.unload()
        self._scheduler.model_loaded = False
        self._scheduler.effects.append(Unload())

    def _release(self) -> None:
        """The first unload is over: what waits for it goes on."""
        self._unloads.popleft()
        self._scheduler.release()
        self._model.release(is_needed=self._scheduler.needs_model)

    def _refuse(self, unload: PendingUnload, error: Cancelled | TimedOut) -> None:
        if unload.request is not None:
            unload.request.refuse(error)
