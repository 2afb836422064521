"""The Wyoming door: its bridge, and its connections over TCP, or over stdin and stdout."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from wyoming.error import Error
from wyoming.event import async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.diagnostics import raised_at
from qwen3_asr_mlx_runtime.errors import Busy
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.tools.doors.life import GRACE_SECONDS, Life, address_of, lived
from qwen3_asr_mlx_runtime.tools.doors.service import Service
from qwen3_asr_mlx_runtime.tools.wyoming.handler import Handler, Settings
from qwen3_asr_mlx_runtime.tools.wyoming.pipes import Pipes
from qwen3_asr_mlx_runtime.tools.wyoming.reader import Reader

IDLE_SECONDS = 300.0  # that a client of a network may send nothing, or not read
_QWEN = Attribution("Qwen team, Alibaba Cloud", "https://github.com/QwenLM/Qwen3-ASR")


@dataclass(frozen=True)
class Plan:
    """`command`, `env`: of the bridge. `model`: its public name. `loads`: the model at once. `parent_pid`: a process
    that the door does not outlive."""

    program: str
    command: Sequence[str]
    env: Mapping[str, str]
    model: str
    max_audio_seconds: float
    max_connections: int
    sends_partials: bool
    loads: bool
    parent_pid: int | None = None


async def run(plan: Plan, source: socket.socket | Pipes) -> int:
    """Serve until a signal, or to the end of stdin; the exit code. Raises a ClientError if the bridge cannot be
    started."""
    return await lived(lambda life: _serve(plan, source, life), plan.parent_pid)


async def _serve(plan: Plan, source: socket.socket | Pipes, life: Life) -> None:
    async with Service(plan.command, plan.env, program=plan.program, loads=plan.loads, resend=True) as service:
        door = Door(plan, service)
        life.begins(door.end)
        if isinstance(source, socket.socket):
            note(f"{plan.program}: listening on tcp://{address_of(source)}")
            await door.serve(source)
        else:
            await door.serve_stdio(source)


def info(model: str) -> Info:
    asr = AsrModel(
        name=model,
        attribution=_QWEN,
        installed=True,
        description="Qwen3-ASR",
        version=None,
        languages=[*LANGUAGE_CODES.values()],
    )
    program = AsrProgram(
        name="qwen3-asr-mlx",
        attribution=_QWEN,
        installed=True,
        description="Qwen3-ASR on MLX",
        version=__version__,
        models=[asr],
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])


class Door:
    """Its clients, and the end of them."""

    def __init__(self, plan: Plan, service: Service) -> None:
        self._plan, self._service = plan, service
        self._info = info(plan.model)
        self._handlers: dict[asyncio.Task[object], Handler] = {}
        self._ending = asyncio.Event()

    def end(self, at_once: bool) -> None:
        """Open utterances may end, unless `at_once`."""
        self._ending.set()
        for task, handler in self._handlers.items():
            handler.is_ending = True
            if at_once or not handler.is_busy:
                task.cancel()

    async def serve(self, listener: socket.socket) -> None:
        """Until `end`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(Reader(), self._connected), sock=listener
        )
        await self._ending.wait()
        server.close()
        await self._finish()

    async def serve_stdio(self, pipes: Pipes) -> None:
        """One client. Until the end of input, whose utterances are transcribed, or until `end`."""
        loop = asyncio.get_running_loop()
        reader = Reader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipes.stdin)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipes.stdout
        )
        transport.set_write_buffer_limits(0)  # so that what is written has left before the end
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        client = asyncio.create_task(self._handle(reader, writer, is_alone=True))
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait({client, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        await self._finish()

    async def _finish(self) -> None:
        if self._handlers:
            await asyncio.wait({*self._handlers}, timeout=GRACE_SECONDS)
        self.end(at_once=True)
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)  # noqa: S101 so it was made
        if self._ending.is_set():
            writer.close()
        elif len(self._handlers) >= self._plan.max_connections:
            with suppress(OSError):
                message = f"{self._plan.max_connections} clients are connected: try again"
                await async_write_event(Error(message, Busy.code).event(), writer)
            writer.close()
        else:
            await self._handle(reader, writer)

    async def _handle(self, reader: Reader, writer: asyncio.StreamWriter, *, is_alone: bool = False) -> None:
        """`is_alone`: over stdin and stdout."""
        settings = Settings(
            info=self._info,
            max_audio_seconds=self._plan.max_audio_seconds,
            sends_partials=self._plan.sends_partials,
            idle_seconds=None if is_alone else IDLE_SECONDS,
        )
        handler = Handler(reader, writer, self._service, settings, ends_with_input=not is_alone)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 it runs in one
        self._handlers[task] = handler
        try:
            await handler.run()
        except asyncio.CancelledError:  # the client has gone, or the door ends
            pass
        except Exception as error:  # noqa: BLE001 the boundary
            note(f"{self._plan.program}: a bug: {raised_at(type(error), error.__traceback__)}")
        finally:
            del self._handlers[task]
            writer.close()
