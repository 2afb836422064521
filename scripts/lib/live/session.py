"""Files fed to the streams of one bridge, at the pace of speech or as fast as partials come."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from live.bridge import Bridge, Failed, Line
from live.record import Partial, Record
from live.screen import Screen
from qwen3_asr_mlx_runtime.audio import read_file
from qwen3_asr_mlx_runtime.utterance import SAMPLE_RATE

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Recording:
    """`pcm`: little-endian 16-bit, mono, 16 kHz."""

    name: str
    pcm: bytes

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Raises the BridgeError that says why it cannot be read."""
        samples = read_file(str(path)).samples
        return cls(path.name, np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / SAMPLE_RATE

    def chunks(self, milliseconds: int) -> Iterator[bytes]:
        size = 2 * SAMPLE_RATE * milliseconds // 1000
        return (self.pcm[start : start + size] for start in range(0, len(self.pcm), size))


@dataclass(frozen=True)
class Plan:
    """How files are fed. `waits`: at the pace of speech; otherwise no more than an interval ahead of the partials."""

    streams: int = 1
    chunk_ms: int = 100
    interval_ms: int = 500
    waits: bool = True
    language: str | None = None
    context: str | None = None
    final_policy: str | None = None


class Session:
    """Streams of one bridge, each with one utterance at a time."""

    def __init__(self, bridge: Bridge, plan: Plan, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._bridge = bridge
        self._plan = plan
        self._screen = screen
        self._clock = clock
        self._open: dict[str, Record] = {}
        self._names = [f"live-{number}" for number in range(1, plan.streams + 1)]

    def start(self) -> None:
        """Open the streams, which loads the model. Raises Failed, here as everywhere."""
        plan = self._plan
        self._bridge.say("hello", id="hello", want=["events"])
        for name in self._names:
            self._bridge.say(
                "start_stream",
                id=name,
                stream_id=name,
                partials=True,
                partial_interval_ms=plan.interval_ms,
                auto_flush=True,
                batch_size=1,
                language=plan.language,
                context=plan.context,
                final_policy=plan.final_policy,
            )
        missing = set(self._names)
        while missing:
            line = self._bridge.hear()
            if line is not None and line["type"] == "stream_ready":
                if not line.get("partials"):
                    raise Failed("this bridge tells no text before the final")
                missing.discard(line["stream_id"])

    def play(self, recording: Recording) -> list[Record]:
        """One utterance on every stream at once, to its final."""
        places = [0] if len(self._names) == 1 else range(1, len(self._names) + 1)
        records = [Record(recording.name, place, recording.seconds) for place in places]
        self._open = dict(zip(self._names, records, strict=True))
        self._screen.begin(records)
        self._feed(recording, records)
        for name, record in self._open.items():
            self._bridge.say("end_utterance", id=f"{name} end", stream_id=name)
            record.ended = self._clock()
        while any(record.final is None for record in records):
            self._hear(None)
        self._screen.end()
        return records

    def _feed(self, recording: Recording, records: Sequence[Record]) -> None:
        started, sent = self._clock(), 0
        for record in records:
            record.started = started
        for chunk in recording.chunks(self._plan.chunk_ms):
            sent += len(chunk) // 2
            if self._plan.waits:
                self._listen_until(started + sent / SAMPLE_RATE)
            else:
                self._catch_up(records)
            encoded = base64.b64encode(chunk).decode()
            for name, record in self._open.items():
                self._bridge.say("audio_chunk", stream_id=name, pcm16=encoded)
                record.sent.append((sent / SAMPLE_RATE, self._clock()))

    def _listen_until(self, when: float) -> None:
        while self._clock() < when:
            self._hear(when)

    def _catch_up(self, records: Sequence[Record]) -> None:
        """Wait for partials until less than an interval is unheard: then none is due."""
        interval = self._plan.interval_ms / 1000
        limit = self._clock() + _PATIENCE_SECONDS
        while any(record.sent_seconds - record.heard_seconds > interval - 1e-3 for record in records):
            if not self._hear(limit):
                raise Failed(f"no partial came for {_PATIENCE_SECONDS:g} s")

    def _hear(self, until: float | None) -> bool:
        """Take one line in; False if none came."""
        line = self._bridge.hear(until)
        if line is None:
            return False
        if line["type"] == "partial_result":
            self._take_partial(line)
        for item in line["items"] if line["type"] == "realtime_batch_final" else ():
            self._take_final(item)
        return True

    def _take_partial(self, line: Line) -> None:
        record = self._open[line["stream_id"]]
        record.partials.append(
            Partial(
                at=self._clock(),
                audio_seconds=line["audio_seconds"],
                text=line["text"],
                stable_text=line["stable_text"],
                seconds=line.get("seconds") or 0.0,
            )
        )
        self._screen.changed(record)

    def _take_final(self, item: Line) -> None:
        if "error" in item:
            raise Failed(f"{item['error']['code']}: {item['error']['message']}")
        record = self._open[item["stream_id"]]
        record.final, record.final_at = item, self._clock()
        self._screen.changed(record)
