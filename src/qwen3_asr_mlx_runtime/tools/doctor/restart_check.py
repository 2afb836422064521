"""Checks that a decode survives the end of its engine: the worker of a real bridge is killed in the middle of one."""

import asyncio
from collections.abc import Sequence

import psutil

from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER
from qwen3_asr_mlx_runtime.client import AsyncBridge, ClientError
from qwen3_asr_mlx_runtime.protocol.transcripts import BatchTranscript
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure, ok

_FILES = 4
_SECONDS = 300.0  # for the files; a worker that hangs is given up long before
_REPORT = "report it with this output: audio is lost where the engine ends"


def check_restart(bridge: Sequence[str]) -> Finding:
    """`bridge`: its command line."""
    try:
        trouble = asyncio.run(_kill_worker([*bridge, "--model", "demo", "--local-files-only"]))
    except ClientError as error:
        trouble = f"{error.code}: {error.message}"
    if trouble:
        return failure(f"the worker was killed in a decode: {trouble}", _REPORT)
    return ok("the worker was killed in a decode, and every text came all the same")


async def _kill_worker(command: Sequence[str]) -> str:
    """What was not as it should be."""
    audio = DEMO_FOLDER / "self-check.flac"
    async with AsyncBridge(command) as bridge:
        expected = (await bridge.transcribe(audio, timeout=_SECONDS)).text
        replay = asyncio.create_task(bridge.batch_transcribe([audio] * _FILES, timeout=_SECONDS))
        await _until_decoding(bridge, replay)
        for worker in psutil.Process(bridge.pid).children():
            worker.kill()
        texts = [item.text for item in (await replay).items]
        status = await bridge.status()
    if (status.engine_restarts, status.engine_last_end) != (1, "SIGKILL"):
        return f"{status.engine_restarts} restarts, the last after {status.engine_last_end}"
    wrong = sum(text != expected for text in texts)
    return f"{wrong} of {_FILES} texts are missing or others" if wrong else ""


async def _until_decoding(bridge: AsyncBridge, replay: "asyncio.Task[BatchTranscript]") -> None:
    """Until the first of the files is finished, so the second is under way."""
    while not replay.done():
        if (await bridge.status()).counters.transcripts > 1:
            return
