"""Transcribes files with the engine, measuring time and memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.word_aligner import WordAligner
from qwen3_asr_mlx_runtime.engines.api import DecoderMode, Failed, Finished, Job
from qwen3_asr_mlx_runtime.engines.profile import Profile, Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.transcripts import Aligner, ItemError, Word
from qwen3_asr_mlx_runtime.session.results import FoundWords, join_words
from qwen3_asr_mlx_runtime.settings import AlignDecoder

WARM_UP_TOKENS = 4

ShowProgress = Callable[[str, int | None, int | None], None]
"""Called with a stage, the amount done, and the total."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`files`: the name and the path of each. `batch_size`: how many the engine gets at a time. `align_decoder`: of the
    words; None if none are wanted."""

    files: Sequence[tuple[str, Path]]
    decoder_mode: DecoderMode = "sequential"
    batch_size: int = 1
    repeat: int = 1
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0
    align_decoder: AlignDecoder | None = None


class Item(msgspec.Struct, kw_only=True):
    """One file; its fields have the same meaning as in a reply of the bridge. With an `error`, `text` and the other
    results of the model are null."""

    audio: str
    text: str | None = None
    language: str | None = None
    finish_reason: str | None = None
    generated_tokens: int | None = None
    audio_embeddings_shape: tuple[int, int] | None = None
    redecoded: int | None = None
    warnings: tuple[str, ...] = ()
    profile: Profile | None = None
    words: list[Word] | UnsetType | None = UNSET
    aligner: Aligner | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


@dataclass(slots=True)
class Pass:
    """One run over all files. `seconds`: the engine's wall-clock time, without reading the files and without
    `align_seconds`, which the words took."""

    items: list[Item] = field(default_factory=list)
    seconds: float = 0.0
    read_seconds: float = 0.0
    align_seconds: float = 0.0


def warm_up(recognizer: Recognizer, plan: Plan) -> float:
    """Decode a few tokens of the first readable file, which compiles the kernels of its length. Returns the seconds;
    raises the first file's error if no file is readable."""
    first: BridgeError | None = None
    for _, path in plan.files:
        try:
            utterance = _utterance(path, plan)
        except BridgeError as error:
            first = first or error
            continue
        watch = Stopwatch()
        recognizer.outcomes([Job(0, replace(utterance, max_new_tokens=WARM_UP_TOKENS), plan.decoder_mode)])
        return watch.total
    raise first or ValueError("expected at least one file")


def transcribe(
    recognizer: Recognizer, plan: Plan, show_progress: ShowProgress, aligner: WordAligner | None = None
) -> list[Pass]:
    """`plan.repeat` passes over all files. A failed file is an item with an error. `aligner`: finds the words, if
    `plan` wants them."""
    return [_pass(recognizer, plan, show_progress, number, aligner) for number in range(plan.repeat)]


def _pass(
    recognizer: Recognizer, plan: Plan, show_progress: ShowProgress, number: int, aligner: WordAligner | None
) -> Pass:
    current, watch = Pass(), Stopwatch()
    total = plan.repeat * len(plan.files)
    for group in _groups(plan):
        show_progress("transcribe", number * len(plan.files) + len(current.items), total)
        with watch.stage("read"):
            read = [_read(path, plan) for _, path in group]
        utterances = {id: file for id, file in enumerate(read) if isinstance(file, Utterance)}
        jobs = [Job(id, utterance, plan.decoder_mode) for id, utterance in utterances.items()]
        with watch.stage("run"):
            outcomes = {outcome.job_id: outcome for outcome in recognizer.outcomes(jobs)}
        items = [
            _item(audio, file if isinstance(file, BridgeError) else outcomes[id])
            for id, ((audio, _), file) in enumerate(zip(group, read, strict=True))
        ]
        if aligner is not None and plan.align_decoder is not None:
            finished = {id: each.transcript for id, each in outcomes.items() if isinstance(each, Finished)}
            with watch.stage("align"):
                aligned = aligner.align((utterances[id], transcript) for id, transcript in finished.items())
            for (id, transcript), ends in zip(finished.items(), aligned, strict=True):
                _add_words(items[id], join_words(transcript, ends, plan.align_decoder))
        current.items += items
    show_progress("transcribe", (number + 1) * len(plan.files), total)
    current.seconds, current.read_seconds = watch.read("run") or 0.0, watch.read("read") or 0.0
    current.align_seconds = watch.read("align") or 0.0
    return current


def _add_words(item: Item, found: FoundWords) -> None:
    item.words, item.aligner = found.words, found.aligner or UNSET
    item.warnings = (*item.warnings, *found.warnings)


def _groups(plan: Plan) -> Iterator[Sequence[tuple[str, Path]]]:
    for start in range(0, len(plan.files), plan.batch_size):
        yield plan.files[start : start + plan.batch_size]


def _utterance(path: Path, plan: Plan) -> Utterance:
    recording = read_file(str(path))
    return Utterance(
        recording.samples,
        plan.language,
        plan.context,
        plan.max_new_tokens,
        logprobs=plan.align_decoder is not None,  # the confidence of a word is made of them
        warnings=recording.warnings,
    )


def _read(path: Path, plan: Plan) -> Utterance | BridgeError:
    try:
        return _utterance(path, plan)
    except BridgeError as error:
        return error


def _item(audio: str, outcome: Finished | Failed | BridgeError) -> Item:
    match outcome:
        case Finished(transcript=transcript):
            return _transcribed(audio, transcript)
        case Failed(error=error) | (BridgeError() as error):
            return Item(audio=audio, error=ItemError(code=error.code, message=error.message))


def _transcribed(audio: str, transcript: Transcript) -> Item:
    return Item(
        audio=audio,
        text=transcript.text,
        language=transcript.language,
        finish_reason=transcript.finish_reason,
        generated_tokens=len(transcript.token_ids),
        audio_embeddings_shape=transcript.audio_embeddings_shape,
        redecoded=transcript.redecoded,
        warnings=transcript.warnings,
        profile=transcript.profile,
    )
