"""The unit of an evaluation: a model in one decoder mode with one quantisation."""

from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import PurePath
from typing import Any

import msgspec

from qwen3_asr_mlx_runtime.engines.api import DecoderMode

FULL_PRECISION = "none"


class Configuration(msgspec.Struct, frozen=True):
    """`key`: its label in plots: A, B, C. `quantize`: None keeps the checkpoint's weights. `name`: the display name of
    the model; None means the last part of `model`."""

    key: str
    model: str
    decoder_mode: DecoderMode
    quantize: str | None
    name: str | None = None

    @property
    def label(self) -> str:
        return ", ".join(
            [self.name or _last_part(self.model), self.decoder_mode, *([self.quantize] if self.quantize else [])]
        )

    def arguments(self) -> list[str]:
        """The arguments of qwen3-asr-mlx-perftest that select it."""
        chosen = [f"--model={self.model}", f"--decoder-mode={self.decoder_mode}"]
        return [*chosen, *([f"--quantize={self.quantize}"] if self.quantize else [])]


def configurations(
    models: Iterable[str], decoder_modes: Iterable[DecoderMode], quantizations: Iterable[str]
) -> list[Configuration]:
    """Each model with each quantisation in each mode, without duplicates, in the given order. Models with equal last
    parts get their full names."""
    models = list(dict.fromkeys(models))
    parts = Counter(map(_last_part, models))
    chosen: dict[tuple[Any, ...], None] = dict.fromkeys(product(models, quantizations, decoder_modes))
    return [
        Configuration(
            _key(number),
            model,
            mode,
            None if quantize == FULL_PRECISION else quantize,
            model if parts[_last_part(model)] > 1 else None,
        )
        for number, (model, quantize, mode) in enumerate(chosen)
    ]


def _last_part(model: str) -> str:
    return PurePath(model).name or model


def _key(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    rest, letter = divmod(number, 26)
    return (_key(rest - 1) if rest else "") + chr(ord("A") + letter)
