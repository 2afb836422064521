"""16-bit PCM: in base64 as it comes over the wire, and as float32."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_asr_mlx_runtime.audio.resampling import resampled_length
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BadBase64, InvalidParams, OddPcmLength
from qwen3_asr_mlx_runtime.limits import MAX_CHUNK_SECONDS

BYTES_PER_SAMPLE = 2


def pcm16(data: bytes) -> Samples:
    """Little-endian signed 16-bit PCM → float32 (N,), divided by 32768. Raises InvalidParams on half a sample."""
    if len(data) % 2:
        raise InvalidParams(f"expected 16-bit samples, that is an even number of bytes; got {len(data)}")
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def to_pcm16(samples: NDArray[np.floating[Any]]) -> bytes:
    """Samples (N,) within [-1, 1] → little-endian signed 16-bit PCM; what is beyond is cut."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def checked_pcm(text: str, rate: int, max_seconds: float = MAX_CHUNK_SECONDS) -> bytes:
    """The bytes of a `pcm16` field. Raises the RequestError that rejects them."""
    pcm = _decoded(text)
    if len(pcm) % BYTES_PER_SAMPLE:
        raise OddPcmLength(f"`pcm16`: expected 16-bit samples, got {len(pcm)} bytes", field="pcm16")
    seconds = len(pcm) / BYTES_PER_SAMPLE / rate
    if seconds > max_seconds:
        message = f"`pcm16`: expected at most {max_seconds:g} seconds of audio, got {seconds:.1f}"
        raise InvalidParams(message, field="pcm16", limit_seconds=max_seconds)
    return pcm


def count_samples(text: str, rate: int) -> int:
    """The number of samples at 16 kHz in a `pcm16` field, 0 if it cannot be decoded."""
    try:
        return resampled_length(len(_decoded(text)) // BYTES_PER_SAMPLE, rate)
    except BadBase64:
        return 0


def _decoded(text: str) -> bytes:
    """Decode canonical base64 only: Python's decoder also accepts surplus padding and nonzero trailing bits."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if base64.b64encode(data) != text.encode("utf-8", "replace"):
        raise BadBase64("`pcm16`: expected standard base64: no spaces, padded with `=` and zero bits", field="pcm16")
    return data
