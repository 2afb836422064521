"""The conversation: requests, files and outcomes go in, effects come out. Pure: no clock, no thread, no descriptor.

Replies leave in the order of their requests, one each. Work overlaps behind that order: files are read ahead, at most
READ_AHEAD of them are in memory or being read at a time, and all that wait for the model share one load.
"""

from collections import deque
from itertools import count
from typing import TypeVar

from qwen3_asr_mlx_runtime.effects import AudioFailed, AudioRead, Cancel, Effect, LoadModel, ReadAudio, Send, Submit
from qwen3_asr_mlx_runtime.errors import BridgeError, ShuttingDown
from qwen3_asr_mlx_runtime.jobs import Failed, Finished, Job, Loaded, LoadFailed, Outcome
from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities
from qwen3_asr_mlx_runtime.protocol.commands import (
    BatchTranscribe,
    Capabilities,
    Hello,
    Rejected,
    Request,
    Start,
    Stop,
    Transcribe,
)
from qwen3_asr_mlx_runtime.protocol.replies import Ready, Stopped
from qwen3_asr_mlx_runtime.results import Item
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.tickets import FilesTicket, Ticket
from qwen3_asr_mlx_runtime.transcript import Transcript

READ_AHEAD = 4

AnyTicket = TypeVar("AnyTicket", bound=Ticket)


