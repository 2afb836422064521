"""As live.py, with asyncio:
scripts/python examples/python/live_async.py --model demo examples/audio/sample.wav
"""

import argparse
import asyncio
import shlex
import sys
import wave
from pathlib import Path

from qwen3_asr_mlx_runtime.client import AsyncBridge, AsyncStream, BridgeLost, ClientError
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "qwen3-asr-mlx-bridge"
CHUNK_SECONDS = 0.1


async def feed(stream: AsyncStream, file: wave.Wave_read, speed: float) -> None:
    """A microphone: chunks at the pace of speech, and then the end of the utterance."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while chunk := file.readframes(int(file.getframerate() * CHUNK_SECONDS)):
        due += CHUNK_SECONDS / speed
        await asyncio.sleep(due - loop.time())
        await stream.append(chunk)
    await stream.end_utterance()


async def show(bridge: AsyncBridge) -> None:
    """Until the final has come."""
    async for event in bridge.events:
        match event:
            case PartialResult():
                print(f"… {event.text}", flush=True)
            case RealtimeBatchFinal():
                print(*(item.text if item.text is not None else item.error for item in event.items), flush=True)
                return
            case BridgeLost():
                raise event.error


async def run(options: argparse.Namespace) -> None:
    command = shlex.split(options.bridge) + (["--model", options.model] if options.model else [])
    with wave.open(str(options.audio)) as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            raise wave.Error("expected 16-bit mono")
        async with AsyncBridge(command) as bridge:
            stream = await bridge.start_stream(
                "mic", sample_rate=file.getframerate(), partials=True, auto_flush=True, batch_size=1
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(feed(stream, file, options.speed))
                tasks.create_task(show(bridge))


@guarded("live_async.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--bridge", default=shlex.quote(str(LAUNCHER)))
    parser.add_argument("--model", help="the bridge's default where none is given")
    parser.add_argument("--speed", type=float, default=1.0)
    failures: list[Exception] = []
    try:
        asyncio.run(run(parser.parse_args()))
    except* (ClientError, wave.Error, OSError) as group:
        failures = [*group.exceptions]
    for error in failures:
        if isinstance(error, OSError):
            raise error
        print(f"{getattr(error, 'code', 'audio')}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
