"""The text of what is still being spoken: when the engine listens, and what is told of it. Pure: no thread, no wait."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.api import Failed, Heard, Listen
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.session.local_agreement import Stability
from qwen3_asr_mlx_runtime.session.reply_queue import Outbox
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.stream import Stream
from qwen3_asr_mlx_runtime.session.tasks import Options, resolve
from qwen3_asr_mlx_runtime.settings import Settings

NOTHING = Hypothesis(text="", language=None, audio_seconds=0.0, tokens=0, verified=0, seconds=0.0)


@dataclass(slots=True, eq=False)
class _Speaking:
    """An utterance that is being spoken. `speech`: its number, once the engine was given some of it; `given`: how many
    samples, when `come` had come: audio at another rate is held back a little. `due_at`: when so much more had come
    that the engine is to listen again; `asked_at`: the same of the Listen that it has, whose id is `listen_id`."""

    stream: Stream
    options: Options
    speech: int | None = None
    given: int = 0
    come: int = 0
    due_at: float | None = None
    asked_at: float = 0.0
    listen_id: int | None = None
    revision: int = 0
    latest: Hypothesis = NOTHING
    stability: Stability = field(default_factory=Stability)

    @property
    def has_grown(self) -> bool:
        milliseconds = (self.stream.samples - self.come) / SAMPLE_RATE * 1000
        return milliseconds >= self.stream.command.partial_interval_ms

    def tell_in(self, line: PartialResult) -> PartialResult:
        line.utterance_id = self.stream.spoken_id or UNSET
        line.revision, line.stable_text = self.revision, self.stability.text
        line.text, line.language = self.latest.text, self.latest.language
        line.audio_seconds = round(self.latest.audio_seconds, 3)
        return line


class Partials:
    """Of each stream with `partials`, the utterance that is being spoken.

    The engine has one Listen at most, none where it would wait, and each has all that came since: with much to do it
    listens less often, and nothing queues. `as_events`: whether hypotheses are told unasked. What the engine says of an
    utterance that has ended is dropped.
    """

    def __init__(
        self,
        settings: Settings,
        work: Work,
        outbox: Outbox,
        job_ids: "count[int]",
        clock: Callable[[], float],
        as_events: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._work = work
        self._outbox = outbox
        self._job_ids = job_ids
        self._clock = clock
        self._as_events = as_events
        self._speeches = count(1)
        self._spoken: dict[str, _Speaking] = {}  # by stream
        self._due: dict[str, _Speaking] = {}  # in the order in which they became so
        self._listens: dict[int, _Speaking] = {}

    def took(self, stream: Stream) -> None:
        """More audio has come."""
        if not stream.command.partials:
            return
        one = self._spoken.setdefault(stream.id, self._of(stream))
        if one.due_at is None and one.has_grown:
            one.due_at = self._clock()
            self._due[stream.id] = one

    def told_in(self, reply: PartialResult, stream: Stream) -> PartialResult:
        """The reply to a chunk, with the latest hypothesis where the stream has any."""
        return self._of(stream).tell_in(reply) if stream.command.partials else reply

    def advance(self) -> None:
        """Have the engine listen to what has been due for longest, but for a stream of which something is still to be
        said; and to nothing while it would have to wait."""
        if not self._work.model_loaded:
            return
        for one in [*self._due.values()]:
            if not self._work.may_listen:
                return
            if not self._outbox.has_partial(one.stream.id):
                self._listen(one)

    def ended(self, outcome: Heard | Failed) -> None:
        """A Listen has its outcome. After one that failed the next has its turn when enough audio has come again."""
        one = self._listens.pop(outcome.job_id, None)
        if one is None:
            return
        one.listen_id = None
        if isinstance(outcome, Heard):
            self._hear(one, outcome.hypothesis)

    def end(self, stream: Stream) -> int | None:
        """The utterance has ended: the number that its job is to have, None if it was not listened to."""
        one = self._spoken.pop(stream.id, None)
        if one is None:
            return None
        self._due.pop(stream.id, None)
        self._outbox.withdraw_partial(stream.id)
        if one.listen_id is not None:
            del self._listens[one.listen_id]
        return one.speech

    def drop(self, stream: Stream) -> None:
        """No job will come of the utterance."""
        self._work.forget(self.end(stream))

    def close(self) -> None:
        """The conversation ends, and no more audio will come: nothing is listened to any more."""
        for one in [*self._spoken.values()]:
            self.drop(one.stream)

    def _of(self, stream: Stream) -> _Speaking:
        """The utterance that is being spoken, or one of which nothing has come."""
        return self._spoken.get(stream.id) or _Speaking(stream, resolve(self._settings, [stream.command]))

    def _listen(self, one: _Speaking) -> None:
        samples = one.stream.heard(one.given)
        if one.due_at is None or not len(samples):
            return
        del self._due[one.stream.id]
        one.asked_at, one.due_at = one.due_at, None
        one.given += len(samples)
        one.come = one.stream.samples
        one.speech = next(self._speeches) if one.speech is None else one.speech
        one.listen_id = next(self._job_ids)
        self._listens[one.listen_id] = one
        listen = Listen(
            id=one.listen_id,
            speech=one.speech,
            samples=samples,
            start=one.given - len(samples),
            language=one.options.language,
            context=one.options.context,
            max_new_tokens=one.options.max_new_tokens,
            final_policy=one.stream.command.final_policy,
        )
        self._work.listen(listen, one.given / SAMPLE_RATE)

    def _hear(self, one: _Speaking, hypothesis: Hypothesis) -> None:
        one.revision += 1
        one.latest = hypothesis
        one.stability.hear(hypothesis.text, hypothesis.audio_seconds)
        if self._as_events():
            event = one.tell_in(one.stream.partial())
            event.seconds = round(hypothesis.seconds, 4)
            event.queue_seconds = round(self._clock() - one.asked_at, 4)
            event.tokens, event.verified_tokens = hypothesis.tokens, hypothesis.verified
            self._outbox.tell_partial(event)