class Session:
    """One client's conversation. Every method returns the effects to carry out, in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._job_ids = count(1)
        self._tickets: deque[Ticket] = deque()
        self._jobs: dict[int, tuple[FilesTicket, Item]] = {}  # every file without an outcome
        self._unread: deque[int] = deque()
        self._reading: set[int] = set()
        self._waiting_for_model: list[Job] = []
        self._decoding: set[int] = set()
        self._model: Loaded | None = None
        self._load_cause: Ticket | None = None
        self._stop: Ticket | None = None
        self._ending = False
        self._terminated = False
        self._effects: list[Effect] = []

    @property
    def pending(self) -> int:
        """Requests without a reply, a `stop` aside."""
        return len(self._tickets)

    @property
    def ending(self) -> bool:
        """True once nothing new is accepted: after `stop`, the end of input or a signal."""
        return self._ending

    def handle(self, request: Request | Rejected) -> list[Effect]:
        if isinstance(request, Rejected):
            self._add(Ticket(request)).refuse(request.error)
        elif self._ending:
            self._add(Ticket(request)).refuse(ShuttingDown("the process is ending and takes no new requests"))
        else:
            self._accept(request)
        return self._settled()

    def end_of_input(self) -> list[Effect]:
        """No more requests will come: what was accepted is finished, and no line is added."""
        self._ending = True
        return self._settled()

    def terminate(self) -> list[Effect]:
        """Refuse what has not begun, cancel what runs; a finished file of a batch is still reported."""
        self._ending = self._terminated = True
        error = ShuttingDown("the process was told to end before this was finished")
        self._effects += [Cancel(job_id) for job_id in sorted(self._decoding)]
        for job_id in list(self._jobs):
            self._settle(job_id, error)
        for ticket in self._tickets:
            ticket.refuse(error)
        return self._settled()

    def finish(self) -> list[Effect]:
        """The last line, once nothing is pending: `stopped`, unless the end of input alone ended the session."""
        if self._stop is not None:
            self._stop.answer(Stopped())
            self._tickets.append(self._stop)
        elif self._terminated:
            self._effects.append(Send(Stopped()))
        return self._settled()

    def audio_read(self, audio: AudioRead) -> list[Effect]:
        self._reading.discard(audio.job_id)
        if audio.job_id in self._jobs:
            ticket, item = self._jobs[audio.job_id]
            item.read_seconds = audio.seconds
            self._start_decoding(Job(audio.job_id, ticket.utterance(audio, self._settings)))
        return self._settled()

    def audio_failed(self, failure: AudioFailed) -> list[Effect]:
        self._reading.discard(failure.job_id)
        self._settle(failure.job_id, failure.error)
        return self._settled()

    def outcome(self, outcome: Outcome) -> list[Effect]:
        match outcome:
            case Loaded():
                self._loaded(outcome)
            case LoadFailed(error):
                self._load_failed(error)
            case Finished(job_id, transcript):
                self._decoding.discard(job_id)
                self._settle(job_id, transcript)
            case Failed(job_id, error):
                self._decoding.discard(job_id)
                self._settle(job_id, error)
        return self._settled()

    def _accept(self, request: Request) -> None:
        match request.command:
            case Capabilities() | Hello():
                self._add(Ticket(request)).answer(capabilities(self._settings))
            case Start():
                self._accept_start(self._add(Ticket(request)))
            case Transcribe() | BatchTranscribe() as command:
                self._accept_files(self._add(FilesTicket(request, command)))
            case Stop():
                self._stop = Ticket(request)  # it joins the others when they are answered
                self._ending = True

    def _add(self, ticket: AnyTicket) -> AnyTicket:
        self._tickets.append(ticket)
        return ticket

    def _accept_start(self, ticket: Ticket) -> None:
        self._need_model(ticket)
        if self._model is not None:
            ticket.answer(_ready(self._model))

    def _accept_files(self, ticket: FilesTicket) -> None:
        self._need_model(ticket)
        for item in ticket.items:
            job_id = next(self._job_ids)
            self._jobs[job_id] = ticket, item
            self._unread.append(job_id)

    def _need_model(self, ticket: Ticket) -> None:
        if self._model is None and self._load_cause is None:
            self._load_cause = ticket
            self._effects.append(LoadModel())

    def _loaded(self, loaded: Loaded) -> None:
        self._model = loaded
        if self._load_cause is not None:
            self._load_cause.load_seconds = loaded.load_seconds
            self._load_cause = None
        for ticket in self._tickets:
            if not isinstance(ticket, FilesTicket):
                ticket.answer(_ready(loaded))
        waiting, self._waiting_for_model = self._waiting_for_model, []
        for job in waiting:
            self._start_decoding(job)

    def _load_failed(self, error: BridgeError) -> None:
        """All that waited for this load fail with it; the next request that needs a model tries again."""
        self._load_cause = None
        self._jobs.clear()
        self._waiting_for_model.clear()
        for ticket in self._tickets:
            ticket.refuse(error)

    def _start_decoding(self, job: Job) -> None:
        if job.id not in self._jobs:
            return
        if self._model is None:
            self._waiting_for_model.append(job)
            return
        self._decoding.add(job.id)
        self._effects.append(Submit(job))

    def _settle(self, job_id: int, outcome: Transcript | BridgeError) -> None:
        """The one place where a file gets its outcome; one that comes too late is dropped here."""
        if job_id in self._jobs:
            ticket, item = self._jobs.pop(job_id)
            ticket.settle(item, outcome)

    def _settled(self) -> list[Effect]:
        """Read ahead as far as allowed, send what is due, and hand over the effects."""
        self._read_ahead()
        while self._tickets and (reply := self._tickets[0].reply) is not None:
            self._tickets.popleft()
            self._effects.append(Send(reply))
        effects, self._effects = self._effects, []
        return effects

    def _read_ahead(self) -> None:
        while self._unread and self._in_memory < READ_AHEAD:
            job_id = self._unread.popleft()
            if job_id in self._jobs:
                self._reading.add(job_id)
                self._effects.append(ReadAudio(job_id, self._jobs[job_id][1].path))

    @property
    def _in_memory(self) -> int:
        return len(self._reading) + len(self._waiting_for_model) + len(self._decoding)


def _ready(model: Loaded) -> Ready:
    return Ready(
        model=model.model,
        model_dir=model.model_dir,
        load_seconds=model.load_seconds,
        load_profile=model.load_profile,
    )
