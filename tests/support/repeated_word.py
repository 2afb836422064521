"""A word that is said over and over: the guard against loops takes it for one."""

from pathlib import Path

import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples


def one_word(repository: Path) -> Samples:
    """One word, and a pause: float32 (N,)."""
    samples = read_file(str(repository / "examples" / "audio" / "english-one.wav")).samples
    loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
    return np.concatenate([samples[loud[0] : loud[-1] + 1], np.zeros(SAMPLE_RATE // 10, np.float32)])
