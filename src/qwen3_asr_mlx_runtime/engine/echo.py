"""The echo guard: where audio is weak, a model may write the context and terms that it was given, and not what is said.

Such a text is mostly these words, at low confidence. The segment is decoded again without them, and the text without
them is kept if the model is surer of it and it lacks most of what the first one says.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.model.generate import Token

_FRAME = SAMPLE_RATE // 50
_MIN_LEVEL, _MIN_RANGE = -45.0, 20.0  # dBFS and dB; clear speech has more of both: docs/data/accuracy.md
_MOST = 0.5
SURE = 0.95  # the confidence from which on a text is no echo: docs/data/accuracy.md


def may_echo(utterance: Utterance, samples: Samples) -> bool:
    """Whether words were given, and the samples of a segment are weak: quiet, or hardly above their own noise."""
    return bool(utterance.context or utterance.terms) and _is_weak(samples)


def is_suspect(utterance: Utterance, samples: Samples, decoded: DecodedSegment) -> bool:
    """Whether such a segment has a text that is mostly the given words."""
    if not may_echo(utterance, samples):
        return False
    given = _words(" ".join([utterance.context, *(term.text for term in utterance.terms)]))
    return _share(_words(_text(utterance, decoded)), given) > _MOST


def is_unsure(tokens: Sequence[Token]) -> bool:
    return _confidence(tokens) < SURE


def is_echo(utterance: Utterance, decoded: DecodedSegment, plain: DecodedSegment) -> bool:
    """Whether the text is to be dropped for `plain`, which was decoded without the words."""
    if _confidence(plain.tokens) <= _confidence(decoded.tokens):
        return False
    return _share(_words(_text(utterance, decoded)), _words(_text(utterance, plain))) < _MOST


def _is_weak(samples: Samples) -> bool:
    """By the levels of its frames of 20 ms: the loudest twentieth against full scale, and against the quietest
    tenth."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return True
    levels = 10 * np.log10(np.maximum(np.mean(frames**2, axis=1), 1e-12))
    quiet, loud = np.percentile(levels, [10, 95])
    return bool(loud < _MIN_LEVEL or loud - quiet < _MIN_RANGE)


def _text(utterance: Utterance, decoded: DecodedSegment) -> str:
    return decoded.parsed(utterance.language)[1]


def _words(text: str) -> list[str]:
    """Words in lower case; single characters of scripts without spaces."""
    words = re.findall(r"\w+", text.casefold())
    return [part for word in words for part in (word if WRITTEN_WITHOUT_SPACES.search(word) else [word])]


def _share(words: Sequence[str], among: Sequence[str]) -> float:
    """Of the words that are among others; 0 for none."""
    known = frozenset(among)
    return sum(word in known for word in words) / len(words) if words else 0.0


def _confidence(tokens: Sequence[Token]) -> float:
    """The geometric mean of their probabilities."""
    logprobs = [token.logprob for token in tokens if token.logprob is not None]
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
