"""One bridge, and its streams that speak in real time. Audio goes out by the clock, whatever has been answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from soak.speech import RATE, Pcm16, Speech

from qwen3_asr_mlx_runtime.client import AsyncBridge, AsyncStream, BridgeLost, ClientError, Event, RequestFailed, Setup
from qwen3_asr_mlx_runtime.client.options import StreamOptions
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import FinalResult, RealtimeBatchFinal

CHUNK_SECONDS = 0.1
CHUNK = round(CHUNK_SECONDS * RATE)
NO_FINAL = "no_final"  # neither a text nor an error came


@dataclass(frozen=True)
class Plan:
    """`seconds`: how long the streams speak. The first utterance of each begins at a random time within `stagger`.
    `patience`: seconds from the end of all speech for the last finals."""

    command: tuple[str, ...]
    streams: int
    audio: Path
    shortest: float
    longest: float
    pause: float
    seconds: float
    stagger: float
    patience: float
    partial_interval_ms: int | None
    decoder_mode: str | None
    max_new_tokens: int | None


@dataclass
class Spoken:
    """One utterance. `begun` and `ended`: when its speech does, by the plan, in seconds since the start of all streams;
    the other times are by the same clock. `partials`: when each came, and how many seconds of audio it has. `failure`:
    a code, or None."""

    seconds: float
    begun: float
    ended: float
    final_at: float | None = None
    failure: str | None = NO_FINAL
    tokens: int = 0
    partials: list[tuple[float, float]] = field(default_factory=list)

    @property
    def latency(self) -> float | None:
        """From the end of the speech to the text; None without a text."""
        return None if self.failure is not None or self.final_at is None else self.final_at - self.ended


@dataclass
class Heard:
    """What became of one bridge's utterances. `late`: for each chunk, seconds that it went out after its time."""

    spoken: list[Spoken] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # chunks, by code


async def speak(plan: Plan, seed: int, when_ready: Callable[[], float]) -> Heard:
    """`when_ready`: called once all streams are open, on a thread; waits for the others, and returns the start, by
    time.monotonic(). Raises a ClientError if the bridge does not open."""
    async with AsyncBridge(Setup(command=plan.command)) as bridge:
        names = [f"speaker-{number}" for number in range(1, plan.streams + 1)]
        streams = [await bridge.start_stream(name, **_options(plan)) for name in names]
        started = await asyncio.to_thread(when_ready)
        room = _Room(plan, bridge, started)
        await room.run(streams, seed)
        await bridge.kill()  # what has no final by now never gets one
        return room.heard


def _options(plan: Plan) -> StreamOptions:
    options: StreamOptions = {"auto_flush": True, "batch_size": 1, "max_new_tokens": plan.max_new_tokens}
    if plan.decoder_mode is not None:
        options["decoder_mode"] = plan.decoder_mode
    if plan.partial_interval_ms is not None:
        options |= {"partials": True, "partial_interval_ms": plan.partial_interval_ms}
    return options


class _Room:
    """The streams of one bridge."""

    def __init__(self, plan: Plan, bridge: AsyncBridge, started: float) -> None:
        self.heard = Heard()
        self._plan = plan
        self._bridge = bridge
        self._started = started
        self._open: dict[tuple[str, str], Spoken] = {}
        self._is_lost = False
        self._changed = asyncio.Event()

    async def run(self, streams: list[AsyncStream], seed: int) -> None:
        listening = asyncio.create_task(self._listen())
        seeds = np.random.SeedSequence(seed).spawn(len(streams))
        await asyncio.gather(*(self._speak(*each) for each in zip(streams, seeds, strict=True)))
        try:
            async with asyncio.timeout(self._plan.patience):
                while self._open and not self._is_lost:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass  # these have no final
        listening.cancel()

    async def _speak(self, stream: AsyncStream, seed: np.random.SeedSequence) -> None:
        plan = self._plan
        speech = Speech(plan.audio, plan.shortest, plan.longest, seed)
        begun, number = speech.random.uniform(0, plan.stagger), 0
        while begun < plan.seconds and not self._is_lost:
            samples, number = speech.utterance(), number + 1
            seconds = len(samples) / RATE
            spoken = Spoken(seconds, begun, begun + seconds)
            self.heard.spoken.append(spoken)
            await self._say(stream, str(number), samples, spoken)
            begun = spoken.ended + plan.pause

    async def _say(self, stream: AsyncStream, name: str, samples: Pcm16, spoken: Spoken) -> None:
        self._open[stream.stream_id, name] = spoken
        try:
            for start in range(0, len(samples), CHUNK):
                chunk = samples[start : start + CHUNK]
                await self._wait_until(spoken.begun + (start + len(chunk)) / RATE)
                await stream.append(chunk.astype("<i2").tobytes(), name)
            await stream.end_utterance(utterance_id=name)
        except RequestFailed as error:
            self._end(stream.stream_id, name, error.cause_code)
        except ClientError as error:
            self._lose(error)

    async def _wait_until(self, when: float) -> None:
        await asyncio.sleep(when - self._now())
        self.heard.late.append(self._now() - when)

    async def _listen(self) -> None:
        async for event in self._bridge.events:
            self._take(event, self._now())

    def _take(self, event: Event, now: float) -> None:
        match event:
            case PartialResult(audio_seconds=float(seconds), utterance_id=str(name)):
                if spoken := self._open.get((event.stream_id, name)):
                    spoken.partials.append((now, seconds))
            case RealtimeBatchFinal():
                for item in event.items:
                    self._take_final(item, now)
            case StreamError():
                self.heard.refused[event.code] += 1
            case BridgeLost():
                self._lose(event.error)

    def _take_final(self, item: FinalResult, now: float) -> None:
        spoken = self._open.get((item.stream_id, item.utterance_id))
        if spoken is not None:
            spoken.final_at, spoken.tokens = now, item.generated_tokens or 0
            self._end(item.stream_id, item.utterance_id, item.error.code if item.error else None)

    def _end(self, stream_id: str, name: str, failure: str | None) -> None:
        spoken = self._open.pop((stream_id, name), None)
        if spoken is not None:
            spoken.failure = failure
        self._changed.set()

    def _lose(self, error: ClientError) -> None:
        self._is_lost = True
        for stream_id, name in [*self._open]:
            self._end(stream_id, name, error.cause_code)
        self._changed.set()

    def _now(self) -> float:
        return time.monotonic() - self._started
