"""Utterances from their boundary to the line that tells of them: queued, decoded, batched, told."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from qwen3_asr_mlx_runtime.audio import pcm16
from qwen3_asr_mlx_runtime.batcher import Batch, Batcher, Reason, Spoken, in_runs
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled, LimitExceeded
from qwen3_asr_mlx_runtime.files import cancel_all
from qwen3_asr_mlx_runtime.finals import batch_final
from qwen3_asr_mlx_runtime.intake import Budget
from qwen3_asr_mlx_runtime.loading import Cause, Loading
from qwen3_asr_mlx_runtime.outbox import CancelState, Outbox, Ticket
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES, Decoding
from qwen3_asr_mlx_runtime.protocol.streams import UtteranceQueued
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.tasks import Task, resolve
from qwen3_asr_mlx_runtime.utterance import Samples
from qwen3_asr_mlx_runtime.work import Work


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
        self.budget = Budget(settings.max_pending_audio_seconds)
        self.unfinished: list[tuple[Spoken, BridgeError]] = []  # what the end kept from its transcript
        self._settings = settings
        self._work = work
        self._loading = loading
        self._outbox = outbox
        self._job_ids = job_ids
        self.clock = clock
        self._spoken: dict[int, Spoken] = {}  # by the id of its task
        self.end: BridgeError | None = None  # what ends with this very error is unfinished

    @property
    def open(self) -> int:
        """Batches that are not told, and waiting utterances without an outcome."""
        return len(self.batcher.batches) + sum(one.outcome is None for one in self.batcher.waiting)

    def enqueue_pcm(self, spoken: Spoken, pcm: bytes, ticket: Ticket | None) -> None:
        """Queue an utterance whose audio is there, and counted; answer its boundary."""
        spoken.samples = pcm16(pcm)
        spoken.sample_count = len(spoken.samples)
        self._make_task(spoken, samples=spoken.samples)
        self.batcher.waiting.append(spoken)
        if ticket is not None:
            self._queued(spoken, ticket)

    def enqueue_file(self, spoken: Spoken, path: str, ticket: Ticket) -> None:
        """Give an utterance its place in the queue; its boundary is answered when the file was read."""
        spoken.boundary = ticket
        ticket.on_cancel = lambda: self.cancel([spoken])
        self.batcher.waiting.append(spoken)
        self._make_task(spoken, path=path)

    def close_events(self, members: Iterable[Spoken], reason: Reason) -> None:
        """Let utterances go as events, and before them what waits of their streams."""
        for run in in_runs(self.batcher.leading(members)):
            batch = self.batcher.close(Batch(run, reason))
            self.decode(run, None, batch)
        self.tell()

    def close_for(self, batch: Batch, asked: Decoding | None) -> None:
        """Let utterances go as the reply to a request, which may say how to decode those that had nothing to say."""
        behind = set(map(id, batch.members))
        self.close_events([one for one in self.batcher.leading(batch.members) if id(one) not in behind], batch.reason)
        batch.decoder_mode = getattr(asked, "decoder_mode", None) or DECODER_MODES[0]
        self.batcher.close(batch)
        if batch.ticket is not None:
            batch.ticket.on_cancel = lambda: self._cancel_batch(batch)
        self.decode(batch.members, asked, batch.ticket)
        self.tell()

    def decode(self, members: Sequence[Spoken], asked: Decoding | None, cause: Cause | None) -> None:
        """Have these decoded, with these options; anew, if they were decoded ahead with others."""
        for spoken in members:
            said = [spoken.asked, *([asked] if asked else []), spoken.stream]
            options = resolve(self._settings, said)
            if options != spoken.options and spoken.task is not None:
                spoken.options = spoken.task.options = options
                if spoken.is_read and spoken.task.wanted and not isinstance(spoken.outcome, BridgeError):
                    self._decode_again(spoken, spoken.task)
            spoken.ahead = True
            if spoken.outcome is None and spoken.task is not None:
                self._loading.need(cause)
                self._work.want(spoken.task)

    def expire(self, members: Iterable[Spoken], timeout_ms: int | None) -> None:
        """What is not transcribed so long from now fails with `timeout`."""
        if timeout_ms is not None:
            for spoken in members:
                if spoken.task is not None:
                    self._work.expire(spoken.task, self.clock() + timeout_ms / 1000)

    def open_events(self, stream_id: str | None) -> list[Batch]:
        """Events that are not out yet, of one stream or of all."""
        batches = [batch for batch in self.batcher.batches if batch.ticket is None]
        return [batch for batch in batches if stream_id is None or stream_id in batch.streams]

    def tick(self) -> None:
        """Let go what has waited long enough: a batch as an event, or decoding ahead of the flush."""
        for head in self.batcher.due(self.clock()):
            group = self.batcher.group(head)
            if head.stream.auto_flush:
                self.close_events(group, "delay")
            else:
                self.decode(group, None, None)

    def load_failed(self) -> None:
        """What was decoded ahead of its flush waits on; all else that needs the model is ended by others."""
        for spoken in self.batcher.waiting:
            if spoken.task is not None:
                self._work.unwant(spoken.task)

    def was_read(self, task: Task) -> None:
        """The file of a boundary: the utterance is accepted now, or refused."""
        spoken = self._spoken[task.id]
        samples = task.samples if task.samples is not None else pcm16(b"")
        try:
            self.budget.take(len(samples))
        except LimitExceeded as error:
            self._work.give_up(task, error)
            return
        spoken.samples, spoken.sample_count = samples, len(samples)
        ticket, spoken.boundary = spoken.boundary, None
        if ticket is not None:
            self._queued(spoken, ticket)

    def settled(self, task: Task) -> None:
        spoken = self._spoken.pop(task.id, None)
        if spoken is None:  # it is decoded again, with other options
            return
        if spoken.boundary is not None and isinstance(task.outcome, BridgeError):
            self.batcher.remove(spoken)
            spoken.boundary.refuse(task.outcome)
        else:
            spoken.outcome, spoken.settled_at = task.outcome, self.clock()
            if self.end is not None and task.outcome is self.end:
                self.unfinished.append((spoken, self.end))
        self.tell()

    def cancel(self, members: Iterable[Spoken]) -> CancelState:
        return cancel_all([spoken.task for spoken in members if spoken.task is not None], self._work)

    def cancel_named(self, stream_id: str, utterance_id: str) -> CancelState:
        found = self.batcher.find(lambda one: (one.stream_id, one.utterance_id) == (stream_id, utterance_id))
        if not found:
            return "already_done" if self.batcher.was_told(stream_id, utterance_id) else "unknown"
        return self.cancel(found)

    def discard(self, spoken: Spoken, error: BridgeError) -> None:
        """Take an utterance out of the queue; another line names it."""
        self.batcher.remove(spoken)
        if spoken.task is not None:
            self._spoken.pop(spoken.task.id, None)
            self._work.give_up(spoken.task, error)
        if spoken.boundary is not None:
            spoken.boundary.refuse(error)
        self._forget(spoken)

    def take_left(self) -> list[Spoken]:
        """Take the utterances that no request asked for, all with their outcomes."""
        left, self.batcher.waiting = self.batcher.waiting, []
        for spoken in left:
            self._forget(spoken)
        return left

    def tell(self) -> None:
        """Say what may be said."""
        while (batch := self.batcher.tellable()) is not None:
            if batch.ticket is not None:
                batch.ticket.answer(batch.reply or batch_final(batch))
            elif batch.members:  # none is left where no file could be read
                self._outbox.tell(batch_final(batch))
            for spoken in batch.members:
                self._forget(spoken)

    def _queued(self, spoken: Spoken, ticket: Ticket) -> None:
        """An utterance was accepted: say so, or let it fill its batch."""
        waits = spoken in self.batcher.waiting
        fills = waits and self.batcher.is_full(spoken)
        if fills and not spoken.stream.auto_flush:
            asked = Decoding(max_new_tokens=spoken.asked.max_new_tokens)
            self.close_for(Batch(self.batcher.group(spoken), "batch_size", ticket, filled_by=spoken), asked)
            return
        queued = self.batcher.queued
        ticket.answer(
            UtteranceQueued(
                stream_id=spoken.stream_id,
                utterance_id=spoken.utterance_id,
                samples=spoken.sample_count or 0,
                queued=queued,
                batch_size=spoken.stream.batch_size,
            )
        )
        if fills:
            self.close_events(self.batcher.group(spoken), "batch_size")

    def _make_task(
        self, spoken: Spoken, *, path: str | None = None, samples: Samples | None = None, expires: float | None = None
    ) -> None:
        if expires is None and spoken.asked.timeout_ms is not None:
            expires = self.clock() + spoken.asked.timeout_ms / 1000
        task = Task(
            next(self._job_ids),
            self,
            spoken.options,
            lane=spoken.stream_id,
            path=path,
            samples=samples,
            expires=expires,
        )
        spoken.task = task
        self._spoken[task.id] = spoken
        self._work.add(task)

    def _decode_again(self, spoken: Spoken, former: Task) -> None:
        self._spoken.pop(former.id, None)
        spoken.outcome = spoken.settled_at = None
        self._make_task(spoken, samples=spoken.samples, expires=former.expires)
        if spoken.task is not None:
            spoken.task.warnings, spoken.task.read_seconds = former.warnings, former.read_seconds
        self._work.give_up(former, Cancelled("decoded again with other options"))

    def _cancel_batch(self, batch: Batch) -> CancelState:
        return self.cancel([*batch.members, *(one for each in batch.after for one in each.members)])

    def _forget(self, spoken: Spoken) -> None:
        """It was told: its audio is let go of, and its name remembered."""
        self.budget.give_back(spoken.sample_count or 0)
        spoken.samples = None
        self.batcher.remember(spoken)
