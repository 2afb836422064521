"""A transcript → the text of a file, in the format that its suffix names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import msgspec
from msgspec import UNSET

from qwen3_asr_mlx_runtime.protocol.transcripts import TranscriptReply
from qwen3_asr_mlx_runtime.tools.transcribe.captions import Caption, captions, pieces_of_segments, pieces_of_words


@dataclass(frozen=True)
class Result:
    """`reply`: of a request for segments. `name`: of the source. `model`: what transcribed it."""

    name: str
    model: str
    reply: TranscriptReply

    @property
    def has_words(self) -> bool:
        """Whether words have times."""
        return any(word.time_confidence is not None for word in self.reply.words or ())

    @cached_property
    def captions(self) -> Sequence[Caption]:
        reply = self.reply
        pieces = pieces_of_words(reply.text, reply.words) if reply.words else pieces_of_segments(reply.segments or ())
        return captions(pieces, reply.language)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self.reply.profile.audio_seconds or 0.0


def _txt(result: Result) -> str:
    """A line for each segment."""
    return "".join(f"{each.text}\n" for each in result.reply.segments or () if each.text)


def _srt(result: Result) -> str:
    blocks = [
        f"{number}\n{_clock(each.start, ',')} --> {_clock(each.end, ',')}\n"
        + "".join(f"{line}\n" for line in each.lines)
        for number, each in enumerate(result.captions, 1)
    ]
    return "\n".join(blocks)


def _vtt(result: Result) -> str:
    blocks = [
        f"{_clock(each.start, '.')} --> {_clock(each.end, '.')}\n"
        + "".join(f"{escape(line, quote=False)}\n" for line in each.lines)
        for each in result.captions
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _tsv(result: Result) -> str:
    """The captions, times in milliseconds."""
    rows = [
        f"{_milliseconds(each.start)}\t{_milliseconds(each.end)}\t{' '.join(each.lines)}\n" for each in result.captions
    ]
    return "".join(["start\tend\ttext\n", *rows])


def _json(result: Result) -> str:
    return msgspec.json.format(msgspec.json.encode(_members(result)), indent=2).decode() + "\n"


def json_line(result: Result) -> str:
    """The JSON of a file, on one line."""
    return msgspec.json.encode(_members(result)).decode() + "\n"


def _members(result: Result) -> dict[str, Any]:
    reply = result.reply
    members = {
        "audio": result.name,
        "audio_seconds": result.seconds,
        "model": result.model,
        "language": reply.language,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "segments": reply.segments,
        "words": reply.words,
        "warnings": reply.warnings or [],
    }
    return {name: value for name, value in members.items() if value is not UNSET}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, mark: str) -> str:
    rest, milliseconds = divmod(_milliseconds(seconds), 1000)
    rest, whole = divmod(rest, 60)
    hours, minutes = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}{mark}{milliseconds:03}"


FORMATS: dict[str, Callable[[Result], str]] = {"txt": _txt, "srt": _srt, "vtt": _vtt, "json": _json, "tsv": _tsv}
CAPTIONED = frozenset({"srt", "vtt", "tsv"})  # their times come from words, if there are any
