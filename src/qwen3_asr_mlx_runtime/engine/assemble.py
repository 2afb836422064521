"""The decoded segments of one utterance → its transcript."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.profile import Memory, Profile, Reuse, Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import (
    SEVERITY,
    TextSegment,
    Transcript,
    join_languages,
    mean_probabilities,
    parse_text,
    parse_transcript,
    place_segments,
    text_tokens,
)
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.model.features import NUM_MEL_BINS
from qwen3_asr_mlx_runtime.model.generate import FinishReason, Token
from qwen3_asr_mlx_runtime.model.language import LanguageChoice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """The result of a segment: the model's text and tokens, and the counts of mel `frames` and `audio_tokens`.
    `choice`: of the language, if it was chosen before the text. `context_echo`: an echo was dropped for it. `parts`:
    what stands in its place, because it ended in a loop; the second begins with sample `cut`."""

    raw_text: str
    tokens: Sequence[Token]
    frames: int
    audio_tokens: int
    choice: LanguageChoice | None = None
    context_echo: bool = False
    cut: int = 0
    parts: "tuple[DecodedSegment, ...]" = ()

    @property
    def last(self) -> "tuple[DecodedSegment, ...]":
        """What its text is made of."""
        return self.parts or (self,)

    def spans(self, start: int, end: int) -> list[tuple[int, int]]:
        """Those of `last`, where it has this one."""
        return [(start, start + self.cut), (start + self.cut, end)] if self.parts else [(start, end)]

    def parsed(self, forced_language: str | None) -> tuple[str | None, str]:
        """Language and clean text."""
        if self.choice is not None:
            return parse_text(self.raw_text, self.choice.language)
        return parse_transcript(self.raw_text, forced_language)

    @property
    def finish_reason(self) -> FinishReason:
        return self.tokens[-1].finish_reason or "length"


def assemble(
    utterance: Utterance,
    segments: Sequence[DecodedSegment],
    spans: Sequence[tuple[int, int]],
    watch: Stopwatch,
    hidden_size: int,
    tokenizer: Tokenizer,
    *,
    redecoded: int = 0,
    verified_tokens: int | None = None,
    reuse: Reuse | None = None,
) -> Transcript:
    """Join the segments. `spans`: the samples of each, from start to end. An utterance without a mel frame has none, an
    empty text and no language. Two parts stand in the place of a repaired segment, except in the raw text; the profile
    counts the tokens of both."""
    decoded, profile = segments, _profile(utterance, segments, watch, hidden_size)
    is_repaired = [bool(segment.parts) for segment in decoded for _ in segment.last]
    spans = [part for segment, span in zip(decoded, spans, strict=True) for part in segment.spans(*span)]
    segments = [part for segment in decoded for part in segment.last]
    parsed = [segment.parsed(utterance.language) for segment in segments]
    text, starts = place_segments([text for _, text in parsed])
    audio_tokens = tuple(segment.audio_tokens for segment in segments)
    return Transcript(
        text=text,
        language=join_languages([language for language, _ in parsed]),
        language_probabilities=_language_probabilities(segments, spans),
        raw_text="\n".join(segment.raw_text for segment in decoded),
        finish_reason=max((segment.finish_reason for segment in segments), key=SEVERITY.index, default="stop"),
        token_ids=tuple(token.id for segment in segments for token in segment.tokens),
        audio_embeddings_shape=(sum(audio_tokens), hidden_size),
        audio_output_lengths=audio_tokens,
        profile=profile,
        warnings=utterance.warnings,
        logprobs=_logprobs(segments) if utterance.logprobs else None,
        redecoded=redecoded,
        verified_tokens=verified_tokens,
        reuse=reuse,
        context_echo=any(segment.context_echo for segment in (*decoded, *segments)),
        segments=tuple(
            TextSegment(
                *span,
                own,
                language,
                segment.finish_reason,
                at,
                *_text_tokens(segment, own, tokenizer, utterance),
                repaired=repaired,
            )
            for segment, span, (language, own), at, repaired in zip(
                segments, spans, parsed, starts, is_repaired, strict=True
            )
        ),
    )


def _language_probabilities(
    segments: Sequence[DecodedSegment], spans: Sequence[tuple[int, int]]
) -> dict[str, float] | None:
    probabilities = [
        None if segment.choice is None else {name: math.exp(each) for name, each in segment.choice.logprobs.items()}
        for segment in segments
    ]
    return mean_probabilities(probabilities, [end - start for start, end in spans])


def _text_tokens(
    segment: DecodedSegment, text: str, tokenizer: Tokenizer, utterance: Utterance
) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    if not utterance.logprobs:
        return None, None
    ends = tokenizer.ends(token.id for token in segment.tokens)
    return text_tokens(segment.raw_text, text, ends, _logprobs([segment])) or (None, None)


def _logprobs(segments: Sequence[DecodedSegment]) -> tuple[float, ...]:
    logprobs = (token.logprob for segment in segments for token in segment.tokens)
    return tuple(logprob for logprob in logprobs if logprob is not None)


def _profile(utterance: Utterance, segments: Sequence[DecodedSegment], watch: Stopwatch, hidden_size: int) -> Profile:
    generated = sum(len(each.tokens) for segment in segments for each in (segment, *segment.parts))
    prefill, continuation = watch.read("prefill"), watch.read("continuation")
    decode = None if prefill is None else round(prefill + (continuation or 0.0), 4)
    prepare = _prepare_profile(utterance, segments, watch, hidden_size)
    return Profile(
        stage="transcribe",
        audio_samples=prepare.audio_samples,
        audio_seconds=prepare.audio_seconds,
        feature_extract_seconds=prepare.feature_extract_seconds,
        prompt_assembly_seconds=prepare.prompt_assembly_seconds,
        audio_tower_seconds=prepare.audio_tower_seconds,
        prefill_seconds=prefill,
        continuation_seconds=continuation,
        decode_seconds=decode,
        total_seconds=watch.busy,
        audio_feature_lengths=prepare.audio_feature_lengths,
        audio_output_lengths=prepare.audio_output_lengths,
        input_features_shape=prepare.input_features_shape,
        audio_embeddings_shape=prepare.audio_embeddings_shape,
        generated_tokens=[generated],
        generated_tokens_total=generated,
        generated_tokens_per_second=round(generated / decode, 2) if decode else None,
        realtime_factor=round(utterance.seconds / watch.busy, 2) if segments and watch.busy else None,
        memory=Memory.read(),
        prepare=prepare,
    )


def _prepare_profile(
    utterance: Utterance, segments: Sequence[DecodedSegment], watch: Stopwatch, hidden_size: int
) -> Profile:
    """The profile of the work before decoding."""
    stages = [watch.read(name) for name in ("feature_extract", "prompt_assembly", "audio_tower")]
    measured = [seconds for seconds in stages if seconds is not None]
    frames = [part.frames for segment in segments for part in segment.last]
    audio_tokens = [part.audio_tokens for segment in segments for part in segment.last]
    return Profile(
        stage="prepare",
        audio_samples=[len(utterance.samples)],
        audio_seconds=round(utterance.seconds, 4),
        feature_extract_seconds=stages[0],
        prompt_assembly_seconds=stages[1],
        audio_tower_seconds=stages[2],
        total_seconds=round(sum(measured), 4) if measured else None,
        audio_feature_lengths=frames,
        audio_output_lengths=audio_tokens,
        input_features_shape=[1, NUM_MEL_BINS, sum(frames)],
        audio_embeddings_shape=[sum(audio_tokens), hidden_size],
    )
