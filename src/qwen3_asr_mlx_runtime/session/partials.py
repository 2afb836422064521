"""What is computed of an open utterance: its partials, and its final ahead of the boundary. Pure: no thread."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.api import Failed, PartialDone
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, ends_sentence
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.session.local_agreement import LocalAgreement
from qwen3_asr_mlx_runtime.session.reply_queue import ReplyQueue
from qwen3_asr_mlx_runtime.session.scheduler import MAX_ENDS_ALONE, Scheduler
from qwen3_asr_mlx_runtime.session.stream import Stream
from qwen3_asr_mlx_runtime.session.transcription import (
    AppendedAudio,
    Options,
    StreamUtterance,
    Transcription,
    resolve,
)
from qwen3_asr_mlx_runtime.settings import Settings

NO_HYPOTHESIS = Hypothesis(text="", language=None, audio_seconds=0.0, tokens=0, verified=0, seconds=0.0)


@dataclass(slots=True, eq=False)
class OpenUtterance:
    """The open utterance of a stream with `partials`.

    `in_engine`: what the engine has of it; `received`: how many samples the stream had then, of which the resampler
    holds back a few. `due_at`: when the next partial became due.
    `job_id`: of the partial that the engine computes, due since `started_at`. `ends`: how often the engine ended
    meanwhile; one that was alone at its second end has no more partials.
    """

    stream: Stream
    options: Options
    in_engine: AppendedAudio | None = None
    received: int = 0
    due_at: float | None = None
    started_at: float = 0.0
    job_id: int | None = None
    ends: int = 0
    has_crashed: bool = False
    revision: int = 0
    latest: Hypothesis = NO_HYPOTHESIS
    changed_at: float = 0.0  # seconds of audio that the first hypothesis with the latest text covers
    agreement: LocalAgreement = field(default_factory=LocalAgreement)

    @property
    def has_grown(self) -> bool:
        milliseconds = (self.stream.samples - self.received) / SAMPLE_RATE * 1000
        return milliseconds >= self.interval_ms

    @property
    def interval_ms(self) -> int:
        """As was asked for, or what the engine sustains, if that is longer."""
        return max(self.stream.command.partial_interval_ms, self.latest.interval_ms)

    def fill(self, line: PartialResult) -> PartialResult:
        line.utterance_id = self.stream.utterance_id or UNSET
        line.revision, line.stable_text = self.revision, self.agreement.text
        line.text, line.language = self.latest.text, self.latest.language
        line.audio_seconds = round(self.latest.audio_seconds, 3)
        line.settled_ms = round((line.audio_seconds - round(self.changed_at, 3)) * 1000)
        line.ends_sentence = ends_sentence(self.latest.text, self.latest.language)
        line.ends_sentence_probability = self.latest.probability if line.ends_sentence else None
        line.trailing_silence_ms = self.stream.trailing_silence_ms
        return line


@dataclass(frozen=True, slots=True)
class ProvisionalFinal:
    """The final of the first `frames` of an open utterance, computed ahead with these options."""

    frames: int
    options: Options
    transcription: Transcription


class Partials:
    """What is computed of open utterances: partials, and provisional finals.

    The engine computes one partial at a time, and a partial starts only if it need not wait in the engine, and has a
    share of its time. So under load there are fewer partials, and none queue. A partial of an ended utterance is
    dropped.

    `as_events`: whether partials are sent as events.
    """

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        replies: ReplyQueue,
        clock: Callable[[], float],
        as_events: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._replies = replies
        self._clock = clock
        self._as_events = as_events
        self._open: dict[str, OpenUtterance] = {}  # by stream
        self._due: dict[str, OpenUtterance] = {}  # in the order in which they became due
        self._running: dict[int, OpenUtterance] = {}  # by job
        self._provisional: dict[str, ProvisionalFinal] = {}  # by stream
        self._paused: set[str] = set()  # streams whose open utterance had a pause

    def chunk_added(self, stream: Stream) -> None:
        if not stream.command.partials:
            return
        utterance = self._open.setdefault(stream.id, self._of(stream))
        if utterance.due_at is None and utterance.has_grown and not utterance.has_crashed:
            utterance.due_at = self._clock()
            self._due[stream.id] = utterance

    def fill(self, reply: PartialResult, stream: Stream) -> PartialResult:
        """The reply to a chunk, with the latest hypothesis if the stream has partials."""
        return self._of(stream).fill(reply) if stream.command.partials else reply

    def advance(self) -> None:
        """Start the partial that has been due longest, except for a stream whose last partial is not written yet, or
        whose share is used up."""
        now, is_empty = self._clock(), self._scheduler.slots.is_empty
        free = [utterance for utterance in self._due.values() if self._free_at(utterance) <= now]
        self._scheduler.partial_waits = any(utterance.ends for utterance in free) and not is_empty
        for utterance in free:
            if not self._scheduler.may_start_partial:
                return
            if utterance.ends and not self._scheduler.slots.is_empty:
                continue
            if not self._replies.has_partial(utterance.stream.id):
                self._start(utterance)

    def ended(self, outcome: PartialDone | Failed) -> None:
        """A partial has its outcome. After a failed one the next is due when enough new audio has arrived."""
        utterance = self._running.pop(outcome.job_id, None)
        if utterance is None:
            return
        utterance.job_id = None
        if isinstance(outcome, PartialDone):
            utterance.ends = 0
            self._update(utterance, outcome.hypothesis)

    def engine_ended(self, *, was_alone: bool) -> None:
        """The engine has lost the samples of all open utterances. What it computed is due again."""
        for utterance in self._open.values():
            utterance.in_engine = None
        for utterance in self._running.values():
            utterance.job_id = None
            utterance.ends += 1
            utterance.has_crashed = was_alone and utterance.ends >= MAX_ENDS_ALONE
            if not utterance.has_crashed:
                utterance.due_at = utterance.due_at or self._clock()
                self._due[utterance.stream.id] = utterance
        self._running.clear()

    def _free_at(self, utterance: OpenUtterance) -> float:
        """When its next partial may start at the earliest."""
        return self._scheduler.slots.partial_free_at(utterance.stream.pace)

    @property
    def deadline(self) -> float | None:
        """When a partial that is due has a share of the engine's time again."""
        now = self._clock()
        return min((at for at in map(self._free_at, self._due.values()) if at > now), default=None)

    @property
    def are_due(self) -> bool:
        return bool(self._due)

    @property
    def wanted(self) -> list[OpenUtterance]:
        """Those whose partial is due or computed."""
        return [*self._due.values(), *self._running.values()]

    def unloaded(self, wanted: Iterable[OpenUtterance]) -> None:
        """The engine has nothing of the open utterances. Of `wanted` the next partial is due with the next chunk."""
        for utterance in self._open.values():
            utterance.in_engine = utterance.job_id = None
        self._running.clear()
        for utterance in wanted:
            if self._due.get(utterance.stream.id) is utterance:
                del self._due[utterance.stream.id]
            utterance.due_at = None

    def pause(self, stream: Stream, frames: int, origin: StreamUtterance) -> None:
        """Compute the final of so many frames of the open utterance, if the engine has time."""
        self._paused.add(stream.id)
        options = replace(origin.options, decoder_mode="sequential", drift_guard=True)
        before = self._provisional.get(stream.id)
        if before is not None and isinstance(before.transcription.result, BridgeError):
            return  # it may end the engine again: its boundary computes the final
        if before is not None and (before.frames, before.options) == (frames, options):
            return
        self._drop_provisional(stream)
        if not self._scheduler.may_compute_ahead:
            return
        samples = stream.ended_at(frames)
        has_beginning = stream.id in self._open and stream.is_settled_at(frames)
        in_engine = self._give_all(stream) if has_beginning else None
        if in_engine is not None and not in_engine.samples:
            in_engine = None
        transcription = self._scheduler.add_provisional(origin, samples, options, in_engine)
        self._provisional[stream.id] = ProvisionalFinal(frames, options, transcription)

    def _give_all(self, stream: Stream) -> AppendedAudio:
        """Give the engine all that has come."""
        utterance = self._open[stream.id]
        start = utterance.in_engine.samples if utterance.in_engine else 0
        utterance.in_engine = self._scheduler.append(utterance.in_engine, stream.settled(start))
        return utterance.in_engine

    def take_provisional(self, stream: Stream, frames: int, options: Options) -> Transcription | None:
        """The provisional final of an utterance that ends now, if it is of so many frames and serves."""
        provisional = self._provisional.pop(stream.id, None)
        if provisional is None:
            return None
        if provisional.frames == frames and provisional.options.serve(options):
            return provisional.transcription
        self._scheduler.discard(provisional.transcription, Cancelled("its utterance has another end, or other options"))
        return None

    def take_pause(self, stream: Stream) -> bool:
        """Whether the utterance that ends now had a pause."""
        had = stream.id in self._paused
        self._paused.discard(stream.id)
        return had

    def _drop_provisional(self, stream: Stream) -> None:
        provisional = self._provisional.pop(stream.id, None)
        if provisional is not None:
            self._scheduler.discard(provisional.transcription, Cancelled("its utterance goes on, or has no final"))

    def end(self, stream: Stream) -> AppendedAudio | None:
        """The utterance has ended: return its audio in the engine."""
        utterance = self._open.pop(stream.id, None)
        if utterance is None:
            return None
        self._due.pop(stream.id, None)
        self._replies.withdraw_partial(stream.id)
        if utterance.job_id is not None:
            del self._running[utterance.job_id]
        return utterance.in_engine

    def drop(self, stream: Stream) -> None:
        """Drop an utterance that gets no final."""
        self._drop_provisional(stream)
        self._paused.discard(stream.id)
        self._scheduler.forget(self.end(stream))

    def close(self) -> None:
        """No more audio will arrive: no more partials."""
        for utterance in [*self._open.values()]:
            self.drop(utterance.stream)
        for provisional in self._provisional.values():
            self._scheduler.discard(provisional.transcription, Cancelled("no boundary will come"))
        self._provisional.clear()

    def _of(self, stream: Stream) -> OpenUtterance:
        """The open utterance, or one that has no samples yet."""
        return self._open.get(stream.id) or OpenUtterance(stream, resolve(self._settings, [stream.command]))

    def _start(self, utterance: OpenUtterance) -> None:
        start = utterance.in_engine.samples if utterance.in_engine else 0
        samples = utterance.stream.settled(start)
        if utterance.due_at is None or not len(samples):
            return
        del self._due[utterance.stream.id]
        utterance.started_at, utterance.due_at = utterance.due_at, None
        utterance.received = utterance.stream.samples
        utterance.in_engine = self._scheduler.append(utterance.in_engine, samples)
        utterance.job_id = self._scheduler.start_partial(
            utterance.in_engine, utterance.options, utterance.stream.pace, alone=utterance.ends > 0
        )
        self._running[utterance.job_id] = utterance

    def _update(self, utterance: OpenUtterance, hypothesis: Hypothesis) -> None:
        utterance.revision += 1
        if hypothesis.text != utterance.latest.text:
            utterance.changed_at = hypothesis.audio_seconds
        utterance.latest = hypothesis
        utterance.agreement.add(hypothesis.text, hypothesis.audio_seconds)
        if self._as_events():
            event = utterance.fill(utterance.stream.partial())
            event.seconds = round(hypothesis.seconds, 4)
            event.queue_seconds = round(self._clock() - utterance.started_at, 4)
            event.tokens, event.verified_tokens = hypothesis.tokens, hypothesis.verified
            event.interval_ms = utterance.interval_ms if hypothesis.interval_ms else UNSET
            self._replies.set_partial(event)
