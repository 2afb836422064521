"""Options of requests as keyword arguments; docs/protocol/reference.md explains them."""

from typing import Literal, TypedDict

from qwen3_asr_mlx_runtime.terms import Term


class DecodingOptions(TypedDict, total=False):
    max_new_tokens: int | None
    language: str | None
    languages: list[str] | None
    context: str | None
    terms: list[Term] | None
    decoder_mode: str | None
    drift_guard: bool | None
    logprobs: bool | None
    words: bool | None
    segments: bool | None


class TimedOptions(DecodingOptions, total=False):
    timeout_ms: int | None


class FileOptions(TimedOptions, total=False):
    track: int | None


class TranscribeOptions(FileOptions, total=False):
    progress: bool | None


class StreamOptions(DecodingOptions, total=False):
    sample_rate: int
    batch_size: int
    max_batch_delay_ms: int
    auto_flush: bool
    restart: bool
    on_limit: Literal["refuse", "split"]
    partials: bool
    partial_interval_ms: int
    final_policy: Literal["guarded", "strict", "fast"]
    effort: Literal["normal", "low"]


class BoundaryOptions(TimedOptions, total=False):
    utterance_id: str | None
    audio: str | None
    sample_rate: int | None
    samples: int | None
    rest: Literal["keep", "drop"]
