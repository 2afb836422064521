"""One realtime transcription session: the client's events → a stream of the bridge, and its news → the server's events.

Items of the conversation are utterances of the stream, under the same names.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from qwen3_asr_mlx_runtime.audio.endpointing import SAMPLE_RATE, Action, Boundary, Pause, Speech
from qwen3_asr_mlx_runtime.client import AsyncStream, ClientError, LossError, RequestFailed
from qwen3_asr_mlx_runtime.client.results import FinalResult
from qwen3_asr_mlx_runtime.limits import ProcessLimits
from qwen3_asr_mlx_runtime.packages import missing
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError
from qwen3_asr_mlx_runtime.tools.doors.service import NewsLost, Service, StreamNews
from qwen3_asr_mlx_runtime.tools.serve import realtime_events as events
from qwen3_asr_mlx_runtime.tools.serve.problems import Problem, invalid, of_client
from qwen3_asr_mlx_runtime.tools.serve.realtime_events import Settings

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.tools.serve.turn_detection import TurnDetector

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass
class _Item:
    """`frames`: of PCM that were sent to the stream. `text`: that the deltas have told. `outcome`: one that came before
    the item was told to be committed."""

    id: str = field(default_factory=lambda: f"item_{token_hex(12)}")
    frames: int = 0
    text: str = ""
    is_committed: bool = False
    outcome: FinalResult | None = None


class RealtimeSession:
    """`send` takes the server's events as JSON and never waits. `count_seconds`: of audio that has its transcript.
    Everything runs on one event loop, and `take` for one event at a time."""

    def __init__(
        self, service: Service, model: str, send: Callable[[str], None], count_seconds: Callable[[float], None]
    ) -> None:
        self._service, self._model, self._send, self._count_seconds = service, model, send, count_seconds
        self._id = f"sess_{token_hex(12)}"
        self._numbers = count(1)
        self._settings = Settings()
        self._stream: AsyncStream | None = None
        self._turns: TurnDetector | None = None
        self._is_speaking = False
        self._item = _Item()  # the open one
        self._pending: dict[str, _Item] = {}  # committed, without an outcome
        self._settled = asyncio.Event()  # there is none
        self._settled.set()
        self._last_item: str | None = None  # that was committed

    def begin(self) -> None:
        self._tell_session("session.created")

    async def take(self, text: str) -> None:
        """One event of the client. Waits while the bridge has no room, and while its model loads."""
        event_id: str | None = None
        try:
            head = events.decoded_head(text)
            event_id = head.event_id
            await self._perform(events.decoded_event(head.type, text), event_id)
        except Problem as problem:
            self._tell_error(problem, event_id)
        except ClientError as error:
            if isinstance(error, LossError):
                self._lose(error)
            self._tell_error(of_client(error), event_id)

    async def settle(self) -> None:
        """Wait until every committed item has its outcome."""
        await self._settled.wait()

    def close(self) -> None:
        """The client has gone: drop what is open."""
        self._close_stream()

    async def _perform(self, event: events.Event, event_id: str | None) -> None:
        match event:
            case events.SessionUpdate():
                await self._update(event, event_id)
            case events.Append(audio=audio):
                await self._append(audio)
            case events.Commit():
                await self._commit_by_client()
            case events.Clear():
                await self._clear()

    # Settings

    async def _update(self, update: events.SessionUpdate, event_id: str | None) -> None:
        settings = events.updated(self._settings, update)
        if settings != self._settings:
            if self._item.frames:
                message = "expected no audio in the buffer when the settings change: commit or clear it"
                raise invalid(message, "session", "invalid_state")
            turns = None
            try:
                turns = _turn_detector(settings)
            except ImportError as error:
                problem = invalid(missing(error), "session.audio.input.turn_detection", "not_supported")
                self._tell_error(problem, event_id)
                settings = replace(settings, turn_detection=None)
            await self.settle()
            self._close_stream()
            self._settings, self._turns = settings, turns
        self._tell_session("session.updated")

    # Audio

    async def _append(self, pcm: bytes) -> None:
        if self._turns is None:
            await self._speak(pcm)
            return
        for block in self._turns.blocks(pcm):
            for action in await asyncio.to_thread(self._turns.feed, block):
                await self._act(action, self._turns.origin)

    async def _speak(self, pcm: bytes) -> None:
        """More audio of the open item. One that would grow too long ends before it."""
        frames, rate = len(pcm) // 2, SAMPLE_RATE if self._turns else self._settings.rate
        if self._item.frames and self._item.frames + frames > ProcessLimits.max_utterance_seconds * rate:
            await self._commit()
        if frames:
            stream = await self._opened(rate)
            self._item.frames += frames
            await stream.append(pcm, self._item.id)

    async def _commit_by_client(self) -> None:
        if self._turns is None:
            await self._commit()
            return
        found, origin, last_item = await asyncio.to_thread(self._turns.finish), self._turns.origin, self._last_item
        self._turns.restart()
        for action in found:
            await self._act(action, origin)
        if self._last_item == last_item:
            raise _nothing_to_commit()

    async def _commit(self, paused_at: int | None = None) -> None:
        """End the open item: behind `paused_at` frames, if it has so many, else behind all."""
        item, stream = self._item, self._stream
        if not item.frames or stream is None:
            raise _nothing_to_commit()
        self._pending[item.id] = item
        self._settled.clear()
        try:
            await _end_utterance(stream, item, paused_at)
        except RequestFailed:  # its audio stays in the buffer
            self._forget(item)
            raise
        if item.id not in self._pending:  # it has failed meanwhile: its stream was lost
            raise NewsLost("the stream was lost while the buffer was committed")
        self._item = _Item()
        self._tell_committed(item)
        if item.outcome is not None:
            self._finish(item, item.outcome)

    async def _clear(self) -> None:
        if self._turns is not None:
            self._turns.restart()
        item, self._item, self._is_speaking = self._item, _Item(), False
        if item.frames and self._stream is not None:
            with suppress(LossError):
                await self._service.drop_utterance(self._stream, item.id)
        self._tell("input_audio_buffer.cleared")

    async def _act(self, action: Action, origin: int) -> None:
        match action:
            case Speech(pcm16=pcm, start=start):
                if not self._is_speaking:
                    self._is_speaking = True
                    place = {"audio_start_ms": _milliseconds(origin + start), "item_id": self._item.id}
                    self._tell("input_audio_buffer.speech_started", **place)
                await self._speak(pcm)
            case Pause(samples=samples):
                if self._stream is not None and samples <= self._item.frames:
                    with suppress(RequestFailed):  # it only makes the final ready earlier
                        await self._stream.pause(samples)
            case Boundary(at=at, samples=samples):
                if self._is_speaking:  # else its audio was lost
                    self._is_speaking = False
                    place = {"audio_end_ms": _milliseconds(origin + at), "item_id": self._item.id}
                    self._tell("input_audio_buffer.speech_stopped", **place)
                    await self._commit(samples)

    # The stream

    async def _opened(self, rate: int) -> AsyncStream:
        if self._stream is None:
            self._stream = await self._service.open_stream(
                self._on_news,
                sample_rate=rate,
                auto_flush=True,
                batch_size=1,
                partials=True,
                language=self._settings.language,
                context=self._settings.prompt,
            )
        return self._stream

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._service.close_stream(stream)

    def _on_news(self, news: StreamNews) -> None:
        match news:
            case PartialResult(utterance_id=id, stable_text=str(text)) if id == self._item.id:
                self._tell_text(self._item, text)
            case FinalResult(utterance_id=id) if (item := self._pending.get(id)) is not None:
                if item.is_committed:
                    self._finish(item, news)
                else:
                    item.outcome = news
            case StreamError(code=code, message=message, retryable=may_retry):
                self._tell_error(Problem(503 if may_retry else 500, code, message), None)
            case ClientError():
                self._lose(news)
            case _:
                pass  # of an item that was cleared

    def _lose(self, error: ClientError) -> None:
        """The stream is gone, with the audio that has no outcome. The next audio opens another. A turn goes on."""
        lost = {**self._pending, **({self._item.id: self._item} if self._item.frames else {})}
        self._close_stream()
        self._item, self._is_speaking = _Item(), False
        for item in lost.values():
            self._fail(item, of_client(error))

    # Outcomes

    def _finish(self, item: _Item, final: FinalResult) -> None:
        if final.error is not UNSET:
            self._fail(item, Problem(500, final.error.code, final.error.message))
            return
        self._forget(item)
        transcript, seconds = final.text or "", (final.samples or 0) / SAMPLE_RATE
        self._tell_text(item, transcript)
        self._count_seconds(seconds)
        usage = {"type": "duration", "seconds": seconds}
        self._tell(f"{_TRANSCRIPTION}.completed", **_part(item), transcript=transcript, usage=usage)

    def _fail(self, item: _Item, problem: Problem) -> None:
        self._forget(item)
        self._tell(f"{_TRANSCRIPTION}.failed", **_part(item), error=problem.members)

    def _forget(self, item: _Item) -> None:
        self._pending.pop(item.id, None)
        if not self._pending:
            self._settled.set()

    # What the client is told

    def _tell(self, type: str, **members: Any) -> None:
        event = {"type": type, "event_id": f"event_{next(self._numbers)}", **members}
        self._send(msgspec.json.encode(event).decode())

    def _tell_session(self, type: str) -> None:
        self._tell(type, session=self._settings.members(self._id, self._model))

    def _tell_error(self, problem: Problem, event_id: str | None) -> None:
        self._tell("error", error={**problem.members, "event_id": event_id})

    def _tell_text(self, item: _Item, text: str) -> None:
        """What `text` adds to the deltas of the item; nothing where it contradicts them."""
        if text != item.text and text.startswith(item.text):
            self._tell(f"{_TRANSCRIPTION}.delta", **_part(item), delta=text[len(item.text) :])
            item.text = text

    def _tell_committed(self, item: _Item) -> None:
        item.is_committed = True
        previous, self._last_item = self._last_item, item.id
        self._tell("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        message = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        for name in ("added", "done"):
            self._tell(f"conversation.item.{name}", previous_item_id=previous, item=message)


def _turn_detector(settings: Settings) -> "TurnDetector | None":
    """Raises ImportError where the extra `vad` is missing."""
    if settings.turn_detection is None:
        return None
    from qwen3_asr_mlx_runtime.tools.serve.turn_detection import TurnDetector

    return TurnDetector(settings.turn_detection, settings.rate)


async def _end_utterance(stream: AsyncStream, item: _Item, paused_at: int | None) -> None:
    if paused_at is not None and paused_at <= item.frames:
        with suppress(RequestFailed):  # the bridge has refused some of them
            await stream.end_utterance(utterance_id=item.id, samples=paused_at, rest="drop")
            return
    await stream.end_utterance(utterance_id=item.id)


def _nothing_to_commit() -> Problem:
    return invalid("the buffer holds no audio", None, "input_audio_buffer_commit_empty")


def _part(item: _Item) -> dict[str, Any]:
    return {"item_id": item.id, "content_index": 0}


def _milliseconds(samples: int) -> int:
    return 1000 * samples // SAMPLE_RATE
