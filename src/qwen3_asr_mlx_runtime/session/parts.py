"""The parts of one conversation, and what they say together."""

from collections.abc import Callable
from itertools import count

import msgspec

from qwen3_asr_mlx_runtime.audio.sound_file import formats
from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities, limits
from qwen3_asr_mlx_runtime.protocol.replies import CapabilitiesReply, Pong, Queues, State, StatusReply
from qwen3_asr_mlx_runtime.session.batches import Batches
from qwen3_asr_mlx_runtime.session.model_state import Loading
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.reply_queue import Outbox
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.shutdown import Ending
from qwen3_asr_mlx_runtime.session.starting import Starting
from qwen3_asr_mlx_runtime.session.status import Vitals, pong, status
from qwen3_asr_mlx_runtime.session.stream_handlers import Speech
from qwen3_asr_mlx_runtime.settings import Settings


class Conversation:
    """What one client's session consists of."""

    def __init__(self, settings: Settings, clock: Callable[[], float], vitals: Vitals) -> None:
        self.settings = settings
        self.clock = clock
        self.wants: list[str] = []
        self.job_ids = count(1)
        self.outbox = Outbox()
        self.work = Work(clock)
        self.loading = Loading(self.work.effects, clock)
        self.starting = Starting(self.loading)
        self.batches = Batches(settings, self.work, self.loading, self.outbox, self.job_ids, clock)
        self.partials = Partials(settings, self.work, self.outbox, self.job_ids, clock, lambda: self.has_events)
        self.speech = Speech(settings, self.batches, self.partials)
        self.ending = Ending(self.outbox, self.work, self.starting, self.batches, self.speech.intake, clock)
        self._vitals = vitals
        self._capabilities = capabilities(settings)
        self._capabilities.session = vitals.session
        self._capabilities.server.pid = vitals.pid
        self._capabilities.audio.formats = list(formats())

    @property
    def has_events(self) -> bool:
        return "events" in self.wants

    @property
    def pending(self) -> int:
        """What is still to be said, a last line aside: requests, batches, and lines that nobody has taken."""
        return self.outbox.pending + self.batches.open

    @property
    def needs_model(self) -> bool:
        """Whether a request or an utterance waits for the model."""
        return self.starting.is_waiting or self.work.needs_model

    @property
    def deadline(self) -> float | None:
        """When something has to be looked at although nothing has happened."""
        progress = self.loading.deadline if self.outbox.is_clear else None
        times = (self.work.deadline, self.batches.batcher.deadline, self.ending.deadline, progress)
        return min((when for when in times if when is not None), default=None)

    @property
    def state(self) -> State:
        if self.ending.is_on:
            return "draining"
        if self.loading.is_on:
            return "downloading" if self.loading.stage == "download" else "loading"
        if self.loading.model is not None:
            return "ready" if self.work.busy_since is None and not self.work.ready else "busy"
        return "failed" if self.loading.failed else "unloaded"

    def tell_progress(self) -> None:
        """Say how far the load has come, if that is wanted, and if somebody reads."""
        if not self.outbox.is_clear or (news := self.loading.take_news()) is None:
            return
        if "progress" in self.wants:
            self.outbox.tell(news)

    def capabilities(self) -> CapabilitiesReply:
        return msgspec.structs.replace(self._capabilities, want=self.wants)

    def pong(self) -> Pong:
        return pong(self._vitals, self.clock(), self.state, self.work.busy_since)

    def status(self) -> StatusReply:
        counters = msgspec.structs.replace(
            self.outbox.counters,
            transcripts=self.work.transcripts,
            audio_seconds=round(self.work.audio_seconds, 3),
            chunks=self.speech.intake.chunks,
            errors=dict(self.outbox.counters.errors),
        )
        return status(
            self._vitals,
            self.clock(),
            self.state,
            self.work.busy_since,
            streams=len(self.speech.intake),
            queues=self._queues(),
            counters=counters,
            limits=limits(self.settings),
            mlx=self.loading.has_begun,
        )

    def _queues(self) -> Queues:
        work = self.work
        return Queues(
            requests=self.outbox.unanswered,
            utterances_waiting=len(self.batches.batcher),
            utterances_in_batches=self.batches.telling.utterances,
            files_unread=work.reading.unread,
            files_reading=work.reading.reading,
            files_stuck=work.reading.stuck,
            ready=work.ready,
            decoding=work.decoding,
            listening=work.listening,
            pending_audio_seconds=self.batches.budget.seconds,
        )
