"""The end of a session: it accepts nothing new, finishes or lists what was accepted, and sends one last line."""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.protocol.transcripts import Stopped, Unfinished
from qwen3_asr_mlx_runtime.session.delivery import Reason
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest, ReplyQueue
from qwen3_asr_mlx_runtime.session.results import final_result, finals
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.utterances import Utterances

END_OF_INPUT: Reason = "end_of_input"


class Shutdown:
    """`reason` is None while the session runs. An abort replaces the reason of a drain."""

    def __init__(self, replies: ReplyQueue, clock: Callable[[], float]) -> None:
        self.reason: str | None = None
        self.deadline: float | None = None  # when unfinished work is aborted
        self._replies = replies
        self._clock = clock
        self._stop: PendingRequest | None = None
        self._unfinished: list[tuple[Id, str]] = []

    @property
    def is_draining(self) -> bool:
        return self.reason is not None

    def drain(self, reason: str, utterances: Utterances, *, as_events: bool, stop: PendingRequest | None) -> None:
        """Finish all that was accepted. `stop`: the request that the last line answers."""
        self.reason = reason
        self._stop = stop
        waiting = [*utterances.waiting]
        utterances.start_events([each for each in waiting if as_events or each.utterance.stream.auto_flush], "flush")
        utterances.decode_ahead([*utterances.waiting])

    def end_after(self, milliseconds: int) -> None:
        self.deadline = self._clock() + milliseconds / 1000

    def abort(self, reason: str) -> list[PendingRequest]:
        """Stop waiting for unfinished work; return the requests without an answer."""
        self.reason = reason
        self.deadline = None
        return self._replies.unanswered_requests()

    def refuse(self, request: PendingRequest, error: BridgeError) -> None:
        """Answer it with an error if it has no answer, and keep its id if it ends with that."""
        if request.answered is None:
            request.refuse(error)
        if isinstance(request.id, str | int) and _ended_with(request, error):
            self._unfinished.append((request.id, error.code))

    def send_last_line(
        self, utterances: Utterances, scheduler: Scheduler, dropped_samples: int, *, as_events: bool
    ) -> None:
        """Send the last line, once nothing is pending. After the end of input a client without events gets none, unless
        results would be lost."""
        left = utterances.take_left()
        if self.reason == END_OF_INPUT and not as_events:
            if left or dropped_samples:
                line = finals(left, END_OF_INPUT, 0.0, utterances.backend)
                line.dropped_samples = dropped_samples
                self._replies.send_last(line)
            return
        named = [
            Unfinished(stream_id=utterance.stream_id, utterance_id=utterance.utterance_id, code=error.code)
            for utterance, error in utterances.unfinished
        ]
        requests = [Unfinished(id=identifier, code=code) for identifier, code in self._unfinished]
        stopped = Stopped(
            reason=self.reason or END_OF_INPUT,
            completed=scheduler.transcripts,
            unfinished=[*named, *requests],
            dropped_samples=dropped_samples,
            items=[final_result(each) for each in left],
        )
        if self._stop is not None:
            self._stop.answer(stopped)
        else:
            self._replies.send_last(stopped)


def _ended_with(request: PendingRequest, error: BridgeError) -> bool:
    return isinstance(request.answered, ErrorReply) and request.answered.code == error.code
