"""Puts the audio rows into the placeholder span of the prompt, and prompts side by side."""

from collections.abc import Sequence

import mlx.core as mx


def splice(prefix: mx.array, audio: mx.array, suffix: mx.array) -> mx.array:
    """prefix (P, D), audio (T, D), suffix (S, D), one dtype → decoder input (1, P + T + S, D).

    Raises TypeError if the dtypes differ: a concatenation would promote the whole prompt, and the KV cache after it.
    """
    if not prefix.dtype == audio.dtype == suffix.dtype:
        raise TypeError(f"dtypes differ: prefix {prefix.dtype}, audio {audio.dtype}, suffix {suffix.dtype}")
    return mx.concatenate([prefix, audio, suffix])[None]


def side_by_side(prompts: Sequence[mx.array]) -> mx.array:
    """Prompts (1, L, D) of any lengths → (B, longest, D), with zeros behind the shorter ones. Causal attention ignores
    what follows a row's end."""
    longest = max(prompt.shape[1] for prompt in prompts)
    return mx.concatenate([mx.pad(prompt, [(0, 0), (0, longest - prompt.shape[1]), (0, 0)]) for prompt in prompts])
