"""Projections of one input as one layer: on a GPU, fewer and larger products."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn


def joined(layers: Sequence[nn.Module]) -> nn.Module | None:
    """One layer with the outputs of all side by side; None if their quantisations differ."""
    kinds = {tuple(getattr(layer, name, None) for name in ("bits", "group_size", "mode")) for layer in layers}
    if len(kinds) > 1:
        return None
    first, *_ = layers
    first.update({name: mx.concatenate([layer[name] for layer in layers]) for name in first.parameters()})
    return first
