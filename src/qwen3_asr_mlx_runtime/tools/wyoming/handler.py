"""One client: its events → an utterance of the bridge → the events of a transcript."""

import asyncio
from contextlib import suppress
from typing import TypeVar

import msgspec
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler

from qwen3_asr_mlx_runtime.client import ClientError
from qwen3_asr_mlx_runtime.errors import AudioReadTimeout, AudioTooLong, BridgeError, InvalidParams
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES, language_choice
from qwen3_asr_mlx_runtime.limits import MAX_CONTEXT_CHARACTERS
from qwen3_asr_mlx_runtime.tools.doors.service import Service
from qwen3_asr_mlx_runtime.tools.wyoming.audio import Format
from qwen3_asr_mlx_runtime.tools.wyoming.reader import Reader
from qwen3_asr_mlx_runtime.tools.wyoming.utterance import Utterance

T = TypeVar("T")
_BETWEEN = ", "


class Asked(msgspec.Struct, frozen=True):
    """By `transcribe`. Any `name` of a model is accepted. Of a `context` Wyoming leaves open what it holds."""

    language: str | None = None
    transcript_names: list[str] | None = None
    transcript_terms: list[str] | None = None

    @property
    def background(self) -> str:
        """For the model's context: names before terms, as many as fit."""
        text = _BETWEEN.join([*(self.transcript_names or ()), *(self.transcript_terms or ())])
        fits = len(text) <= MAX_CONTEXT_CHARACTERS
        return text if fits else text[:MAX_CONTEXT_CHARACTERS].rpartition(_BETWEEN)[0]


class Settings(msgspec.Struct, frozen=True):
    """Of every connection. `sends_partials`: stable text is sent while audio comes. `idle_seconds`: how long a client
    may send nothing, or not read; None for ever."""

    info: Info
    max_audio_seconds: float
    sends_partials: bool
    idle_seconds: float | None


