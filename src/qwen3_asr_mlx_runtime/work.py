"""Tasks on their way: read ahead, taken in turns, few in the engine at a time, each settled once."""

import heapq
from collections import deque
from collections.abc import Callable
from typing import Literal

from qwen3_asr_mlx_runtime.effects import AudioFailed, AudioRead, Cancel, Effect, ReadAudio, Submit
from qwen3_asr_mlx_runtime.errors import AudioReadTimeout, BridgeError, TimedOut
from qwen3_asr_mlx_runtime.tasks import Result, Task, rms_dbfs
from qwen3_asr_mlx_runtime.transcript import Transcript
from qwen3_asr_mlx_runtime.turns import Turns

READ_AHEAD = 4  # files in memory, or being read, at a time
MAX_STUCK = 4  # files whose reading was given up and has not come back
MAX_IN_ENGINE = 2  # one is decoded and one stands ready; what waits here can still change places
READ_SECONDS = 30.0

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
        self._unread_live: deque[Task] = deque()  # utterances of streams
        self._unread_files: deque[Task] = deque()
        self._reading: dict[int, float] = {}  # when each began
        self._stuck: set[int] = set()
        self._ready = Turns()
        self._decoding: dict[int, float] = {}  # the seconds of audio of each
        self._expiring: list[tuple[float, int]] = []
        self._busy_since: float | None = None

    @property
    def unread(self) -> int:
        return sum(task.id in self._open for task in (*self._unread_live, *self._unread_files))

    @property
    def reading(self) -> int:
        return len(self._reading)

    @property
    def stuck(self) -> int:
        return len(self._stuck)

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def decoding(self) -> int:
        return len(self._decoding)

    @property
    def decoding_seconds(self) -> float:
        """How much audio the engine has before it: the longest of its jobs."""
        return max(self._decoding.values(), default=0.0)

    @property
    def busy_since(self) -> float | None:
        """Since when the engine has had work without a pause."""
        return self._busy_since

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = [began + READ_SECONDS for began in self._reading.values()]
        times += [self._expiring[0][0]] if self._expiring else []
        return min(times, default=None)

    def add(self, task: Task) -> None:
        """Take a task on. Its file is read ahead; it is decoded once it is `want`ed."""
        self._open[task.id] = task
        if task.path is not None:
            (self._unread_files if task.lane is None else self._unread_live).append(task)
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

    def unwant(self, task: Task) -> None:
        """Let it wait until it is wanted again."""
        if task.id in self._open and task.id not in self._decoding:
            task.wanted = False
            self._ready.remove(task)

    def audio_read(self, audio: AudioRead) -> None:
        self._reading.pop(audio.job_id, None)
        self._stuck.discard(audio.job_id)
        task = self._open.get(audio.job_id)
        if task is None:
            return
        task.samples, task.warnings, task.read_seconds = audio.samples, audio.warnings, audio.seconds
        was_wanted = task.wanted
        task.owner.was_read(task)
        if was_wanted and task.outcome is None:
            self._ready.put(task)

    def audio_failed(self, failure: AudioFailed) -> None:
        self._reading.pop(failure.job_id, None)
        self._stuck.discard(failure.job_id)
        self._settle_id(failure.job_id, failure.error)

    def decoded(self, job_id: int, outcome: Result) -> None:
        self._decoding.pop(job_id, None)
        if not self._decoding:
            self._busy_since = None
        self._settle_id(job_id, outcome)

    def cancel(self, task: Task, error: BridgeError) -> Cancellation:
        """End a task with `error`: at once, or, where it is being decoded, at the next step unless it wins."""
        if task.outcome is not None:
            return "already_done"
        if task.id in self._decoding:
            self.effects.append(Cancel(task.id))
            return "cancelling"
        self._settle(task, error)
        return "cancelled"

    def give_up(self, task: Task, error: BridgeError) -> None:
        """End a task with `error` at once; what the engine still makes of it is dropped."""
        if task.outcome is not None:
            return
        if task.id in self._decoding:
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
        for job_id in [job_id for job_id, began in self._reading.items() if began + READ_SECONDS <= now]:
            del self._reading[job_id]
            self._stuck.add(job_id)
            self._settle_id(job_id, _read_timeout())

    def advance(self) -> None:
        """Begin what may begin."""
        self._read_ahead()
        while self.model_loaded and len(self._decoding) < MAX_IN_ENGINE and (task := self._ready.take()) is not None:
            self._decoding[task.id] = task.seconds
            self._busy_since = self._clock() if self._busy_since is None else self._busy_since
            self.effects.append(Submit(task.job()))

    def _read_ahead(self) -> None:
        while (task := self._take_unread()) is not None:
            if len(self._stuck) >= MAX_STUCK:
                self._settle(task, _read_timeout())
                continue
            self._reading[task.id] = self._clock()
            self.effects.append(ReadAudio(task.id, task.path or ""))

    def _take_unread(self) -> Task | None:
        """The next task whose file is to be read: those of streams first, which wait for no file to be decoded."""
        files_held = self._ready.files + len(self._decoding)
        for unread, held in ((self._unread_live, 0), (self._unread_files, files_held)):
            while unread and len(self._reading) + held < READ_AHEAD:
                task = unread.popleft()
                if task.id in self._open:
                    return task
        return None

    def _settle_id(self, job_id: int, outcome: Result) -> None:
        if job_id in self._open:
            self._settle(self._open[job_id], outcome)

    def _settle(self, task: Task, outcome: Result) -> None:
        """The one place where a task gets its outcome; one that comes too late finds no task."""
        del self._open[task.id]
        self._ready.remove(task)
        if isinstance(outcome, Transcript):
            self.transcripts += 1
            self.audio_seconds += task.seconds
            task.rms_dbfs = None if task.samples is None else rms_dbfs(task.samples)
        task.outcome, task.samples = outcome, None
        task.owner.settled(task)


def _read_timeout() -> AudioReadTimeout:
    return AudioReadTimeout(f"the file could not be read within {READ_SECONDS:g} seconds", limit_seconds=READ_SECONDS)
