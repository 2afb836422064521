"""What the committed goldens keep of the activations of a clip: little enough to commit, enough to find any fault."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from reference.activations import Activations, Array
from reference.draws import uniform

MEL_CELLS = 3_000
LOGITS = 256
TOP = 8


@dataclass(frozen=True)
class Digest:
    """Of the mel: cells (3256 at most), the means of frames (frames,) and of bins (128,). The embeddings (T, D) and
    prompt_ids whole. Of the logits: 256 of them, and the highest eight with their ids. Tokens,
    log-probabilities and gaps (64,).
    """

    mel_cells: Array
    mel_frame_means: Array
    mel_bin_means: Array
    embeddings: Array
    prompt_ids: Array
    logits: Array
    top_ids: Array
    top_logits: Array
    tokens: Array
    logprobs: Array
    gaps: Array


def digest(found: Activations) -> Digest:
    top_ids = np.argsort(found.logits)[: -TOP - 1 : -1]
    return Digest(
        mel_cells=_mel_cells(found.mel),
        mel_frame_means=found.mel.mean(axis=1, dtype=np.float64).astype(np.float32),
        mel_bin_means=found.mel.mean(axis=0, dtype=np.float64).astype(np.float32),
        embeddings=found.embeddings,
        prompt_ids=found.prompt_ids.astype(np.int32),
        logits=found.logits[_some("logits", LOGITS, len(found.logits))],
        top_ids=top_ids.astype(np.int32),
        top_logits=found.logits[top_ids],
        tokens=found.tokens.astype(np.int32),
        logprobs=found.logprobs.astype(np.float32),
        gaps=found.gaps.astype(np.float32),
    )


def _mel_cells(mel: Array) -> Array:
    """The first and the last frame, which the reflection makes, and cells from everywhere."""
    return np.concatenate([mel[0], mel[-1], mel.ravel()[_some("mel", min(MEL_CELLS, mel.size), mel.size)]])


def _some(name: str, count: int, size: int) -> Array:
    """`count` indices below `size`, the same ones always."""
    return np.asarray((uniform(0, name, count) + 1) / 2 * size, dtype=np.int64)


def save_digests(path: Path, digests: dict[int, Digest]) -> None:
    arrays = {
        f"{frames}/{field.name}": getattr(found, field.name)
        for frames, found in digests.items()
        for field in fields(Digest)
    }
    np.savez_compressed(path, **arrays)


def load_digests(path: Path) -> dict[int, Digest]:
    with np.load(path) as arrays:
        names = [field.name for field in fields(Digest)]
        counts = sorted({int(key.split("/")[0]) for key in arrays})
        return {frames: Digest(*(arrays[f"{frames}/{name}"] for name in names)) for frames in counts}
