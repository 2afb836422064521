"""The forced aligner: audio and the units of its text → a class of time for the start and the end of each unit.

As Qwen3-ForcedAligner computes them; docs/model.md has its shapes. The network is the recogniser's with another head.
It runs once, without generation, and the head sees only the marks. A class is read at its mark itself, not at the
position before it.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import ClassVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.config import AlignerConfig, ModelConfig
from qwen3_asr_mlx_runtime.model.decoder import Uncached
from qwen3_asr_mlx_runtime.model.features import Features
from qwen3_asr_mlx_runtime.model.prompt import aligner_prompt
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import side_by_side, splice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

Logits = NDArray[np.float32]


class ForcedAligner(Qwen3ASR):
    """The network; its head gives `classify_num` logits."""

    config: AlignerConfig
    config_type: ClassVar[type[ModelConfig]] = AlignerConfig

    def at_marks(self, prompts: Sequence[mx.array], marks: Sequence[Sequence[int]]) -> list[mx.array]:
        """Spliced prompts (1, L, D) of any lengths, in one pass → logits (len(marks), classify_num) of each, in the
        model's dtype. `marks`: positions among L."""
        hidden = self.model(side_by_side(prompts), [Uncached(len(prompts))] * len(self.model.layers))
        picked = [row[mx.array([*places], mx.int32)] for row, places in zip(hidden, marks, strict=True)]
        logits, ends = self.head(mx.concatenate(picked)), [0, *accumulate(map(len, marks))]
        return [logits[start:end] for start, end in pairwise(ends)]


class Aligner:
    """A loaded aligner with its tokenizer. Use it only on the thread that loaded it: MLX arrays cannot change threads.

    Raises ModelUnsupported if the ids of the two do not fit.
    """

    def __init__(self, model: ForcedAligner, tokenizer: Tokenizer) -> None:
        tokenizer.check_ids(model.config)
        self.model = model
        self._tokenizer = tokenizer

    def logits(self, features: Sequence[Features], units: Sequence[Sequence[str]]) -> list[Logits]:
        """Align several segments. `features`: log-mel float32 (F, 128) of each, F ≥ 1. `units`: the n units of each.

        Returns float32 (2n, classify_num) for each: row 2i is the start of unit i, row 2i + 1 its end. Class c is the
        time c · `timestamp_segment_time` ms after the segment's first sample. On a GPU all go through the network
        together, padded to the longest; the last bits may depend on that. Raises ValueError if the lists differ in
        length, NonFiniteOutput if a logit is not finite.
        """
        pairs = [*zip(features, units, strict=True)]
        size = max(1, len(pairs)) if self.model.packs else 1
        groups = (pairs[start : start + size] for start in range(0, len(pairs), size))
        return [logits for group in groups for logits in self._align(*zip(*group, strict=True))]

    def positions(self, units: Sequence[str]) -> int:
        """The length of a prompt with these units, without its audio."""
        return len(aligner_prompt(self._tokenizer, units).input_ids(0))

    def _align(self, features: Sequence[Features], units: Sequence[Sequence[str]]) -> list[Logits]:
        embed = self.model.embed
        prompts, marks = [], []
        for audio, text in zip(self.model.embed_audio(features), units, strict=True):
            prompt = aligner_prompt(self._tokenizer, text)
            prompts.append(splice(embed(prompt.prefix_ids), audio, embed(prompt.suffix_ids)))
            ids = prompt.input_ids(audio.shape[0])
            marks.append([place for place, id in enumerate(ids) if id == self.model.config.timestamp_token_id])
        found = [np.array(rows.astype(mx.float32)) for rows in self.model.at_marks(prompts, marks)]
        if not all(np.isfinite(rows).all() for rows in found):
            raise NonFiniteOutput("the logits of a mark are not finite")
        return found
