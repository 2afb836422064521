"""scripts/qwen3-asr-mlx-perftest: speed and memory of the engine on files."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.command import complain, guarded, note
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.engines.api import DecoderMode, OnProgress, Progress
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.errors import AudioNotFound, BridgeError, EngineUnavailable, ModelError
from qwen3_asr_mlx_runtime.limits import MAX_NEW_TOKENS
from qwen3_asr_mlx_runtime.model_name import (
    DEFAULT_ALIGNER,
    DEFAULT_MODEL,
    DEMO,
    DEMO_KNOWS,
    chosen_model,
    is_repository,
    model,
)
from qwen3_asr_mlx_runtime.settings import ALIGN_DECODERS, QUANTIZE, SLOW_ON_A_CPU, Settings
from qwen3_asr_mlx_runtime.tools.command import table_console
from qwen3_asr_mlx_runtime.tools.manifest import Entry, bad_line, read_manifest
from qwen3_asr_mlx_runtime.tools.progress_bar import progress_bar

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
    from qwen3_asr_mlx_runtime.engine.word_aligner import WordAligner
    from qwen3_asr_mlx_runtime.tools.perftest.performance import ShowProgress
    from qwen3_asr_mlx_runtime.tools.perftest.report import Performance
    from qwen3_asr_mlx_runtime.tools.score.word_times import References

PROGRAM = "qwen3-asr-mlx-perftest"
BATCH_SIZES: dict[str, int] = {"sequential": 1, "batched": 8}
EXAMPLES = f"""examples:
  {PROGRAM} demo examples/audio/sample.wav --show-text
  {PROGRAM} Qwen/Qwen3-ASR-0.6B talk.wav --decoder-mode batched --repeat 3
  {PROGRAM} demo --manifest examples/audio/expected.jsonl --json > predictions.json
  {PROGRAM} demo --words --manifest examples/audio/expected.jsonl

The first argument is the model if it is `demo`, a folder, or owner/name and no file, unless --model names one. The
languages of a manifest are only for comparison: the model decides by itself unless --language names one.
"""


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a file or the model is at fault, with one line on stderr; 2 for a bad command line."""
    parser = command_line()
    options = parser.parse_args(argv)
    options.model, words = choose_model(options.model, options.words, os.environ)
    check_words(parser, options)
    if not words and options.manifest is None:
        taken = f"; {options.words[0]!r} is no file and was taken for the model" if options.words else ""
        parser.error(f"expected a FILE, or --manifest{taken}")
    return _perftest(options, words)


