"""Events, queued until the app reads them."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Union

import msgspec

from qwen3_asr_mlx_runtime.client.errors import ClientError
from qwen3_asr_mlx_runtime.client.messages import Unknown
from qwen3_asr_mlx_runtime.client.results import RealtimeBatchFinal
from qwen3_asr_mlx_runtime.protocol.streams import EngineRestarting, PartialResult, Progress, StreamError, WordsReady
from qwen3_asr_mlx_runtime.protocol.transcripts import ItemError

MAX_EVENTS = 1024


class BridgeLost(msgspec.Struct, frozen=True):
    """The process is gone, and with it `streams`. `will_restart`: the next request starts it again; with `resend` it is
    started at once where something waits."""

    error: ClientError
    streams: tuple[str, ...]
    will_restart: bool


class UtteranceLost(msgspec.Struct, frozen=True):
    """With `resend`: this utterance has no outcome, because its audio was more than is kept, or because a later process
    refused its boundary. `error`: the loss, or the refusal (RequestFailed)."""

    error: ClientError
    stream_id: str
    utterance_id: str


class EventsLost(msgspec.Struct):
    """The app did not read in time: `count` events were dropped here."""

    count: int


Event = Union[  # noqa: UP007
    RealtimeBatchFinal,
    WordsReady,
    PartialResult,
    StreamError,
    Progress,
    EngineRestarting,
    Unknown,
    BridgeLost,
    UtteranceLost,
    EventsLost,
]


class EventQueue:
    """Bounded, for one reader or several, on any thread. `put` never waits.

    A partial replaces an unread partial of the same utterance, and progress that of the same request and stage. If the
    queue is full after that, the oldest event is dropped and counted.
    """

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self._limit = limit
        self._events: list[Event] = []
        self._lost = 0
        self._is_ended = False
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], None]] = []

    def put(self, event: Event) -> None:
        with self._changed:
            index = self._replaced(event)
            if index is not None:
                _keep_change(self._events.pop(index), event)
            self._events.append(event)
            if len(self._events) > self._limit:
                del self._events[0]
                self._lost += 1
            self._wake()

    def end(self) -> None:
        """No more events will come until the next `begin`."""
        with self._changed:
            self._is_ended = True
            self._wake()

    def begin(self) -> None:
        with self._changed:
            self._is_ended = False

    @property
    def is_ended(self) -> bool:
        """Whether no more will come and all are read."""
        with self._changed:
            return self._is_ended and not self._events and not self._lost

    def take(self) -> Event | None:
        """Take the oldest event, if there is one."""
        with self._changed:
            return self._take()

    def wait(self, timeout: float | None) -> Event | None:
        """Wait for an event and take the oldest; None after `timeout` seconds, or if no more will come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while (event := self._take()) is None and not self._is_ended:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            return event

    def call_when_changed(self, waker: Callable[[], None]) -> None:
        """Call `waker` once, on any thread: at the next event or the end, or now if there is one already."""
        with self._changed:
            self._wakers.append(waker)
            if self._events or self._lost or self._is_ended:
                self._wake()

    def forget(self, waker: Callable[[], None]) -> None:
        """Remove a waker whose task no longer waits."""
        with self._changed, contextlib.suppress(ValueError):  # already called
            self._wakers.remove(waker)

    def _take(self) -> Event | None:
        if self._lost:
            count, self._lost = self._lost, 0
            return EventsLost(count)
        return self._events.pop(0) if self._events else None

    def _wake(self) -> None:
        self._changed.notify_all()
        wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    def _replaced(self, event: Event) -> int | None:
        """The index of the unread event that this one replaces."""
        if not isinstance(event, PartialResult | Progress):
            return None
        for index in range(len(self._events) - 1, -1, -1):
            if _same_subject(self._events[index], event):
                return index
        return None


class PendingWords:
    """Finals that were delivered with `words_pending` by one process, whose `words_ready` is still to come."""

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[str, str]] = {}  # stream and utterance of each

    def take(self, event: Event) -> None:
        """Note an event of the process."""
        if isinstance(event, WordsReady):
            self._jobs.pop(event.job, None)
        for item in event.items if isinstance(event, RealtimeBatchFinal) else ():
            if item.words_pending is True:
                self._jobs[item.job] = item.stream_id, item.utterance_id

    def lose(self, error: ClientError) -> list[WordsReady]:
        """The process is gone: the events in place of those that it owes, numbered 0."""
        jobs, self._jobs = self._jobs, {}
        why = ItemError(code=error.code, message=error.message)
        return [
            WordsReady(job=job, stream_id=names[0], utterance_id=names[1], error=why) for job, names in jobs.items()
        ]


def _same_subject(old: Event, new: PartialResult | Progress) -> bool:
    if isinstance(new, Progress):
        return isinstance(old, Progress) and old.request_id == new.request_id and old.stage == new.stage
    return isinstance(old, PartialResult) and old.stream_id == new.stream_id and old.utterance_id == new.utterance_id


def _keep_change(unread: Event, event: Event) -> None:
    """The text of a partial that replaces an unread one has changed from the earlier of the two places."""
    if isinstance(unread, PartialResult) and isinstance(event, PartialResult) and event.changed_from:
        event.changed_from = min(event.changed_from, unread.changed_from or 0)
