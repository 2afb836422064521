"""The bridge behind the door, with a stream of its own for each utterance."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from qwen3_asr_mlx_runtime.client import (
    AsyncStream,
    BridgeLost,
    ClientError,
    Event,
    EventsLost,
    RequestFailed,
    UtteranceLost,
)
from qwen3_asr_mlx_runtime.client.results import FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import StopStream
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError, StreamStopped
from qwen3_asr_mlx_runtime.tools.serve.service import Service


class Utterance:
    """`stable_text`: of the latest partial. Its methods raise the ClientError that it has failed with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stable_text = ""
        self.stream: AsyncStream | None = None
        self._result: asyncio.Future[FinalResult] = asyncio.get_running_loop().create_future()

    async def append(self, pcm16: bytes) -> None:
        """Returns when it is queued: no faster than the bridge takes it."""
        assert self.stream is not None  # noqa: S101 set by `begin`
        if self._result.done():
            await self._result
        await self.stream.append(pcm16)

    async def final(self) -> FinalResult:
        """End it."""
        assert self.stream is not None  # noqa: S101 set by `begin`
        await self.stream.end_utterance()
        return await self._result

    def finish(self, result: FinalResult) -> None:
        if result.error:
            self.fail(_failed(result.error.code, result.error.message))
        elif not self._result.done():
            self._result.set_result(result)

    def fail(self, error: ClientError) -> None:
        if not self._result.done():
            self._result.set_exception(error)


class Streams(Service):
    """A lost bridge is started again, and gets again what was appended (`resend`)."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, program: str, loads: bool) -> None:
        super().__init__(command, env, program=program, loads=loads, resend=True)
        self._utterances: dict[str, Utterance] = {}
        self._count = 0
        self._stopping: set[asyncio.Task[None]] = set()

    async def begin(self, sample_rate: int, *, language: str | None, context: str | None, partials: bool) -> Utterance:
        """Open a stream, which loads the model. `end` closes it. Raises a ClientError."""
        if self._bridge.state == "failed":  # it was lost too often: each utterance tries again
            await self._bridge.open()
        self._count += 1
        utterance = self._utterances[f"wyoming-{self._count}"] = Utterance(f"wyoming-{self._count}")
        try:
            utterance.stream = await self._bridge.start_stream(
                utterance.name,
                sample_rate=sample_rate,
                auto_flush=True,
                batch_size=1,
                decoder_mode="batched",
                language=language,
                context=context,
                partials=partials,
            )
        except BaseException:
            self.end(utterance)
            raise
        return utterance

    def end(self, utterance: Utterance) -> None:
        """Close its stream, which cancels what is not done. Returns at once."""
        del self._utterances[utterance.name]
        task = asyncio.create_task(self._stop(utterance.name))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop(self, name: str) -> None:
        with suppress(ClientError):
            await self._bridge.ask(StopStream(stream_id=name, mode="discard"), StreamStopped)

    def _take(self, event: Event) -> None:
        super()._take(event)
        match event:
            case PartialResult():
                if (utterance := self._utterances.get(event.stream_id)) is not None:
                    utterance.stable_text = event.stable_text or ""
            case RealtimeBatchFinal():
                for item in event.items:
                    if (utterance := self._utterances.get(item.stream_id)) is not None:
                        utterance.finish(item)
            case StreamError():
                self._fail([event.stream_id], _failed(event.code, event.message))
            case UtteranceLost():
                self._fail([event.stream_id], event.error)
            case BridgeLost():
                self._fail(event.streams if event.will_restart else self._utterances, event.error)
            case EventsLost():  # of whichever utterance: none may wait for ever
                self._fail(self._utterances, _failed(BridgeError.code, "events of the bridge were lost"))

    def _fail(self, names: Iterable[str | None], error: ClientError) -> None:
        for name in names:
            if (utterance := self._utterances.get(name or "")) is not None:
                utterance.fail(error)


def _failed(code: str, message: str) -> RequestFailed:
    return RequestFailed(ErrorReply(code=code, message=message, retryable=False, data={}))
