"""One utterance from job to transcript: its segments, what is prepared of them, what is written."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from qwen3_asr_mlx_runtime.engine.assemble import Piece, assemble
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation, Segment
from qwen3_asr_mlx_runtime.engines.api import Failed, Finished, Job
from qwen3_asr_mlx_runtime.engines.profile import Reuse, Stopwatch
from qwen3_asr_mlx_runtime.errors import BridgeError, DecodeFailed
from qwen3_asr_mlx_runtime.model.device import as_device_failure
from qwen3_asr_mlx_runtime.model.generate import Token, generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

Steps = Generator[None, None, None]
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class JobSequence:
    """`inputs` are prepared and not decoded, `pieces` are decoded, both by the index of their segment.

    `redecoded` counts the pieces that left a batch to be decoded alone; `verified` the tokens that were written while
    it was open, None where there were no partials.
    """

    job: Job
    watch: Stopwatch = field(default_factory=Stopwatch)
    segments: list[Segment] = field(default_factory=list)
    prepared: int = 0
    inputs: dict[int, DecoderInput] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    redecoded: int = 0
    verified: int | None = None
    reuse: Reuse | None = None
    error: BridgeError | None = None

    @classmethod
    def of(cls, job: Job, preparation: Preparation) -> "JobSequence":
        recognition = cls(job)
        try:
            recognition.segments = preparation.cut(job.utterance, recognition.watch)
        except Exception as error:  # noqa: BLE001 whatever its audio provokes becomes its outcome
            recognition.error = failure(error)
        return recognition

    @property
    def unprepared(self) -> Segment | None:
        """The next segment to prepare."""
        return self.segments[self.prepared] if self.prepared < len(self.segments) and self.error is None else None

    @property
    def is_done(self) -> bool:
        return self.error is not None or len(self.pieces) == len(self.segments)

    def prepared_as(self, made: DecoderInput | BridgeError) -> None:
        """What became of the segment that was next."""
        if isinstance(made, BridgeError):
            self.error = made
        else:
            self.inputs[self.prepared] = made
        self.prepared += 1

    def written(self, index: int, tokens: list[Token], raw_text: str) -> None:
        made = self.inputs.pop(index)
        self.pieces[index] = Piece(raw_text, tokens, made.frames, made.audio_tokens)

    def outcome(self, hidden_size: int) -> Finished | Failed:
        """Of one that is done."""
        if self.error is not None:
            return Failed(self.job.id, self.error)
        pieces = [self.pieces[index] for index in range(len(self.segments))]
        try:
            transcript = assemble(
                self.job.utterance,
                pieces,
                self.watch,
                hidden_size,
                redecoded=self.redecoded,
                verified_tokens=self.verified,
                reuse=self.reuse,
            )
        except Exception as error:  # noqa: BLE001 whatever its text provokes becomes its outcome
            return Failed(self.job.id, failure(error))
        return Finished(self.job.id, transcript)


def prepare_next(recognitions: Sequence[JobSequence], preparation: Preparation) -> None:
    """Prepare the next segment of each together; where that fails, one by one, so that only the guilty one fails."""
    segments = [recognition.segments[recognition.prepared] for recognition in recognitions]
    try:
        prepared: Sequence[DecoderInput | BridgeError] = preparation.prepare(segments)
    except Exception as error:  # noqa: BLE001 whatever a segment provokes becomes the outcome of its job
        if len(recognitions) > 1:
            for recognition in recognitions:
                prepare_next([recognition], preparation)
            return
        prepared = [failure(error)]
    for recognition, made in zip(recognitions, prepared, strict=True):
        recognition.prepared_as(made)


def decode(
    model: Qwen3ASR, eos_ids: frozenset[int], made: DecoderInput, watch: Stopwatch, *, logprobs: bool
) -> Generator[None, None, list[Token]]:
    """Decode one segment alone. Yields after each token."""
    steps = generate(
        model,
        made.embeddings,
        eos_ids,
        made.max_new_tokens,
        logprobs=logprobs,
        blocks=made.blocks,
        cache=made.cache,
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
    """The same steps, each counted among the seconds of its stage."""
    for stage in stages:
        with watch.stage(stage):
            try:
                next(steps)
            except StopIteration as end:
                return cast(Result, end.value)
        yield
    raise ValueError("more steps than stages")


def failure(error: Exception) -> BridgeError:
    """What a job fails with."""
    if isinstance(error, BridgeError):
        return error
    return as_device_failure(error) or DecodeFailed(f"decoding failed: {type(error).__name__}")
