"""The outcomes of utterances → the lines that tell of them."""

from collections.abc import Sequence

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES
from qwen3_asr_mlx_runtime.protocol.streams import UtteranceQueued
from qwen3_asr_mlx_runtime.protocol.transcripts import FinalResult, ItemError, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.session.results import batch_profile, tell_logprobs, total
from qwen3_asr_mlx_runtime.session.spoken import Batch, Reason, Spoken


def utterance_queued(spoken: Spoken, queued: int) -> UtteranceQueued:
    """It was accepted. `queued`: how many wait for a batch, itself included."""
    return UtteranceQueued(
        stream_id=spoken.stream_id,
        utterance_id=spoken.utterance_id,
        samples=spoken.sample_count or 0,
        queued=queued,
        batch_size=spoken.stream.batch_size,
    )


def final_result(spoken: Spoken) -> FinalResult:
    """The outcome of an utterance that has one."""
    if spoken.task is None or spoken.outcome is None or spoken.settled_at is None:
        raise ValueError("an utterance without an outcome cannot be told")
    result = FinalResult(
        job=spoken.task.id,
        stream_id=spoken.stream_id,
        utterance_id=spoken.utterance_id,
        source=spoken.source,
        samples=spoken.sample_count,
        queue_seconds=round(spoken.settled_at - spoken.queued_at, 4),
        audio_gap=spoken.audio_gap,
    )
    if isinstance(spoken.outcome, BridgeError):
        result.error = ItemError(code=spoken.outcome.code, message=spoken.outcome.message)
    else:
        result.rms_dbfs = spoken.task.rms_dbfs
        _fill(result, spoken, spoken.outcome)
        if spoken.options.logprobs:
            tell_logprobs(result, spoken.outcome)
    return result


def _fill(result: FinalResult, spoken: Spoken, heard: Transcript) -> None:
    result.text = heard.text
    result.language = heard.language
    result.raw_text = heard.raw_text
    result.finish_reason = heard.finish_reason
    result.generated_tokens = len(heard.token_ids)
    result.audio_embeddings_shape = list(heard.audio_embeddings_shape)
    result.decode_seconds = heard.profile.decode_seconds
    result.redecoded = heard.redecoded
    if heard.verified_tokens is not None:
        result.final_policy, result.verified_tokens = spoken.stream.final_policy, heard.verified_tokens
    result.warnings = list(heard.warnings)


def batch_final(batch: Batch) -> RealtimeBatchFinal:
    load_seconds = batch.load_seconds if batch.ticket is None else batch.ticket.load_seconds
    line = finals(batch.members, batch.reason, load_seconds, batch.decoder_mode)
    if batch.filled_by is not None:
        line.utterance_id = batch.filled_by.utterance_id
    return line


def finals(
    members: Sequence[Spoken], reason: Reason, load_seconds: float, asked_mode: str | None = None
) -> RealtimeBatchFinal:
    """`asked_mode`: what the request for them said. Without it the mode is that of all, or else the default."""
    modes = {spoken.options.decoder_mode for spoken in members}
    decoder_mode = asked_mode or (modes.pop() if len(modes) == 1 else DECODER_MODES[0])
    items = [final_result(spoken) for spoken in members]
    heard = [spoken.outcome for spoken in members if isinstance(spoken.outcome, Transcript)]
    seconds = total(spoken.task.total_seconds for spoken in members if spoken.task is not None)
    return RealtimeBatchFinal(
        reason=reason,
        count=len(items),
        failed=sum(item.error is not UNSET for item in items),
        items=items,
        total_seconds=seconds,
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(one.redecoded for one in heard),
        profile=batch_profile([one.profile for one in heard], f"realtime_batch_{decoder_mode}", len(items)),
    )
