"""Transcriptions for tests of the session's parts, without a session around them."""

from qwen3_asr_mlx_runtime.protocol.commands import EndUtterance, StartStream, Transcribe
from qwen3_asr_mlx_runtime.session.transcription import (
    FileRequest,
    Options,
    Result,
    State,
    StreamUtterance,
    Transcription,
)

ENGLISH, ARABIC = Options(0, "English", ""), Options(0, "Arabic", "")


def utterance(
    name: str,
    *,
    at: float = 0.0,
    delay_ms: int = 100,
    size: int = 4,
    auto: bool = True,
    options: Options = ENGLISH,
    seq: int = 0,
) -> Transcription:
    """An utterance named by its stream and a number: `a1`."""
    stream = StartStream(stream_id=name[0], batch_size=size, max_batch_delay_ms=delay_ms, auto_flush=auto)
    origin = StreamUtterance(
        stream=stream,
        boundary=EndUtterance(),
        options=options,
        utterance_id=name,
        source="pcm16",
        queued_at=at,
        seq=seq,
    )
    return Transcription(seq, origin, options)


def file(number: int, path: str = "a.wav", options: Options = ENGLISH, **members: object) -> Transcription:
    """The file of a `transcribe`."""
    origin = FileRequest(None, Transcribe(audio=path))
    transcription = Transcription(number, origin, options, path=path, **members)
    origin.transcriptions.append(transcription)
    return transcription


def finish(transcription: Transcription, result: Result) -> None:
    transcription.result, transcription.state = result, State.DONE
