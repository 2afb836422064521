"""Checks the aligner: it loads, and finds in known audio when each word is said."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen3_asr_mlx_runtime.checkpoint.files import read_config
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve_aligner
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.word_aligner import WordAligner
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.model.config import AlignerConfig
from qwen3_asr_mlx_runtime.protocol.transcripts import Word
from qwen3_asr_mlx_runtime.session.results import MIN_CONFIDENCE, FoundWords, join_words
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure, ok, warning
from qwen3_asr_mlx_runtime.tools.doctor.machine_check import check_model_files, unusable
from qwen3_asr_mlx_runtime.tools.doctor.self_check import known_utterances

_REPORT = "report it with this output: times of words cannot be trusted on this device"


def check_words(aligner: str, cache_dir: Path | None) -> Iterator[Finding]:
    """Align the audio of the self-check, whose text the demonstration checkpoint writes, in the languages that the
    aligner knows. `aligner`: `demo`, a folder, or a repository in the cache."""
    whole = True
    for finding in check_model_files(aligner, cache_dir, "always", kind="aligner"):
        whole &= finding.level == "ok"
        yield finding
    if whole:
        yield from _check_loaded(aligner, cache_dir)


def _check_loaded(name: str, cache_dir: Path | None) -> Iterator[Finding]:
    recognizer = Recognizer.load("demo")
    settings = Settings(model="demo", aligner=name, cache_dir=cache_dir, local_files_only=True)
    aligner = WordAligner(recognizer, settings)
    try:
        aligner.load()
        config = read_config(resolve_aligner(name, Hub(cache=cache_dir), local_files_only=True), AlignerConfig)
    except BridgeError as error:
        yield unusable(f"the aligner {name}", error)
        return
    languages = {language.casefold() for language in config.languages}
    yield ok(f"the aligner {name} knows {', '.join(sorted(map(str.capitalize, languages)))}")
    utterances = known_utterances()
    pairs = list(zip(utterances, recognizer.transcribe_batch(utterances), strict=True))
    known = [(utterance, it) for utterance, it in pairs if it.language and it.language.casefold() in languages]
    if not known:
        yield warning(
            f"the aligner {name} was not tried: it knows no language of the known audio", "try it on your own"
        )
        return
    yield _finding(
        known,
        [
            join_words(it, outcomes, settings.align_decoder)
            for (_, it), outcomes in zip(known, aligner.align(known), strict=True)
        ],
    )


def _finding(known: Sequence[tuple[Utterance, Transcript]], found: Sequence[FoundWords]) -> Finding:
    errors = [each.error for each in found if each.error is not None]
    if errors:
        return failure(f"{len(errors)} of {len(found)} known clips have no words: {errors[0].message}", _REPORT)
    words = [each.words or [] for each in found]
    wrong = sum(
        trouble(each, transcript.text, utterance.seconds)
        for each, (utterance, transcript) in zip(words, known, strict=True)
    )
    if wrong:
        return failure(f"{wrong} of {len(found)} known clips have words without a time in their audio", _REPORT)
    seconds = sum(each.aligner.seconds for each in found if each.aligner)
    audio = sum(utterance.seconds for utterance, _ in known)
    sure = [word.time_confidence or 0.0 for each in words for word in each]
    if (mean := sum(sure) / len(sure)) < MIN_CONFIDENCE:
        return warning(f"the words of known audio have times, but their confidence is {mean:.2f}", "try your own audio")
    return ok(f"each of {len(sure)} words has its time in the audio: {audio:.1f} s were aligned in {seconds:.2f} s")


def trouble(words: Sequence[Word], text: str, seconds: float) -> bool:
    """Whether a word of the text is missing, lies outside of the audio or before another, or has no time of its own."""
    latest = 0.0
    for word in words:
        if word.time_confidence is None or not latest <= word.start < word.end <= seconds + 0.001:
            return True
        latest = word.end
    return [word.text for word in words] != text.split()
