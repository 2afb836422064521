"""What the engine made of the files of a request → the reply that tells of it."""

from collections.abc import Iterable, Sequence
from itertools import chain

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.transcripts import (
    BatchItem,
    BatchTranscript,
    FinalResult,
    ItemError,
    TranscriptReply,
)
from qwen3_asr_mlx_runtime.session.tasks import Task


def transcript_reply(task: Task, transcript: Transcript, load_seconds: float) -> TranscriptReply:
    reply = TranscriptReply(
        audio=task.path or "",
        text=transcript.text,
        language=transcript.language,
        raw_text=transcript.raw_text,
        finish_reason=transcript.finish_reason,
        generated_tokens=len(transcript.token_ids),
        generated_token_ids=list(transcript.token_ids),
        audio_embeddings_shape=list(transcript.audio_embeddings_shape),
        audio_output_lengths=list(transcript.audio_output_lengths),
        rms_dbfs=task.rms_dbfs,
        decode_seconds=transcript.profile.decode_seconds,
        total_seconds=task.total_seconds,
        load_seconds=load_seconds,
        decoder_mode=task.options.decoder_mode,
        redecoded=transcript.redecoded,
        profile=transcript.profile,
        warnings=list(transcript.warnings),
    )
    if task.options.logprobs:
        tell_logprobs(reply, transcript)
    return reply


def tell_logprobs(of: TranscriptReply | BatchItem | FinalResult, transcript: Transcript) -> None:
    """How sure the model was, token for token, and of the whole."""
    of.generated_token_ids = list(transcript.token_ids)
    of.token_logprobs = [round(logprob, 6) + 0.0 for logprob in transcript.logprobs or ()]  # 0.0: there is no -0.0
    of.confidence = transcript.confidence


def batch_reply(tasks: Sequence[Task], decoder_mode: str, load_seconds: float) -> BatchTranscript:
    """Items in their order. Every task has its outcome."""
    transcripts = [task.outcome for task in tasks if isinstance(task.outcome, Transcript)]
    return BatchTranscript(
        count=len(tasks),
        failed=len(tasks) - len(transcripts),
        items=[_batch_item(task) for task in tasks],
        total_seconds=total(task.total_seconds for task in tasks),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(one.redecoded for one in transcripts),
        profile=batch_profile([one.profile for one in transcripts], f"batch_{decoder_mode}", len(tasks)),
    )


def _batch_item(task: Task) -> BatchItem:
    item = BatchItem(audio=task.path or "", text=None)
    match task.outcome:
        case Transcript() as transcript:
            item.text = transcript.text
            item.language = transcript.language
            item.raw_text = transcript.raw_text
            item.finish_reason = transcript.finish_reason
            item.generated_tokens = len(transcript.token_ids)
            item.audio_embeddings_shape = list(transcript.audio_embeddings_shape)
            item.rms_dbfs = task.rms_dbfs
            item.decode_seconds = transcript.profile.decode_seconds
            item.redecoded = transcript.redecoded
            item.warnings = list(transcript.warnings)
            if task.options.logprobs:
                tell_logprobs(item, transcript)
        case BridgeError() as error:
            item.error = ItemError(code=error.code, message=error.message)
        case None:
            raise ValueError("a task without an outcome cannot be reported")
    return item


_SUMMED = (
    "audio_seconds",
    "feature_extract_seconds",
    "prompt_assembly_seconds",
    "audio_tower_seconds",
    "batch_assembly_seconds",
    "prefill_seconds",
    "continuation_seconds",
    "decode_seconds",
    "total_seconds",
)
_JOINED = ("audio_samples", "audio_feature_lengths", "audio_output_lengths", "generated_tokens")


def batch_profile(profiles: Sequence[Profile], stage: str, batch_size: int) -> Profile:
    """Sums over the items that did not fail, with how fast that was, and the memory as it was after the last."""
    profile = _summed_profile(profiles, stage, batch_size)
    prepared = [one.prepare for one in profiles if one.prepare is not None]
    profile.prepare = _summed_profile(prepared, "prepare", batch_size) if prepared else None
    profile.memory = profiles[-1].memory if profiles else None
    profile.generated_tokens_total = None if profile.generated_tokens is None else sum(profile.generated_tokens)
    profile.generated_tokens_per_second = _ratio(profile.generated_tokens_total, profile.decode_seconds)
    profile.realtime_factor = _ratio(profile.audio_seconds, profile.total_seconds)
    return profile


def _summed_profile(profiles: Sequence[Profile], stage: str, batch_size: int) -> Profile:
    """Seconds added, lists joined in the items' order; shapes are null, as no tensor held the whole batch."""
    profile = Profile(stage=stage, batch_size=batch_size)
    profile.quantization = profiles[-1].quantization if profiles else None
    for name in _SUMMED:
        setattr(profile, name, total(getattr(one, name) for one in profiles))
    for name in _JOINED:
        lists = [values for one in profiles if (values := getattr(one, name)) is not None]
        setattr(profile, name, list(chain.from_iterable(lists)) if lists else None)
    return profile


def total(seconds: Iterable[float | None]) -> float | None:
    """The sum of what was measured; None if nothing was."""
    measured = [value for value in seconds if value is not None]
    return round(sum(measured), 4) if measured else None


def _ratio(dividend: float | None, divisor: float | None) -> float | None:
    return round(dividend / divisor, 2) if dividend is not None and divisor else None
