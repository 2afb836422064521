"""Requests that transcribe files."""

from collections.abc import Callable
from itertools import count

from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    Cancelled,
    DeviceUnavailable,
    EngineStalled,
    EngineUnavailable,
    ModelError,
    ResourceExhausted,
    ShuttingDown,
    TimedOut,
)
from qwen3_asr_mlx_runtime.protocol.commands import BatchTranscribe, Transcribe
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, Ticket
from qwen3_asr_mlx_runtime.session.results import batch_reply, transcript_reply
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.tasks import Task, resolve
from qwen3_asr_mlx_runtime.settings import Settings

_OF_THE_WHOLE = (
    Cancelled,
    TimedOut,
    ShuttingDown,
    ModelError,
    DeviceUnavailable,
    EngineStalled,
    EngineUnavailable,
    ResourceExhausted,
)


class FilesRequest:
    """One `transcribe` or `batch_transcribe`, from its tasks to its reply."""

    def __init__(self, ticket: Ticket, command: Transcribe | BatchTranscribe) -> None:
        self._ticket = ticket
        self._command = command
        self._tasks: list[Task] = []

    def begin(self, work: Work, settings: Settings, job_ids: "count[int]", clock: Callable[[], float]) -> None:
        command = self._command
        expires = None if command.timeout_ms is None else clock() + command.timeout_ms / 1000
        paths = command.audio if isinstance(command, BatchTranscribe) else [command.audio]
        options = resolve(settings, [command])
        self._tasks = [Task(next(job_ids), self, options, path=path, expires=expires) for path in paths]
        self._ticket.on_cancel = lambda: self._cancel(work)
        for task in self._tasks:
            work.add(task)
            work.want(task)

    def was_read(self, task: Task) -> None:
        """Its audio needs nothing but its turn."""

    def settled(self, task: Task) -> None:
        if isinstance(self._command, Transcribe):
            self._settled_alone(task)
        elif all(each.outcome is not None for each in self._tasks):
            self._settled_together(task.options.decoder_mode)

    def _settled_alone(self, task: Task) -> None:
        if isinstance(task.outcome, Transcript):
            self._ticket.answer(transcript_reply(task, task.outcome, self._ticket.load_seconds))
        elif isinstance(task.outcome, BridgeError):
            self._ticket.refuse(task.outcome)

    def _settled_together(self, decoder_mode: str) -> None:
        """One answer for all files; an error, if nothing but the request as a whole kept every one of them back."""
        whole = [task.outcome for task in self._tasks if isinstance(task.outcome, _OF_THE_WHOLE)]
        if len(whole) == len(self._tasks) and len({error.code for error in whole}) == 1:
            self._ticket.refuse(whole[0])
        else:
            self._ticket.answer(batch_reply(self._tasks, decoder_mode, self._ticket.load_seconds))

    def _cancel(self, work: Work) -> CancelState:
        return cancel_all(self._tasks, work)


def cancel_all(tasks: list[Task], work: Work) -> CancelState:
    """Cancel what is unfinished: `cancelling` if one of them is being decoded, or else `cancelled`."""
    states = {work.cancel(task, Cancelled("cancelled before it was decoded")) for task in tasks}
    if "cancelling" in states:
        return "cancelling"
    return "cancelled" if "cancelled" in states else "already_done"
