"""Handles the requests of streams: start, boundaries, flushes, stop."""

from collections.abc import Callable, Iterable

from msgspec import UNSET
from msgspec.structs import replace

from qwen3_asr_mlx_runtime.audio.pcm16 import checked_pcm
from qwen3_asr_mlx_runtime.audio.pcm_buffer import length, resampled
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import Cancelled, InvalidParams, LimitExceeded, NoAudio
from qwen3_asr_mlx_runtime.protocol.commands import Boundary, EndUtterance, Flush, Pause, StartStream, StopStream
from qwen3_asr_mlx_runtime.protocol.streams import Paused, Split, StreamReady, StreamStopped
from qwen3_asr_mlx_runtime.protocol.transcripts import Source
from qwen3_asr_mlx_runtime.session.delivery import DeliverAfter, Group
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.stream import Stream, check_is_rate_of, check_stream_rate
from qwen3_asr_mlx_runtime.session.stream_registry import IMPLICIT, AudioBudget, StreamRegistry
from qwen3_asr_mlx_runtime.session.transcription import StreamUtterance, Transcription, resolve
from qwen3_asr_mlx_runtime.session.utterances import Utterances
from qwen3_asr_mlx_runtime.settings import Settings


class StreamHandlers:
    """Answers requests. A RequestError is raised before anything changes."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        utterances: Utterances,
        partials: Partials,
        budget: AudioBudget,
        clock: Callable[[], float],
    ) -> None:
        self.registry = StreamRegistry(settings, budget, partials, self._split, self._is_in_use)
        self._settings = settings
        self._scheduler = scheduler
        self._utterances = utterances
        self._partials = partials
        self._budget = budget
        self._clock = clock

    @property
    def needs_events(self) -> bool:
        """Whether there are results, or streams, that need events."""
        waiting = any(each.utterance.stream.auto_flush for each in self._utterances.waiting)
        return waiting or self._utterances.delivery.has_events or self.registry.has_auto_flush

    def start(self, command: StartStream, *, may_replace: bool) -> tuple[Stream, StreamReady]:
        """Open a stream; return it, and the reply to send when the model is loaded. A restarted stream without
        `auto_flush` first starts the utterances that events deliver: otherwise a reply could wait for an event that
        waits for a reply."""
        stream, dropped = self.registry.start(command, may_replace=may_replace)
        if not command.auto_flush:
            self._start_events(self._utterances.waiting.of_stream(stream.id))
        ready = StreamReady(
            stream_id=stream.id,
            sample_rate=command.sample_rate,
            batch_size=command.batch_size,
            max_batch_delay_ms=command.max_batch_delay_ms,
            auto_flush=command.auto_flush,
            decoder_mode=resolve(self._settings, [command]).decoder_mode,
            on_limit=command.on_limit,
            dropped_samples=dropped,
            asr_backend=self._settings.backend,
        )
        if command.partials:
            ready.partials, ready.partial_interval_ms = True, command.partial_interval_ms
            ready.final_policy = command.final_policy
        return stream, ready

    def boundary(self, request: PendingRequest, command: Boundary, *, known_only: bool) -> None:
        stream = self.registry.find(command.stream_id, known_only=known_only)
        if stream.command.auto_flush or request.id is not UNSET:
            self._check_count()  # all others are limited by the input allowance
        inline = self._checked_audio(stream, command)
        if not self.registry.is_open(stream):
            self.registry.register(stream)
            request.warn(IMPLICIT)
        if command.audio is not None:
            self._utterances.add_file(self._utterance(stream, command, "audio"), command.audio, request)
        elif inline is not None:
            self._utterances.add_samples(self._utterance(stream, command, "pcm16"), inline, request)
        else:
            self._end_utterance(stream, command, request)

    def pause(self, request: PendingRequest, command: Pause, *, known_only: bool) -> None:
        stream = self.registry.find(command.stream_id, known_only=known_only)
        frames = _frames(stream, command.samples)
        stream.name_utterance()
        utterance = self._utterance(stream, EndUtterance(stream_id=stream.id), "buffer")
        self._partials.pause(stream, frames, utterance)
        request.answer(Paused(stream_id=stream.id, utterance_id=utterance.utterance_id, samples=frames))

    def flush(self, request: PendingRequest, command: Flush) -> None:
        waiting, stream_id = self._utterances.waiting, command.stream_id
        if stream_id is not None and not self._utterances.has_stream(stream_id):
            self.registry.find(stream_id, known_only=True)
        requested = [*waiting] if stream_id is None else waiting.of_stream(stream_id)
        self._start_events(requested)
        members = [each for each in requested if each in waiting]  # without those that events deliver
        self._utterances.start_reply(Group(members, "flush", request, after=DeliverAfter(stream_id)), command)
        self._scheduler.expire_after(requested, command.timeout_ms)

    def stop(self, request: PendingRequest, command: StopStream) -> None:
        stream, dropped = self.registry.stop(command.stream_id)
        discarded: list[str] = []
        if command.mode == "discard":
            error = Cancelled("the stream was stopped and its utterances discarded")
            discarded = self._utterances.discard(stream.id, error)
        self._start_events(self._utterances.waiting.of_stream(stream.id))
        reply = StreamStopped(
            stream_id=stream.id,
            dropped_samples=dropped,
            queued=len(self._utterances.waiting.of_stream(stream.id)),
            cancelled_utterances=discarded,
        )
        group = Group([], "flush", request, after=DeliverAfter(stream.id, words=True), reply=reply)
        self._utterances.start_reply(group, None)

    def _start_events(self, members: Iterable[Transcription]) -> None:
        self._utterances.start_events([each for each in members if each.utterance.stream.auto_flush], "flush")

    def _check_count(self) -> None:
        limit = self._settings.max_pending_utterances
        if len(self._utterances) >= limit:
            message = (
                f"at most {limit} utterances may wait for their outcome (--max-pending-utterances); nothing was queued"
            )
            raise LimitExceeded(message, limit=limit)

    def _checked_audio(self, stream: Stream, command: Boundary) -> Samples | None:
        """The inline audio of a boundary, if any. Raises the RequestError that rejects the boundary."""
        if command.pcm16 is not None:
            rate = stream.rate if command.sample_rate is None else command.sample_rate
            check_stream_rate(rate)
            pcm = checked_pcm(command.pcm16, rate, self._settings.max_utterance_seconds)
            if not pcm:
                raise NoAudio("`pcm16`: expected at least one sample; nothing was queued", field="pcm16")
            self._budget.take(length(pcm, rate))
            return resampled(pcm, rate)
        check_is_rate_of(stream, command.sample_rate)
        if command.audio is None and not stream.samples:
            raise NoAudio("the stream has no audio after its last boundary; nothing was queued", field="stream_id")
        if command.audio is None:
            _frames(stream, command.samples)
        return None

    def _end_utterance(self, stream: Stream, command: Boundary, request: PendingRequest | None) -> StreamUtterance:
        utterance = self._utterance(stream, command, "buffer")
        frames = _frames(stream, command.samples)
        had_pause = self._partials.take_pause(stream)
        provisional = self._partials.take_provisional(stream, frames, utterance.options)
        in_engine = self._partials.end(stream)
        before, has_beginning = stream.samples, stream.is_settled_at(frames)
        if frames == stream.frames:
            ended = stream.end_utterance(goes_on=request is None)
        else:
            ended = stream.end_utterance_at(frames, utterance.utterance_id, keep=command.rest == "keep")
        self._budget.give_back(before - ended.sample_count - ended.kept)
        utterance.audio_gap, utterance.stream_start = ended.gap, ended.start
        if had_pause or command.samples is not None:
            utterance.frames, utterance.dropped = ended.frames, ended.dropped
        utterance.provisional = "none" if had_pause else None
        if provisional is not None and self._scheduler.adopt(provisional, utterance, in_engine):
            self._utterances.add_adopted(provisional, request)
        else:
            has_more = in_engine is not None and in_engine.samples > ended.sample_count
            if has_more or not has_beginning:
                self._scheduler.forget(in_engine)
                in_engine = None
            self._utterances.add_samples(utterance, ended.take_samples(), request, in_engine)
        return utterance

    def _split(self, stream: Stream) -> Split:
        """End an utterance that would grow too long, without a request."""
        utterance = self._end_utterance(stream, EndUtterance(stream_id=stream.id), None)
        return Split(utterance_id=utterance.utterance_id, samples=utterance.sample_count or 0)

    def _is_in_use(self, stream_id: str, utterance_id: str) -> bool:
        return bool(self._utterances.named(stream_id, utterance_id))

    def _utterance(self, stream: Stream, command: Boundary, source: Source) -> StreamUtterance:
        name = command.utterance_id
        if source == "buffer" and (name is None or name == stream.ended_name):
            name = stream.utterance_id
        return StreamUtterance(
            stream=stream.command,
            boundary=command if command.pcm16 is None else replace(command, pcm16=None),
            options=resolve(self._settings, [command, stream.command]),
            utterance_id=name or stream.next_utterance_id(),
            source=source,
            queued_at=self._clock(),
        )


def _frames(stream: Stream, requested: int | None) -> int:
    """Of the open utterance: as requested, or all. Raises InvalidParams if it has fewer, or none."""
    frames = stream.frames if requested is None else requested
    if not 0 < frames <= stream.frames:
        message = (
            f"`samples`: expected at most {stream.frames}, which the open utterance has, got {requested or 'none'}"
        )
        raise InvalidParams(message, field="samples")
    return frames