class Handler(AsyncEventHandler):
    """An utterance begins with `audio-start`, or with an `audio-chunk` without one, and ends with `audio-stop`. Behind
    an error the rest of it is dropped, and its `audio-stop` closes the connection: there are clients that wait for a
    `transcript` and for nothing else. `ends_with_input`: a client that sends no more has gone."""

    reader: Reader

    def __init__(
        self,
        reader: Reader,
        writer: asyncio.StreamWriter,
        service: Service,
        settings: Settings,
        *,
        ends_with_input: bool,
    ) -> None:
        super().__init__(reader, writer)
        self.is_ending = False  # no further utterance
        self._service, self._settings = service, settings
        self._ends_with_input = ends_with_input
        self._asked = Asked()
        self._format: Format | None = None  # of the open utterance
        self._frames = 0
        self._utterance: Utterance | None = None  # once it has audio
        self._sent: str | None = None  # of the transcript; None before `transcript-start`
        self._is_refused = False

    @property
    def is_busy(self) -> bool:
        return self._format is not None

    async def run(self) -> None:
        """Until the client or the door ends it. A client that goes away cancels its utterance."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 it runs in one
        self.reader.on_end = lambda: self._ends_with_input and self.is_busy and task.cancel()
        try:
            while await self._next():
                pass
        except BridgeError as error:  # what follows cannot be read either
            await self._refuse(error)
        except OSError:  # it has gone, or does not read
            pass
        finally:
            self._drop()

    async def _next(self) -> bool:
        """Whether another event may follow."""
        await asyncio.sleep(0)  # to read what has come already gives no other task a turn
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                event = await self.reader.event()
        except TimeoutError:
            message = f"expected an event, and nothing came for {self._settings.idle_seconds:g} seconds"
            raise AudioReadTimeout(message) from None
        if event is None or not await self.handle_event(event):
            return False
        has_gone = self._ends_with_input and self.reader.has_ended and self.is_busy
        return not has_gone and (self.is_busy or not self.is_ending)

    async def handle_event(self, event: Event) -> bool:
        """Whether the connection stays open. An event of another type is ignored."""
        is_last = AudioStop.is_type(event.type)
        if self._is_refused and (is_last or AudioStart.is_type(event.type) or AudioChunk.is_type(event.type)):
            return not is_last
        try:
            await self._answer(event)
        except (BridgeError, ClientError) as error:
            self._drop()
            self._is_refused = True
            await self._refuse(error)
            return not is_last
        return True

    async def write_event(self, event: Event) -> None:
        """Raises OSError."""
        async with asyncio.timeout(self._settings.idle_seconds):
            await super().write_event(event)

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self.write_event(self._settings.info.event())
        elif Ping.is_type(event.type):
            await self.write_event(Pong(_decoded(event, Ping).text).event())
        elif Transcribe.is_type(event.type):
            self._is_refused = False
            self._asked = _decoded(event, Asked)
            if self._asked.language:
                language_choice(self._asked.language)
        elif AudioStart.is_type(event.type):
            self._drop()
            self._format = _decoded(event, Format)
        elif AudioChunk.is_type(event.type):
            await self._append(_decoded(event, Format), event.payload or b"")
        elif AudioStop.is_type(event.type):
            await self._finish()

    async def _append(self, format: Format, data: bytes) -> None:
        self._format = self._format or format
        if format != self._format:
            raise InvalidParams("`audio-chunk`: expected the format of the events before it")
        pcm16 = format.mono_pcm16(data)
        self._frames += len(pcm16) // 2
        limit = self._settings.max_audio_seconds
        if self._frames > limit * format.rate:
            raise AudioTooLong(f"expected at most {limit:g} seconds of audio", limit_seconds=limit)
        if not pcm16:
            return
        if self._utterance is None:
            self._utterance = await Utterance.begun(
                self._service,
                sample_rate=format.rate,
                auto_flush=True,
                batch_size=1,
                decoder_mode="batched",
                language=self._asked.language or None,
                context=self._asked.background or None,
                partials=self._settings.sends_partials,
            )
        await self._utterance.append(pcm16)
        if self._utterance.stable_text:
            await self._write_text(self._utterance.stable_text)

    async def _finish(self) -> None:
        text, language = "", None
        if self._utterance is not None:
            final = await self._utterance.final()
            text, language = final.text or "", LANGUAGE_CODES.get(final.language or "")
        await self._write_text(text, language)
        await self.write_event(Transcript(text, language=language).event())
        await self.write_event(TranscriptStop().event())
        self._drop()
        self._asked = Asked()

    async def _write_text(self, text: str, language: str | None = None) -> None:
        """What of a text is new. One that takes back what was sent adds nothing: `transcript` corrects it."""
        if self._sent is None:
            await self.write_event(TranscriptStart(language=language).event())
            self._sent = ""
        new = text.removeprefix(self._sent)
        if new and len(new) + len(self._sent) == len(text):
            self._sent = text
            await self.write_event(TranscriptChunk(new).event())

    async def _refuse(self, error: BridgeError | ClientError) -> None:
        code = error.cause_code if isinstance(error, ClientError) else error.code
        with suppress(OSError):
            await self.write_event(Error(error.message, code).event())

    def _drop(self) -> None:
        """The open utterance, if there is one."""
        if self._utterance is not None:
            self._utterance.close()
        self._format = self._utterance = self._sent = None
        self._frames = 0


def _decoded(event: Event, kind: type[T]) -> T:
    """The members of an event, which its client may have got wrong. Raises InvalidParams."""
    try:
        decoded = msgspec.convert(event.data or {}, kind)
        msgspec.json.encode(decoded)  # half a surrogate pair, which JSON may hold, can be passed on to nobody
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        reason = error if isinstance(error, msgspec.ValidationError) else "expected text without lone surrogates"
        raise InvalidParams(f"`{event.type}`: {reason}") from None
    return decoded
