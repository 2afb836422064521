"""What the engine made of the files of a request → the reply that tells of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.replies import BatchItem, BatchTranscript, FailedItem, ItemError, TranscriptReply
from qwen3_asr_mlx_runtime.telemetry import Profile
from qwen3_asr_mlx_runtime.transcript import Transcript


@dataclass(slots=True, eq=False)
class Item:
    """One file of a request. `outcome` is None until it is transcribed or has failed."""

    path: str
    outcome: Transcript | BridgeError | None = None
    read_seconds: float | None = None

    @property
    def total_seconds(self) -> float | None:
        """The work spent on it: reading, features, tower and decoder; not the waiting."""
        if not isinstance(self.outcome, Transcript):
            return None
        return _sum([self.read_seconds, self.outcome.profile.total_seconds])


def transcript_reply(item: Item, transcript: Transcript, load_seconds: float) -> TranscriptReply:
    return TranscriptReply(
        audio=item.path,
        text=transcript.text,
        language=transcript.language,
        raw_text=transcript.raw_text,
        finish_reason=transcript.finish_reason,
        generated_tokens=len(transcript.token_ids),
        generated_token_ids=list(transcript.token_ids),
        audio_embeddings_shape=list(transcript.audio_embeddings_shape),
        audio_output_lengths=list(transcript.audio_output_lengths),
        decode_seconds=transcript.profile.decode_seconds,
        total_seconds=item.total_seconds,
        load_seconds=load_seconds,
        profile=transcript.profile,
        warnings=list(transcript.warnings),
    )


def batch_reply(items: Sequence[Item], decoder_mode: str, load_seconds: float) -> BatchTranscript:
    """Items in their order. Every item has its outcome."""
    transcripts = [item.outcome for item in items if isinstance(item.outcome, Transcript)]
    return BatchTranscript(
        count=len(items),
        failed=len(items) - len(transcripts),
        items=[_batch_item(item) for item in items],
        total_seconds=_sum(item.total_seconds for item in items),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        profile=_batch_profile([one.profile for one in transcripts], f"batch_{decoder_mode}", len(items)),
    )


def _batch_item(item: Item) -> BatchItem | FailedItem:
    match item.outcome:
        case Transcript() as transcript:
            return BatchItem(
                audio=item.path,
                text=transcript.text,
                language=transcript.language,
                raw_text=transcript.raw_text,
                finish_reason=transcript.finish_reason,
                generated_tokens=len(transcript.token_ids),
                audio_embeddings_shape=list(transcript.audio_embeddings_shape),
                decode_seconds=transcript.profile.decode_seconds,
                warnings=list(transcript.warnings),
            )
        case BridgeError() as error:
            return FailedItem(audio=item.path, error=ItemError(code=error.code, message=error.message))
        case None:
            raise ValueError("an item without an outcome cannot be reported")


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


def _batch_profile(profiles: Sequence[Profile], stage: str, batch_size: int) -> Profile:
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
    for name in _SUMMED:
        setattr(profile, name, _sum(getattr(one, name) for one in profiles))
    for name in _JOINED:
        lists = [values for one in profiles if (values := getattr(one, name)) is not None]
        setattr(profile, name, list(chain.from_iterable(lists)) if lists else None)
    return profile


def _sum(seconds: Iterable[float | None]) -> float | None:
    """The sum of what was measured; None if nothing was."""
    measured = [value for value in seconds if value is not None]
    return round(sum(measured), 4) if measured else None


def _ratio(dividend: float | None, divisor: float | None) -> float | None:
    return round(dividend / divisor, 2) if dividend is not None and divisor else None
