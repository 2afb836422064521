"""What is compared: the activations of one implementation on the clips, and the file that holds them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reference.clips import clip

# The prompt without context and language: the system turn, empty; the user turn, audio alone; the assistant's opening.
PREFIX = (151644, 8948, 198, 151645, 198, 151644, 872, 198, 151669)
AUDIO_PAD = 151676
SUFFIX = (151670, 151645, 198, 151644, 77091, 198)
TOKENS = 64

Array = NDArray[Any]


@dataclass(frozen=True)
class Activations:
    """One clip: mel (frames, 128), embeddings (T, D), prompt_ids (T + 15,), logits (V,), and n greedy steps.

    `logits` are those after the prompt. Of every step, `tokens` (n,), their natural-log probabilities `logprobs` (n,),
    and the `gaps` (n,) between the two highest logits.
    """

    mel: Array
    embeddings: Array
    prompt_ids: Array
    logits: Array
    tokens: Array
    logprobs: Array
    gaps: Array


class Implementation(Protocol):
    def versions(self) -> Mapping[str, str]:
        """Of every library that takes part."""

    def activations(self, samples: Array, tokens: int) -> Activations:
        """Of one clip, float32 (N,), with `tokens` greedy tokens."""


def prompt_ids(audio_tokens: int) -> Array:
    return np.array((*PREFIX, *[AUDIO_PAD] * audio_tokens, *SUFFIX), dtype=np.int64)


def top_two_gaps(logits: Array) -> Array:
    """From logits (n, V), the distance of the highest from the next: (n,)."""
    top = np.partition(logits, -2, axis=-1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def log_probabilities(logits: Array, tokens: Array) -> Array:
    """Of one token a step, from logits (n, V): (n,)."""
    wide = logits.astype(np.float64)
    highest = wide.max(axis=-1)
    sums = np.log(np.exp(wide - highest[:, None]).sum(axis=-1)) + highest
    return np.asarray(wide[np.arange(len(tokens)), tokens] - sums)


def save(path: Path, implementation: Implementation, frame_counts: Iterable[int], tokens: int) -> None:
    """Run the clips and write `{frames}/{field}` arrays, with the versions as JSON under `versions`."""
    arrays: dict[str, Array] = {"versions": np.array(json.dumps(implementation.versions()))}
    for frames in frame_counts:
        found = implementation.activations(clip(frames), tokens)
        arrays.update({f"{frames}/{field.name}": getattr(found, field.name) for field in fields(Activations)})
    np.savez(path, **arrays)


def load(path: Path) -> dict[int, Activations]:
    with np.load(path) as arrays:
        names = [field.name for field in fields(Activations)]
        counts = sorted({int(key.split("/")[0]) for key in arrays if "/" in key})
        return {frames: Activations(*(arrays[f"{frames}/{name}"] for name in names)) for frames in counts}


def load_versions(path: Path) -> dict[str, str]:
    with np.load(path) as arrays:
        versions: dict[str, str] = json.loads(str(arrays["versions"]))
        return versions
