"""Finished transcriptions → the lines that deliver them."""

from collections.abc import Sequence

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.profile import batch_profile, total
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES
from qwen3_asr_mlx_runtime.protocol.streams import UtteranceQueued
from qwen3_asr_mlx_runtime.protocol.transcripts import (
    BatchItem,
    BatchTranscript,
    FinalResult,
    ItemError,
    RealtimeBatchFinal,
    TranscriptReply,
)
from qwen3_asr_mlx_runtime.session.delivery import Group, Reason
from qwen3_asr_mlx_runtime.session.transcription import StreamUtterance, Transcription


def transcript_reply(transcription: Transcription, transcript: Transcript, load_seconds: float) -> TranscriptReply:
    reply = TranscriptReply(
        audio=transcription.path or "",
        text=transcript.text,
        language=transcript.language,
        raw_text=transcript.raw_text,
        finish_reason=transcript.finish_reason,
        generated_tokens=len(transcript.token_ids),
        generated_token_ids=list(transcript.token_ids),
        audio_embeddings_shape=list(transcript.audio_embeddings_shape),
        audio_output_lengths=list(transcript.audio_output_lengths),
        rms_dbfs=transcription.rms_dbfs,
        decode_seconds=transcript.profile.decode_seconds,
        total_seconds=transcription.total_seconds,
        load_seconds=load_seconds,
        decoder_mode=transcription.options.decoder_mode,
        redecoded=transcript.redecoded,
        profile=transcript.profile,
        warnings=list(transcript.warnings),
    )
    if transcription.options.logprobs:
        add_logprobs(reply, transcript)
    return reply


def add_logprobs(line: TranscriptReply | BatchItem | FinalResult, transcript: Transcript) -> None:
    """Add the log-probability of each token, and the confidence of the whole."""
    line.generated_token_ids = list(transcript.token_ids)
    line.token_logprobs = [round(logprob, 6) + 0.0 for logprob in transcript.logprobs or ()]  # + 0.0: no -0.0
    line.confidence = transcript.confidence


def batch_reply(transcriptions: Sequence[Transcription], decoder_mode: str, load_seconds: float) -> BatchTranscript:
    """A reply with the items in order. Every transcription has its result."""
    transcripts = [each.result for each in transcriptions if isinstance(each.result, Transcript)]
    return BatchTranscript(
        count=len(transcriptions),
        failed=len(transcriptions) - len(transcripts),
        items=[_batch_item(each) for each in transcriptions],
        total_seconds=total(each.total_seconds for each in transcriptions),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(each.redecoded for each in transcripts),
        profile=batch_profile([each.profile for each in transcripts], f"batch_{decoder_mode}", len(transcriptions)),
    )


def _batch_item(transcription: Transcription) -> BatchItem:
    item = BatchItem(audio=transcription.path or "", text=None)
    _add_result(item, transcription)
    return item


def _add_result(line: BatchItem | FinalResult, transcription: Transcription) -> None:
    """Add the transcript's fields, or the error."""
    match transcription.result:
        case Transcript() as transcript:
            line.text = transcript.text
            line.language = transcript.language
            line.raw_text = transcript.raw_text
            line.finish_reason = transcript.finish_reason
            line.generated_tokens = len(transcript.token_ids)
            line.audio_embeddings_shape = list(transcript.audio_embeddings_shape)
            line.rms_dbfs = transcription.rms_dbfs
            line.decode_seconds = transcript.profile.decode_seconds
            line.redecoded = transcript.redecoded
            line.warnings = list(transcript.warnings)
            if transcription.options.logprobs:
                add_logprobs(line, transcript)
        case BridgeError() as error:
            line.error = ItemError(code=error.code, message=error.message)
        case None:
            raise ValueError("a transcription without a result cannot be reported")


def utterance_queued(utterance: StreamUtterance, queued: int) -> UtteranceQueued:
    """The reply to an accepted boundary. `queued`: how many utterances wait for a batch, including this one."""
    return UtteranceQueued(
        stream_id=utterance.stream_id,
        utterance_id=utterance.utterance_id,
        samples=utterance.sample_count or 0,
        queued=queued,
        batch_size=utterance.stream.batch_size,
    )


def final_result(transcription: Transcription) -> FinalResult:
    """The result of an utterance that has one."""
    utterance, result = transcription.utterance, transcription.result
    if utterance.finished_at is None:
        raise ValueError("an utterance without a result cannot be delivered")
    final = FinalResult(
        job=transcription.id,
        stream_id=utterance.stream_id,
        utterance_id=utterance.utterance_id,
        source=utterance.source,
        samples=utterance.sample_count,
        queue_seconds=round(utterance.finished_at - utterance.queued_at, 4),
        audio_gap=utterance.audio_gap,
    )
    _add_result(final, transcription)
    if isinstance(result, Transcript) and result.verified_tokens is not None:
        final.final_policy, final.verified_tokens = utterance.stream.final_policy, result.verified_tokens
    return final


def realtime_batch_final(group: Group, members: Sequence[Transcription]) -> RealtimeBatchFinal:
    """The line that delivers these members of a group."""
    load_seconds = group.load_seconds if group.request is None else group.request.load_seconds
    line = finals(members, group.reason, load_seconds, group.decoder_mode)
    if group.filled_by is not None:
        line.utterance_id = group.filled_by.utterance.utterance_id
    return line


def finals(
    members: Sequence[Transcription], reason: Reason, load_seconds: float, requested_mode: str | None = None
) -> RealtimeBatchFinal:
    """`requested_mode`: named by the request. By default the common mode of all members, or the default mode."""
    modes = {member.options.decoder_mode for member in members}
    decoder_mode = requested_mode or (modes.pop() if len(modes) == 1 else DECODER_MODES[0])
    items = [final_result(member) for member in members]
    transcripts = [member.result for member in members if isinstance(member.result, Transcript)]
    return RealtimeBatchFinal(
        reason=reason,
        count=len(items),
        failed=sum(item.error is not UNSET for item in items),
        items=items,
        total_seconds=total(member.total_seconds for member in members),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(transcript.redecoded for transcript in transcripts),
        profile=batch_profile(
            [transcript.profile for transcript in transcripts], f"realtime_batch_{decoder_mode}", len(items)
        ),
    )
