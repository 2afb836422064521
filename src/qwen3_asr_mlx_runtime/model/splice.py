"""Puts the audio rows into the placeholder span of the prompt."""

import mlx.core as mx


def splice(prefix: mx.array, audio: mx.array, suffix: mx.array) -> mx.array:
    """prefix (P, D), audio (T, D), suffix (S, D), one dtype → decoder input (1, P + T + S, D).

    Raises TypeError if the dtypes differ: a concatenation would promote the whole prompt, and the KV cache after it.
    """
    if not prefix.dtype == audio.dtype == suffix.dtype:
        raise TypeError(f"dtypes differ: prefix {prefix.dtype}, audio {audio.dtype}, suffix {suffix.dtype}")
    return mx.concatenate([prefix, audio, suffix])[None]
