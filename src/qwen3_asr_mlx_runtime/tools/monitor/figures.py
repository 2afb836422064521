"""Notes of a session → its figures, in bounded memory."""

from collections import Counter, deque

import msgspec

from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.protocol.replies import Queues
from qwen3_asr_mlx_runtime.tools.distribution import Distribution, Spread
from qwen3_asr_mlx_runtime.tools.monitor import record as notes

RECENT_SECONDS = 60


class Recent(msgspec.Struct, kw_only=True, frozen=True):
    """Averages of the last minute, or of a shorter session: seconds of audio and tokens, for each second."""

    audio_seconds_per_second: float
    tokens_per_second: float


class Summary(msgspec.Struct, kw_only=True, frozen=True):
    """The figures of a session; docs/telemetry.md explains them. Percentiles are of the whole session."""

    seconds: float
    exit_code: int | None
    state: str | None
    load_seconds: float | None
    requests_waiting: int
    requests_waiting_most: int
    utterances_waiting: int
    utterances_waiting_most: int
    words_waiting: int
    words_waiting_most: int
    streams: int
    queues: Queues | None
    lines_in: int
    lines_out: int
    bytes_in: int
    bytes_out: int
    unseen_bytes: int
    chunks: int
    streamed_seconds: float
    files: int
    utterances: int
    partials: int
    words: int
    audio_seconds: float
    work_seconds: float
    realtime_factor: float | None
    recent: Recent
    generated_tokens: int
    verified_tokens: int
    redecoded: int
    answers: dict[str, Spread]
    final_queue_seconds: Spread
    decode_seconds: Spread
    partial_seconds: Spread
    partial_queue_seconds: Spread
    align_seconds: Spread
    words_wait_seconds: Spread
    realtime_factors: Spread
    finish_reasons: dict[str, int]
    words_unavailable: dict[str, int]
    errors: dict[str, int]
    first_memory: Memory | None
    memory: Memory | None


