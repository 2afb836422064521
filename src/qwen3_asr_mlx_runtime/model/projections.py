"""Projections of one input as one layer: on a GPU, fewer and larger products."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn


def join(module: nn.Module, names: Sequence[str], joined: str) -> None:
    """Replace the projections `names` of `module` by one, `joined`, with the outputs of all side by side. Nothing
    happens if their quantisations differ."""
    layers = [module[name] for name in names]
    kinds = {tuple(getattr(layer, name, None) for name in ("bits", "group_size", "mode")) for layer in layers}
    if len(kinds) > 1:
        return
    first, *_ = layers
    first.update({name: mx.concatenate([layer[name] for layer in layers]) for name in first.parameters()})
    setattr(module, joined, first)
    for name in names:
        delattr(module, name)