def choose_model(model: str | None, words: Sequence[str], environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """(the model, the files)"""
    if model is None and words and _is_model(words[0]):
        return words[0], list(words[1:])
    return chosen_model(model, environ), list(words)


def _is_model(word: str) -> bool:
    path = values.expanded(word) or Path(word)
    return word == DEMO or path.is_dir() or (is_repository(word) and not path.exists())


def command_line() -> Parser:
    parser = Parser(PROGRAM, "Load a model once, transcribe files, and report time, tokens and memory.", EXAMPLES)
    add = parser.add_argument
    count = values.whole_number(1, 1_000_000)
    add("words", metavar="[MODEL] FILE", nargs="*", help="the model (see below), and sound files")
    add("--model", type=model, help=f"repository, folder, or `demo` (QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL})")
    add("--manifest", type=Path, metavar="FILE", help="JSON lines with `audio`, from its folder, and `text`")
    add("--decoder-mode", choices=get_args(DecoderMode), default="sequential", help="default %(default)s")
    add("--batch-size", type=count, help="files given to the engine at a time (default 1, or 8 if batched)")
    add("--repeat", type=count, default=1, metavar="N", help="number of runs; the result is their median")
    tokens = values.whole_number(0, MAX_NEW_TOKENS)
    add("--max-new-tokens", type=tokens, default=0, help="of 30 s of audio (default 0: until the model stops)")
    add("--language", type=values.language, help="name or ISO code; by default the model decides")
    add("--context", type=values.context, default="", help="words or text given to the model as background")
    add("--quantize", choices=QUANTIZE, help=f"the decoder's weights in 8 or 4 bits, the rest in 8; {SLOW_ON_A_CPU}")
    add("--local-files-only", action="store_true", help="never download")
    add_words(parser)
    add("--show-text", action="store_true", help="texts in the table too; --json always has them")
    add("--json", action="store_true", help="one object in place of tables")
    return parser


def add_words(parser: Parser) -> None:
    add = parser.add_argument
    add("--words", action="store_true", dest="with_words", help="also find when each word is said")
    add(
        "--aligner", type=model, metavar="MODEL", help=f"finds them ({DEFAULT_ALIGNER}, or the embedded one for `demo`)"
    )
    add("--align-decoder", choices=ALIGN_DECODERS, help=f"how (default {Settings.align_decoder})")


def check_words(parser: Parser, options: argparse.Namespace) -> None:
    for name in ("aligner", "align_decoder"):
        if getattr(options, name) and not options.with_words:
            parser.error(f"--{name.replace('_', '-')} goes with --words alone")


def _perftest(options: argparse.Namespace, words: Sequence[str]) -> int:
    from qwen3_asr_mlx_runtime.model.device import check_device

    check_device()  # before the imports that need one
    from qwen3_asr_mlx_runtime.tools.perftest.table import show_performance  # before the work: rich may be missing

    entries = listed(options.manifest) if options.manifest else ()
    files = [*_existing_files(words), *((entry.audio, entry.path) for entry in entries)]
    if options.model == DEMO and not options.json:
        note(f"{PROGRAM}: {DEMO_KNOWS}")
    try:
        with progress_bar() as show_progress:
            performance = measure(options, files, show_progress, {entry.audio: entry.words for entry in entries})
    except ModelError as error:
        return complain(PROGRAM, f"model {options.model!r}: {error.message}")
    if options.json:
        sys.stdout.write(msgspec.json.encode(performance).decode() + "\n")
    else:
        show_performance(table_console(), performance, options.show_text)
    return _exit_code(performance)


def _existing_files(words: Sequence[str]) -> list[tuple[str, Path]]:
    for word in words:
        if not Path(word).exists():
            raise AudioNotFound(f"no such file: {word!r}")
    return [(word, Path(word)) for word in words]


def listed(manifest: Path) -> list[Entry]:
    """The entries of a manifest, all with existing files. Raises InvalidParams, which names the line at fault."""
    entries = read_manifest(manifest)
    for entry in entries:
        if not entry.path.exists():
            raise bad_line(manifest, entry.line, f"no such file: {str(entry.path)!r}")
    return entries


def measure(
    options: argparse.Namespace,
    files: Sequence[tuple[str, Path]],
    show_progress: "ShowProgress",
    references: "References | None" = None,
) -> "Performance":
    """Imports MLX, after the command line and the files are checked. `references`: the words of the manifest. Raises
    ModelError, DeviceUnavailable, or EngineUnavailable if the aligner is at fault."""
    process_memory.keep_little()  # as the bridge does
    from qwen3_asr_mlx_runtime.model.device import check_device

    check_device()  # before the imports that need one
    import mlx.core as mx

    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
    from qwen3_asr_mlx_runtime.tools.perftest.performance import Plan, transcribe, warm_up
    from qwen3_asr_mlx_runtime.tools.perftest.report import report

    plan = Plan(
        files,
        options.decoder_mode,
        options.batch_size or BATCH_SIZES[options.decoder_mode],
        options.repeat,
        options.language,
        options.context,
        options.max_new_tokens,
        (options.align_decoder or Settings.align_decoder) if options.with_words else None,
    )
    watch = Stopwatch()

    def on_progress(progress: Progress) -> None:
        show_progress(progress.stage, progress.done, progress.total)

    recognizer = Recognizer.load(
        options.model,
        cache_dir=values.expanded(os.environ.get("QWEN3_ASR_MLX_CACHE_DIR")),
        state_dir=values.state_dir(None, os.environ),
        quantize=options.quantize,
        local_files_only=options.local_files_only,
        on_progress=on_progress,
    )
    if options.quantize and mx.default_device() == mx.cpu:
        note(f"{PROGRAM}: --quantize {options.quantize}: quantised weights are {SLOW_ON_A_CPU}")
    loaded = watch.total
    aligner, aligner_load_seconds = _aligner(options, recognizer, on_progress) if options.with_words else (None, None)
    before = (loaded, warm_up(recognizer, plan))
    passes = transcribe(recognizer, plan, show_progress, aligner)
    return report(
        options.model, options.quantize, recognizer, plan, before, passes, aligner_load_seconds, references or {}
    )


def _aligner(
    options: argparse.Namespace, recognizer: "Recognizer", on_progress: OnProgress
) -> "tuple[WordAligner, float]":
    """The loaded aligner, and the seconds that it took."""
    from qwen3_asr_mlx_runtime.engine.word_aligner import WordAligner

    watch = Stopwatch()
    settings = Settings(
        model=options.model,
        aligner=options.aligner,
        align_decoder=options.align_decoder or Settings.align_decoder,
        cache_dir=values.expanded(os.environ.get("QWEN3_ASR_MLX_CACHE_DIR")),
        state_dir=values.state_dir(None, os.environ),
        quantize=options.quantize,
        local_files_only=options.local_files_only,
    )
    aligner = WordAligner(recognizer, settings)
    try:
        aligner.load(on_progress)
    except BridgeError as error:
        raise EngineUnavailable(f"aligner {aligner.name!r}: {error.message}") from None
    return aligner, watch.total


def _exit_code(performance: "Performance") -> int:
    errors = [item.error for item in performance.items if isinstance(item.error, msgspec.Struct)]
    if not errors:
        return 0
    if len(performance.items) == 1:
        return complain(PROGRAM, errors[0].message)
    return complain(PROGRAM, f"{len(errors)} of {len(performance.items)} files failed; the first: {errors[0].message}")
