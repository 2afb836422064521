"""Utterances of streams from their boundary to the delivery of their result."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError, LimitExceeded
from qwen3_asr_mlx_runtime.protocol.commands import Decoding
from qwen3_asr_mlx_runtime.session.delivery import Delivery, Group, Reason, in_runs
from qwen3_asr_mlx_runtime.session.micro_batch import MicroBatch
from qwen3_asr_mlx_runtime.session.model_state import Cause, ModelState
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest, ReplyQueue
from qwen3_asr_mlx_runtime.session.results import realtime_batch_final, utterance_queued, words_ready
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.stream_registry import AudioBudget
from qwen3_asr_mlx_runtime.session.transcription import (
    AppendedAudio,
    State,
    StreamUtterance,
    Transcription,
    resolve,
)
from qwen3_asr_mlx_runtime.settings import Settings


class Utterances:
    """Owns the micro-batch and the groups. Each utterance gets one result, delivered in one line."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        model: ModelState,
        replies: ReplyQueue,
        budget: AudioBudget,
        clock: Callable[[], float],
    ) -> None:
        self.backend = settings.backend
        self.waiting = MicroBatch()
        self.delivery = Delivery()
        self.end_error: BridgeError | None = None  # an utterance that ends with this error object is unfinished
        self.unfinished: list[tuple[StreamUtterance, BridgeError]] = []
        self._settings = settings
        self._scheduler = scheduler
        self._model = model
        self._replies = replies
        self._budget = budget
        self._clock = clock
        self._delivered: list[Transcription] = []  # since the last `free_audio`
        self._written: list[Transcription] = []  # before it
        self._unanswered: deque[Transcription] = deque()  # their boundaries are answered in order

    def __len__(self) -> int:
        """Those that are not delivered."""
        return len(self.waiting) + self.delivery.utterances

    @property
    def pending(self) -> int:
        """Groups that are not delivered, and waiting utterances without a result."""
        return len(self.delivery) + self.waiting.unfinished

    def add_samples(
        self,
        utterance: StreamUtterance,
        samples: Samples,
        request: PendingRequest | None,
        in_engine: AppendedAudio | None = None,
    ) -> None:
        """Queue an utterance whose audio is in memory and counted. `request`: of its boundary. `in_engine`: its audio
        that the engine has."""
        utterance.sample_count = len(samples)
        self._add(self._scheduler.add_samples(utterance, samples, utterance.options, in_engine), request)

    def add_adopted(self, transcription: Transcription, request: PendingRequest | None) -> None:
        """As `add_samples`, where the final was begun before its boundary."""
        transcription.utterance.sample_count = transcription.sample_count
        self._add(transcription, request)

    def add_file(self, utterance: StreamUtterance, path: str, request: PendingRequest) -> None:
        """Queue an utterance; its boundary is answered once the file is read."""
        self._add(self._scheduler.add_file(utterance, path, utterance.options), request)

    def start_events(self, members: Iterable[Transcription], reason: Reason) -> None:
        """Decode utterances, and the earlier waiting ones of their streams, and deliver them as events."""
        for run in in_runs(self.waiting.leading(members)):
            group = Group(run, reason)
            self._open(group)
            self._request_decode(run, None, group)

    def start_reply(self, group: Group, overrides: Decoding | None) -> None:
        """Decode utterances and deliver them in the reply to a request, whose options apply to utterances that set
        none."""
        own = {*group.members}
        self.start_events([each for each in self.waiting.leading(group.members) if each not in own], group.reason)
        group.decoder_mode = overrides.decoder_mode if overrides is not None else None
        self._open(group)
        if group.request is not None:
            group.request.subject = group
        self._request_decode(group.members, overrides, group.request)

    def decode_ahead(self, members: Sequence[Transcription]) -> None:
        """Decode utterances before a request needs them."""
        self._request_decode(members, None, None)

    def tick(self) -> None:
        """Start utterances whose delay is over: as events, or as decoding ahead of the flush."""
        for head in self.waiting.due(self._clock()):
            group = self.waiting.group(head)
            if head.utterance.stream.auto_flush:
                self.start_events(group, "delay")
            else:
                self.decode_ahead(group)

    def load_failed(self) -> None:
        """Return utterances that were decoded ahead to the waiting state."""
        for transcription in self.waiting:
            self._scheduler.withdraw(transcription)

    def audio_read(self, transcription: Transcription) -> None:
        """The file of a boundary was read: accept or reject the utterance."""
        samples = transcription.sample_count
        try:
            self._budget.take(samples)
        except LimitExceeded as error:
            self._scheduler.fail(transcription, error)
            return
        transcription.utterance.sample_count = samples
        self._accept(transcription)

    def finished(self, transcription: Transcription) -> None:
        """An utterance has its result."""
        result = transcription.result
        if not transcription.utterance.is_read and isinstance(result, BridgeError):
            self._refuse(transcription, result)
            self._answer_in_order()
            return
        self.delivery.changed(transcription)
        if self.end_error is not None and result is self.end_error:
            self.unfinished.append((transcription.utterance, self.end_error))

    def deliver(self) -> bool:
        """Send the next line of results. False if none is ready."""
        delivered = self.delivery.take()
        if delivered is None:
            return False
        group, members = delivered
        if group.request is None:
            self._replies.send_event(realtime_batch_final(group, members, self.backend))
            group.load_seconds = 0.0  # only one line reports the load
        else:
            group.request.answer(group.reply or realtime_batch_final(group, members, self.backend))
            if group.request.sent:
                self.delivery.sent(group.request)
        for transcription in members:
            self.delivery.remember(transcription)
            self._budget.give_back(transcription.utterance.sample_count or 0)
            if transcription.words_pending:
                self.delivery.words_follow(transcription, group)
            else:
                self._delivered.append(transcription)
        return True

    def free_audio(self) -> None:
        """Free the audio of what was delivered before the last call. It takes longer than a line, which is written on
        another thread meanwhile."""
        for transcription in self._written:
            transcription.close()
        self._written, self._delivered = self._delivered, []

    def aligned(self, transcription: Transcription) -> None:
        """The words of an utterance have their outcome. If it was delivered without, they follow."""
        if transcription.state is not State.DELIVERED:
            self.delivery.changed(transcription)
            return
        self._replies.send_event(words_ready(transcription))
        self.delivery.words_sent(transcription)
        if self.end_error is not None and self.end_error in (each.outcome for each in transcription.alignments):
            self.unfinished.append((transcription.utterance, self.end_error))
        transcription.close()

    def named(self, stream_id: str, utterance_id: str) -> list[Transcription]:
        """The undelivered utterances of a name, in the order of their boundaries."""
        mine = [*self.delivery.of_stream(stream_id), *self.waiting.of_stream(stream_id)]
        return [each for each in mine if each.utterance.utterance_id == utterance_id]

    def has_stream(self, stream_id: str) -> bool:
        """Whether a stream has undelivered utterances."""
        return any(True for _ in self.delivery.of_stream(stream_id)) or bool(self.waiting.of_stream(stream_id))

    def cancel_named(self, stream_id: str, utterance_id: str) -> CancelState:
        members = self.named(stream_id, utterance_id)
        if not members:
            return "already_done" if self.delivery.was_delivered(stream_id, utterance_id) else "unknown"
        return self._scheduler.cancel(members)

    def discard(self, stream_id: str, error: BridgeError) -> list[str]:
        """Cancel all utterances of a stream; return the names of those that no other line names."""
        self._scheduler.cancel([*self.delivery.of_stream(stream_id), *self.delivery.without_words(stream_id)])
        named = []
        for transcription in self.waiting.of_stream(stream_id):
            self.waiting.remove(transcription)
            self._scheduler.discard(transcription, error)
            if transcription.utterance.is_accepted:
                named.append(transcription.utterance.utterance_id)
                self._forget(transcription)
            else:
                self._refuse(transcription, error)
        self._answer_in_order()
        return named

    def take_left(self) -> list[Transcription]:
        """Take the utterances that no flush delivered, all with their results."""
        left = [*self.waiting]
        for transcription in left:
            self.waiting.remove(transcription)
            self._forget(transcription)
        return left

    def _add(self, transcription: Transcription, request: PendingRequest | None) -> None:
        utterance = transcription.utterance
        self.waiting.add(transcription)
        self._scheduler.expire_after([transcription], utterance.boundary.timeout_ms)
        if request is None:
            self.waiting.accept(transcription)
            return
        utterance.boundary_request = request
        request.subject = transcription
        if utterance.group_key is None:
            self._unanswered.append(transcription)
        if utterance.is_read:
            self._accept(transcription)

    def _accept(self, transcription: Transcription) -> None:
        """Answer boundaries whose audio is read; boundaries that may be answered with a group are answered in order."""
        if transcription.utterance.group_key is not None:
            self._answer_boundary(transcription)
        self._answer_in_order()

    def _answer_in_order(self) -> None:
        while self._unanswered:
            utterance = self._unanswered[0].utterance
            if not utterance.is_accepted and not utterance.is_read:
                return
            head = self._unanswered.popleft()
            if not utterance.is_accepted:
                self._answer_boundary(head)

    def _answer_boundary(self, transcription: Transcription) -> None:
        """An utterance was accepted: answer its boundary, or let it fill its group."""
        utterance = transcription.utterance
        request, utterance.boundary_request = utterance.boundary_request, None
        if request is None:
            return
        self.waiting.accept(transcription)
        fills = self.waiting.is_full(transcription)
        if fills and utterance.group_key is None:
            members = [each for each in self.waiting.group(transcription) if each.utterance.seq <= utterance.seq]
            group = Group(members, "batch_size", request, filled_by=transcription)
            self.start_reply(group, utterance.group_overrides)
        else:
            request.answer(utterance_queued(utterance, self.waiting.queued))
            if fills:
                self.start_events(self.waiting.group(transcription), "batch_size")
            elif utterance.provisional in ("ready", "running") and utterance.group_key is not None:
                self.start_events([transcription], "pause")
        self.delivery.changed(transcription)

    def _refuse(self, transcription: Transcription, error: BridgeError) -> None:
        """Reject a boundary with an error: its utterance is not queued."""
        self.waiting.remove(transcription)
        self.delivery.remove(transcription)
        utterance = transcription.utterance
        request, utterance.boundary_request = utterance.boundary_request, None
        if request is not None:
            dropped = (utterance.sample_count or 0) if utterance.source == "buffer" else 0
            request.refuse(error, **({"dropped_samples": dropped} if dropped else {}))
        self._budget.give_back(utterance.sample_count or 0)

    def _request_decode(
        self, members: Sequence[Transcription], overrides: Decoding | None, cause: Cause | None
    ) -> None:
        if self.end_error is not None:  # after an abort nothing is decoded
            return
        for transcription in members:
            utterance, options = transcription.utterance, transcription.utterance.options
            if overrides is not None:
                options = resolve(self._settings, [utterance.boundary, overrides, utterance.stream])
            self._scheduler.request_decode(transcription, options)
            utterance.decode_started = True
            if transcription.is_unfinished or transcription.words_pending:
                self._model.need(cause)

    def _open(self, group: Group) -> None:
        for transcription in group.members:
            self.waiting.remove(transcription)
        self.delivery.open(group)

    def _forget(self, transcription: Transcription) -> None:
        """Free the audio of a delivered utterance, and remember its name."""
        self._budget.give_back(transcription.utterance.sample_count or 0)
        transcription.release()
        self.delivery.remember(transcription)
