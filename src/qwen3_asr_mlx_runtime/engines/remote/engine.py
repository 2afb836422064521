"""The `Engine` whose work vLLM servers do. One thread with an event loop speaks to all of them."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qwen3_asr_mlx_runtime.diagnostics import diagnose, raised_at
from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Append,
    Cancel,
    EngineEnded,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    LoadAligner,
    Loaded,
    LoadFailed,
    Outcome,
    Partial,
    PartialDone,
    Post,
    Progress,
    Promote,
    Provisional,
    Request,
    Unloaded,
)
from qwen3_asr_mlx_runtime.engines.info import EngineInfo, remote_features
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.engines.remote.decoding import Decoder, Kept
from qwen3_asr_mlx_runtime.engines.remote.exchange import TOKEN_VARIABLE, Exchange, read_token
from qwen3_asr_mlx_runtime.engines.remote.pool import Pool
from qwen3_asr_mlx_runtime.engines.remote.server import Facts, Server
from qwen3_asr_mlx_runtime.engines.remote.words import Words
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    Cancelled,
    DecodeFailed,
    EngineRejected,
    EngineUnreachable,
    ResourceExhausted,
    UnsupportedByEngine,
)
from qwen3_asr_mlx_runtime.settings import Settings

BEAT_SECONDS = 1.0

Work = Callable[[Decoder], Coroutine[Any, Any, Outcome]]


@dataclass(slots=True, eq=False)
class _OpenUtterance:
    """`partial` and `provisional`: its latest jobs, also once they have ended."""

    chunks: list[Samples] = field(default_factory=list)
    partial: int | None = None
    provisional: int | None = None
    kept: Kept = field(default_factory=Kept)


class RemoteEngine:
    """Called on one thread. `settings.engine` names the servers."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        self._token = os.environ.pop(TOKEN_VARIABLE, None)  # no child of this process needs it
        self._open: dict[int, _OpenUtterance] = {}
        self._connection: _Connection | None = None
        self._words = Words(settings, post) if settings.aligner else None

    @property
    def heartbeats(self) -> int:
        # The loop that speaks to the servers lives on beside an aligner that is stuck.
        if self._words is not None and self._words.is_busy:
            return self._words.heartbeats
        return self._connection.beats if self._connection else 0

    @property
    def load_stage(self) -> str | None:
        stage = self._connection.load_stage if self._connection else None
        return stage or (self._words.load_stage if self._words else None)

    @property
    def memory(self) -> Memory | None:
        """Of the aligner's process."""
        return self._words.memory if self._words else None

    @property
    def pid(self) -> int | None:
        return self._words.pid if self._words else None

    def send(self, request: Request) -> None:
        match request:
            case Load():
                self._load()
            case Append(audio_id, samples):
                self._open.setdefault(audio_id, _OpenUtterance()).chunks.append(samples)
            case Forget(audio_id):
                self._end(audio_id)
            case Cancel(job_id):
                self._cancel(job_id)
                if self._words is not None:
                    self._words.cancel(request)
            case LoadAligner():
                if self._words is not None:
                    self._words.load()
            case Promote():
                pass  # a server decodes all that it has at the same time
            case _:
                self._begin(request)

    def _begin(self, request: Partial | Provisional | Finalize | Align) -> None:
        match request:
            case Partial():
                self._partial(request)
            case Provisional():
                self._provisional(request)
            case Finalize():
                self._finalize(request)
            case Align():
                self._align(request)

    def kill(self, reason: str) -> None:
        if self._words is not None:
            self._words.kill()
        if self._disconnect():
            self._post(EngineEnded(reason))

    def unload(self) -> None:
        memory = self.memory if self.pid is not None else None
        if self._words is not None:
            self._words.kill()
        self._disconnect()
        self._post(Unloaded((memory.rss_bytes if memory else None) or 0))

    def close(self) -> None:
        if self._words is not None:
            self._words.close()
        if self._connection is not None:
            self._connection.close()

    def join(self, timeout: float) -> bool:
        has_ended = self._connection is None or self._connection.join(timeout)
        return has_ended and (self._words is None or self._words.join(timeout))

    def _load(self) -> None:
        if self._connection is None or self._connection.has_failed:
            try:
                token = read_token(self._settings.engine_token_file, self._token)
                self._connection = _Connection(self._settings, token, self._post)
            except EngineRejected as error:
                self._post(LoadFailed(error))
                return
            except (OSError, RuntimeError) as error:  # no descriptor or thread is left
                self._post(LoadFailed(ResourceExhausted(f"no connection can be made: {type(error).__name__}")))
                return
        self._connection.load()

    def _disconnect(self) -> bool:
        """Nothing of what was sent gets an outcome. False if nothing was connected."""
        self._open.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return connection is not None

    def _end(self, audio_id: int) -> _OpenUtterance:
        """No more comes of this utterance: its partials and provisional finals end."""
        utterance = self._open.pop(audio_id, None) or _OpenUtterance()
        self._cancel(utterance.partial, utterance.provisional)
        return utterance

    def _cancel(self, *job_ids: int | None) -> None:
        for job_id in job_ids:
            if job_id is not None and self._connection is not None:
                self._connection.cancel(job_id)

    def _submit(self, job_id: int, work: Work) -> None:
        if self._connection is not None:
            self._connection.submit(job_id, work)

    def _partial(self, request: Partial) -> None:
        utterance = self._open.setdefault(request.audio_id, _OpenUtterance())
        utterance.partial = request.id
        chunks, kept = [*utterance.chunks], utterance.kept

        async def work(decoder: Decoder) -> Outcome:
            return PartialDone(request.id, await decoder.hypothesis(_utterance(request, chunks), kept))

        self._submit(request.id, work)

    def _provisional(self, request: Provisional) -> None:
        utterance = self._open.setdefault(request.audio_id, _OpenUtterance())
        self._cancel(utterance.partial, utterance.provisional)
        utterance.provisional = request.id
        samples = _joined(utterance.chunks)[: request.samples]
        # A cut may depend on the tail, behind which other samples follow: nothing is kept.
        self._final(request, [samples, request.tail], Kept())

    def _finalize(self, request: Finalize) -> None:
        utterance = self._end(request.audio_id)
        self._final(request, utterance.chunks, utterance.kept)

    def _final(self, request: Finalize | Provisional, chunks: Sequence[Samples], kept: Kept) -> None:
        async def work(decoder: Decoder) -> Outcome:
            audio = _utterance(request, chunks, logprobs=request.logprobs)
            return Finished(request.id, await decoder.transcript(audio, kept))

        self._submit(request.id, work)

    def _align(self, request: Align) -> None:
        utterance = self._end(request.audio_id)
        if self._words is not None:
            self._words.align(request, _joined(utterance.chunks))
        else:
            message = "the engine gives words no times: --aligner names a model that does, here"
            self._post(Failed(request.id, UnsupportedByEngine(message, feature="words")))


