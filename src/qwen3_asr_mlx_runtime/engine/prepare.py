"""Samples → the decoder's input: features, audio tower, prompt, splice."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import mlx.core as mx

from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engines.api import Partial
from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count, token_budget
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.model.blocks import block_ends, closed_windows
from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.features import Features, log_mel
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.model.language import LanguageChoice, Names
from qwen3_asr_mlx_runtime.model.prompt import Prompt, PromptBuilder
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import splice
from qwen3_asr_mlx_runtime.model.terms import TermTrie
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False, slots=True)
class Segment:
    """The unit of decoding: a whole utterance, or at most `max_segment_seconds` of it, from its sample `start` on."""

    utterance: Utterance
    samples: Samples
    watch: Stopwatch
    start: int = 0

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def without_words(self) -> "Segment":
        """The same without context and terms."""
        return replace(self, utterance=replace(self.utterance, context="", terms=()))


@dataclass(frozen=True, eq=False, slots=True)
class DecoderInput:
    """Prompt embeddings with the audio in them, (1, L, D), and the token budget.

    `frames`: mel frames. `audio_tokens`: the audio positions among L. `blocks`: the positions among L where the prefill
    is cut. `cache`: the keys and values of the first positions, if they are computed already. `names`: the languages
    to choose from, before the text. `choice`: the one that was chosen. `terms`: of the text.
    """

    embeddings: mx.array
    max_new_tokens: int
    frames: int
    audio_tokens: int
    blocks: tuple[int, ...] = ()
    cache: list[KVCache] | None = None
    names: Names = field(default_factory=dict)
    choice: LanguageChoice | None = None
    terms: TermTrie | None = None

    def decoded(self, tokens: Sequence[Token], tokenizer: Tokenizer) -> DecodedSegment:
        """With the tokens that were decoded from it."""
        raw_text = tokenizer.decode(token.id for token in tokens)
        return DecodedSegment(raw_text, tokens, self.frames, self.audio_tokens, self.choice)


class Preparation:
    """The steps from audio to the decoder's input."""

    def __init__(self, model: Qwen3ASR, tokenizer: Tokenizer, governor: Governor, max_segment_seconds: float) -> None:
        self._model = model
        self._governor = governor
        self._prompts = PromptBuilder(tokenizer)
        self.max_segment_seconds = max_segment_seconds

    @property
    def packs(self) -> bool:
        """Whether several segments go through the tower together."""
        return self._model.packs

    def cut(self, utterance: Utterance, watch: Stopwatch) -> list[Segment]:
        """Cut a long utterance into segments at quiet places; segments without a mel frame are omitted."""
        spans = split_at_quiet(utterance.samples, self.max_segment_seconds)
        segments = [Segment(utterance, utterance.samples[start:stop], watch, start) for start, stop in spans]
        return [segment for segment in segments if frame_count(len(segment.samples))]

    def prepare(self, segments: Sequence[Segment]) -> list[DecoderInput | InvalidParams]:
        """Prepare segments of one or several utterances together. InvalidParams: the context does not fit.

        Raises OutOfMemory if memory is too small for all of them together.
        """
        self.admit(segments)
        features = []
        for segment in segments:
            with segment.watch.stage("feature_extract"):
                features.append(log_mel(segment.samples))
        audio = self._encode(segments, features)
        return [self._assemble(*parts) for parts in zip(segments, features, audio, strict=True)]

    def admit(self, segments: Sequence[Segment]) -> None:
        """Raise OutOfMemory if memory is too small for all of them together."""
        samples = sum(len(segment.samples) for segment in segments)
        positions = []
        for segment in segments:
            length = self.prompt(segment.utterance).length(audio_token_count(frame_count(len(segment.samples))))
            positions.append(length + (segment.utterance.max_new_tokens or token_budget(segment.seconds)))
        limit = self._model.config.text.max_position_embeddings
        self._governor.admit(samples, min(limit, max(positions)), rows=len(segments))

    def _encode(self, segments: Sequence[Segment], features: Sequence[Features]) -> list[mx.array]:
        watch = Stopwatch()
        with watch.stage("audio_tower"):
            audio = self._model.embed_audio(features)
            mx.eval(audio)
        total = sum(map(len, features))
        for segment, frames in zip(segments, features, strict=True):
            segment.watch.add("audio_tower", watch.seconds["audio_tower"] * len(frames) / total)
        return audio

    def _assemble(self, segment: Segment, features: Features, audio: mx.array) -> DecoderInput | InvalidParams:
        utterance = segment.utterance
        with segment.watch.stage("prompt_assembly"):
            prompt = self.prompt(utterance)
            embeddings = splice(self._model.embed(prompt.prefix_ids), audio, self._model.embed(prompt.suffix_ids))
            try:
                budget = self.budget(utterance.max_new_tokens, segment.seconds, prompt.length(len(audio)))
            except InvalidParams as error:
                return error
        blocks = () if self.packs else self._blocks(len(prompt.prefix_ids), len(segment.samples))
        counts = len(features), audio.shape[0]
        return DecoderInput(embeddings, budget, *counts, blocks, names=prompt.names, terms=prompt.terms)

    def _blocks(self, head: int, samples: int) -> tuple[int, ...]:
        size = self._model.audio_tower.window_frames
        return block_ends(head, closed_windows(samples, size), audio_token_count(size))

    def prompt(self, options: Utterance | Partial) -> Prompt:
        return self._prompts.build(options.context, options.language, options.languages, options.terms)

    def budget(self, max_new_tokens: int, seconds: float, prompt_length: int) -> int:
        """The token budget: `max_new_tokens`, or for 0 what the audio can need, within the model's positions."""
        limit, likely = self._model.config.text.max_position_embeddings, token_budget(seconds)
        wanted = max_new_tokens or likely
        needed = prompt_length + min(wanted, likely)
        if needed > limit:
            message = f"context, audio and text need {needed} positions, the model has {limit}"
            raise InvalidParams(message, field="context")
        return min(wanted, limit - prompt_length)
