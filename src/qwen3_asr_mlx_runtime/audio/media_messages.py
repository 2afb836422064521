"""What the process that decodes a file with FFmpeg tells its parent, as JSON between the samples."""

from typing import Literal

import msgspec


class Header(msgspec.Struct, frozen=True, tag=True):
    """Rate in Hz, and seconds of audio as the container announces them, if it does."""

    rate: int
    channels: int
    seconds: float | None


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Nothing can be decoded. `tracks`: how many of audio the file has."""

    reason: Literal["invalid", "no_audio", "no_track"]
    tracks: int = 0


class Ending(msgspec.Struct, frozen=True):
    """`is_damaged`: a part of the audio could not be decoded."""

    is_damaged: bool