def _joined(chunks: Sequence[Samples]) -> Samples:
    return np.concatenate([NO_SAMPLES, *chunks])


def _utterance(
    request: Partial | Finalize | Provisional, chunks: Sequence[Samples], *, logprobs: bool = False
) -> Utterance:
    asked = (request.language, request.context, request.max_new_tokens, logprobs, request.languages)
    return Utterance(_joined(chunks), *asked, terms=request.terms)


class _Connection:
    """The thread, its event loop, and what is asked of the servers, from a load to an unload. Nothing is posted once
    `close` has returned."""

    def __init__(self, settings: Settings, token: str | None, post: Post) -> None:
        self.beats = 0
        self.load_stage: str | None = "connect"
        self.has_failed = False  # to load: it ends
        self._settings = settings
        self._token = token
        self._out = post
        self._lock = threading.Lock()
        self._is_closed = False
        self._tasks: dict[int, asyncio.Task[Outcome]] = {}
        self._loading: asyncio.Task[Outcome] | None = None
        self._loaded: Loaded | None = None
        self._loop = asyncio.new_event_loop()
        self._end = self._loop.create_future()
        self._loop.set_exception_handler(_log)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def load(self) -> None:
        self._call(self._load)

    def submit(self, job_id: int, work: Work) -> None:
        self._call(lambda: self._start(job_id, work))

    def cancel(self, job_id: int) -> None:
        self._call(lambda: self._cancel(job_id))

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._call(self._finish)

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _call(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(callback)

    # On the thread of the loop.

    def _finish(self) -> None:
        if not self._end.done():
            self._end.set_result(None)

    def _run(self) -> None:
        try:
            exchange = Exchange(self._token)
        except EngineUnreachable as error:
            self._report(LoadFailed(error))
            self._loop.close()
            return
        self._pool = Pool([Server(url, exchange) for url in self._settings.engine], self._settings.model)
        self._decoder = Decoder(self._pool, self._settings.segment_seconds)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(exchange))

    async def _serve(self, exchange: Exchange) -> None:
        """Until the end."""
        beat = asyncio.create_task(self._beat())
        try:
            await self._end
        finally:
            tasks = [beat, *self._tasks.values(), *([self._loading] if self._loading else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._pool.close()
            await exchange.close()

    async def _beat(self) -> None:
        while True:
            self.beats += 1
            await asyncio.sleep(BEAT_SECONDS)

    def _post(self, outcome: Outcome) -> None:
        with self._lock:
            if not self._is_closed:
                self._out(outcome)

    def _load(self) -> None:
        if self._loading is None:
            self._loading = asyncio.create_task(self._connect())
            self._loading.add_done_callback(self._load_ended)

    def _load_ended(self, task: asyncio.Task[Outcome]) -> None:
        self._loading = None
        if not task.cancelled():
            self._report(task.result())

    def _report(self, outcome: Outcome) -> None:
        """Of a load."""
        self.load_stage = None
        if isinstance(outcome, LoadFailed):
            self.has_failed = True
            self._finish()
        self._post(outcome)

    async def _connect(self) -> Outcome:
        if self._loaded is None:
            self._post(Progress("connect"))
            started = time.monotonic()
            try:
                facts = await self._pool.connect()
            except Exception as error:  # noqa: BLE001 a bug may not leave a load without an outcome
                return LoadFailed(_error(error))
            self._loaded = _loaded(facts, time.monotonic() - started, has_aligner=self._settings.aligner is not None)
        return self._loaded

    def _start(self, job_id: int, work: Work) -> None:
        task = self._tasks[job_id] = asyncio.create_task(work(self._decoder))
        task.add_done_callback(lambda task: self._ended(job_id, task))

    def _cancel(self, job_id: int) -> None:
        if job_id in self._tasks:
            self._tasks[job_id].cancel()

    def _ended(self, job_id: int, task: asyncio.Task[Outcome]) -> None:
        del self._tasks[job_id]
        self._post(_outcome(job_id, task))


def _log(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a connection did that nobody waits for. Its message may quote anything."""
    diagnose(f"the event loop of the remote engine reports {type(context.get('exception')).__name__}")


def _outcome(job_id: int, task: asyncio.Task[Outcome]) -> Outcome:
    if task.cancelled():
        return Failed(job_id, Cancelled("cancelled before its text was there"))
    error = task.exception()
    if error is None:
        return task.result()
    return Failed(job_id, _error(error))


def _error(error: BaseException) -> BridgeError:
    if isinstance(error, BridgeError):
        return error
    diagnose(f"the remote engine failed: {raised_at(type(error), error.__traceback__)}")
    return DecodeFailed(f"the remote engine failed: {type(error).__name__}")


def _loaded(facts: Sequence[Facts], seconds: float, *, has_aligner: bool) -> Loaded:
    """What the servers have in common, in the words of the first."""
    first, seconds = facts[0], round(seconds, 4)
    way = first.forced_language if all(each.forced_language for each in facts) else None
    info = EngineInfo(
        kind="remote",
        server=first.name,
        version=first.version,
        model=first.model.id,
        exact=False,
        features=remote_features(has_aligner=has_aligner, forces_language=way is not None),
        forced_language=way,
    )
    return Loaded(first.model.id, "", seconds, {"stage": "load", "total_seconds": seconds}, "none", info)
