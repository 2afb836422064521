"""Tasks on their way: read ahead, taken in turns, few in the engine at a time, each settled once."""

import heapq
from collections.abc import Callable
from typing import Literal

from qwen3_asr_mlx_runtime.engines.api import Listen
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import AudioReadTimeout, BridgeError, TimedOut
from qwen3_asr_mlx_runtime.session.effects import (
    AudioFailed,
    AudioRead,
    Cancel,
    Effect,
    Forget,
    Hear,
    ReadAudio,
    Submit,
)
from qwen3_asr_mlx_runtime.session.engine_slots import Occupancy
from qwen3_asr_mlx_runtime.session.fair_queue import Turns
from qwen3_asr_mlx_runtime.session.file_prefetch import READ_SECONDS, Reading
from qwen3_asr_mlx_runtime.session.tasks import Result, Task, rms_dbfs

Cancellation = Literal["cancelled", "cancelling", "already_done"]


class Work:
    """Every task without an outcome. Effects gather in `effects`; owners are told what becomes of their tasks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.effects: list[Effect] = []
        self.model_loaded = False
        self.transcripts = 0
        self.audio_seconds = 0.0  # of these
        self._clock = clock
        self._open: dict[int, Task] = {}
        self.reading = Reading(clock)
        self._ready = Turns()
        self._engine = Occupancy(clock)
        self._expiring: list[tuple[float, int]] = []

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def decoding(self) -> int:
        return len(self._engine)

    @property
    def listening(self) -> int:
        return self._engine.listening

    @property
    def decoding_seconds(self) -> float:
        """The most audio that one step of the engine may have to do with."""
        return self._engine.seconds

    @property
    def may_listen(self) -> bool:
        """Whether the engine has no Listen, and no job that goes before one."""
        return self._engine.may_listen

    @property
    def busy_since(self) -> float | None:
        """Since when the engine has had work without a pause."""
        return self._engine.busy_since

    @property
    def needs_model(self) -> bool:
        return any(task.wanted for task in self._open.values())

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = (self.reading.deadline, self._expiring[0][0] if self._expiring else None)
        return min((when for when in times if when is not None), default=None)

    def add(self, task: Task) -> None:
        """Take a task on. Its file is read ahead; it is decoded once it is `want`ed."""
        self._open[task.id] = task
        if task.path is not None:
            self.reading.add(task)
        if task.expires is not None:
            self.expire(task, task.expires)

    def expire(self, task: Task, when: float) -> None:
        """End it with `timeout` if it has no outcome then."""
        task.expires = when if task.expires is None else min(when, task.expires)
        heapq.heappush(self._expiring, (when, task.id))
        if len(self._expiring) > 64 + 2 * len(self._open):
            self._expiring = [(expires, job_id) for expires, job_id in self._expiring if job_id in self._open]
            heapq.heapify(self._expiring)

    def want(self, task: Task) -> None:
        """Decode it as soon as its turn comes."""
        if not task.wanted and task.outcome is None:
            task.wanted = True
            if task.samples is not None:
                self._ready.put(task)

    def has_begun(self, task: Task) -> bool:
        """Whether it is being decoded, or has its outcome: too late to say how."""
        return task.outcome is not None or task in self._engine

    def unwant(self, task: Task) -> None:
        """Let it wait until it is wanted again."""
        if task.id in self._open and task not in self._engine:
            task.wanted = False
            self._ready.remove(task)

    def audio_read(self, audio: AudioRead) -> None:
        self.reading.end(audio.job_id)
        task = self._open.get(audio.job_id)
        if task is None:
            return
        task.samples, task.warnings, task.read_seconds = audio.samples, audio.warnings, audio.seconds
        was_wanted = task.wanted
        task.owner.was_read(task)
        if was_wanted and task.outcome is None:
            self._ready.put(task)

    def audio_failed(self, failure: AudioFailed) -> None:
        self.reading.end(failure.job_id)
        self._settle_id(failure.job_id, failure.error)

    def decoded(self, job_id: int, outcome: Result) -> None:
        self._engine.leave(job_id)
        self.reading.release(job_id)
        self._settle_id(job_id, outcome)

    def listen(self, listen: Listen, seconds: float) -> None:
        """Have the engine listen to an utterance that has so many seconds by now."""
        self._engine.listen(listen.id, seconds)
        self.effects.append(Hear(listen))

    def listened(self, job_id: int) -> bool:
        """Take note of an outcome, if it is that of a Listen."""
        is_listen = self._engine.listens(job_id)
        if is_listen:
            self._engine.leave(job_id)
        return is_listen

    def forget(self, speech: int | None) -> None:
        """No job will come of an utterance that was listened to."""
        if speech is not None:
            self.effects.append(Forget(speech))

    def cancel(self, task: Task, error: BridgeError) -> Cancellation:
        """End a task with `error`: at once, or, where it is being decoded, at the next step unless it wins."""
        if task.outcome is not None:
            return "already_done"
        if task in self._engine:
            self.effects.append(Cancel(task.id))
            return "cancelling"
        self._settle(task, error)
        return "cancelled"

    def give_up(self, task: Task, error: BridgeError) -> None:
        """End a task with `error` at once; what the engine still makes of it is dropped."""
        if task.outcome is not None:
            return
        if task in self._engine:
            self.effects.append(Cancel(task.id))
        self._settle(task, error)

    def give_up_all(self, error: BridgeError) -> None:
        for task in list(self._open.values()):
            self.give_up(task, error)

    def give_up_wanted(self, error: BridgeError) -> None:
        """End all that wait for the model."""
        for task in list(self._open.values()):
            if task.wanted:
                self.give_up(task, error)

    def tick(self) -> None:
        """End what takes too long."""
        now = self._clock()
        while self._expiring and self._expiring[0][0] <= now:
            _, job_id = heapq.heappop(self._expiring)
            if job_id in self._open:
                self.give_up(self._open[job_id], TimedOut("not transcribed within `timeout_ms`"))
        for job_id in self.reading.give_up():
            self._settle_id(job_id, _read_timeout())

    def advance(self) -> None:
        """Begin what may begin."""
        self._read_ahead()
        while self.model_loaded and (task := self._ready.take(self._engine.admits)) is not None:
            self._engine.enter(task)
            self.effects.append(Submit(task.job()))
            task.speech = None

    def _read_ahead(self) -> None:
        while (task := self.reading.take()) is not None:
            if self.reading.is_stuck:
                self._settle(task, _read_timeout())
                continue
            self.reading.begin(task)
            self.effects.append(ReadAudio(task.id, task.path or ""))

    def _settle_id(self, job_id: int, outcome: Result) -> None:
        if job_id in self._open:
            self._settle(self._open[job_id], outcome)

    def _settle(self, task: Task, outcome: Result) -> None:
        """The one place where a task gets its outcome; one that comes too late finds no task."""
        del self._open[task.id]
        self._ready.remove(task)
        self.forget(task.speech)
        if task not in self._engine:
            self.reading.release(task.id)
        if isinstance(outcome, Transcript):
            self.transcripts += 1
            self.audio_seconds += task.seconds
            task.rms_dbfs = None if task.samples is None else rms_dbfs(task.samples)
        task.outcome, task.samples = outcome, None
        task.owner.settled(task)


def _read_timeout() -> AudioReadTimeout:
    return AudioReadTimeout(f"the file could not be read within {READ_SECONDS:g} seconds", limit_seconds=READ_SECONDS)
