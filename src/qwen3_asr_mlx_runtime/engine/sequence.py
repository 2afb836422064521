"""One utterance from job to transcript: its segments, their decoder inputs, their results."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import mlx.core as mx

from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment, assemble
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation, Segment
from qwen3_asr_mlx_runtime.engines.api import Failed, Finished, Job
from qwen3_asr_mlx_runtime.engines.profile import Reuse, Stopwatch
from qwen3_asr_mlx_runtime.errors import BridgeError, DecodeFailed
from qwen3_asr_mlx_runtime.model.device import as_device_failure
from qwen3_asr_mlx_runtime.model.generate import Token, generate
from qwen3_asr_mlx_runtime.model.language import NO_LANGUAGE, choose_language
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

Steps = Generator[None, None, None]
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class JobSequence:
    """`inputs`: prepared segments that are not decoded yet; `decoded`: results; both by the index of the segment.

    `redecoded` counts the segments that left a batch to be decoded alone. `verified` counts the tokens accepted from
    drafts; None without partials.
    """

    job: Job
    watch: Stopwatch = field(default_factory=Stopwatch)
    segments: list[Segment] = field(default_factory=list)
    prepared: int = 0
    inputs: dict[int, DecoderInput] = field(default_factory=dict)
    decoded: dict[int, DecodedSegment] = field(default_factory=dict)
    redecoded: int = 0
    verified: int | None = None
    reuse: Reuse | None = None
    error: BridgeError | None = None

    @classmethod
    def of(cls, job: Job, preparation: Preparation) -> "JobSequence":
        recognition = cls(job)
        try:
            recognition.segments = preparation.cut(job.utterance, recognition.watch)
        except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
            recognition.error = failure(error)
        return recognition

    @property
    def unprepared(self) -> Segment | None:
        """The next segment to prepare."""
        return self.segments[self.prepared] if self.prepared < len(self.segments) and self.error is None else None

    @property
    def is_done(self) -> bool:
        return self.error is not None or len(self.decoded) == len(self.segments)

    def set_prepared(self, prepared: DecoderInput | BridgeError) -> None:
        """Record the decoder input of the next segment, or the error of its preparation."""
        if isinstance(prepared, BridgeError):
            self.error = prepared
        else:
            self.inputs[self.prepared] = prepared
        self.prepared += 1

    def add_decoded(self, index: int, decoded: DecodedSegment) -> None:
        """The result of a segment, whose decoder input is needed no more."""
        del self.inputs[index]
        self.decoded[index] = decoded

    def outcome(self, hidden_size: int, tokenizer: Tokenizer) -> Finished | Failed:
        """The outcome of a finished job."""
        if self.error is not None:
            return Failed(self.job.id, self.error)
        decoded = [self.decoded[index] for index in range(len(self.segments))]
        try:
            transcript = assemble(
                self.job.utterance,
                decoded,
                [(segment.start, segment.start + len(segment.samples)) for segment in self.segments],
                self.watch,
                hidden_size,
                tokenizer,
                redecoded=self.redecoded,
                verified_tokens=self.verified,
                reuse=self.reuse,
            )
        except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
            return Failed(self.job.id, failure(error))
        return Finished(self.job.id, transcript)


def prepare_next(recognitions: Sequence[JobSequence], preparation: Preparation) -> None:
    """Prepare the next segment of each together; if that fails, one by one, so that only the faulty one fails."""
    segments = [recognition.segments[recognition.prepared] for recognition in recognitions]
    try:
        prepared: Sequence[DecoderInput | BridgeError] = preparation.prepare(segments)
    except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
        if len(recognitions) > 1:
            for recognition in recognitions:
                prepare_next([recognition], preparation)
            return
        prepared = [failure(error)]
    for recognition, result in zip(recognitions, prepared, strict=True):
        recognition.set_prepared(result)


def with_language(model: Qwen3ASR, decoder_input: DecoderInput) -> DecoderInput:
    """Choose among the names of an input, if it has some: the chosen one ends the prompt, whose beginning is cached."""
    if not decoder_input.names:
        return decoder_input
    prompt, names = decoder_input.embeddings, decoder_input.names
    cache = model.make_cache(1) if decoder_input.cache is None else decoder_input.cache
    choice = choose_language(model, prompt, cache, decoder_input.blocks, names)
    named = model.embed(names[choice.language or NO_LANGUAGE])[None]
    embeddings = mx.concatenate([prompt, named], axis=1)
    return replace(decoder_input, embeddings=embeddings, cache=cache, names={}, choice=choice)


def decode_alone(
    model: Qwen3ASR,
    tokenizer: Tokenizer,
    preparation: Preparation,
    segment: Segment,
    decoder_input: DecoderInput,
) -> Generator[None, None, DecodedSegment]:
    """Decode one segment alone, and again without its context and terms where its text may be an echo of them. Yields
    between forward passes."""
    utterance, watch = segment.utterance, segment.watch
    may_echo = echo.may_echo(utterance, segment.samples)
    decoded = yield from _decode(model, tokenizer, decoder_input, watch, logprobs=utterance.logprobs or may_echo)
    if not (echo.is_suspect(utterance, segment.samples, decoded) and echo.is_unsure(decoded.tokens)):
        return decoded
    [without] = preparation.prepare([segment.without_words])
    if isinstance(without, BridgeError):
        raise without
    yield
    plain = yield from _decode(model, tokenizer, without, watch, logprobs=True)
    return replace(plain, context_echo=True) if echo.is_echo(utterance, decoded, plain) else decoded


def _decode(
    model: Qwen3ASR, tokenizer: Tokenizer, decoder_input: DecoderInput, watch: Stopwatch, *, logprobs: bool
) -> Generator[None, None, DecodedSegment]:
    """With the choice of a language, if there is one."""
    if decoder_input.names:
        with watch.stage("prefill"):
            decoder_input = with_language(model, decoder_input)
        yield
    tokens = yield from decode(model, tokenizer.eos_ids, decoder_input, watch, logprobs=logprobs)
    return decoder_input.decoded(tokens, tokenizer)


def decode(
    model: Qwen3ASR, eos_ids: frozenset[int], decoder_input: DecoderInput, watch: Stopwatch, *, logprobs: bool
) -> Generator[None, None, list[Token]]:
    """Decode one segment alone. Yields after each token."""
    steps = generate(
        model,
        decoder_input.embeddings,
        eos_ids,
        decoder_input.max_new_tokens,
        logprobs=logprobs,
        blocks=decoder_input.blocks,
        cache=decoder_input.cache,
        terms=decoder_input.terms,
    )
    tokens: list[Token] = []
    while not tokens or tokens[-1].finish_reason is None:
        with watch.stage("continuation" if tokens else "prefill"):
            tokens.append(next(steps))
        yield
    return tokens


def timed(
    steps: Generator[None, None, Result], watch: Stopwatch, stages: Iterable[str]
) -> Generator[None, None, Result]:
    """The same steps, each timed as part of its stage."""
    for stage in stages:
        with watch.stage(stage):
            try:
                next(steps)
            except StopIteration as end:
                return cast(Result, end.value)
        yield
    raise ValueError("more steps than stages")


def failure(error: Exception) -> BridgeError:
    """The error that a job reports for an exception."""
    if isinstance(error, BridgeError):
        return error
    return as_device_failure(error) or DecodeFailed(f"decoding failed: {type(error).__name__}")
