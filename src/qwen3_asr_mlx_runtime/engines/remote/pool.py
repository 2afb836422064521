"""The servers that answer: the one with the least to do gets the next segment; one that fails leaves until it answers
again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from qwen3_asr_mlx_runtime.command import printable
from qwen3_asr_mlx_runtime.diagnostics import diagnose
from qwen3_asr_mlx_runtime.engines.remote.answers import Answer
from qwen3_asr_mlx_runtime.engines.remote.exchange import UNAUTHORISED, Broken, Busy, NoAnswer
from qwen3_asr_mlx_runtime.engines.remote.server import Facts, Server
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError, EngineIncompatible, EngineRejected, EngineUnreachable

CONNECT_SECONDS = 10.0  # how long a load tries to reach a server
PATIENCE_SECONDS = 300.0  # how long a segment waits for a server, which takes one to three minutes to start
MAX_LOST = 3  # answers of one segment: it may be what ends the servers
HEALTH_SECONDS = 15.0  # between checks of a server that has something to do
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before a server is tried again; the last one for ever


@dataclass(eq=False, slots=True)
class _Member:
    """A server and its place in the pool.

    `trouble`: why it gets nothing, None while it does. `error`: that of one which is of no use. `answers`: it is well
    and is being probed. `rests_until`: it gets nothing before; `rests`: how often in a row it has failed.
    """

    server: Server
    trouble: str | None = "it was not tried yet"
    error: BridgeError | None = None
    is_tried: bool = False
    answers: bool = False
    outstanding: int = 0
    used_at: int = 0
    rests_until: float = 0.0
    rests: int = 0
    doubted: asyncio.Event = field(default_factory=asyncio.Event)


class Pool:
    """Used on one event loop. `wanted`: the name of the model."""

    def __init__(self, servers: Sequence[Server], wanted: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._members = [_Member(server) for server in servers]
        self._wanted = wanted
        self._clock = clock
        self._changed = asyncio.Condition()
        self._uses = 0
        self._watchers: list[asyncio.Task[None]] = []

    async def connect(self) -> list[Facts]:
        """Those of the servers that answer; all are watched from now on. Raises EngineUnreachable if none does within
        CONNECT_SECONDS, EngineIncompatible for several models, or the error of one that is of no use."""
        if not self._watchers:
            self._watchers = [asyncio.create_task(self._watch(member)) for member in self._members]
        await self._first_tries()
        for member in self._members:
            if member.error is not None:
                raise member.error
        facts = [member.server.facts for member in self._members if member.trouble is None and member.server.facts]
        if not facts:
            raise self._unreachable()
        models = sorted({each.model.id for each in facts})
        if len(models) > 1:
            message = f"expected one model, the servers have {', '.join(models)}: name one with --model"
            raise EngineIncompatible(message, models=", ".join(models))
        [self._wanted] = models  # also of a server that answers later
        return facts

    async def _first_tries(self) -> None:
        """Until every server was tried, and one is of use or of none; or for CONNECT_SECONDS. Only a probe that is all
        there is may take longer."""
        ends_at = self._clock() + CONNECT_SECONDS
        async with self._changed:
            while not self._is_settled():
                is_probed = any(member.answers for member in self._members) and not self._has_one()
                left = None if is_probed else ends_at - self._clock()
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    return

    def _is_settled(self) -> bool:
        is_known = self._has_one() or any(member.error is not None for member in self._members)
        return is_known and all(member.is_tried for member in self._members)

    def _has_one(self) -> bool:
        return any(member.trouble is None for member in self._members)

    async def close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def transcribe(self, utterance: Utterance, *, waits: bool) -> Answer:
        """The text of one segment. Where nothing was answered, it is sent again: to another server, or later. `waits`:
        as long as PATIENCE_SECONDS; otherwise one try is all. Raises an EngineError."""
        since, lost = None, 0
        while True:
            member = await self._free(utterance, since if waits else float("-inf"))
            try:
                return await self._ask(member, utterance)
            except NoAnswer as trouble:
                since = since or self._clock()
                lost += trouble.was_sent
                is_over = self._clock() - since >= PATIENCE_SECONDS
                if not waits or is_over or lost == MAX_LOST:
                    raise EngineUnreachable(f"no answer about this audio: {trouble.reason}") from None

    async def _ask(self, member: _Member, utterance: Utterance) -> Answer:
        self._uses += 1
        member.used_at = self._uses
        member.outstanding += 1
        try:
            answer = await member.server.transcribe(utterance)
        except Busy as trouble:
            self._rest(member, trouble.seconds)
            raise
        except Broken as trouble:
            if await self._is_well(member):
                message = f"the server fails at this audio with status {trouble.status}: its own log says why"
                raise EngineRejected(message, status=trouble.status) from None
            self._leave(member, trouble.reason)
            raise
        except NoAnswer as trouble:
            self._leave(member, trouble.reason)
            raise
        except (EngineIncompatible, EngineRejected) as refusal:
            if isinstance(refusal, EngineIncompatible) or refusal.data.get("status") in UNAUTHORISED:
                self._leave(member, refusal.message)  # not for this audio: it may have another model or token now
            raise
        finally:
            member.outstanding -= 1
        member.rests = 0
        return answer

    async def _free(self, utterance: Utterance, since: float | None) -> _Member:
        """The server that gets the next segment. `since`: when it was first tried; None for now."""
        gives_up_at = (self._clock() if since is None else since) + PATIENCE_SECONDS
        async with self._changed:
            while True:
                now = self._clock()
                able = [member for member in self._members if member.server.writes_in(utterance)] or self._members
                there = [member for member in able if member.trouble is None]
                if free := [member for member in there if member.rests_until <= now]:
                    return min(free, key=lambda member: (member.outstanding, member.used_at))
                if now >= gives_up_at:
                    raise self._unreachable()
                wake_at = min([gives_up_at, *(member.rests_until for member in there)])
                with suppress(TimeoutError):
                    async with asyncio.timeout(wake_at - now):
                        await self._changed.wait()

    def _unreachable(self) -> EngineUnreachable:
        troubles = [member.trouble or "it is asked again later" for member in self._members]
        return EngineUnreachable(f"no server of the engine answers: {'; '.join(dict.fromkeys(troubles))}")

    async def _is_well(self, member: _Member) -> bool:
        try:
            await member.server.check_health()
        except (NoAnswer, BridgeError):
            return False
        return True

    def _leave(self, member: _Member, trouble: str) -> None:
        if member.trouble is None:
            self._log(member, trouble)
        member.trouble = trouble
        member.doubted.set()
        self._rest(member, None)  # its health may be answered by another than its requests

    def _rest(self, member: _Member, seconds: float | None) -> None:
        """Nothing is sent to it for so long; by default for longer each time in a row."""
        now = self._clock()
        if not seconds:
            if member.rests_until > now:
                return  # several requests have failed at once
            seconds, member.rests = BACK_OFF[min(member.rests, len(BACK_OFF) - 1)], member.rests + 1
        member.rests_until = max(member.rests_until, now + seconds)

    async def _watch(self, member: _Member) -> None:
        """For ever: try a server that is out of the set, and look after one that is in it."""
        tries = 0
        while True:
            trouble, error = None, None
            try:
                await member.server.check_health()
                if member.trouble is not None:
                    await self._set(member, answers=True)
                    await member.server.identify(self._wanted)
            except NoAnswer as no_answer:
                trouble = no_answer.reason
            except BridgeError as refusal:
                trouble, error = refusal.message, refusal
            except Exception as bug:  # noqa: BLE001 whatever an address or an answer provokes
                trouble = f"it cannot be asked: {type(bug).__name__}"
            await self._set(member, trouble=trouble, error=error, is_tried=True, answers=False)
            if trouble is None:
                tries = 0
                await self._until_doubted(member)
            else:
                await asyncio.sleep(BACK_OFF[min(tries, len(BACK_OFF) - 1)])
                tries += 1

    async def _set(self, member: _Member, **values: object) -> None:
        async with self._changed:
            before = member.trouble
            for name, value in values.items():
                setattr(member, name, value)
            if member.trouble != before:
                self._log(member, member.trouble)
            self._changed.notify_all()

    def _log(self, member: _Member, trouble: str | None) -> None:
        what = "answers" if trouble is None else f"gets no requests: {printable(trouble)}"
        diagnose(f"server {self._members.index(member) + 1} of the engine {what}")

    async def _until_doubted(self, member: _Member) -> None:
        """Until a request fails, or a server that has something to do is due for a look."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALTH_SECONDS):
                    await member.doubted.wait()
            if member.doubted.is_set() or member.outstanding:
                member.doubted.clear()
                return
