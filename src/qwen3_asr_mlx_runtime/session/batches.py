"""Utterances from their boundary to the line that tells of them: queued, decoded, batched, told."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from qwen3_asr_mlx_runtime.audio.recording import pcm16
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError, LimitExceeded
from qwen3_asr_mlx_runtime.protocol.commands import Decoding
from qwen3_asr_mlx_runtime.session.decoding import SpokenTasks
from qwen3_asr_mlx_runtime.session.file_requests import cancel_all
from qwen3_asr_mlx_runtime.session.finals import batch_final, utterance_queued
from qwen3_asr_mlx_runtime.session.micro_batch import Batcher
from qwen3_asr_mlx_runtime.session.model_state import Loading
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, Outbox, Ticket
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.spoken import Batch, Reason, Spoken, in_runs
from qwen3_asr_mlx_runtime.session.stream_registry import Budget
from qwen3_asr_mlx_runtime.session.tasks import Task
from qwen3_asr_mlx_runtime.session.telling import Telling
from qwen3_asr_mlx_runtime.settings import Settings


class Batches:
    """Owns the queue and the batches. Each utterance gets one outcome, and each outcome stands in one line."""

    def __init__(
        self,
        settings: Settings,
        work: Work,
        loading: Loading,
        outbox: Outbox,
        job_ids: "count[int]",
        clock: Callable[[], float],
    ) -> None:
        self.batcher = Batcher()
        self.telling = Telling()
        self.budget = Budget(settings.max_pending_audio_seconds)
        self.unfinished: list[tuple[Spoken, BridgeError]] = []  # what the end kept from its transcript
        self.clock = clock
        self._work = work
        self._outbox = outbox
        self.tasks = SpokenTasks(settings, work, loading, job_ids, clock, self, self._unsettle)
        self._unanswered: deque[Spoken] = deque()  # whose boundaries are answered in their order
        self._is_telling = False
        self.end: BridgeError | None = None  # what ends with this very error is unfinished

    @property
    def open(self) -> int:
        """Batches that are not told, and waiting utterances without an outcome."""
        return len(self.telling) + self.batcher.unsettled

    @property
    def utterances(self) -> int:
        """Those that are not told."""
        return len(self.batcher) + self.telling.utterances

    def enqueue(self, spoken: Spoken, samples: Samples, ticket: Ticket | None) -> None:
        """Queue an utterance whose audio is there, and counted. `ticket`: of its boundary, to be answered."""
        spoken.samples, spoken.sample_count = samples, len(samples)
        self._enqueue(spoken, ticket, None)

    def enqueue_file(self, spoken: Spoken, path: str, ticket: Ticket) -> None:
        """Give an utterance its place in the queue; its boundary is answered when the file was read."""
        self._enqueue(spoken, ticket, path)

    def close_events(self, members: Iterable[Spoken], reason: Reason) -> None:
        """Let utterances go as events, and before them what waits of their streams."""
        for run in in_runs(self.batcher.leading(members)):
            batch = Batch(run, reason)
            self._open(batch)
            self.tasks.decode(run, None, batch)
        self.tell()

    def close_for(self, batch: Batch, asked: Decoding | None) -> None:
        """Let utterances go as the reply to a request, which may say how to decode those that had nothing to say."""
        members = {spoken.place for spoken in batch.members}
        first = [one for one in self.batcher.leading(batch.members) if one.place not in members]
        self.close_events(first, batch.reason)
        batch.decoder_mode = asked.decoder_mode if asked is not None else None
        self._open(batch)
        if batch.ticket is not None:
            batch.ticket.on_cancel = lambda: self.cancel(self.telling.waited_for(batch))
        self.tasks.decode(batch.members, asked, batch.ticket)
        self.tell()

    def tick(self) -> None:
        """Let go what has waited long enough: a batch as an event, or decoding ahead of the flush."""
        for head in self.batcher.due(self.clock()):
            group = self.batcher.group(head)
            if head.stream.auto_flush:
                self.close_events(group, "delay")
            else:
                self.tasks.decode_ahead(group)

    def load_failed(self) -> None:
        """What was decoded ahead of its flush waits on; all else that needs the model is ended by others."""
        for spoken in self.batcher:
            if spoken.task is not None:
                self._work.unwant(spoken.task)

    def was_read(self, task: Task) -> None:
        """The file of a boundary: the utterance is accepted now, or refused."""
        spoken = self.tasks.of(task)
        samples = task.samples if task.samples is not None else pcm16(b"")
        try:
            self.budget.take(len(samples))
        except LimitExceeded as error:
            self._work.give_up(task, error)
            return
        spoken.samples, spoken.sample_count = samples, len(samples)
        self._accept(spoken)

    def settled(self, task: Task) -> None:
        spoken = self.tasks.end(task)
        if spoken is None:
            return
        if not spoken.is_read and isinstance(task.outcome, BridgeError):
            self._refuse(spoken, task.outcome)
            self._answer_in_order()
        else:
            spoken.outcome, spoken.settled_at = task.outcome, self.clock()
            self.batcher.settle(spoken)
            self.telling.settle(spoken)
            if self.end is not None and task.outcome is self.end:
                self.unfinished.append((spoken, self.end))
        self.tell()

    def cancel(self, members: Iterable[Spoken]) -> CancelState:
        return cancel_all([spoken.task for spoken in members if spoken.task is not None], self._work)

    def cancel_named(self, stream_id: str, utterance_id: str) -> CancelState:
        named = [one for one in self.of_stream(stream_id) if one.utterance_id == utterance_id]
        if not named:
            return "already_done" if self.telling.was_told(stream_id, utterance_id) else "unknown"
        return self.cancel(named)

    def of_stream(self, stream_id: str) -> list[Spoken]:
        """Its utterances that are not told, in the order of their boundaries."""
        return [*self.telling.of_stream(stream_id), *self.batcher.of_stream(stream_id)]

    def discard(self, members: Sequence[Spoken], error: BridgeError) -> None:
        """Take utterances out of the queue. Another line names those that were accepted."""
        for spoken in members:
            self.batcher.remove(spoken)
            self.tasks.discard(spoken, error)
            if spoken.is_accepted:
                self._forget(spoken)
            else:
                self._refuse(spoken, error)
        self._answer_in_order()

    def take_left(self) -> list[Spoken]:
        """Take the utterances that no request asked for, all with their outcomes."""
        left = [*self.batcher]
        for spoken in left:
            self.batcher.remove(spoken)
            self._forget(spoken)
        return left

    def tell(self) -> None:
        """Say what may be said."""
        if self._is_telling:
            return
        self._is_telling = True
        while (batch := self.telling.take()) is not None:
            self._say(batch)
            for spoken in batch.members:
                self._forget(spoken)
        self._is_telling = False

    def _say(self, batch: Batch) -> None:
        if batch.ticket is not None:
            batch.ticket.answer(batch.reply or batch_final(batch))
            batch.ticket.when_it_left(lambda: self._left(batch))
            return
        if batch.members:  # none is left where no file could be read
            self._outbox.tell(batch_final(batch))
        self.telling.leave(batch)

    def _left(self, batch: Batch) -> None:
        self.telling.leave(batch)
        self.tell()

    def _enqueue(self, spoken: Spoken, ticket: Ticket | None, path: str | None) -> None:
        self.batcher.add(spoken)
        self.tasks.begin(spoken, path)
        if ticket is None:
            self.batcher.accept(spoken)
            return
        spoken.boundary = ticket
        ticket.on_cancel = lambda: self.cancel([spoken])
        if spoken.kind is None:
            self._unanswered.append(spoken)
        if spoken.is_read:
            self._accept(spoken)

    def _accept(self, spoken: Spoken) -> None:
        """Answer boundaries whose audio is there; those that may be answered with a batch in their order."""
        if spoken.kind is not None:
            self._queued(spoken)
        self._answer_in_order()

    def _answer_in_order(self) -> None:
        while self._unanswered and (self._unanswered[0].is_accepted or self._unanswered[0].is_read):
            head = self._unanswered.popleft()
            if not head.is_accepted:
                self._queued(head)

    def _refuse(self, spoken: Spoken, error: BridgeError) -> None:
        """Answer a boundary with an error: its utterance was never there."""
        self.batcher.remove(spoken)
        self.telling.remove(spoken)
        ticket, spoken.boundary = spoken.boundary, None
        if ticket is not None:
            dropped = (spoken.sample_count or 0) if spoken.source == "buffer" else 0
            ticket.refuse(error, **({"dropped_samples": dropped} if dropped else {}))
        self.budget.give_back(spoken.sample_count or 0)

    def _queued(self, spoken: Spoken) -> None:
        """An utterance was accepted: say so, or let it fill its batch."""
        ticket, spoken.boundary = spoken.boundary, None
        if ticket is None:
            return
        self.batcher.accept(spoken)
        fills = self.batcher.is_full(spoken)
        if fills and spoken.kind is None:
            group = [one for one in self.batcher.group(spoken) if one.place <= spoken.place]
            self.close_for(Batch(group, "batch_size", ticket, filled_by=spoken), spoken.said_for_its_batch)
            return
        ticket.answer(utterance_queued(spoken, self.batcher.queued))
        if fills:
            self.close_events(self.batcher.group(spoken), "batch_size")

    def _unsettle(self, spoken: Spoken) -> None:
        self.batcher.unsettle(spoken)
        self.telling.unsettle(spoken)

    def _open(self, batch: Batch) -> None:
        for spoken in batch.members:
            self.batcher.remove(spoken)
        self.telling.open(batch)

    def _forget(self, spoken: Spoken) -> None:
        """It was told: its audio is let go of, and its name remembered."""
        self.budget.give_back(spoken.sample_count or 0)
        spoken.samples = None
        self.telling.remember(spoken)
