"""Samples → a WAV file in memory."""

import struct

import numpy as np

from qwen3_asr_mlx_runtime.engines.lengths import N_FFT
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def wav_bytes(samples: Samples) -> bytes:
    """float32 (N,) at 16 kHz, within [-1, 1] → mono PCM16. Samples that came as PCM16 at this rate come out as they
    were. Silence follows audio that is shorter than a window, which vLLM does not take."""
    samples = np.concatenate([samples, np.zeros(max(0, N_FFT - len(samples)), np.float32)])
    pcm: bytes = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()
    layout = (16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    return _HEADER.pack(b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", *layout, b"data", len(pcm)) + pcm
