"""Sends files to the streams of one bridge, in real time or as fast as partials come."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_asr_mlx_runtime.audio.pcm16 import to_pcm16
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.client import Bridge, BridgeLost, Event, Stream
from qwen3_asr_mlx_runtime.client.options import StreamOptions
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.tools.live.record import Partial, Record
from qwen3_asr_mlx_runtime.tools.live.screen import Screen

_PATIENCE_SECONDS = 60.0


class Failed(Exception):
    """Why a run failed, for people, in one line."""


@dataclass(frozen=True)
class Recording:
    """`pcm`: little-endian 16-bit, mono, 16 kHz."""

    name: str
    pcm: bytes

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Raises a BridgeError if the file cannot be read."""
        return cls(path.name, to_pcm16(read_file(str(path)).samples))

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / SAMPLE_RATE

    def chunks(self, milliseconds: int) -> Iterator[bytes]:
        size = 2 * SAMPLE_RATE * milliseconds // 1000
        return (self.pcm[start : start + size] for start in range(0, len(self.pcm), size))


@dataclass(frozen=True)
class Plan:
    """How files are sent. `waits`: in real time; otherwise at most an interval ahead of the partials."""

    streams: int = 1
    chunk_ms: int = 100
    interval_ms: int = 500
    waits: bool = True
    language: str | None = None
    context: str | None = None


class Session:
    """Streams of one bridge, each with one utterance at a time."""

    def __init__(self, bridge: Bridge, plan: Plan, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._bridge = bridge
        self._plan = plan
        self._screen = screen
        self._clock = clock
        self._open: dict[str, Record] = {}
        self._streams: list[Stream] = []

    def start(self) -> None:
        """Open the streams, which loads the model. All methods can raise Failed or a ClientError."""
        for number in range(1, self._plan.streams + 1):
            stream = self._start_stream(f"live-{number}")
            if not stream.ready.partials:
                raise Failed("this bridge sends no partials")
            self._streams.append(stream)

    def _start_stream(self, name: str) -> Stream:
        plan = self._plan
        options: StreamOptions = {
            "partials": True,
            "partial_interval_ms": plan.interval_ms,
            "auto_flush": True,
            "batch_size": 1,
            "language": plan.language,
            "context": plan.context,
        }
        return self._bridge.start_stream(name, **options)

    def play(self, recording: Recording) -> list[Record]:
        """Send one utterance on every stream at once, and wait for the finals."""
        numbers = [0] if len(self._streams) == 1 else range(1, len(self._streams) + 1)
        records = [Record(recording.name, number, recording.seconds) for number in numbers]
        self._open = {stream.stream_id: record for stream, record in zip(self._streams, records, strict=True)}
        self._screen.begin(records)
        self._feed(recording, records)
        for stream in self._streams:
            stream.end_utterance()
            self._open[stream.stream_id].ended = self._clock()
        while any(record.final is None for record in records):
            self._take_event(None)
        self._screen.end()
        return records

    def _feed(self, recording: Recording, records: Sequence[Record]) -> None:
        started, sent = self._clock(), 0
        for record in records:
            record.started = started
        for chunk in recording.chunks(self._plan.chunk_ms):
            sent += len(chunk) // 2
            if self._plan.waits:
                self._take_events_until(started + sent / SAMPLE_RATE)
            else:
                self._catch_up(records)
            for stream in self._streams:
                stream.append(chunk)
                self._open[stream.stream_id].sent.append((sent / SAMPLE_RATE, self._clock()))

    def _take_events_until(self, when: float) -> None:
        while self._clock() < when:
            self._take_event(when)

    def _catch_up(self, records: Sequence[Record]) -> None:
        """Wait for partials until less than an interval of audio is without one: then none is due."""
        interval = self._plan.interval_ms / 1000
        limit = self._clock() + _PATIENCE_SECONDS
        while any(record.sent_seconds - record.partial_seconds > interval - 1e-3 for record in records):
            if not self._take_event(limit):
                raise Failed(f"no partial came for {_PATIENCE_SECONDS:g} s")

    def _take_event(self, until: float | None) -> bool:
        """Take one event; False if none came."""
        event = self._bridge.next_event(None if until is None else max(0.0, until - self._clock()))
        if event is not None:
            self._take(event)
        return event is not None

    def _take(self, event: Event) -> None:
        match event:
            case PartialResult():
                self._take_partial(event)
            case RealtimeBatchFinal():
                for item in event.items:
                    self._take_final(item)
            case BridgeLost():
                raise event.error
            case StreamError():
                raise Failed(f"{event.code}: {event.message}")

    def _take_partial(self, partial: PartialResult) -> None:
        record = self._open[partial.stream_id]
        record.partials.append(
            Partial(
                at=self._clock(),
                audio_seconds=partial.audio_seconds or 0.0,
                text=partial.text,
                stable_text=partial.stable_text or "",
                seconds=partial.seconds or 0.0,
            )
        )
        self._screen.changed(record)

    def _take_final(self, item: FinalResult) -> None:
        if item.error:
            raise Failed(f"{item.error.code}: {item.error.message}")
        record = self._open[item.stream_id]
        record.final, record.final_at = msgspec.to_builtins(item), self._clock()
        self._screen.changed(record)
