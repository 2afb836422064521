"""The open streams, and the chunks that arrive for them."""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.audio.pcm16 import checked_pcm, count_samples
from qwen3_asr_mlx_runtime.audio.pcm_buffer import length
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import LimitExceeded, RequestError, StreamExists, UnknownStream
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk, StartStream
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, Split
from qwen3_asr_mlx_runtime.session.partials import Partials
from qwen3_asr_mlx_runtime.session.stream import IsInUse, Stream, check_is_rate_of, check_stream_rate
from qwen3_asr_mlx_runtime.settings import Settings

IMPLICIT = "implicit_stream"

SplitOff = Callable[[Stream], Split]


class AudioBudget:
    """Samples of all streams in memory, from the chunk until the result is delivered."""

    def __init__(self, max_seconds: float) -> None:
        self.samples = 0
        self._limit_seconds = max_seconds

    @property
    def seconds(self) -> float:
        return round(self.samples / SAMPLE_RATE, 3)

    def take(self, samples: int) -> None:
        """Reserve samples. Raises LimitExceeded, and reserves nothing, if they do not fit."""
        if samples and self.samples + samples > self._limit_seconds * SAMPLE_RATE:
            message = f"at most {self._limit_seconds:g} seconds of audio may wait for their outcome"
            raise LimitExceeded(message, dropped_samples=samples, limit_seconds=self._limit_seconds)
        self.samples += samples

    def give_back(self, samples: int) -> None:
        self.samples -= samples


class StreamRegistry:
    """Streams by their ids. `known_only`: a stream must be started before it is used."""

    def __init__(
        self, settings: Settings, budget: AudioBudget, partials: Partials, split_off: SplitOff, is_in_use: IsInUse
    ) -> None:
        self.partials = partials
        self._budget = budget
        self.chunks = 0
        self._max_streams = settings.max_streams
        self._max_samples = int(settings.max_utterance_seconds * SAMPLE_RATE)
        self._split_off = split_off
        self._is_in_use = is_in_use
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def has_auto_flush(self) -> bool:
        return any(stream.command.auto_flush for stream in self._streams.values())

    @property
    def buffered_samples(self) -> int:
        """Audio of open utterances, at 16 kHz."""
        return sum(stream.samples for stream in self._streams.values())

    def start(self, command: StartStream, *, may_replace: bool) -> tuple[Stream, int]:
        """Open a stream; return it, and the number of dropped samples of a replaced stream with the same name.

        Raises UnsupportedSampleRate, StreamExists or LimitExceeded.
        """
        check_stream_rate(command.sample_rate)
        former = self._streams.get(command.stream_id)
        if former is None:
            return self.register(Stream(command, self._is_in_use)), 0
        if not may_replace and not command.restart:
            raise StreamExists("a stream of this name is open; `restart` replaces it", field="stream_id")
        dropped = self._drop(former)
        return self.register(former.restarted(command)), dropped

    def find(self, stream_id: str, *, known_only: bool) -> Stream:
        """The open stream of this name, or a new one that is not registered yet."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        if known_only:
            raise UnknownStream("no stream of this name is open; `start_stream` opens one", field="stream_id")
        self._check_count()
        return Stream(StartStream(stream_id=stream_id), self._is_in_use)

    def is_open(self, stream: Stream) -> bool:
        return self._streams.get(stream.id) is stream

    def register(self, stream: Stream) -> Stream:
        if stream.id not in self._streams:
            self._check_count()
        self._streams[stream.id] = stream
        return stream

    def chunk(self, command: AudioChunk, *, known_only: bool) -> PartialResult:
        """Add a chunk. Raises the RequestError that rejects it; its stream then has a gap."""
        stream = self.find(command.stream_id, known_only=known_only)
        is_new = not self.is_open(stream)
        if stream.is_duplicate(command):
            return self.partials.fill(stream.duplicate(), stream)
        try:
            stream.check_utterance(command)
            check_is_rate_of(stream, command.sample_rate)
            pcm = checked_pcm(command.pcm16, stream.rate)
            split = self._make_room(stream, pcm)
        except RequestError:
            stream.mark_gap()
            raise
        gap = self.register(stream).append(command, pcm)
        self.partials.chunk_added(stream)
        reply = self.partials.fill(stream.taken(gap), stream)
        if split is not None:
            reply.split = split
        if is_new:
            reply.warnings = [IMPLICIT]
        self.chunks += 1
        return reply

    def mark_gap(self, stream_id: str) -> None:
        """A chunk for this stream was rejected: mark a gap, if the stream is open."""
        if stream_id in self._streams:
            self._streams[stream_id].mark_gap()

    def count_samples(self, stream_id: str | None, pcm16: str) -> int:
        """The number of samples at 16 kHz in a chunk for this stream, 0 if it cannot be decoded."""
        stream = self._streams.get(stream_id or "")
        return count_samples(pcm16, SAMPLE_RATE if stream is None else stream.rate)

    def stop(self, stream_id: str) -> tuple[Stream, int]:
        """Close a stream; return it and its dropped samples after the last boundary. Raises UnknownStream."""
        stream = self.find(stream_id, known_only=True)
        return stream, self.forget(stream)

    def forget(self, stream: Stream) -> int:
        """Close a stream if it is open; return the number of dropped samples."""
        if not self.is_open(stream):
            return 0
        del self._streams[stream.id]
        return self._drop(stream)

    def cancel(self, stream_id: str, utterance_id: str) -> int:
        """Drop the open utterance if it has this name; return its number of samples."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None or stream.utterance_id != utterance_id else self._drop(stream)

    def _drop(self, stream: Stream) -> int:
        self.partials.drop(stream)
        samples = stream.samples
        self._budget.give_back(samples)
        stream.end_utterance()
        return samples

    def _make_room(self, stream: Stream, pcm: bytes) -> Split | None:
        """Make room for a chunk; return the utterance split off, if it would have become too long."""
        samples = stream.growth(pcm)
        too_long = stream.samples + samples > self._max_samples
        if too_long:
            samples = length(pcm, stream.rate)  # the chunk would start an utterance
        if too_long and (stream.command.on_limit == "refuse" or samples > self._max_samples):
            limit = self._max_samples / SAMPLE_RATE
            message = f"an utterance has at most {limit:g} seconds; the chunk was not taken"
            raise LimitExceeded(message, dropped_samples=samples, limit_seconds=limit)
        self._budget.take(samples)
        return self._split_off(stream) if too_long else None

    def _check_count(self) -> None:
        if len(self._streams) >= self._max_streams:
            message = f"at most {self._max_streams} streams may be open at a time (--max-streams)"
            raise LimitExceeded(message, limit=self._max_streams)
