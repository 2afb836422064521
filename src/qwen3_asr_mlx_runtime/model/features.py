"""Samples → log-mel features, as the Whisper feature extractor computes them for Qwen3-ASR.

Periodic Hann window of 400, hop 160, reflection at both ends, power spectrum, 128 Slaney filters from 0 to 8 kHz,
log10, floor at the clip's maximum − 8, then (x + 4) / 4. Frame t depends on samples 160·t − 200 … 160·t + 199 and,
through the floor, on the clip's loudest cell. N samples have floor(N / 160) frames. The spectrum is computed in
float64, since in float32 its rounding would show in cells near the floor.

The two steps are separate so that audio can arrive in chunks: only `apply_floor` depends on the rest of the clip,
`log_mel_frames` does not. A frame is the same to the last bit whichever frames are computed with it.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.engines.lengths import HOP_LENGTH, MIN_SAMPLES, N_FFT, frame_count
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

NUM_MEL_BINS = 128
_FRAMES_PER_BLOCK = 100  # a block fits in the processor's cache
_FILTERS_PER_BAND = 16
_DYNAMIC_RANGE = 8.0

Features = NDArray[np.float32]


def final_frame_count(sample_count: int) -> int:
    """The number of frames that later samples cannot change: frame t needs 160·t + 200 samples."""
    return max(0, (sample_count - N_FFT // 2) // HOP_LENGTH + 1) if sample_count >= MIN_SAMPLES else 0


def log_mel(samples: Samples) -> Features:
    """Features of a whole clip: float32 (N,) at 16 kHz → float32 (floor(N / 160), 128), about −1.5 … 2."""
    frames = log_mel_frames(samples, 0, frame_count(len(samples)))
    return apply_floor(frames, float(frames.max(initial=-np.inf)))


class GrowingLogMel:
    """Frames of a growing clip. Final frames are kept."""

    def __init__(self) -> None:
        self.kept = np.empty((0, NUM_MEL_BINS), dtype=np.float32)

    def frames(self, samples: Samples) -> Features:
        """log10-mel before the floor of the clip so far, or of its beginning: (floor(N / 160), 128)."""
        final = final_frame_count(len(samples))
        if final > len(self.kept):
            self.kept = np.concatenate([self.kept, log_mel_frames(samples, len(self.kept), final)])
        provisional = log_mel_frames(samples, final, frame_count(len(samples)))
        return np.concatenate([self.kept[:final], provisional])


def apply_floor(frames: Features, loudest: float) -> Features:
    """Clamp log10-mel frames at `loudest` − 8 and scale them to the model's range: (x + 4) / 4. Shape unchanged."""
    return (np.maximum(frames, floor_under(loudest)) + np.float32(4.0)) / np.float32(4.0)


def floor_under(loudest: float) -> np.float32:
    """The floor of a clip with this loudest cell."""
    return np.float32(loudest - _DYNAMIC_RANGE)


def log_mel_frames(samples: Samples, first: int, last: int) -> Features:
    """Frames `first` … `last` − 1 of log10-mel before the floor: float32 (last − first, 128).

    `samples` is the clip so far; a frame with fewer than 160·t + 200 samples behind it is mirrored at the end of them,
    and will change when more come.
    """
    frames = np.empty((last - first, NUM_MEL_BINS), dtype=np.float32)
    for block in range(first // _FRAMES_PER_BLOCK, -(-last // _FRAMES_PER_BLOCK)):
        start = max(block * _FRAMES_PER_BLOCK, first)
        stop = min((block + 1) * _FRAMES_PER_BLOCK, last)
        frames[start - first : stop - first] = _log_mel_block(samples, start, stop)
    return frames


def _log_mel_block(samples: Samples, first: int, last: int) -> Features:
    """Frames of one block. Each frame always has the same row in products of one size, because with some BLAS a row's
    result depends on its index and on the number of rows."""
    row, count = first % _FRAMES_PER_BLOCK, last - first
    power = np.zeros((_FRAMES_PER_BLOCK, N_FFT // 2 + 1), dtype=np.float32)
    power[row : row + count] = _power(_span(samples, first, last), count)
    mel = np.empty((_FRAMES_PER_BLOCK, NUM_MEL_BINS), dtype=np.float32)
    for filters, bins, weights in _bands():
        np.matmul(power[:, bins], weights, out=mel[:, filters])
    return np.log10(np.maximum(mel[row : row + count], 1e-10, dtype=np.float64)).astype(np.float32)


def _power(span: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Power spectra of `count` windows: (count, 201)."""
    step = span.itemsize
    windows = np.ndarray((count, N_FFT), np.float64, span, strides=(HOP_LENGTH * step, step))
    parts = np.fft.rfft(windows * _hann(), axis=-1).view(np.float64)  # (count, 402), real and imaginary in turn
    parts *= parts
    return parts[:, 0::2] + parts[:, 1::2]


def _span(samples: Samples, first: int, last: int) -> NDArray[np.float64]:
    """The samples under frames first … last − 1, mirrored at the ends of the clip."""
    start = first * HOP_LENGTH - N_FFT // 2
    stop = (last - 1) * HOP_LENGTH + N_FFT // 2
    inside = samples[max(start, 0) : min(stop, len(samples))].astype(np.float64)
    if start >= 0 and stop <= len(samples):
        return inside
    before = samples[1 : 1 + max(-start, 0)][::-1]
    over = max(stop - len(samples), 0)
    after = samples[len(samples) - 1 - over : len(samples) - 1][::-1]
    return np.concatenate([before, inside, after])


@cache
def _hann() -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)  # periodic


@cache
def mel_filters() -> NDArray[np.float32]:
    """Slaney-scaled, Slaney-normalised triangular filters: (201, 128)."""
    edges = _mel_to_hertz(np.linspace(_hertz_to_mel(0.0), _hertz_to_mel(SAMPLE_RATE / 2), NUM_MEL_BINS + 2))
    hertz = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


@cache
def _bands() -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """The filters in groups of neighbours: which filters, the bins under them, their weights (bins, filters).

    Most of the matrix is zero. Products this small run on one thread: OpenBLAS would distribute larger ones, which is
    slower here, and its threads would then spin beside the model's.
    """
    bands = []
    for start in range(0, NUM_MEL_BINS, _FILTERS_PER_BAND):
        filters = slice(start, start + _FILTERS_PER_BAND)
        under = np.flatnonzero(mel_filters()[:, filters].any(axis=1))
        bins = slice(int(under[0]), int(under[-1]) + 1)
        bands.append((filters, bins, np.ascontiguousarray(mel_filters()[bins, filters])))
    return bands


# The Slaney mel scale: linear up to 1 kHz (15 mel), then 27 steps for each factor of 6.4.
_HERTZ_PER_MEL = 200.0 / 3.0
_BREAK_HERTZ = 1_000.0
_BREAK_MEL = _BREAK_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _BREAK_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP)


def _mel_to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HERTZ * np.exp(_LOG_STEP * np.maximum(mel - _BREAK_MEL, 0.0))
    return np.where(mel < _BREAK_MEL, mel * _HERTZ_PER_MEL, above)
