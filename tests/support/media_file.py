"""Files with audio and video of known content, written by FFmpeg."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000


def tone(seconds: float, frequency: float = 440.0, channels: int = 1) -> np.ndarray:
    """int16 (channels, N): it fades in, so that a shift can be seen; each channel has half of the level before."""
    time = np.arange(int(seconds * RATE)) / RATE
    sound = np.sin(2 * np.pi * frequency * time) * np.linspace(0.05, 0.6, len(time))
    return np.stack([(sound / 2**channel * 32767).astype(np.int16) for channel in range(channels)])


def write(
    path: Path,
    tracks: list[np.ndarray],
    codec: str = "aac",
    *,
    rate: int = RATE,
    video: bool = False,
    **options: object,
) -> Path:
    """A file of these tracks, and perhaps a video of half a second before them; the suffix names the container."""
    with av.open(str(path), "w", **options) as container:
        pictures = _video(container) if video else None
        streams = [_stream(container, codec, rate, len(samples)) for samples in tracks]
        container.start_encoding()
        if pictures is not None:
            _write_video(container, pictures)
        for stream, samples in zip(streams, tracks, strict=True):
            resampler = av.AudioResampler(stream.format.name, stream.layout, rate, stream.frame_size or None)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.T).reshape(1, -1), "s16", "mono" if len(samples) == 1 else "stereo"
            )
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return path


def _stream(container: av.container.OutputContainer, codec: str, rate: int, channels: int) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate, layout="mono" if channels == 1 else "stereo")
    stream.bit_rate = 128_000
    stream.codec_context.open()
    return stream


def _video(container: av.container.OutputContainer) -> av.VideoStream:
    stream = container.add_stream("mpeg4", rate=25)
    stream.width = stream.height = 32
    return stream


def _write_video(container: av.container.OutputContainer, stream: av.VideoStream) -> None:
    for number in range(12):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), "rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
