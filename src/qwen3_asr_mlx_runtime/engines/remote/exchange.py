"""HTTP with the servers: time-outs, the token, and what a status means."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from qwen3_asr_mlx_runtime.errors import EngineIncompatible, EngineRejected, EngineUnreachable

TOKEN_VARIABLE = "QWEN3_ASR_MLX_ENGINE_TOKEN"  # noqa: S105 a name
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 4.0  # uvicorn closes an idle connection after 5
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_REST_SECONDS = 60.0
_BUSY = (429, 503)
UNAUTHORISED = (401, 403)
_GATEWAY = (502, 504)  # a proxy's: nothing behind it has answered
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


class NoAnswer(Exception):
    """Nothing was answered: the same request may be sent again. `reason` is for people. `was_sent`: the server may have
    begun."""

    def __init__(self, reason: str, *, was_sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_sent = was_sent


class Busy(NoAnswer):
    """The server asks to come later: in so many seconds, if it says so."""

    def __init__(self, status: int, seconds: float | None) -> None:
        super().__init__(f"it answers {status}")
        self.seconds = seconds


class Broken(NoAnswer):
    """The server has failed. If it is well all the same, the request is at fault."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answers {status}", was_sent=True)
        self.status = status


def read_token(file: Path | None, token: str | None) -> str | None:
    """From the file, or else `token`, that of the environment. Raises EngineRejected for one that cannot be sent."""
    if file is not None:
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            message = f"the token of --engine-token-file cannot be read: {type(error).__name__}"
            raise EngineRejected(message) from None
    if token and not (token.isascii() and token.isprintable()):
        raise EngineRejected("expected a token of visible ASCII characters")
    return token or None


class Exchange:
    """Used on one event loop. `token`: sent to every server. Raises EngineUnreachable where the proxies or certificates
    that the environment names are of no use."""

    def __init__(self, token: str | None) -> None:
        plain = {"Accept-Encoding": "identity"}  # what is compressed may have any size
        try:
            self._client = httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {token}", **plain} if token else plain,
                limits=httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
                follow_redirects=False,
            )
        except Exception as error:  # noqa: BLE001 whatever an address of a proxy or a file of certificates provokes
            reason = type(error).__name__
            message = f"HTTP cannot be set up ({reason}): look at SSL_CERT_FILE and at the proxies in the environment"
            raise EngineUnreachable(message) from None

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, url: str, read_seconds: float) -> bytes:
        return await self._send("GET", url, read_seconds)

    async def post_json(self, url: str, message: Mapping[str, Any], read_seconds: float) -> bytes:
        return await self._send("POST", url, read_seconds, json=message)

    async def post_form(self, url: str, fields: Mapping[str, str], wav: bytes, read_seconds: float) -> bytes:
        return await self._send("POST", url, read_seconds, data=fields, files={"file": ("audio.wav", wav, "audio/wav")})

    async def _send(self, method: str, url: str, read_seconds: float, **content: Any) -> bytes:
        """The body of a good answer. Raises NoAnswer, EngineRejected or EngineIncompatible."""
        times = httpx2.Timeout(connect=CONNECT_SECONDS, write=WRITE_SECONDS, read=read_seconds, pool=None)
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS + WRITE_SECONDS + read_seconds),
                self._client.stream(method, url, timeout=times, **content) as response,
            ):
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise EngineIncompatible(f"the server's answer is over {MAX_ANSWER_BYTES} bytes")
        except TimeoutError:
            raise NoAnswer("its answer does not end", was_sent=True) from None
        except httpx2.TransportError as error:
            raise NoAnswer(_reason(error), was_sent=not isinstance(error, _NOT_SENT)) from None
        except httpx2.HTTPError as error:
            raise EngineIncompatible(f"the server's answer cannot be read: {type(error).__name__}") from None
        _check(response)
        return bytes(body)


def _check(response: httpx2.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in _BUSY:
        raise Busy(status, _retry_after(response.headers.get("retry-after")))
    if status in _GATEWAY:
        raise NoAnswer(f"it answers {status}")
    if status >= 500:
        raise Broken(status)
    if status in UNAUTHORISED:
        message = "the server wants a token: --engine-token-file FILE, or QWEN3_ASR_MLX_ENGINE_TOKEN"
        raise EngineRejected(message, status=status)
    if status < 400 or status in (404, 405):
        message = f"expected vLLM with the model at this address, it answers {status}"
        raise EngineIncompatible(message, status=status)
    raise EngineRejected(f"the server refuses the request with status {status}: its own log says why", status=status)


def _retry_after(text: str | None) -> float | None:
    """In seconds; None for none, or for a date."""
    if text is None or not text.strip().isdecimal():
        return None
    return min(float(text), MAX_REST_SECONDS)


def _reason(error: httpx2.TransportError) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted: SSL_CERT_FILE names the file of one that is"
    return {
        httpx2.ConnectError: "it cannot be reached",
        httpx2.ConnectTimeout: f"it does not answer within {CONNECT_SECONDS:g} s",
        httpx2.ReadTimeout: "it accepts the request and does not answer",
        httpx2.ProxyError: "the proxy does not let it through",
    }.get(type(error), "the connection was lost")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
