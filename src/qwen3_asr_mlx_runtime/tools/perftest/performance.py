"""Transcribes files with the engine, measuring time and memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import DecoderMode, Failed, Finished, Job
from qwen3_asr_mlx_runtime.engines.profile import Profile, Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.transcripts import ItemError

WARM_UP_TOKENS = 4

ShowProgress = Callable[[str, int | None, int | None], None]
"""Called with a stage, the amount done, and the total."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`files`: the name and the path of each. `batch_size`: how many the engine gets at a time."""

    files: Sequence[tuple[str, Path]]
    decoder_mode: DecoderMode = "sequential"
    batch_size: int = 1
    repeat: int = 1
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0


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
    error: ItemError | UnsetType = UNSET


@dataclass(slots=True)
class Pass:
    """One run over all files. `seconds`: the engine's wall-clock time, without reading the files."""

    items: list[Item] = field(default_factory=list)
    seconds: float = 0.0
    read_seconds: float = 0.0


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


def transcribe(recognizer: Recognizer, plan: Plan, show_progress: ShowProgress) -> list[Pass]:
    """`plan.repeat` passes over all files. A failed file is an item with an error."""
    return [_pass(recognizer, plan, show_progress, number) for number in range(plan.repeat)]


def _pass(recognizer: Recognizer, plan: Plan, show_progress: ShowProgress, number: int) -> Pass:
    current, watch = Pass(), Stopwatch()
    total = plan.repeat * len(plan.files)
    for group in _groups(plan):
        show_progress("transcribe", number * len(plan.files) + len(current.items), total)
        with watch.stage("read"):
            read = [_read(path, plan) for _, path in group]
        jobs = [Job(id, file, plan.decoder_mode) for id, file in enumerate(read) if isinstance(file, Utterance)]
        with watch.stage("run"):
            outcomes = {outcome.job_id: outcome for outcome in recognizer.outcomes(jobs)}
        current.items += [
            _item(audio, file if isinstance(file, BridgeError) else outcomes[id])
            for id, ((audio, _), file) in enumerate(zip(group, read, strict=True))
        ]
    show_progress("transcribe", (number + 1) * len(plan.files), total)
    current.seconds, current.read_seconds = watch.read("run") or 0.0, watch.read("read") or 0.0
    return current


def _groups(plan: Plan) -> Iterator[Sequence[tuple[str, Path]]]:
    for start in range(0, len(plan.files), plan.batch_size):
        yield plan.files[start : start + plan.batch_size]


def _utterance(path: Path, plan: Plan) -> Utterance:
    recording = read_file(str(path))
    return Utterance(recording.samples, plan.language, plan.context, plan.max_new_tokens, warnings=recording.warnings)


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
