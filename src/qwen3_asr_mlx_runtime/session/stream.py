"""A stream of PCM: chunks in, an utterance out at each boundary. Everything is checked before anything changes."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET

from qwen3_asr_mlx_runtime.audio.pcm16 import BYTES_PER_SAMPLE
from qwen3_asr_mlx_runtime.audio.pcm_buffer import PcmBuffer, length, resampled
from qwen3_asr_mlx_runtime.audio.resampling import resampled_length
from qwen3_asr_mlx_runtime.audio.trailing_silence import TrailingSilence
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import (
    InvalidParams,
    SeqOutOfOrder,
    UnsupportedSampleRate,
)
from qwen3_asr_mlx_runtime.limits import MAX_STREAM_RATE, MIN_STREAM_RATE
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk, StartStream
from qwen3_asr_mlx_runtime.protocol.streams import Gap, PartialResult
from qwen3_asr_mlx_runtime.session.engine_slots import Pace

EFFORT_SHARES = {"normal": 1.0, "low": 0.25}  # of the engine's time for the partials of a stream
IsInUse = Callable[[str, str], bool]  # (stream id, name of an utterance)


@dataclass(frozen=True, slots=True)
class EndedUtterance:
    """One utterance. `audio`: its PCM, and the rest behind it. `gap`: a chunk of it was rejected, or is missing.
    `start`: seconds of the stream before it. `frames`: its length at the stream's rate. `kept`, `dropped`: samples of
    the rest."""

    audio: PcmBuffer
    gap: bool
    start: float
    frames: int
    kept: int = 0
    dropped: int = 0

    @property
    def sample_count(self) -> int:
        """Its length at 16 kHz."""
        return resampled_length(self.frames, self.audio.rate)

    def take_samples(self) -> Samples:
        """All of it, at 16 kHz: milliseconds of work for a long one, which a final computed ahead does not need. Only
        once."""
        if self.frames == self.audio.frames:
            return self.audio.end()
        return resampled(self.audio.pcm(end=self.frames), self.audio.rate)


class UtteranceNames:
    """The utterance names of one stream. `current`: of its open utterance, None while it has no name."""

    def __init__(self, stream_id: str, is_in_use: IsInUse) -> None:
        self.current: str | None = None
        self._split: str | None = None  # of the part split off; chunks of the rest may still have this name
        self._stream_id = stream_id
        self._is_in_use = is_in_use
        self._count = 0

    def next(self) -> str:
        """The next generated name. Skips names of utterances without a result."""
        while True:
            self._count += 1
            name = f"{self._stream_id}-{self._count}"
            if name not in (self.current, self._split) and not self._is_in_use(self._stream_id, name):
                return name

    def check(self, name: str | None) -> None:
        """Raises InvalidParams if a chunk names another utterance than the open one."""
        if self.current is not None and name not in (None, self.current, self._split):
            message = "`utterance_id`: another utterance is open; a boundary ends it; the chunk was not taken"
            raise InvalidParams(message, field="utterance_id")

    def set(self, name: str | None) -> None:
        """Set the name of the open utterance, as a chunk gives it."""
        if name is not None and name != self._split:
            self.current = name

    def end(self) -> None:
        """The utterance has ended: the next one has no name."""
        self.current = self._split = None

    def split(self, ended: str | None = None) -> None:
        """The utterance was split, and its chunks go on; those of the rest may still have the name that has ended."""
        name = ended or self._split or self.current
        self.end()
        self._split = name


class Stream:
    """One stream, and its open utterance: the audio after its last boundary."""

    def __init__(self, command: StartStream, is_in_use: IsInUse) -> None:
        self.command = command
        self.pace = Pace(EFFORT_SHARES[command.effort])
        self._audio = PcmBuffer(command.sample_rate)
        self._silence = TrailingSilence(command.sample_rate)
        self._chunks = 0
        self._gaps: list[int] = []  # places in the open utterance, in frames
        self._last_seq: int | None = None
        self._frames = 0  # of all its PCM, also of utterances that have ended
        self._names = UtteranceNames(command.stream_id, is_in_use)
        self._is_in_use = is_in_use
        self.ended_name: str | None = None  # of the utterance whose rest is open

    @property
    def id(self) -> str:
        return self.command.stream_id

    @property
    def rate(self) -> int:
        """Hz, of its PCM."""
        return self.command.sample_rate

    @property
    def samples(self) -> int:
        """Of the open utterance, at 16 kHz."""
        return self._audio.samples

    def growth(self, pcm: bytes) -> int:
        """The number of samples at 16 kHz that a chunk would add."""
        return self._audio.growth(len(pcm) // BYTES_PER_SAMPLE)

    @property
    def frames(self) -> int:
        """Of the open utterance, at the stream's rate."""
        return self._audio.frames

    @property
    def _start(self) -> float:
        """Seconds of the stream before the open utterance."""
        return round((self._frames - self.frames) / self.rate, 3)

    @property
    def trailing_silence_ms(self) -> int:
        """At the end of the open utterance. Only a stream with partials measures it."""
        return self._silence.milliseconds

    def settled(self, start: int) -> Samples:
        """The open utterance from sample `start` on, as far as later audio cannot change it: the resampler holds back
        some milliseconds. It is a prefix of the ended utterance."""
        return self._audio.settled(start)

    def restarted(self, command: StartStream) -> "Stream":
        """A new stream that replaces this one and continues its utterance numbers, and its pace."""
        stream = Stream(command, self._is_in_use)
        stream._names = self._names
        if command.effort == self.command.effort:
            stream.pace = self.pace
        return stream

    @property
    def utterance_id(self) -> str | None:
        """The name of the open utterance, or None. With partials it has one from its first chunk on."""
        return self._names.current

    def next_utterance_id(self) -> str:
        return self._names.next()

    def check_utterance(self, chunk: AudioChunk) -> None:
        """Raises InvalidParams for a chunk of another utterance than the open one."""
        if self.samples:
            self._names.check(chunk.utterance_id)

    def is_duplicate(self, chunk: AudioChunk) -> bool:
        """Whether it repeats the last chunk. Raises SeqOutOfOrder for an older one."""
        if chunk.seq is None or self._last_seq is None or chunk.seq > self._last_seq:
            return False
        if chunk.seq < self._last_seq:
            message = f"`seq`: expected more than {self._last_seq}, got {chunk.seq}; the chunk was not taken"
            raise SeqOutOfOrder(message, expected=self._last_seq + 1, got=chunk.seq)
        return True

    def mark_gap(self) -> None:
        """Mark the open utterance incomplete: a chunk was rejected."""
        if self._gaps[-1:] != [self.frames]:
            self._gaps.append(self.frames)

    def append(self, chunk: AudioChunk, pcm: bytes) -> Gap | None:
        """Append a checked chunk; return the gap before it, if there is one."""
        gap = None
        if chunk.seq is not None:
            if self._last_seq is not None and chunk.seq > self._last_seq + 1:
                gap = Gap(expected=self._last_seq + 1, got=chunk.seq)
                self.mark_gap()
            self._last_seq = chunk.seq
        self._name_utterance(chunk)
        self._audio.append(pcm)
        if self.command.partials:
            self._silence.append(pcm)
        self._frames += len(pcm) // BYTES_PER_SAMPLE
        self._chunks += 1
        return gap

    def _name_utterance(self, chunk: AudioChunk) -> None:
        if not self.samples or self.utterance_id is None:
            self._names.set(chunk.utterance_id)
        if self.command.partials and self.utterance_id is None:
            self._names.set(self._names.next())

    def name_utterance(self) -> None:
        """Give the open utterance a name, if it has none."""
        self._names.set(self.utterance_id or self._names.next())

    def ended_at(self, frames: int) -> Samples:
        """The open utterance as if it ended behind so many frames. It stays open."""
        return resampled(self._audio.pcm(end=frames), self.rate)

    def is_settled_at(self, frames: int) -> bool:
        """Whether `ended_at` has the samples of `settled`, as far as both go. At an earlier end a resampler gives
        others."""
        return frames == self.frames or self.rate == SAMPLE_RATE

    def end_utterance(self, *, goes_on: bool = False) -> EndedUtterance:
        """Remove and return the audio of the open utterance. `goes_on`: it was split, and its chunks go on."""
        if goes_on:
            self._names.split()
        else:
            self._names.end()
        self.ended_name = None
        start, frames = self._start, self.frames
        ended = EndedUtterance(self._audio, bool(self._gaps), start, frames)
        self._begin(b"")
        return ended

    def end_utterance_at(self, frames: int, name: str, *, keep: bool) -> EndedUtterance:
        """End the open utterance behind so many frames, fewer than it has. The rest begins the next one, or is
        dropped."""
        audio, rest = self._audio, self._audio.pcm(frames)
        count = length(rest, self.rate)
        kept, dropped = (count, 0) if keep else (0, count)
        is_gap = any(place < frames for place in self._gaps)
        gaps = [place - frames for place in self._gaps if place >= frames]
        start = self._start
        if keep:
            self._names.split(name)
        else:
            self._names.end()
        self._begin(rest if keep else b"")
        self._gaps = gaps if keep else []
        self.ended_name = name if keep else None
        return EndedUtterance(audio, is_gap, start, frames, kept, dropped)

    def _begin(self, pcm: bytes) -> None:
        """The next utterance, with this audio."""
        self._audio, self._chunks, self._gaps = PcmBuffer(self.rate), int(bool(pcm)), []
        self._silence = TrailingSilence(self.rate)
        if pcm:
            self._audio.append(pcm)
            if self.command.partials:
                self._silence.append(pcm)

    def partial(self) -> PartialResult:
        return PartialResult(stream_id=self.id, samples_buffered=self.samples, chunks=self._chunks)

    def duplicate(self) -> PartialResult:
        reply = self.partial()
        reply.duplicate = True
        return reply

    def taken(self, gap: Gap | None) -> PartialResult:
        reply = self.partial()
        reply.gap = UNSET if gap is None else gap
        return reply


def check_stream_rate(rate: int) -> None:
    """Raises UnsupportedSampleRate if PCM of this rate cannot be resampled."""
    if not MIN_STREAM_RATE <= rate <= MAX_STREAM_RATE:
        supported = {"minimum": MIN_STREAM_RATE, "maximum": MAX_STREAM_RATE}
        message = f"`sample_rate`: expected {MIN_STREAM_RATE} to {MAX_STREAM_RATE}, got {rate}"
        raise UnsupportedSampleRate(message, field="sample_rate", supported=supported)


def check_is_rate_of(stream: Stream, rate: int | None) -> None:
    if rate not in (None, stream.rate):
        message = f"`sample_rate`: expected {stream.rate}, which is the stream's, got {rate}"
        raise UnsupportedSampleRate(message, field="sample_rate", supported=[stream.rate])
