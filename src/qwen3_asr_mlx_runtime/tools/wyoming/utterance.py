"""An utterance of a client: a stream of the bridge of its own."""

import asyncio
from typing import Self, Unpack

from qwen3_asr_mlx_runtime.client import AsyncStream, ClientError, RequestFailed
from qwen3_asr_mlx_runtime.client.options import StreamOptions
from qwen3_asr_mlx_runtime.client.results import FinalResult
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError
from qwen3_asr_mlx_runtime.tools.doors.service import Service, StreamNews


class Utterance:
    """`stable_text`: of the latest partial. Its methods raise the ClientError that it has failed with."""

    _stream: AsyncStream

    def __init__(self, service: Service) -> None:
        self.stable_text = ""
        self._service = service
        self._result: asyncio.Future[FinalResult] = asyncio.get_running_loop().create_future()

    @classmethod
    async def begun(cls, service: Service, **options: Unpack[StreamOptions]) -> Self:
        """Waits for the model. Raises a ClientError."""
        utterance = cls(service)
        utterance._stream = await service.open_stream(utterance._take, **options)
        return utterance

    async def append(self, pcm16: bytes) -> None:
        """Returns when it is queued: no faster than the bridge takes it."""
        if self._result.done():
            await self._result
        await self._stream.append(pcm16)

    async def final(self) -> FinalResult:
        """End it."""
        try:
            await self._stream.end_utterance()
        except RequestFailed:  # perhaps because its audio was refused before
            if not self._result.done():
                raise
        return await self._result

    def close(self) -> None:
        """Cancel what is not done. Returns at once."""
        self._service.close_stream(self._stream)

    def _take(self, news: StreamNews) -> None:
        match news:
            case PartialResult():
                self.stable_text = news.stable_text or ""
            case StreamError(code=code, message=message):
                self._fail(_failed(code, message))
            case ClientError():
                self._fail(news)
            case FinalResult() if news.error:
                self._fail(_failed(news.error.code, news.error.message))
            case FinalResult() if not self._result.done():
                self._result.set_result(news)

    def _fail(self, error: ClientError) -> None:
        if not self._result.done():
            self._result.set_exception(error)


def _failed(code: str, message: str) -> RequestFailed:
    return RequestFailed(ErrorReply(code=code, message=message, retryable=False, data={}))
