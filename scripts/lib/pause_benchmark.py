"""The time from `end_utterance` to the final, with a `pause` before it, as a client of the bridge sees it.

One bridge process and the Python client. Audio is sent faster than real time; the last second waits for the partials,
as a live app does. Between `pause` and boundary 100 ms of silence are sent every 100 ms. "Whole" is the same utterance
on a stream without partials and without `pause`. The cases of one utterance come one after the other, in any order.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from qwen3_asr_mlx_runtime.audio.pcm16 import to_pcm16
from qwen3_asr_mlx_runtime.client import Bridge, BridgeLost, Stream
from qwen3_asr_mlx_runtime.client.results import FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamError
from qwen3_asr_mlx_runtime.tools.live.session import Recording

AHEAD = (0.0, 0.1, 0.3, 0.7)  # seconds from `pause` to `end_utterance`
NO_PAUSE, WHOLE = "no pause", "whole"
CASES = (WHOLE, NO_PAUSE, *AHEAD)
INTERVAL = 0.5  # seconds between two partials
CHUNK_MS = 100
WAIT = 600.0
Case = str | float


@dataclass(frozen=True)
class Timed:
    """`seconds`: from sending `end_utterance` until the final came. `length`: of the utterance, in seconds.
    `ping`: of one sent as long after the last message as the boundary after the `pause`; it needs no engine.
    `provisional`: as in the final; None without `pause`."""

    length: float
    case: Case
    seconds: float
    ping: float
    provisional: str | None
    tokens: int


class Speaker:
    """Says utterances on two streams of one bridge, one with partials and one without."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._live = bridge.start_stream(
            "live", partials=True, partial_interval_ms=round(INTERVAL * 1000), auto_flush=True, batch_size=1
        )
        self._plain = bridge.start_stream("plain", auto_flush=True, batch_size=1)
        self._sent = self._covered = 0.0  # seconds of the open utterance; those that partials cover

    def say(self, samples: Samples, case: Case) -> Timed:
        pcm, length = to_pcm16(samples), len(samples) / SAMPLE_RATE
        if case == WHOLE:
            self._plain.append(pcm)
            return self._end(self._plain, length, case, self._ping())
        ping = self._ping(0.0 if isinstance(case, str) else case)
        self._feed(pcm)
        if not isinstance(case, str):
            self._live.pause()
            self._be_silent(case)
        return self._end(self._live, length, case, ping)

    def _feed(self, pcm: bytes) -> None:
        self._sent = self._covered = 0.0
        last = max(0, len(pcm) - 2 * SAMPLE_RATE)
        for chunk in (pcm[:last], *Recording("speech", pcm[last:]).chunks(CHUNK_MS)):
            self._live.append(chunk)
            self._sent += len(chunk) / 2 / SAMPLE_RATE
            self._catch_up()

    def _catch_up(self) -> None:
        """Wait for partials until none is due."""
        while self._sent - self._covered > INTERVAL - 1e-3:
            self._next_final()

    def _be_silent(self, seconds: float) -> None:
        silence, started = Recording("silence", bytes(2 * round(seconds * SAMPLE_RATE))), time.perf_counter()
        for number, chunk in enumerate(silence.chunks(CHUNK_MS), 1):
            self._live.append(chunk)
            time.sleep(max(0.0, started + number * CHUNK_MS / 1000 - time.perf_counter()))

    def _ping(self, idle: float = 0.0) -> float:
        """Seconds of a ping, when all audio has been read, and nothing has come for `idle` seconds."""
        self._bridge.ping()
        time.sleep(idle)
        started = time.perf_counter()
        self._bridge.ping()
        return time.perf_counter() - started

    def _end(self, stream: Stream, length: float, case: Case, ping: float) -> Timed:
        started = time.perf_counter()
        stream.end_utterance(samples=round(length * SAMPLE_RATE), rest="drop")
        while (final := self._next_final()) is None:
            pass
        seconds = time.perf_counter() - started
        return Timed(length, case, seconds, ping, final.provisional or None, final.generated_tokens or 0)

    def _next_final(self) -> FinalResult | None:
        """The next event, if it is a final."""
        match event := self._bridge.next_event(WAIT):
            case PartialResult():
                self._covered = event.audio_seconds or 0.0
            case RealtimeBatchFinal(items=[final]) if not final.error:
                return final
            case BridgeLost():
                raise event.error
            case None:
                raise TimeoutError(f"nothing came in {WAIT:g} s")
            case StreamError() | RealtimeBatchFinal():
                raise RuntimeError(f"no final: {event}")
        return None


def measure(command: Sequence[str], rounds: Iterable[Sequence[Samples]]) -> list[Timed]:
    """`command`: of the bridge. `rounds`: an utterance of each length. The first round runs once before, unmeasured,
    because kernels of these shapes are compiled then."""
    rng = np.random.default_rng(1)
    timed: list[Timed] = []
    with Bridge(command) as bridge:
        speaker = Speaker(bridge)
        for number, utterances in enumerate(rounds):
            for warm_up in (True, False) if number == 0 else (False,):
                found = [speaker.say(samples, CASES[i]) for samples in utterances for i in rng.permutation(len(CASES))]
                timed += [] if warm_up else found
            print(f"round {number + 1} measured", file=sys.stderr, flush=True)
    return timed


def table(timed: Sequence[Timed]) -> str:
    """A row for each length and case, in milliseconds."""
    heads = ["audio, s", "`pause` before the end, ms", "p50, ms", "p95, ms"]
    heads += ["whole p50, ms", "p95 / whole", "ready", "`ping` p95, ms"]
    lines = [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
    for length in sorted({one.length for one in timed}):
        of_length = [one for one in timed if one.length == length]
        whole = float(np.median([one.seconds for one in of_length if one.case == WHOLE]))
        for case in (NO_PAUSE, *AHEAD):
            of_case = [one for one in of_length if one.case == case]
            p50, p95 = (float(np.percentile([one.seconds for one in of_case], share)) for share in (50, 95))
            ping = float(np.percentile([one.ping for one in of_case], 95))
            ready = sum(one.provisional == "ready" for one in of_case)
            name = case if isinstance(case, str) else f"{1000 * case:g}"
            cells = [f"{length:g}", name, *(f"{1000 * seconds:,.1f}" for seconds in (p50, p95, whole))]
            cells += [f"{p95 / whole:.1%}", f"{ready} of {len(of_case)}", f"{1000 * ping:,.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(timed: Sequence[Timed]) -> list[dict[str, object]]:
    return [asdict(one) for one in timed]
