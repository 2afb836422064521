"""A transcript → the body of an answer, in the form that was asked for."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from starlette.responses import Response

from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.engines.transcript import place_segments
from qwen3_asr_mlx_runtime.protocol.transcripts import Segment
from qwen3_asr_mlx_runtime.tools.serve.forms import Wanted
from qwen3_asr_mlx_runtime.tools.transcribe.formats import FORMATS, Result

_MEDIA_TYPES = {"srt": "application/x-subrip", "vtt": "text/vtt"}


def answer(wanted: Wanted, reply: TranscriptReply) -> Response:
    if wanted.is_streamed:
        return Response(b"".join(map(_event, _events(reply))), media_type="text/event-stream")
    match wanted.response_format:
        case "text":
            return Response(f"{reply.text}\n", media_type="text/plain")
        case "srt" | "vtt" as kind:
            return Response(FORMATS[kind](Result("", "", reply)), media_type=_MEDIA_TYPES[kind])
        case "verbose_json":
            return _json(_verbose(wanted, reply))
        case _:
            return _json({"text": reply.text, "usage": _duration(reply), **_warnings(wanted, reply)})


def seconds_of(reply: TranscriptReply) -> float:
    """Of audio."""
    return reply.profile.audio_seconds or 0.0


def _json(members: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(members), media_type="application/json")


def _verbose(wanted: Wanted, reply: TranscriptReply) -> dict[str, Any]:
    members: dict[str, Any] = {
        "task": "transcribe",
        "language": (reply.language or "").lower(),
        "duration": seconds_of(reply),
        "text": reply.text,
    }
    if "segment" in wanted.granularities:
        spoken = (each for each in reply.segments or () if each.text)
        members["segments"] = [_segment(number, each) for number, each in enumerate(spoken)]
    if "word" in wanted.granularities:
        members["words"] = [{"word": each.text, "start": each.start, "end": each.end} for each in reply.words or ()]
    return {**members, "usage": _duration(reply), **_warnings(wanted, reply)}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """With neutral values for what belongs to Whisper alone."""
    return {
        "id": number,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": _compression_ratio(segment.text),
        "no_speech_prob": 0.0,
    }


def _compression_ratio(text: str) -> float:
    """As Whisper computes it: far above 2 where a text repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _warnings(wanted: Wanted, reply: TranscriptReply) -> dict[str, list[str]]:
    """No member of OpenAI's, which its clients leave alone."""
    ignored = [f"{name} has no effect" for name in wanted.without_effect]
    found = [*ignored, *(reply.warnings or ())]
    return {"warnings": found} if found else {}


def _events(reply: TranscriptReply) -> Iterator[dict[str, Any]]:
    """A delta for each segment; together they are the text."""
    for delta in _deltas(reply):
        yield {"type": "transcript.text.delta", "delta": delta}
    yield {"type": "transcript.text.done", "text": reply.text, "usage": _tokens(reply)}


def _deltas(reply: TranscriptReply) -> Iterable[str]:
    text, starts = place_segments([each.text for each in reply.segments or ()])
    if text != reply.text or not text:
        return [reply.text] if reply.text else []
    ends = [*starts[1:], len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True) if start < end]


def _event(members: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(members) + b"\n\n"


def _duration(reply: TranscriptReply) -> dict[str, Any]:
    return {"type": "duration", "seconds": seconds_of(reply)}


def _tokens(reply: TranscriptReply) -> dict[str, Any]:
    """Embeddings of the audio in, tokens of the text out; the prompt is not counted."""
    audio, text = sum(reply.audio_output_lengths), reply.generated_tokens
    return {
        "type": "tokens",
        "input_tokens": audio,
        "output_tokens": text,
        "total_tokens": audio + text,
        "input_token_details": {"audio_tokens": audio, "text_tokens": 0},
    }
