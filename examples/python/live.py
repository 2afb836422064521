"""Stream a WAV file as if it were spoken, and print the text as it comes:
scripts/python examples/python/live.py --model demo examples/audio/sample.wav

The file is 16-bit mono; --speed 2 feeds it twice as fast as it was spoken.
"""

import argparse
import shlex
import sys
import threading
import time
import wave
from contextlib import suppress
from pathlib import Path

from qwen3_asr_mlx_runtime.client import Bridge, BridgeClosed, BridgeLost, ClientError, Stream
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.protocol.streams import EngineRestarting, PartialResult, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "qwen3-asr-mlx-bridge"
CHUNK_SECONDS = 0.1


def feed(stream: Stream, file: wave.Wave_read, speed: float) -> None:
    """A microphone: chunks at the pace of speech, and then the end of the utterance."""
    frames = int(file.getframerate() * CHUNK_SECONDS)
    due = time.monotonic()
    with suppress(BridgeClosed):  # the main thread has failed, and says why
        while chunk := file.readframes(frames):
            due += CHUNK_SECONDS / speed
            time.sleep(max(0.0, due - time.monotonic()))
            stream.append(chunk)
        stream.end_utterance()


def show(bridge: Bridge) -> None:
    """Until the final has come. A partial text replaces the one before; nothing should act on it."""
    for event in bridge.events:
        match event:
            case PartialResult():
                print(f"… {event.text}", flush=True)
            case RealtimeBatchFinal():
                for item in event.items:
                    print(item.text if item.text is not None else f"failed: {item.error}", flush=True)
                return
            case StreamError():
                print(f"audio was refused: {event.message}", file=sys.stderr)
            case EngineRestarting():
                print(f"the engine starts again ({event.reason}); nothing is lost", file=sys.stderr)
            case BridgeLost():
                raise event.error


@guarded("live.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--bridge", default=shlex.quote(str(LAUNCHER)))
    parser.add_argument("--model", help="the bridge's default where none is given")
    parser.add_argument("--speed", type=float, default=1.0)
    options = parser.parse_args()
    command = shlex.split(options.bridge) + (["--model", options.model] if options.model else [])
    try:
        with (
            wave.open(str(options.audio)) as file,
            Bridge(command) as bridge,
        ):
            if (file.getnchannels(), file.getsampwidth()) != (1, 2):
                raise wave.Error("expected 16-bit mono")
            rate = file.getframerate()
            stream = bridge.start_stream("mic", sample_rate=rate, partials=True, auto_flush=True, batch_size=1)
            microphone = threading.Thread(target=feed, args=(stream, file, options.speed), daemon=True)
            microphone.start()
            show(bridge)
            microphone.join()
    except (ClientError, wave.Error) as error:
        print(f"{getattr(error, 'code', 'audio')}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
