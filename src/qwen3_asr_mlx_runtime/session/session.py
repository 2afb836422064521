"""The conversation: requests, files and outcomes go in, lines and effects come out. No thread and no descriptor; the
clock is an argument.

Replies to requests without an `id` leave in their order, one each; all others as they come. Work overlaps behind that
order, and all that wait for the model share one load.
"""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import Failed, Finished, Heard, Loaded, LoadFailed, Outcome, Progress
from qwen3_asr_mlx_runtime.errors import BridgeError, ShuttingDown
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request
from qwen3_asr_mlx_runtime.session.dispatcher import Reception
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, Effect
from qwen3_asr_mlx_runtime.session.parts import Conversation
from qwen3_asr_mlx_runtime.session.reply_queue import Outgoing
from qwen3_asr_mlx_runtime.session.shutdown import END_OF_INPUT
from qwen3_asr_mlx_runtime.session.status import Vitals
from qwen3_asr_mlx_runtime.settings import Settings


class Session:
    """One client's conversation. After every call, `take_line` yields what may be written, `take_partial` what may be
    written once all that is, and then `effects` what is to be done."""

    def __init__(self, settings: Settings, clock: Callable[[], float], vitals: Vitals | None = None) -> None:
        self._talk = Conversation(settings, clock, vitals or Vitals(started_at=clock(), progress_at=clock()))
        self._reception = Reception(self._talk)

    @property
    def pending(self) -> int:
        """What is still to be said, a last line aside: requests, batches, and lines that nobody has taken."""
        return self._talk.pending

    @property
    def ending(self) -> bool:
        """True once nothing new is accepted: after `stop`, the end of input, a signal or the loss of the engine."""
        return self._talk.ending.is_on

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do although nothing has happened."""
        return self._talk.deadline

    @property
    def busy_since(self) -> float | None:
        """Since when the engine has had work without a pause."""
        return self._talk.work.busy_since

    @property
    def decoding_seconds(self) -> float:
        """The longest audio that the engine has before it."""
        return self._talk.work.decoding_seconds

    def take_line(self) -> Outgoing | None:
        """The next line, for somebody who can write it now."""
        return self._talk.outbox.take()

    @property
    def has_partials(self) -> bool:
        """Whether `take_partial` will yield something once all lines are taken."""
        return self._talk.outbox.has_partials

    def take_partial(self) -> Outgoing | None:
        """The next partial text, for somebody who has nothing else to write: it may have a later one instead."""
        return self._talk.outbox.take_partial()

    def effects(self) -> list[Effect]:
        """What is to be done now. Nothing is begun while lines wait to be taken: nobody reads them."""
        if self._talk.outbox.is_clear:
            self._talk.work.advance()
            self._talk.partials.advance()
        if self._talk.ending.is_on and self._talk.loading.is_on and not self._talk.needs_model:
            self._talk.loading.withdraw()
        gathered = self._talk.work.effects
        effects = [*gathered]
        gathered.clear()
        return effects

    def handle(self, request: Request | Rejected, size: int = 0) -> None:
        """Take a request in. `size`: the bytes of input that are let go of once its line is answered."""
        self._reception.handle(request, size)

    def tick(self) -> None:
        """Time has passed."""
        self._talk.work.tick()
        self._talk.batches.tick()
        self._talk.tell_progress()
        deadline = self._talk.ending.deadline
        if deadline is not None and deadline <= self._talk.clock():
            self._abort("deadline", ShuttingDown("the deadline of `stop` came before this was finished"))

    def audio_read(self, audio: AudioRead) -> None:
        self._talk.work.audio_read(audio)

    def audio_failed(self, failure: AudioFailed) -> None:
        self._talk.work.audio_failed(failure)

    def outcome(self, outcome: Outcome) -> None:
        """Something came from the engine."""
        match outcome:
            case Progress():
                self._talk.loading.progress(outcome)
                self._talk.tell_progress()
            case Loaded():
                self._loaded(outcome)
            case LoadFailed(error):
                self._load_failed(error)
            case Heard() | Failed() if self._talk.work.listened(outcome.job_id):
                self._talk.partials.ended(outcome)
            case Finished(job_id, transcript):
                self._talk.work.decoded(job_id, transcript)
            case Failed(job_id, error):
                self._talk.work.decoded(job_id, error)

    def end_of_input(self) -> None:
        """No more requests will come: what was accepted is finished."""
        self._talk.ending.drain(END_OF_INPUT, as_events=self._talk.has_events)

    def terminate(self) -> None:
        """Refuse what has not begun, cancel what runs; what is finished is still told."""
        self._abort("signal", ShuttingDown("the process was told to end before this was finished"))

    def engine_lost(self, error: BridgeError) -> None:
        """Nothing can be transcribed any more: all that wait are told."""
        self._abort(error.code, error)

    def finish(self) -> None:
        """The last line, once nothing is pending."""
        self._talk.ending.last_line(as_events=self._talk.has_events)

    def _loaded(self, loaded: Loaded) -> None:
        self._talk.loading.loaded(loaded)
        self._talk.work.model_loaded = True
        self._talk.starting.loaded(loaded)

    def _load_failed(self, error: BridgeError) -> None:
        """All that waited for this load fail with it; the next request that needs a model tries again."""
        self._talk.loading.load_failed()
        self._talk.starting.failed(error)
        if not self._talk.ending.is_on:  # nothing that waits could be asked for any more
            self._talk.batches.load_failed()
        self._talk.work.give_up_wanted(error)

    def _abort(self, reason: str, error: BridgeError) -> None:
        self._talk.ending.abort(reason, error, as_events=self._talk.has_events)
