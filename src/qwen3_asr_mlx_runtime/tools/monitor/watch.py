"""Lines between an app and the bridge → notes about them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, TypeVar

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.client.messages import decode
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.errors import error_codes
from qwen3_asr_mlx_runtime.protocol import replies, streams, transcripts
from qwen3_asr_mlx_runtime.protocol.capabilities import SAMPLE_RATE
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk, Boundary, Command, Id, StartStream
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request, decode_line
from qwen3_asr_mlx_runtime.tools.monitor.record import (
    Answered,
    Failed,
    LoadedModel,
    MemoryRead,
    Note,
    Outcome,
    Partial,
    StateReported,
    Traffic,
    Waiting,
    Words,
    Work,
)

OTHER = "other"  # replaces a word that is not on its list
MAX_REMEMBERED = 10_000  # names and requests; a working bridge never has as many
_CODES = frozenset((*error_codes(), "environment_failed", "python_missing", "python_unsuitable"))
_FINISH_REASONS = frozenset(("stop", "length", "repetition"))
_NO_WORDS = _CODES | {"language"}
_STATES = frozenset(("unloaded", "downloading", "loading", "ready", "busy", "draining", "failed"))
_ENDS_UTTERANCES = frozenset(("flush", "end_utterance", "vad_boundary"))

Key = TypeVar("Key")
Value = TypeVar("Value")
Item = transcripts.TranscriptReply | transcripts.BatchItem | transcripts.FinalResult
Source = Literal["file", "utterance"]


class _SentRequest(NamedTuple):
    type: str
    at: float


@dataclass(slots=True)
class _TrafficCounts:
    """The counts for the next `Traffic` note."""

    lines_in: int = 0
    bytes_in: int = 0
    lines_out: int = 0
    bytes_out: int = 0
    chunks: int = 0
    audio_seconds: float = 0.0


class Watch:
    """One session. Times are in seconds, when a line was relayed. Memory is bounded for any traffic."""

    def __init__(self, shows_text: bool) -> None:
        self._shows_text = shows_text
        self._by_id: dict[Id, _SentRequest] = {}
        self._in_order: deque[_SentRequest] = deque(maxlen=MAX_REMEMBERED)
        self._wants_events = False
        self._utterances: dict[tuple[str, str], None] = {}
        self._words: dict[int, float] = {}  # when the finals came whose words are to follow, by job
        self._streams: dict[str, None] = {}  # the open ones
        self._rates: dict[str, int] = {}  # of streams, including requested ones
        self._numbers: dict[str, int] = {}
        self._counts = _TrafficCounts()

    def traffic(self, at: float, unseen_bytes: int = 0) -> Iterator[Note]:
        """The traffic since the last call, if there was any."""
        counts, self._counts = self._counts, _TrafficCounts()
        if counts != self._counts or unseen_bytes:
            yield Traffic(at=at, unseen_bytes=unseen_bytes, **asdict(counts))

    def sent(self, at: float, line: bytes) -> Iterator[Note]:
        """A line to the bridge, without its newline."""
        request = decode_line(line) if line.strip(b" \t\r") else None
        self._counts.lines_in += 1
        self._counts.bytes_in += len(line) + 1
        if request is None:
            return
        tag = OTHER if isinstance(request, Rejected) else str(request.command.__struct_config__.tag)
        if isinstance(request, Request):
            self._take_audio(request.command)
        if isinstance(request.id, str | int):
            _remember(self._by_id, request.id, _SentRequest(tag, at))
        elif not (tag == "audio_chunk" and self._wants_events):  # which has no reply
            self._in_order.append(_SentRequest(tag, at))
        if tag != "audio_chunk":
            yield self._waiting(at)

    def _take_audio(self, command: Command) -> None:
        if isinstance(command, StartStream):
            _remember(self._rates, command.stream_id, command.sample_rate)
        if isinstance(command, AudioChunk | Boundary) and command.pcm16 is not None:
            samples = (len(command.pcm16) * 3 // 4 - command.pcm16[-2:].count("=")) // 2
            rate = command.sample_rate or self._rates.get(command.stream_id) or SAMPLE_RATE
            self._counts.audio_seconds += samples / rate
        self._counts.chunks += isinstance(command, AudioChunk)

    def received(self, at: float, line: bytes) -> Iterator[Note]:
        """A line of the bridge, without its newline."""
        self._counts.lines_out += 1
        self._counts.bytes_out += len(line) + 1
        try:
            message = decode(line)
        except ValueError:
            yield Failed(at=at, code=OTHER)
            return
        before = self._waiting(at)
        if getattr(message, "event", UNSET) is UNSET:
            yield from self._answer(at, message)
        yield from self._content_notes(at, message)
        if (now := self._waiting(at)) != before:
            yield now

    def _answer(self, at: float, message: replies.Line) -> Iterator[Note]:
        request = self._answered_request(message)
        if request is None:
            return
        code = _known(message.code, _CODES) if isinstance(message, replies.ErrorReply) else None
        yield Answered(at=at, type=request.type, seconds=round(at - request.at, 6), code=code)

    def _answered_request(self, message: replies.Line) -> _SentRequest | None:
        """The request that a reply answers: by its id, or the oldest request without an id."""
        identifier = getattr(message, "id", UNSET)
        if isinstance(identifier, str | int):
            return self._by_id.pop(identifier, None)
        if isinstance(message, replies.Fatal):
            return None
        silent = not isinstance(message, streams.PartialResult | replies.ErrorReply)
        while silent and self._in_order and self._in_order[0].type == "audio_chunk":
            self._in_order.popleft()  # sent after events were requested and before they were granted
        if not self._in_order:
            return None
        ends = isinstance(message, transcripts.RealtimeBatchFinal)
        if ends and self._in_order[0].type not in _ENDS_UTTERANCES:  # it ends the conversation and answers no request
            return None
        return self._in_order.popleft()

    def _content_notes(self, at: float, message: replies.Line) -> Iterator[Note]:
        match message:
            case transcripts.TranscriptReply():
                yield self._outcome(at, "file", message)
                yield from _words(at, message.words, message.aligner, message.warnings or ())
                yield from _work(at, message.profile)
            case transcripts.BatchTranscript():
                yield from self._items(at, "file", message.items)
                yield from _work(at, message.profile)
            case transcripts.RealtimeBatchFinal():
                yield from self._items(at, "utterance", message.items)
                yield from _work(at, message.profile)
            case transcripts.Aligned():
                yield from _words(at, message.words, message.aligner)
            case streams.WordsReady():
                yield from self._words_ready(at, message)
            case transcripts.Stopped():
                yield from self._items(at, "utterance", message.items)
            case streams.PartialResult():
                yield from self._partial(at, message)
            case _:
                yield from self._state(at, message)

    def _state(self, at: float, message: replies.Line) -> Iterator[Note]:
        match message:
            case replies.CapabilitiesReply():
                self._wants_events = "events" in message.want
            case replies.StatusReply():
                yield StateReported(at=at, state=_known(message.state, _STATES), queues=message.queues)
                yield MemoryRead(at=at, memory=message.memory)
            case replies.Pong():
                yield StateReported(at=at, state=_known(message.state, _STATES))
            case replies.Ready():
                yield LoadedModel(at=at, load_seconds=message.load_seconds)
            case streams.StreamError() | replies.Fatal():
                yield Failed(at=at, code=_known(message.code, _CODES))
            case streams.UtteranceQueued():
                _remember(self._utterances, (message.stream_id, message.utterance_id), None)
            case streams.StreamReady():
                _remember(self._streams, message.stream_id, None)
            case streams.StreamStopped():
                self._streams.pop(message.stream_id, None)
                for name in message.cancelled_utterances:
                    self._utterances.pop((message.stream_id, name), None)

    def _items(self, at: float, source: Source, items: Iterable[Item]) -> Iterator[Note]:
        for item in items:
            if isinstance(item, transcripts.FinalResult):
                self._utterances.pop((item.stream_id, item.utterance_id), None)
            if not isinstance(item, transcripts.TranscriptReply) and item.error:
                yield Failed(at=at, code=_known(item.error.code, _CODES))
            else:
                yield self._outcome(at, source, item)
                yield from self._words_of(at, item)

    def _words_of(self, at: float, item: Item) -> Iterator[Note]:
        if isinstance(item, transcripts.FinalResult) and item.words_pending:
            _remember(self._words, item.job, at)
        else:
            yield from _words(at, item.words, item.aligner, item.warnings or ())

    def _words_ready(self, at: float, message: streams.WordsReady) -> Iterator[Note]:
        since = self._words.pop(message.job, None)
        waited = None if since is None else round(at - since, 6)
        if message.error:
            yield Words(at=at, wait_seconds=waited, reason=_known(message.error.code, _NO_WORDS))
        else:
            yield from _words(at, message.words, message.aligner, wait_seconds=waited)

    def _outcome(self, at: float, source: Source, item: Item) -> Note:
        return Outcome(
            at=at,
            source=source,
            decode_seconds=None if item.decode_seconds is UNSET else item.decode_seconds,
            queue_seconds=getattr(item, "queue_seconds", None),
            generated_tokens=item.generated_tokens or 0,
            verified_tokens=getattr(item, "verified_tokens", 0) or 0,
            redecoded=item.redecoded or 0,
            finish_reason=_known(item.finish_reason or OTHER, _FINISH_REASONS),
            text=item.text if self._shows_text else None,
        )

    def _partial(self, at: float, message: streams.PartialResult) -> Iterator[Note]:
        if message.event is UNSET or message.seconds is UNSET:
            return
        if message.stream_id not in self._numbers:
            _remember(self._numbers, message.stream_id, len(self._numbers) + 1)
        yield Partial(
            at=at,
            stream=self._numbers[message.stream_id],
            seconds=message.seconds,
            queue_seconds=message.queue_seconds or 0.0,
            tokens=message.tokens or 0,
            verified_tokens=message.verified_tokens or 0,
            text=message.text if self._shows_text else None,
        )

    def _waiting(self, at: float) -> Waiting:
        requests = len(self._by_id) + len(self._in_order)
        return Waiting(
            at=at,
            requests=requests,
            utterances=len(self._utterances),
            streams=len(self._streams),
            words=len(self._words),
        )


def _words(
    at: float,
    words: list[transcripts.Word] | UnsetType | None,
    aligner: transcripts.Aligner | UnsetType,
    warnings: Iterable[str] = (),
    wait_seconds: float | None = None,
) -> Iterator[Note]:
    """Nothing where no words were asked for."""
    if words is UNSET:
        return
    reason = transcripts.words_reason(warnings) or OTHER
    yield Words(
        at=at,
        count=len(words or ()),
        seconds=aligner.seconds if aligner else None,
        wait_seconds=wait_seconds,
        reason=_known(reason, _NO_WORDS) if words is None else None,
    )


def _work(at: float, profile: Profile) -> Iterator[Note]:
    if profile.audio_seconds and profile.total_seconds:
        yield Work(
            at=at,
            audio_seconds=profile.audio_seconds,
            total_seconds=profile.total_seconds,
            realtime_factor=profile.realtime_factor,
        )
    if profile.memory is not None:
        yield MemoryRead(at=at, memory=profile.memory)


def _known(word: str, words: frozenset[str]) -> str:
    return word if word in words else OTHER


def _remember(names: dict[Key, Value], name: Key, value: Value) -> None:
    """Store a value; drop the oldest if there are too many."""
    if len(names) >= MAX_REMEMBERED and name not in names:
        del names[next(iter(names))]
    names[name] = value
