"""Seeded noise, added to recordings to test a model's robustness and to provoke errors that can be compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import AudioError
from qwen3_asr_mlx_runtime.tools.manifest import Entry


def noisy(samples: Samples, snr_db: float, seed: Sequence[int]) -> Samples:
    """Add white noise, `snr_db` decibels below the power of the whole recording; negative: above it. The same for the
    same `seed`."""
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    mixed: Samples = (samples + noise * np.sqrt(power / 10 ** (snr_db / 10))).astype(np.float32)
    return mixed


@contextmanager
def noisy_files(entries: Sequence[Entry], snr_db: float, seed: int) -> Iterator[list[tuple[str, Path]]]:
    """(audio as written in the manifest, the noisy file to transcribe). An unreadable file is kept, and fails when it
    is transcribed."""
    with TemporaryDirectory(prefix="qwen3-asr-mlx-") as folder:
        yield [
            (entry.audio, _noisy_file(entry.path, Path(folder, f"{index}.wav"), snr_db, (seed, index)))
            for index, entry in enumerate(entries)
        ]


def _noisy_file(source: Path, target: Path, snr_db: float, seed: Sequence[int]) -> Path:
    try:
        samples = read_file(str(source)).samples
    except AudioError:
        return source
    soundfile.write(target, noisy(samples, snr_db, seed), SAMPLE_RATE, subtype="FLOAT")
    return target
