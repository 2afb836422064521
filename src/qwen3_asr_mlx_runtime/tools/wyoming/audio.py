"""The PCM of an event → what a stream of the bridge takes."""

from io import BytesIO
from typing import Annotated

import msgspec
import soundfile
from msgspec import Meta

from qwen3_asr_mlx_runtime.audio.pcm16 import BYTES_PER_SAMPLE, to_pcm16
from qwen3_asr_mlx_runtime.errors import OddPcmLength
from qwen3_asr_mlx_runtime.limits import MAX_STREAM_RATE, MIN_STREAM_RATE

MAX_CHANNELS = 16
_SUBTYPES = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}


class Format(msgspec.Struct, frozen=True):
    """`rate` in Hz. `width`: bytes of a sample, little-endian as in WAV: with one byte it has no sign."""

    rate: Annotated[int, Meta(ge=MIN_STREAM_RATE, le=MAX_STREAM_RATE)]
    width: Annotated[int, Meta(ge=min(_SUBTYPES), le=max(_SUBTYPES))]
    channels: Annotated[int, Meta(ge=1, le=MAX_CHANNELS)]

    def mono_pcm16(self, data: bytes) -> bytes:
        """The mean of the channels in 16 bits, at the same rate. Raises OddPcmLength for a part of a frame."""
        frame = self.width * self.channels
        if len(data) % frame:
            raise OddPcmLength(f"`audio-chunk`: expected frames of {frame} bytes, got {len(data)} bytes")
        if frame == BYTES_PER_SAMPLE and self.channels == 1:
            return data
        samples, _ = soundfile.read(
            BytesIO(data),
            dtype="float32",
            always_2d=True,
            samplerate=self.rate,
            channels=self.channels,
            format="RAW",
            subtype=_SUBTYPES[self.width],
            endian="LITTLE",
        )
        return to_pcm16(samples.mean(axis=1))
