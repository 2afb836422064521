"""The parts of one session, and the operations that involve several of them."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from qwen3_asr_mlx_runtime.audio.sound_file import formats
from qwen3_asr_mlx_runtime.engines.api import Loaded
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities, features
from qwen3_asr_mlx_runtime.protocol.replies import CapabilitiesReply, State
from qwen3_asr_mlx_runtime.protocol.streams import EngineRestarting
from qwen3_asr_mlx_runtime.session.file_requests import file_finished, file_progress
from qwen3_asr_mlx_runtime.session.model_state import ModelState, Recovery
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest, ReplyQueue
from qwen3_asr_mlx_runtime.session.residency import Residency
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.shutdown import Shutdown
from qwen3_asr_mlx_runtime.session.stream_handlers import StreamHandlers
from qwen3_asr_mlx_runtime.session.stream_registry import AudioBudget
from qwen3_asr_mlx_runtime.session.transcription import FileRequest
from qwen3_asr_mlx_runtime.session.utterances import Utterances
from qwen3_asr_mlx_runtime.settings import Settings


@dataclass(slots=True)
class ProcessHealth:
    """Facts that only the loop around the session knows. Times are of its clock, in seconds.

    `progress_at`: the engine's last progress. `timer_lag`: how late the last timer was.
    """

    started_at: float
    progress_at: float
    timer_lag: float = 0.0
    partial_line_bytes: Callable[[], int] = int
    session: str | None = None
    pid: int | None = None
    worker_memory: Callable[[], Memory | None] = lambda: None
    worker_pid: Callable[[], int | None] = lambda: None

    @contextmanager
    def timed(self, seconds: float) -> Iterator[None]:
        """Wraps a wait for a timer due in `seconds`; measures how late it was, unless the wait ended early."""
        due = running_in_sleep() + seconds
        try:
            yield
        finally:
            lag = running_in_sleep() - due
            if lag >= 0:
                self.timer_lag = lag


def running_in_sleep() -> float:
    """Seconds of a clock that runs while the machine sleeps, unlike `time.monotonic`."""
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    else:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class SessionState:
    """All parts of one session."""

    def __init__(self, settings: Settings, clock: Callable[[], float], health: ProcessHealth) -> None:
        self.settings = settings
        self.clock = clock
        self.wants: list[str] = []
        self.replies = ReplyQueue()
        self.recovery = Recovery(clock)
        self.engine_is_lost = False
        self.scheduler = Scheduler(clock, settings.gpu_share, max(1, len(settings.engine)))
        self.model = ModelState(self.scheduler.effects, clock)
        self.budget = AudioBudget(settings.max_pending_audio_seconds)
        self.utterances = Utterances(settings, self.scheduler, self.model, self.replies, self.budget, clock)
        self.partials = Partials(settings, self.scheduler, self.replies, clock, lambda: self.has_events)
        self.streams = StreamHandlers(settings, self.scheduler, self.utterances, self.partials, self.budget, clock)
        self.residency = Residency(
            settings.keep_alive_seconds, self.scheduler, self.model, self.utterances, self.partials, clock
        )
        self.shutdown = Shutdown(self.replies, clock)
        self.health = health
        self._capabilities = capabilities(settings)
        self._capabilities.session = health.session
        self._capabilities.server.pid = health.pid
        self._capabilities.audio.formats = list(formats())

    @property
    def has_events(self) -> bool:
        return "events" in self.wants

    @property
    def pending(self) -> int:
        """The number of open replies, results and lines not yet taken, without the last line."""
        return self.replies.pending + self.utterances.pending + self.scheduler.aligning

    @property
    def needs_model(self) -> bool:
        """Whether a request or an utterance waits for the model."""
        return self.model.is_awaited or self.scheduler.needs_model

    @property
    def is_idle(self) -> bool:
        """Whether the model is loaded and nothing has use for it."""
        has_audio = bool(self.utterances.waiting or self.streams.registry.buffered_samples)
        return self.model.is_ready and self.scheduler.is_idle and not has_audio

    @property
    def deadline(self) -> float | None:
        """When the next timer expires."""
        progress = self.model.deadline if self.replies.is_clear else None
        times = (
            self.model.load_at,
            self.scheduler.deadline,
            self.utterances.waiting.deadline,
            self.residency.deadline,
            self.partials.deadline,
            self.shutdown.deadline,
            progress,
        )
        return min((when for when in times if when is not None), default=None)

    @property
    def state(self) -> State:
        if self.shutdown.is_draining:
            return "draining"
        if self.model.is_loading:
            return "downloading" if self.model.stage == "download" else "loading"
        if self.model.model is not None:
            return "ready" if self.scheduler.slots.busy_since is None and not self.scheduler.ready else "busy"
        return "failed" if self.model.failed else "unloaded"

    def deliver(self) -> None:
        """Send every result that may be sent."""
        self._send_file_progress()
        is_settled = False
        while not is_settled:
            for transcription in self.scheduler.take_finished():
                self.residency.has_outcome = True
                if isinstance(transcription.origin, FileRequest):
                    file_finished(transcription.origin)
                else:
                    self.utterances.finished(transcription)
            for transcription in self.scheduler.take_aligned():
                if isinstance(transcription.origin, FileRequest):
                    file_finished(transcription.origin)
                else:
                    self.utterances.aligned(transcription)
            for request in self.replies.take_sent():
                self.utterances.delivery.sent(request)
            is_settled = not self.utterances.deliver()

    def settle(self) -> None:
        """Deliver what may be sent, load no model that nothing needs, and unload it if that is due."""
        self.deliver()
        is_leaving = self.shutdown.is_draining or self.residency.is_pending
        if is_leaving and self.model.is_loading and not self.needs_model:
            self.model.withdraw()
        if self.residency.is_active:
            self.residency.advance(is_idle=self.is_idle)

    def drain(self, reason: str, stop: PendingRequest | None = None) -> None:
        """Finish what was accepted, and accept nothing new."""
        if not self.shutdown.is_draining:
            self.partials.close()
            self.shutdown.drain(reason, self.utterances, as_events=self.has_events, stop=stop)

    def abort(self, reason: str, error: BridgeError) -> None:
        """Fail all unfinished work with this error."""
        self.drain(reason)
        requests = self.shutdown.abort(reason)
        self.utterances.end_error = error
        self.model.fail_all(error)
        self.scheduler.fail_all(error)
        self.deliver()
        for request in requests:
            self.shutdown.refuse(request, error)
            self.deliver()  # what could not be sent before this reply

    def loaded(self, model: Loaded) -> None:
        self.scheduler.model_loaded = True
        self.model.loaded(model)

    def engine_ended(self, reason: str) -> None:
        """The engine has ended: it is started again, unless it ends too often."""
        delay = self.recovery.ended(reason)
        was_alone = self.scheduler.engine_ended()
        self.partials.engine_ended(was_alone=was_alone)
        self.scheduler.model_loaded = False
        self.engine_is_lost = delay is None
        if delay is not None and self.model.engine_ended(delay):
            self.recovery.restarts += 1
            if "progress" in self.wants:
                self.replies.send_event(EngineRestarting(reason=reason, attempt=self.recovery.attempt))

    def load_failed(self, error: BridgeError) -> None:
        """Fail all requests that waited for this load; the next request that needs the model tries again."""
        self.model.load_failed(error)
        if not self.shutdown.is_draining:  # after that no flush can come
            self.utterances.load_failed()
        self.scheduler.fail_requested(error)

    def send_progress(self) -> None:
        """Send the progress of the load to a client that wants it. Newer progress replaces unsent progress."""
        if not self.replies.is_clear:
            return
        progress = self.model.take_progress()
        if progress is not None and "progress" in self.wants:
            self.replies.send_event(progress)

    def _send_file_progress(self) -> None:
        """Send the progress of files to a client that wants it."""
        for transcription in self.scheduler.take_advanced():
            progress = file_progress(transcription)
            if progress is not None and "progress" in self.wants:
                self.replies.send_event(progress)

    def capabilities(self) -> CapabilitiesReply:
        capabilities = msgspec.structs.replace(self._capabilities, want=self.wants)
        if self.model.engine is not None:
            capabilities.engine = self.model.engine
            capabilities.features = features(self.model.engine)
        return capabilities
