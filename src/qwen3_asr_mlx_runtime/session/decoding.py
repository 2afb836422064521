"""The decoding of utterances: with which options, once or again, and until when."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.protocol.commands import Decoding
from qwen3_asr_mlx_runtime.session.model_state import Cause, Loading
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.spoken import Spoken
from qwen3_asr_mlx_runtime.session.tasks import Owner, Task, resolve
from qwen3_asr_mlx_runtime.settings import Settings


class SpokenTasks:
    """Every utterance without an outcome has a task here. `lost`: an utterance has its outcome no more."""

    def __init__(
        self,
        settings: Settings,
        work: Work,
        loading: Loading,
        job_ids: "count[int]",
        clock: Callable[[], float],
        owner: Owner,
        lost: Callable[[Spoken], None],
    ) -> None:
        self._settings = settings
        self._work = work
        self._loading = loading
        self._job_ids = job_ids
        self._clock = clock
        self._owner = owner
        self._lost = lost
        self._spoken: dict[int, Spoken] = {}

    def begin(self, spoken: Spoken, path: str | None) -> None:
        """Take an utterance on: its file is read ahead, and it is decoded when that is asked for."""
        timeout_ms = spoken.asked.timeout_ms
        expires = None if timeout_ms is None else self._clock() + timeout_ms / 1000
        task = self._make(spoken, path=path, expires=expires)
        if spoken.speech is not None:
            task.speech, task.final_policy = spoken.speech, spoken.stream.final_policy

    def of(self, task: Task) -> Spoken:
        return self._spoken[task.id]

    def end(self, task: Task) -> Spoken | None:
        """The utterance of a task that has its outcome; None if it is decoded again, or was discarded."""
        return self._spoken.pop(task.id, None)

    def discard(self, spoken: Spoken, error: BridgeError) -> None:
        """End a task, and tell nobody."""
        if spoken.task is not None:
            self._spoken.pop(spoken.task.id, None)
            self._work.give_up(spoken.task, error)

    def decode(self, members: Sequence[Spoken], asked: Decoding | None, cause: Cause | None) -> None:
        """Have these decoded, with these options; anew, if they were decoded ahead with others that do not serve."""
        for spoken in members:
            said = [spoken.asked, *([asked] if asked else []), spoken.stream]
            spoken.options = resolve(self._settings, said)
            if spoken.task is not None:
                self._change_options(spoken, spoken.task)
            spoken.ahead = True
            if spoken.outcome is None and spoken.task is not None:
                self._loading.need(cause)
                self._work.want(spoken.task)

    def decode_ahead(self, members: Sequence[Spoken]) -> None:
        """Have these decoded although nobody waits for them yet."""
        self.decode(members, None, None)

    def expire(self, members: Iterable[Spoken], timeout_ms: int | None) -> None:
        """What is not transcribed so long from now fails with `timeout`."""
        if timeout_ms is not None:
            for spoken in members:
                if spoken.task is not None:
                    self._work.expire(spoken.task, self._clock() + timeout_ms / 1000)

    def _make(self, spoken: Spoken, *, path: str | None = None, expires: float | None = None) -> Task:
        task = Task(
            next(self._job_ids),
            self._owner,
            spoken.options,
            lane=spoken.stream_id,
            path=path,
            samples=spoken.samples,
            expires=expires,
        )
        spoken.task = task
        self._spoken[task.id] = spoken
        self._work.add(task)
        return task

    def _change_options(self, spoken: Spoken, task: Task) -> None:
        if not self._work.has_begun(task):
            task.options = spoken.options
        elif not task.options.serve(spoken.options) and not isinstance(spoken.outcome, BridgeError):
            self._decode_again(spoken, task)

    def _decode_again(self, spoken: Spoken, former: Task) -> None:
        """With other options. What was transcribed in time once has no other time to keep."""
        self._spoken.pop(former.id, None)
        in_time = isinstance(spoken.outcome, Transcript)
        if in_time:
            spoken.outcome = spoken.settled_at = None
            self._lost(spoken)
        task = self._make(spoken, expires=None if in_time else former.expires)
        task.warnings, task.read_seconds = former.warnings, former.read_seconds
        self._work.give_up(former, Cancelled("decoded again with other options"))
