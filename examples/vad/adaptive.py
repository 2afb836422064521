"""How much silence ends an utterance, by what the recogniser has written so far.

A partial of the bridge has hints for the end of an utterance. Silence after a text that has settled and ends a sentence
needs no long wait. Like the package's `audio/endpointing.py` this has no clock and no I/O. docs/vad.md says what
it gains.
"""

from dataclasses import dataclass

from qwen3_asr_mlx_runtime.audio.endpointing import SAMPLE_RATE
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult


@dataclass(frozen=True)
class Hints:
    """Of one partial, as the protocol names them; `samples`: how much of its utterance it covers, at 16 kHz."""

    samples: int
    settled_ms: int
    ends_sentence: bool
    ends_sentence_probability: float
    trailing_silence_ms: int

    @classmethod
    def of(cls, partial: PartialResult) -> "Hints":
        """Those of an event. One of an older bridge has none: it shortens nothing."""
        return cls(
            round((partial.audio_seconds or 0.0) * SAMPLE_RATE),
            partial.settled_ms or 0,
            partial.ends_sentence is True,
            partial.ends_sentence_probability or 0.0,
            partial.trailing_silence_ms or 0,
        )


@dataclass(frozen=True)
class AdaptivePolicy:
    """`long_ms` of silence end an utterance, or `short_ms` if the text has been the same for `settled_ms`, ends a
    sentence with at least `probability`, and `silence_ms` of silence are behind it."""

    long_ms: int = 800
    short_ms: int = 300
    settled_ms: int = 200
    silence_ms: int = 100
    probability: float = 0.9

    def hang_over_ms(self, hints: Hints) -> int:
        is_end = (
            hints.ends_sentence
            and hints.ends_sentence_probability >= self.probability
            and hints.settled_ms >= self.settled_ms
            and hints.trailing_silence_ms >= self.silence_ms
        )
        return self.short_ms if is_end else self.long_ms