class Figures:
    """Takes the notes of one session in their order."""

    def __init__(self) -> None:
        self._at = 0.0
        self._sums: Counter[str] = Counter()
        self._seconds: dict[str, float] = dict.fromkeys(("streamed", "audio", "work"), 0.0)
        self._waiting = notes.Waiting(at=0.0, requests=0, utterances=0, streams=0)
        self._max_waiting = (0, 0, 0)
        self._state: notes.StateReported | None = None
        self._queues: Queues | None = None
        self._load_seconds: float | None = None
        self._exit_code: int | None = None
        self._memory: tuple[Memory, Memory] | None = None
        self._answers: dict[str, Distribution] = {}
        self._final_queue, self._decode, self._factors = Distribution(), Distribution(), Distribution()
        self._partial, self._partial_queue = Distribution(), Distribution()
        self._align, self._words_wait = Distribution(), Distribution()
        self._words_unavailable: Counter[str] = Counter()
        self._finish_reasons: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._recent: deque[tuple[int, float, int]] = deque()  # of each second: (when, seconds of audio, tokens)

    def take(self, note: notes.Note) -> None:
        self._at = max(self._at, note.at)
        match note:
            case notes.Traffic():
                self._take_traffic(note)
            case notes.Waiting():
                self._waiting = note
                self._max_waiting = (
                    max(self._max_waiting[0], note.requests),
                    max(self._max_waiting[1], note.utterances),
                    max(self._max_waiting[2], note.words),
                )
            case notes.Answered():
                self._answers.setdefault(note.type, Distribution()).add(note.seconds)
                if note.code is not None:
                    self._errors[note.code] += 1
            case notes.Outcome():
                self._take_outcome(note)
            case notes.Partial():
                self._partial.add(note.seconds)
                self._partial_queue.add(note.queue_seconds)
            case notes.Words():
                self._take_words(note)
            case notes.Work():
                self._take_work(note)
            case _:
                self._take_state(note)

    def _take_traffic(self, note: notes.Traffic) -> None:
        for name in ("lines_in", "lines_out", "bytes_in", "bytes_out", "chunks", "unseen_bytes"):
            self._sums[name] += getattr(note, name)
        self._seconds["streamed"] += note.audio_seconds

    def _take_outcome(self, note: notes.Outcome) -> None:
        self._sums["files" if note.source == "file" else "utterances"] += 1
        for name in ("generated_tokens", "verified_tokens", "redecoded"):
            self._sums[name] += getattr(note, name)
        if note.queue_seconds is not None:
            self._final_queue.add(note.queue_seconds)
        if note.decode_seconds is not None:
            self._decode.add(note.decode_seconds)
        if note.finish_reason is not None:
            self._finish_reasons[note.finish_reason] += 1
        self._note_recent(note.at, 0.0, note.generated_tokens)

    def _take_words(self, note: notes.Words) -> None:
        self._sums["words"] += note.count
        if note.seconds is not None:
            self._align.add(note.seconds)
        if note.wait_seconds is not None:
            self._words_wait.add(note.wait_seconds)
        if note.reason is not None:
            self._words_unavailable[note.reason] += 1

    def _take_work(self, note: notes.Work) -> None:
        self._seconds["audio"] += note.audio_seconds
        self._seconds["work"] += note.total_seconds
        if note.realtime_factor is not None:
            self._factors.add(note.realtime_factor)
        self._note_recent(note.at, note.audio_seconds, 0)

    def _take_state(self, note: notes.Note) -> None:
        match note:
            case notes.Failed():
                self._errors[note.code] += 1
            case notes.MemoryRead():
                self._memory = (self._memory[0] if self._memory else note.memory, note.memory)
            case notes.StateReported():
                self._state, self._queues = note, note.queues or self._queues
            case notes.LoadedModel():
                self._load_seconds = note.load_seconds
            case notes.Ended():
                self._exit_code = note.code

    def _note_recent(self, at: float, audio: float, tokens: int) -> None:
        second = int(at)
        if self._recent and self._recent[-1][0] == second:
            _, more_audio, more_tokens = self._recent.pop()
            audio, tokens = audio + more_audio, tokens + more_tokens
        self._recent.append((second, audio, tokens))
        while self._recent[0][0] <= second - RECENT_SECONDS:
            self._recent.popleft()

    def _recently(self, now: float) -> Recent:
        last = [entry for entry in self._recent if entry[0] > now - RECENT_SECONDS]
        seconds = min(max(now, 1.0), RECENT_SECONDS)
        return Recent(
            audio_seconds_per_second=round(sum(audio for _, audio, _ in last) / seconds, 3),
            tokens_per_second=round(sum(tokens for _, _, tokens in last) / seconds, 3),
        )

    def summary(self, now: float | None = None) -> Summary:
        """The figures at `now`, in seconds since the session began; by default at the last note."""
        now = self._at if now is None else max(now, self._at)
        audio, work = self._seconds["audio"], self._seconds["work"]
        names = ("files", "utterances", "words", "generated_tokens", "verified_tokens", "redecoded")
        traffic = ("lines_in", "lines_out", "bytes_in", "bytes_out", "chunks", "unseen_bytes")
        return Summary(
            **{name: self._sums[name] for name in (*names, *traffic)},
            seconds=round(now, 3),
            exit_code=self._exit_code,
            state=self._state.state if self._state else None,
            load_seconds=self._load_seconds,
            requests_waiting=self._waiting.requests,
            requests_waiting_most=self._max_waiting[0],
            utterances_waiting=self._waiting.utterances,
            utterances_waiting_most=self._max_waiting[1],
            words_waiting=self._waiting.words,
            words_waiting_most=self._max_waiting[2],
            streams=self._waiting.streams,
            queues=self._queues,
            streamed_seconds=round(self._seconds["streamed"], 3),
            partials=self._partial.count,
            audio_seconds=round(audio, 3),
            work_seconds=round(work, 3),
            realtime_factor=round(audio / work, 2) if work else None,
            recent=self._recently(now),
            answers={name: seconds.spread() for name, seconds in sorted(self._answers.items())},
            final_queue_seconds=self._final_queue.spread(),
            decode_seconds=self._decode.spread(),
            partial_seconds=self._partial.spread(),
            partial_queue_seconds=self._partial_queue.spread(),
            align_seconds=self._align.spread(),
            words_wait_seconds=self._words_wait.spread(),
            realtime_factors=self._factors.spread(),
            finish_reasons=dict(sorted(self._finish_reasons.items())),
            words_unavailable=dict(sorted(self._words_unavailable.items())),
            errors=dict(sorted(self._errors.items())),
            first_memory=self._memory[0] if self._memory else None,
            memory=self._memory[1] if self._memory else None,
        )
