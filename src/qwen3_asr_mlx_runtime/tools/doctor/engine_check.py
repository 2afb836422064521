"""Whether the servers of a remote engine answer as they should, and how fast."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.engines.remote.exchange import Exchange, NoAnswer
from qwen3_asr_mlx_runtime.engines.remote.server import Facts, Server, probe
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure, ok, warning

_ANSWERS = 5
_TOGETHER = 4  # what the bridge has under way at a time
_PAGE = "docs/remote.md says what a server has to have"
_LANGUAGE = {
    "chat_template": "a named language is forced by a template in the request",
    "transcriptions": "a named language is forced by the path of transcriptions: without log-probabilities",
}


def check_servers(urls: Sequence[str], model: str, token: str | None) -> Iterator[Finding]:
    """`model`: the name that they have to serve."""
    models = set()
    for number, url in enumerate(urls, 1):
        findings, facts = asyncio.run(_check(f"server {number}", url, model, token))
        yield from findings
        models |= {facts.model.id} if facts else set()
    if len(models) > 1:
        names = printable(", ".join(sorted(models)))
        yield failure(f"the servers have several models: {names}", "name one with --model")


async def _check(name: str, url: str, model: str, token: str | None) -> tuple[list[Finding], Facts | None]:
    try:
        async with AsyncExitStack() as stack:
            exchange = Exchange(token)
            stack.push_async_callback(exchange.close)
            server = Server(url, exchange)
            await server.check_health()
            await server.identify(model)
            return [*_found(name, server.facts), await _latency(name, server)], server.facts
    except NoAnswer as trouble:
        return [failure(f"{name} gives no answer: {trouble.reason}", "is it started, and the address right?")], None
    except BridgeError as error:
        return [failure(printable(f"{name}: {error.message} ({error.code})"), _PAGE)], None


def _found(name: str, facts: Facts | None) -> Iterator[Finding]:
    if facts is None:
        return
    version = facts.version or "of an unknown version"
    yield ok(printable(f"{name} is {facts.name} {version}, with the model {facts.model.id}"))
    if facts.forced_language is None:
        advice = "start it with --trust-request-chat-template: until then `language` is refused"
        yield warning(f"{name} cannot be made to write in a named language", advice)
    else:
        yield ok(f"{name}: {_LANGUAGE[facts.forced_language]}")


async def _latency(name: str, server: Server) -> Finding:
    """Of the way, the audio tower and a few tokens."""
    audio = probe()
    alone = [await _seconds(server, audio) for _ in range(_ANSWERS)]
    started = time.monotonic()
    await asyncio.gather(*[server.transcribe(audio) for _ in range(_TOGETHER)])
    together = time.monotonic() - started
    spread = f"{statistics.median(alone):.3f} s ({min(alone):.3f} to {max(alone):.3f})"
    return ok(f"{name} answers about a second of audio in {spread}, {_TOGETHER} at a time in {together:.3f} s")


async def _seconds(server: Server, audio: Utterance) -> float:
    started = time.monotonic()
    await server.transcribe(audio)
    return time.monotonic() - started
