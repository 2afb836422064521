"""Files on their way into memory: which is read next, and which take too long. No thread: others read."""

from collections import Counter, deque
from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.session.transcription import Transcription

READ_AHEAD = 4  # files that are read at a time
MAX_HELD: dict[DecoderMode, int] = {"sequential": READ_AHEAD, "batched": MAX_BATCH_ROWS + READ_AHEAD}
MAX_HELD_SECONDS = 1200.0  # of audio: beyond it no batch is worth more than READ_AHEAD files in memory
MAX_HELD_SEGMENTS = 16  # of files that go on: each may read one more when it has none
MAX_STUCK = 4  # files whose reading timed out and has not come back
READ_SECONDS = 30.0  # for a file that is read whole, or for a segment


class FilePrefetch:
    """Files of streams are read first, and whole. Of the others few are held at a time, from the start of the reading
    to the result, and few of their segments: for each of the `engines` that decode beside each other."""

    def __init__(self, clock: Callable[[], float], engines: int = 1) -> None:
        self._clock = clock
        self._engines = engines
        self._unread: dict[DecoderMode | None, deque[Transcription]] = {
            None: deque(),
            "sequential": deque(),
            "batched": deque(),
        }
        self._started: dict[int, float] = {}
        self._stuck: set[int] = set()
        self._partly_read: dict[int, Transcription] = {}  # their threads wait
        self._held: dict[int, Transcription] = {}

    @property
    def unread(self) -> int:
        return sum(item.is_unfinished for items in self._unread.values() for item in items)

    @property
    def reading(self) -> int:
        return len(self._started)

    @property
    def stuck(self) -> int:
        return len(self._stuck)

    @property
    def is_stuck(self) -> bool:
        """Whether so many are stuck that no other is tried."""
        return len(self._stuck) >= MAX_STUCK

    @property
    def deadline(self) -> float | None:
        """When the next reading times out."""
        return min((started + READ_SECONDS for started in self._started.values()), default=None)

    def add(self, transcription: Transcription) -> None:
        is_file = transcription.stream_id is None
        self._unread[transcription.options.decoder_mode if is_file else None].append(transcription)

    def take(self) -> Transcription | None:
        """The next one to read now."""
        for mode, items in self._unread.items():
            while items and not items[0].is_unfinished:
                items.popleft()
            if items and len(self._started) < READ_AHEAD and (mode is None or self._has_room(mode)):
                return items.popleft()
        return None

    def take_more(self) -> Transcription | None:
        """The next one to read more of now."""
        if len(self._started) >= READ_AHEAD:
            return None
        segments = sum(each.held_segments for each in self._held.values())
        for transcription in self._partly_read.values():
            if segments < MAX_HELD_SEGMENTS * self._engines or not transcription.held_segments:
                return transcription
        return None

    def start(self, transcription: Transcription) -> None:
        """It is being read, for the first time or on."""
        self._partly_read.pop(transcription.id, None)
        self._started[transcription.id] = self._clock()
        if transcription.stream_id is None:
            self._held[transcription.id] = transcription

    def has_more(self, transcription: Transcription) -> None:
        """A segment was read that is not the last."""
        self._partly_read[transcription.id] = transcription

    def end(self, job_id: int) -> None:
        """A read has come back."""
        self._started.pop(job_id, None)
        self._stuck.discard(job_id)
        if job_id in self._held and not self._held[job_id].is_unfinished:
            del self._held[job_id]

    def release(self, job_id: int) -> None:
        """Its audio is held no more, unless its thread still reads it."""
        self._partly_read.pop(job_id, None)
        if job_id not in self._started:
            self._held.pop(job_id, None)

    def take_timed_out(self) -> list[int]:
        """Those that were not read in time. Their threads are stuck."""
        now = self._clock()
        late = [job_id for job_id, started in self._started.items() if started + READ_SECONDS <= now]
        for job_id in late:
            del self._started[job_id]
            self._stuck.add(job_id)
        return late

    def _has_room(self, mode: DecoderMode) -> bool:
        held = Counter(item.options.decoder_mode for item in self._held.values())
        seconds = sum(item.held_seconds for item in self._held.values())
        most = MAX_HELD[mode] if seconds < MAX_HELD_SECONDS * self._engines else READ_AHEAD
        return held[mode] < most * self._engines
