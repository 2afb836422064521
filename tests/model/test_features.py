from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engines.lengths import frame_count
from qwen3_asr_mlx_runtime.model import features
from qwen3_asr_mlx_runtime.model.features import apply_floor, log_mel, log_mel_frames, mel_filters


def noise(samples: int, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * gain).astype(np.float32)


@pytest.fixture(scope="module")
def whisper_extractor():
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=128, sampling_rate=16_000, hop_length=160, n_fft=400)


@pytest.mark.parametrize("samples", [201, 319, 320, 1_601, 4_800, 16_000, 40_801, 80_001, 128_160, 496_000])
def test_features_equal_the_reference_extractor(whisper_extractor, samples):
    speech = noise(samples) * np.sin(np.linspace(0, 9, samples, dtype=np.float32))
    reference = whisper_extractor(speech, sampling_rate=16_000, padding=True, truncation=False, return_tensors="np")
    expected = reference["input_features"][0].T
    mel = log_mel(speech)
    assert mel.shape == expected.shape == (samples // 160, 128)
    assert mel.dtype == np.float32
    assert np.abs(mel - expected).max() < 1e-5


def test_filters_equal_the_reference_filter_bank():
    from transformers.audio_utils import mel_filter_bank

    reference = mel_filter_bank(201, 128, 0.0, 8_000.0, 16_000, norm="slaney", mel_scale="slaney")
    assert np.abs(mel_filters() - reference).max() < 1e-8


def test_no_product_is_large_enough_for_openblas_to_share_it_among_threads():
    products = [features._FRAMES_PER_BLOCK * weights.size for _, _, weights in features._bands()]
    assert max(products) <= 65_536 * 4  # SMP_THRESHOLD_MIN and GEMM_MULTITHREAD_THRESHOLD of OpenBLAS


def test_the_bands_hold_every_filter_whole():
    rebuilt = np.zeros_like(mel_filters())
    for filters, bins, weights in features._bands():
        rebuilt[bins, filters] = weights
    assert np.array_equal(rebuilt, mel_filters())


def test_silence_is_a_constant():
    assert np.all(log_mel(np.zeros(16_000, dtype=np.float32)) == -1.5)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 0), (160, 0), (200, 0), (201, 1), (319, 1), (320, 2)])
def test_a_clip_too_short_to_be_reflected_has_no_frame(samples, frames):
    assert frame_count(samples) == frames
    assert log_mel(noise(samples)).shape == (frames, 128)


@example(samples=16_000, cuts=list(range(100)), seed=0)
@given(samples=st.integers(201, 80_000), cuts=st.lists(st.integers(0, 500), max_size=12), seed=st.integers(0, 3))
def test_a_frame_is_the_same_to_the_last_bit_whatever_frames_are_computed_with_it(samples, cuts, seed):
    speech = noise(samples, seed)
    last = frame_count(samples)
    bounds = sorted({0, last, *(cut for cut in cuts if cut < last)})
    parts = [log_mel_frames(speech, start, stop) for start, stop in pairwise(bounds)]
    assert np.concatenate(parts).tobytes() == log_mel_frames(speech, 0, last).tobytes()


@given(first=st.integers(2, 300), frames=st.integers(1, 300), seed=st.integers(0, 3))
def test_a_frame_depends_on_no_sample_beyond_its_window(first, frames, seed):
    speech = noise(160 * 620, seed)
    other = noise(160 * 620, seed + 1)
    last = first + frames
    under = slice(160 * first - 200, 160 * (last - 1) + 200)
    other[under] = speech[under]
    assert np.array_equal(log_mel_frames(speech, first, last), log_mel_frames(other, first, last))


@given(now=st.integers(400, 8_000), later=st.integers(0, 8_000))
def test_a_frame_is_final_once_200_samples_follow_its_centre(now, later):
    speech = noise(now + later, seed=1)
    final = min((now - 200) // 160 + 1, frame_count(now))
    early = log_mel_frames(speech[:now], 0, final)
    assert np.array_equal(early, log_mel_frames(speech, 0, final))


def test_the_floor_is_eight_below_the_loudest_cell():
    frames = np.array([[0.0, -3.0], [-9.0, -20.0]], dtype=np.float32)
    assert np.array_equal(apply_floor(frames, 0.0), np.array([[1.0, 0.25], [-1.0, -1.0]], dtype=np.float32))
