"""Sources → files: sends them to one bridge, a few at a time, and writes what comes back."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen3_asr_mlx_runtime.client import AsyncBridge, Limits, LossError, RequestFailed, Setup
from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.command import reason_of
from qwen3_asr_mlx_runtime.protocol.streams import Progress
from qwen3_asr_mlx_runtime.protocol.transcripts import WORDS_UNAVAILABLE, words_reason
from qwen3_asr_mlx_runtime.tools.transcribe.formats import CAPTIONED, FORMATS, Result, json_line
from qwen3_asr_mlx_runtime.tools.transcribe.screen import Screen
from qwen3_asr_mlx_runtime.tools.transcribe.sources import Source

_AT_A_TIME = 8  # files that are decoded together
_NO_LIMIT = 1_000_000  # of restarts: each crash costs a file, and files are finite


@dataclass(slots=True)
class Work:
    """`options`: members of each request. `done` and `failed` count files, `seconds` their audio."""

    options: Mapping[str, Any]
    screen: Screen
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    _model: str = ""
    _running: dict[int, Source] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)  # to be printed after those before them
    _printed: int = 0

    async def run(self, command: Sequence[str], sources: Sequence[Source]) -> None:
        """Raises a ClientError if the model cannot be loaded, BrokenPipeError if nobody reads stdout."""
        setup = Setup(command=command, limits=Limits(restarts=_NO_LIMIT))
        async with AsyncBridge(setup) as bridge:
            watching = asyncio.create_task(self._watch(bridge))
            self._model = (await bridge.start(words=self.options["words"])).model
            self.screen.loaded()
            waiting, lost = iter(enumerate(sources)), list[tuple[int, Source]]()
            await asyncio.gather(*(self._take(bridge, waiting, lost) for _ in range(_AT_A_TIME)))
            for number, source in lost:  # one by one: the bridge crashes again with the file that is to blame
                try:
                    await self._transcribe(bridge, number, source)
                except LossError as error:
                    self._fail(number, source, error.line)
            watching.cancel()

    async def _take(
        self, bridge: AsyncBridge, waiting: Iterator[tuple[int, Source]], lost: list[tuple[int, Source]]
    ) -> None:
        for number, source in waiting:
            try:
                await self._transcribe(bridge, number, source)
            except LossError:
                lost.append((number, source))

    async def _watch(self, bridge: AsyncBridge) -> None:
        async for event in bridge.events:
            if not isinstance(event, Progress):
                continue
            source = self._running.get(event.request_id) if isinstance(event.request_id, int) else None
            if source is None:
                self.screen.loading(event.stage, event.done, event.total)
            else:
                self.screen.working(source.name, event.done or 0, event.total)

    async def _transcribe(self, bridge: AsyncBridge, number: int, source: Source) -> None:
        """Raises LossError, BrokenPipeError."""
        if source.trouble is not None:
            return self._fail(number, source, source.trouble)
        message = {"type": "transcribe", "id": number, "audio": str(source.audio.absolute()), **self.options}
        self._running[number] = source
        try:
            reply = await bridge.ask(message, TranscriptReply)
            result = Result(source.name, self._model, reply)
            texts = await asyncio.to_thread(_texts, source, result)
            for path, text in zip(source.outputs.values(), texts, strict=False):
                write(path, text)
        except RequestFailed as error:
            self._fail(number, source, error.line)
        except UnicodeEncodeError:
            self._fail(number, source, "its name is not UTF-8")
        except OSError as error:
            self._fail(number, source, reason_of(error))
        else:
            self._finish(source, result)
            self._print(number, texts[-1] if source.printed else "")
        finally:
            del self._running[number]

    def _finish(self, source: Source, result: Result) -> None:
        self.done += 1
        self.seconds += result.seconds
        self.screen.ended(source.name)
        if source.outputs:
            written = [p.name if p.parent == source.audio.parent else str(p) for p in source.outputs.values()]
            self.screen.say(f"{source.name} -> {', '.join(written)}")
        for remark in _remarks(source, result):
            self.screen.say(f"{source.name}: {remark}")

    def _fail(self, number: int, source: Source, why: str) -> None:
        self.failed += 1
        self.screen.ended(source.name)
        self.screen.say(f"{source.name}: {why}")
        self._print(number, "")

    def _print(self, number: int, text: str) -> None:
        """In the order of the files."""
        self._texts[number] = text
        while self._printed in self._texts:
            if text := self._texts.pop(self._printed):
                self.screen.print(text)
            self._printed += 1


def _texts(source: Source, result: Result) -> list[str]:
    """Of the outputs, and of stdout."""
    texts = [FORMATS[name](result) for name in source.outputs]
    if source.printed:
        texts.append(json_line(result) if source.printed == "json" else FORMATS[source.printed](result))
    return texts


def _remarks(source: Source, result: Result) -> list[str]:
    warnings = result.reply.warnings or []
    remarks = [each for each in warnings if not each.startswith(WORDS_UNAVAILABLE)]
    captioned = CAPTIONED.intersection([*source.outputs, source.printed])
    if captioned and result.reply.text and not result.has_words:
        why = words_reason(warnings) or "not requested"
        remarks.append(f"the times of {'/'.join(sorted(captioned))} are estimates, without word times: {why}")
    if result.reply.finish_reason != "stop":
        remarks.append(f"a part of the speech may be missing: finish_reason {result.reply.finish_reason}")
    return remarks


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError."""
    part = path.with_name(f".qwen3-asr-mlx-{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()
