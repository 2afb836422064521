"""What a client asks of its streams: boundaries, flushes, and their end."""

from collections.abc import Iterable

from msgspec import UNSET

from qwen3_asr_mlx_runtime.audio.pcm_buffer import length, resampled
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import Cancelled, LimitExceeded, NoAudio
from qwen3_asr_mlx_runtime.protocol.commands import Boundary, EndUtterance, Flush, StartStream, StopStream
from qwen3_asr_mlx_runtime.protocol.streams import Split, StreamReady, StreamStopped
from qwen3_asr_mlx_runtime.protocol.transcripts import Source
from qwen3_asr_mlx_runtime.session.batches import Batches
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.reply_queue import Ticket
from qwen3_asr_mlx_runtime.session.spoken import After, Batch, Spoken
from qwen3_asr_mlx_runtime.session.stream import Stream, check_is_rate_of, check_stream_rate, checked_pcm
from qwen3_asr_mlx_runtime.session.stream_registry import IMPLICIT, Intake
from qwen3_asr_mlx_runtime.session.tasks import resolve
from qwen3_asr_mlx_runtime.settings import Settings


class Speech:
    """Requests come with their tickets. A RequestError is raised before anything is changed."""

    def __init__(self, settings: Settings, batches: Batches, partials: Partials) -> None:
        self.intake = Intake(settings, batches.budget, partials, self._split_off, self._is_in_use)
        self._settings = settings
        self._batches = batches

    @property
    def needs_events(self) -> bool:
        """Whether something is to be told that only events can tell."""
        waiting = any(spoken.stream.auto_flush for spoken in self._batches.batcher)
        return waiting or self._batches.telling.has_events or self.intake.has_auto_flush

    def start(self, command: StartStream, *, may_replace: bool) -> tuple[Stream, StreamReady]:
        """Open a stream: it, and the reply for when the model is there. Where replies will tell what events have told,
        what is left for events goes now: a reply must not come to wait for an event that waits for a reply."""
        stream, dropped = self.intake.start(command, may_replace=may_replace)
        if not command.auto_flush:
            self._close_events(self._batches.batcher.of_stream(stream.id))
        ready = StreamReady(
            stream_id=stream.id,
            sample_rate=command.sample_rate,
            batch_size=command.batch_size,
            max_batch_delay_ms=command.max_batch_delay_ms,
            auto_flush=command.auto_flush,
            decoder_mode=resolve(self._settings, [command]).decoder_mode,
            on_limit=command.on_limit,
            dropped_samples=dropped,
        )
        if command.partials:
            ready.partials, ready.partial_interval_ms = True, command.partial_interval_ms
            ready.final_policy = command.final_policy
        return stream, ready

    def boundary(self, ticket: Ticket, command: Boundary, *, known_only: bool) -> None:
        stream = self.intake.find(command.stream_id, known_only=known_only)
        if stream.command.auto_flush or ticket.id is not UNSET:
            self._check_count()  # all others wait for the replies before their own, and the reader of input with them
        inline = self._checked_audio(stream, command)
        if not self.intake.is_open(stream):
            self.intake.register(stream)
            ticket.warn(IMPLICIT)
        if command.audio is not None:
            self._batches.enqueue_file(self._spoken(stream, command, "audio"), command.audio, ticket)
        elif inline is not None:
            self._batches.enqueue(self._spoken(stream, command, "pcm16"), inline, ticket)
        else:
            self._end_utterance(stream, command, ticket)

    def flush(self, ticket: Ticket, command: Flush) -> None:
        batches, stream_id = self._batches, command.stream_id
        if stream_id is not None and not batches.of_stream(stream_id):
            self.intake.find(stream_id, known_only=True)
        asked_for = [*batches.batcher] if stream_id is None else batches.batcher.of_stream(stream_id)
        self._close_events(asked_for)
        held = [one for one in asked_for if one in batches.batcher]  # what an event took along is not here any more
        batches.close_for(Batch(held, "flush", ticket, after=After(stream_id)), command)
        batches.tasks.expire(asked_for, command.timeout_ms)

    def stop(self, ticket: Ticket, command: StopStream) -> None:
        stream, dropped = self.intake.stop(command.stream_id)
        batches = self._batches
        cancelled = self._discard(stream.id) if command.mode == "discard" else []
        self._close_events(batches.batcher.of_stream(stream.id))
        reply = StreamStopped(
            stream_id=stream.id,
            dropped_samples=dropped,
            queued=len(batches.batcher.of_stream(stream.id)),
            cancelled_utterances=cancelled,
        )
        batches.close_for(Batch([], "flush", ticket, after=After(stream.id), reply=reply), None)

    def _close_events(self, members: Iterable[Spoken]) -> None:
        self._batches.close_events([one for one in members if one.stream.auto_flush], "flush")

    def _check_count(self) -> None:
        limit = self._settings.max_pending_utterances
        if self._batches.utterances >= limit:
            message = (
                f"at most {limit} utterances may wait for their outcome (--max-pending-utterances); nothing was queued"
            )
            raise LimitExceeded(message, limit=limit)

    def _checked_audio(self, stream: Stream, command: Boundary) -> Samples | None:
        """The inline audio of a boundary, if it has any. Raises the RequestError that refuses the boundary."""
        if command.pcm16 is not None:
            rate = stream.rate if command.sample_rate is None else command.sample_rate
            check_stream_rate(rate)
            pcm = checked_pcm(command.pcm16, rate, self._settings.max_utterance_seconds)
            if not pcm:
                raise NoAudio("`pcm16`: expected at least one sample; nothing was queued", field="pcm16")
            self._batches.budget.take(length(pcm, rate))
            return resampled(pcm, rate)
        check_is_rate_of(stream, command.sample_rate)
        if command.audio is None and not stream.samples:
            raise NoAudio("the stream has no audio behind its last boundary; nothing was queued", field="stream_id")
        return None

    def _end_utterance(self, stream: Stream, command: Boundary, ticket: Ticket | None) -> Spoken:
        spoken = self._spoken(stream, command, "buffer")
        spoken.speech = self.intake.partials.end(stream)
        cut = stream.cut(goes_on=ticket is None)
        spoken.audio_gap = cut.gap
        self._batches.enqueue(spoken, cut.samples, ticket)
        return spoken

    def _split_off(self, stream: Stream) -> Split:
        """End an utterance that would grow too long, without anybody having asked."""
        spoken = self._end_utterance(stream, EndUtterance(stream_id=stream.id), None)
        return Split(utterance_id=spoken.utterance_id, samples=spoken.sample_count or 0)

    def _is_in_use(self, stream_id: str, utterance_id: str) -> bool:
        return any(one.utterance_id == utterance_id for one in self._batches.of_stream(stream_id))

    def _spoken(self, stream: Stream, command: Boundary, source: Source) -> Spoken:
        name = command.utterance_id or (stream.spoken_id if source == "buffer" else None)
        return Spoken(
            stream=stream.command,
            asked=command,
            utterance_id=name or stream.next_utterance_id(),
            source=source,
            options=resolve(self._settings, [command, stream.command]),
            queued_at=self._batches.clock(),
        )

    def _discard(self, stream_id: str) -> list[str]:
        """End the utterances of a stream. Those that wait are named here; the others are told by their batch, and those
        whose boundary is not answered yet by the error that it gets."""
        error = Cancelled("the stream was stopped and its utterances discarded")
        self._batches.cancel(self._batches.telling.of_stream(stream_id))
        waiting = self._batches.batcher.of_stream(stream_id)
        named = [one.utterance_id for one in waiting if one.is_accepted]
        self._batches.discard(waiting, error)
        return named
