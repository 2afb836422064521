"""The engine's input: the samples of one utterance and its decoding options."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.terms import Term

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]
NO_SAMPLES: Samples = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One utterance, as the caller's VAD cut it or as a file holds it.

    `samples`: float32 (N,), mono, 16 kHz, finite, within [-1, 1]. `language`: a canonical name that the model is made
    to write, or None to let it decide: among `languages`, if there are some. `context`: words or text the model may
    take as background. `terms`: what the text is likely to have. `max_new_tokens`: the budget of each segment of at
    most 30 s; 0 means until the model stops, within a budget that grows with the audio. `logprobs`: whether the
    transcript has the log-probability of each token. `warnings`: repairs made while the audio was read.
    """

    samples: Samples
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0
    logprobs: bool = False
    languages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE
