"""What is compared of the aligner: the ids of its prompts and the logits at its marks, case by case.

A case is a clip and the units of a text. Units are joined by spaces, and every reference has to cut them apart again.
Clips and texts are such that no two logits of a mark nearly tie in the goldens.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from reference.activations import Array
from reference.clips import clip

KEPT = 48  # marks of a case whose logits the goldens hold
NEAR_TIE = 2e-3  # two logits so close are ordered by rounding

_WORDS = ["seven", "three", "iPhone", "Straße", "naïve", "2024", "o'clock", "Ångström", "नम", "한국어", "ไทย", "nine"]
_LONG = ["antidisestablishmentarianism", "Donaudampfschifffahrtsgesellschaft", "incomprehensibilities"]


@dataclass(frozen=True)
class Case:
    frames: int
    units: tuple[str, ...]


def _words(count: int) -> tuple[str, ...]:
    return tuple(_WORDS[i % len(_WORDS)] for i in range(count))


CASES: Mapping[str, Case] = {
    "0.6 s": Case(60, _words(2)),
    "1 s": Case(100, _words(4)),
    "7.99 s": Case(799, _words(16)),
    "8.01 s": Case(801, _words(17)),
    "31 s": Case(3100, (*_words(60), *"交易几乎停滞")),
    "one unit": Case(255, ("seven",)),
    "400 units": Case(800, _words(400)),
    "long units": Case(800, tuple(_LONG * 3)),
}
# transformers pads what is shorter than one second of frames: see oracles.py.
LONG = tuple(name for name, case in CASES.items() if case.frames >= 100)
SHORT = tuple(name for name in CASES if name not in LONG)


@dataclass(frozen=True)
class Alignment:
    """The whole prompt's ids (L,), and the logits of every mark: (2n, classes)."""

    ids: Array
    logits: Array


class Implementation(Protocol):
    def versions(self) -> Mapping[str, str]:
        """Of every library that takes part."""

    def align(self, samples: Array, units: tuple[str, ...]) -> Alignment:
        """Of one clip, float32 (N,)."""


@dataclass(frozen=True)
class Digest:
    """What the goldens hold: ids, the class at each mark (2n,), and the logits of KEPT marks at most."""

    ids: Array
    classes: Array
    logits: Array


def digest(found: Alignment) -> Digest:
    marks = len(found.logits)
    kept = np.linspace(0, marks - 1, min(marks, KEPT)).astype(np.int64)
    return Digest(found.ids.astype(np.int32), found.logits.argmax(axis=1).astype(np.int32), found.logits[kept])


def save(path: Path, implementation: Implementation, names: Iterable[str]) -> None:
    arrays: dict[str, Array] = {"versions": np.array(json.dumps(implementation.versions()))}
    for name in names:
        found = implementation.align(clip(CASES[name].frames), CASES[name].units)
        arrays |= {f"{name}/ids": found.ids, f"{name}/logits": found.logits}
    np.savez(path, **arrays)


def load(path: Path) -> dict[str, Alignment]:
    with np.load(path) as arrays:
        names = [name for name in CASES if f"{name}/ids" in arrays]
        return {name: Alignment(arrays[f"{name}/ids"], arrays[f"{name}/logits"]) for name in names}


def save_digests(path: Path, digests: Mapping[str, Digest]) -> None:
    arrays = {f"{name}/{field}": value for name, found in digests.items() for field, value in vars(found).items()}
    np.savez_compressed(path, **arrays)


def load_digests(path: Path) -> dict[str, Digest]:
    with np.load(path) as arrays:
        return {name: Digest(*(arrays[f"{name}/{field}"] for field in ("ids", "classes", "logits"))) for name in CASES}


def gaps(logits: Array) -> Array:
    """Between the two highest logits of each mark: (2n,)."""
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def run(load_checkpoint: Callable[[Path], Implementation], doc: str | None) -> None:
    """CHECKPOINT OUT [--cases '1 s,31 s'] → OUT, an .npz with the alignments of the cases."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    save(options.out, load_checkpoint(options.checkpoint), options.cases.split(","))
