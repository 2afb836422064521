"""Results with what only the client knows of them. `replayed`: their audio was sent again to a new process, because
the bridge was lost (`resend`)."""

from qwen3_asr_mlx_runtime.protocol import transcripts


class FinalResult(transcripts.FinalResult, kw_only=True, tag_field="type", tag="final_result"):
    replayed: bool = False


class RealtimeBatchFinal(transcripts.RealtimeBatchFinal, kw_only=True, tag="realtime_batch_final"):
    items: list[FinalResult]  # type: ignore[assignment]


class Stopped(transcripts.Stopped, kw_only=True, tag="stopped"):
    items: list[FinalResult]  # type: ignore[assignment]


class TranscriptReply(transcripts.TranscriptReply, kw_only=True, tag="transcript"):
    replayed: bool = False


class Aligned(transcripts.Aligned, kw_only=True, tag="aligned"):
    replayed: bool = False


class BatchTranscript(transcripts.BatchTranscript, kw_only=True, tag="batch_transcript"):
    replayed: bool = False
