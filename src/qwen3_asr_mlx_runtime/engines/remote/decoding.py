"""Utterances → transcripts and hypotheses: cut as everywhere, each segment decoded by a server."""

import math
import time
from dataclasses import dataclass, field, replace

import msgspec

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.engines.remote.answers import Answer
from qwen3_asr_mlx_runtime.engines.remote.pool import Pool
from qwen3_asr_mlx_runtime.engines.transcript import (
    Hypothesis,
    TextSegment,
    Transcript,
    join_transcripts,
    parse_transcript,
    text_tokens,
)
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import UnsupportedByEngine

LEAST_SHARE = 2.0  # a partial that took a second is followed by the next one after two: half of them is left for finals
_SMOOTHING = 0.3


@dataclass(slots=True)
class Kept:
    """The transcripts of an open utterance's segments that no longer grow, by the options of its partials."""

    options: tuple[object, ...] | None = None
    segments: list[Transcript] = field(default_factory=list)


class Decoder:
    """Used on one event loop."""

    def __init__(self, pool: Pool, max_segment_seconds: float) -> None:
        self._pool = pool
        self._max_segment_seconds = max_segment_seconds
        self._partial_seconds: float | None = None  # of late

    async def transcript(self, utterance: Utterance, kept: Kept) -> Transcript:
        """The final of an utterance. Raises an EngineError."""
        segments = await self._segments(utterance, kept, waits=True)
        return join_transcripts([segment if utterance.logprobs else _without_logprobs(segment) for segment in segments])

    async def hypothesis(self, utterance: Utterance, kept: Kept) -> Hypothesis:
        """Of an utterance so far. It does not wait for a server."""
        started = time.monotonic()
        segments = await self._segments(utterance, kept, waits=False)
        seconds = time.monotonic() - started
        before = seconds if self._partial_seconds is None else self._partial_seconds
        self._partial_seconds = before + _SMOOTHING * (seconds - before)
        whole, latest = join_transcripts(segments), segments[-1]
        return Hypothesis(
            text=whole.text,
            language=whole.language,
            audio_seconds=round(utterance.seconds, 4),
            tokens=len(latest.token_ids),
            verified=0,
            seconds=seconds,
            probability=_last_probability(latest),
            interval_ms=math.ceil(LEAST_SHARE * 1000 * self._partial_seconds),
        )

    async def _segments(self, utterance: Utterance, kept: Kept, *, waits: bool) -> list[Transcript]:
        if utterance.languages:
            message = "a remote engine does not choose among `languages`: name one `language`, or none"
            raise UnsupportedByEngine(message, feature="languages")
        if utterance.terms:
            message = "a remote engine knows no `terms`: put them into `context`"
            raise UnsupportedByEngine(message, feature="terms")
        options = (utterance.language, utterance.context, utterance.max_new_tokens)
        if kept.options != options:
            kept.options, kept.segments = options, []
        spans = split_at_quiet(utterance.samples, self._max_segment_seconds)
        for start, stop in spans[len(kept.segments) : -1]:
            kept.segments.append(await self._segment(utterance, start, stop, waits=waits))
        return [*kept.segments, await self._segment(utterance, *spans[-1], waits=waits)]

    async def _segment(self, utterance: Utterance, start: int, stop: int, *, waits: bool) -> Transcript:
        segment = replace(utterance, samples=utterance.samples[start:stop])
        if not frame_count(len(segment.samples)):
            return _transcript(segment, None, 0.0)
        started = time.monotonic()
        answer = await self._pool.transcribe(segment, waits=waits)
        return _transcript(segment, answer, time.monotonic() - started)


def _transcript(utterance: Utterance, answer: Answer | None, seconds: float) -> Transcript:
    """Of one segment, with its log-probabilities; `answer`: None for one without a mel frame."""
    samples = len(utterance.samples)
    profile = Profile(stage="transcribe", audio_samples=[samples], audio_seconds=round(utterance.seconds, 4))
    if answer is None:
        return Transcript("", None, "", "stop", (), (0, 0), (), profile, logprobs=())
    frames = frame_count(samples)
    audio_tokens = audio_token_count(frames)
    profile.audio_feature_lengths, profile.audio_output_lengths = [frames], [audio_tokens]
    profile.total_seconds = round(seconds, 4)
    profile.realtime_factor = round(utterance.seconds / seconds, 2) if seconds else None
    profile.generated_tokens, profile.generated_tokens_total = [len(answer.token_ids)], len(answer.token_ids)
    language, text = parse_transcript(answer.raw_text, utterance.language)
    placed = answer.token_ends and text_tokens(answer.raw_text, text, answer.token_ends, answer.logprobs)
    return Transcript(
        text=text,
        language=language,
        raw_text=answer.raw_text,
        finish_reason=answer.finish_reason,
        token_ids=answer.token_ids,
        audio_embeddings_shape=(audio_tokens, 0),
        audio_output_lengths=(audio_tokens,),
        profile=profile,
        logprobs=answer.logprobs,
        segments=(TextSegment(0, samples, text, language, answer.finish_reason, 0, *(placed or (None, None))),),
    )


def _without_logprobs(transcript: Transcript) -> Transcript:
    segments = (msgspec.structs.replace(each, token_ends=None, token_logprobs=None) for each in transcript.segments)
    return replace(transcript, logprobs=None, segments=tuple(segments))


def _last_probability(transcript: Transcript) -> float | None:
    """Of the last token of its text."""
    logprobs = [logprob for segment in transcript.segments for logprob in segment.token_logprobs or ()]
    return round(math.exp(logprobs[-1]), 4) if transcript.text and logprobs else None
