"""Audio files and PCM → float32 mono at 16 kHz, and the split of long audio into segments at quiet places.

A file is opened once, checked, and decoded block by block from that descriptor by libsndfile. Memory depends on what
the caller keeps, never on what a header claims.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from qwen3_asr_mlx_runtime.audio.links import links
from qwen3_asr_mlx_runtime.audio.media import MediaFile, no_track
from qwen3_asr_mlx_runtime.audio.refusal import advice
from qwen3_asr_mlx_runtime.audio.regular_file import open_regular, unreadable
from qwen3_asr_mlx_runtime.audio.resampling import Resampler
from qwen3_asr_mlx_runtime.audio.sound_file import LibsndfileError, SoundFile
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import (
    AudioChanged,
    AudioCorrupt,
    AudioEmpty,
    AudioTooLong,
    AudioUnsupported,
)
from qwen3_asr_mlx_runtime.limits import MAX_AUDIO_SECONDS
from qwen3_asr_mlx_runtime.packages import has_media

MAX_CHANNELS = 32
MIN_RATE, MAX_RATE = 4_000, 384_000

_MAX_PEAK = 1.5  # lossy codecs overshoot by less; a louder sample is a defect that the resampler would spread
_MAX_NON_FINITE = 0.01
_MAX_STREAMS = 1000  # in one file: opening one costs more than its samples may


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """The audio of one file. `samples`: float32 (N,), mono, 16 kHz, finite, within [-1, 1], N at least 1.

    `source_rate` (Hz) and `channels` describe its first stream. `warnings`, in this order: `audio_truncated` (it
    ends, or is damaged, before the length its header gives: `samples` hold what comes before), `audio_length_unknown`
    (its header has no length: `samples` hold all audio present), `non_finite_samples` (NaN and infinity became 0),
    `clipped_samples` (a sample above 1.5). All samples are clipped to [-1, 1].
    """

    samples: Samples
    source_rate: int
    channels: int
    warnings: tuple[str, ...] = ()


def read_file(path: str, *, max_seconds: float = MAX_AUDIO_SECONDS, track: int = 1) -> Recording:
    """The audio of a file in any of `sound_file.formats()`, or, with the extra `media`, of any that FFmpeg decodes: the
    mean of its channels, resampled to 16 kHz by soxr HQ. `track`: of its audio tracks, from 1.

    `path` is absolute or relative to the working directory; `~` is not expanded. Channels: 1 to 32; rate: 4 to 384 kHz;
    length: at most `max_seconds`. Concatenated streams in the file are joined, also if their rates differ.

    Raises InvalidParams or PathNotAllowed for an invalid path, InvalidParams for a track that it does not have,
    AudioNotFound, AudioUnreadable (`errno` holds its name), AudioNotRegularFile, AudioEmpty (no byte, or no sample),
    AudioUnsupported, AudioCorrupt, AudioTooLong (`limit_seconds`) and AudioChanged.
    """
    tally = Tally()
    samples = np.concatenate([*blocks(path, max_seconds, tally, track)])
    return Recording(samples, *tally.formats[0], tally.warnings())


def blocks(path: str, max_seconds: float, tally: "Tally", track: int = 1) -> Iterator[Samples]:
    """The file block by block, at 16 kHz. The descriptor is closed with the generator."""
    descriptor = open_regular(path)
    try:
        before = os.fstat(descriptor)
        if before.st_size == 0:
            raise AudioEmpty(f"expected a sound file, got 0 bytes: {path!r}")
        yield from _decode(_opened(descriptor, path, track), path, max_seconds, tally)
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise AudioChanged(f"the file changed while it was read: {path!r}")
    except OSError as error:
        raise unreadable("read", path, error) from None
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Tally:
    """Counts of what was read and repaired. `formats`: rate (Hz) and channels of each stream. `announced_seconds`: the
    length by the headers of the streams so far; None once one has none."""

    announced_seconds: float | None = 0.0
    formats: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0  # of the streams that were read
    values: int = 0
    non_finite: int = 0
    clipped: bool = False
    truncated: bool = False
    length_unknown: bool = False

    def announce(self, seconds: float | None) -> None:
        """The header of another stream gives its length, or none."""
        so_far = self.announced_seconds
        self.announced_seconds = None if so_far is None or seconds is None else so_far + seconds

    def warnings(self) -> tuple[str, ...]:
        raised = {
            "audio_truncated": self.truncated,
            "audio_length_unknown": self.length_unknown,
            "non_finite_samples": self.non_finite > 0,
            "clipped_samples": self.clipped,
        }
        return tuple(name for name, is_raised in raised.items() if is_raised)


def _opened(descriptor: int, path: str, track: int) -> Iterator[SoundFile | MediaFile]:
    """Each stream of the file; FFmpeg has the file where libsndfile cannot read its first one."""
    files = links(descriptor, path)
    try:
        first = next(files, None)
    except AudioUnsupported as refused:
        if not has_media():
            raise
        yield MediaFile.open(descriptor, path, track, refused)
        return
    if first is not None:
        if track > 1:
            first.close()
            raise no_track(1, track, path)
        yield first
        yield from files


def _decode(files: Iterator[SoundFile | MediaFile], path: str, max_seconds: float, tally: Tally) -> Iterator[Samples]:
    try:
        for file in files:
            with file:
                if len(tally.formats) == _MAX_STREAMS:
                    raise AudioUnsupported(f"expected at most {_MAX_STREAMS} streams: {path!r}")
                _check_header(file, path)
                tally.formats.append((file.samplerate, file.channels))
                yield from _read_stream(file, path, max_seconds, tally)
    except (AudioUnsupported, AudioCorrupt):
        if not tally.formats:
            raise
        tally.truncated = True  # keep the audio before an unreadable stream
    if tally.truncated and not tally.frames:
        raise AudioCorrupt(f"nothing of the audio that the header announces can be read: {path!r}")
    if not tally.frames:
        raise AudioEmpty(f"expected at least one sample, the file has none: {path!r}")
    if tally.non_finite > _MAX_NON_FINITE * tally.values:
        raise AudioCorrupt(f"{tally.non_finite} of {tally.values} values are NaN or infinite: {path!r}")


def _check_header(file: SoundFile | MediaFile, path: str) -> None:
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise AudioUnsupported(f"expected 1 to {MAX_CHANNELS} channels, found {file.channels}: {path!r}; {advice()}")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioUnsupported(f"expected {MIN_RATE} to {MAX_RATE} Hz, found {file.samplerate}: {path!r}; {advice()}")


def _read_stream(file: SoundFile | MediaFile, path: str, max_seconds: float, tally: Tally) -> Iterator[Samples]:
    """One stream at 16 kHz. Rejects it unread if the header announces too much, else where it exceeds the limit."""
    limit = (max_seconds - tally.seconds) * file.samplerate
    before = tally.frames
    if (file.announced_frames or 0) > limit:
        raise _too_long(path, max_seconds)
    tally.announce(file.announced_seconds)
    for block in _resampled(_mono_blocks(file, before + limit, tally), file.samplerate):
        yield np.clip(block, -1, 1)
    frames = tally.frames - before
    if frames > limit:
        raise _too_long(path, max_seconds)
    tally.seconds += frames / file.samplerate
    tally.truncated |= file.ends_early(frames)
    tally.length_unknown |= file.length_unknown


def _too_long(path: str, max_seconds: float) -> AudioTooLong:
    limit = f"{max_seconds:g} seconds of audio (the bridge's --max-audio-seconds)"
    return AudioTooLong(f"expected at most {limit}: {path!r}", limit_seconds=max_seconds)


def _mono_blocks(file: SoundFile | MediaFile, limit: float, tally: Tally) -> Iterator[Samples]:
    """The mean of the channels, block by block, up to the first block that goes beyond `limit` frames in the tally."""
    try:
        while tally.frames <= limit and len(block := file.read_block()):
            tally.frames += len(block)
            yield _mended(block, tally).mean(axis=1)
    except LibsndfileError:  # keep the audio before a decoding error
        tally.truncated |= not file.is_padded()


def _mended(block: Samples, tally: Tally) -> Samples:
    """Replace values that the mean and the resampler would spread to other samples: NaN, infinity, extreme spikes."""
    tally.values += block.size
    finite = np.isfinite(block)
    if not finite.all():
        tally.non_finite += block.size - int(np.count_nonzero(finite))
        block = np.where(finite, block, np.float32(0))
    if np.abs(block).max() > _MAX_PEAK:
        tally.clipped = True
        block = np.clip(block, -_MAX_PEAK, _MAX_PEAK)
    return block


def _resampled(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler = Resampler(rate)
    for block in blocks:
        yield resampler.take(block)
    yield resampler.end()
