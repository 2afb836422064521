"""scripts/qwen3-asr-mlx-evaluate: a manifest → predictions → error rates, speed and memory, of several
configurations."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import msgspec

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command import complain, guarded, note
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.errors import EngineUnavailable, InvalidParams
from qwen3_asr_mlx_runtime.limits import MAX_NEW_TOKENS
from qwen3_asr_mlx_runtime.model_name import DEFAULT_MODEL, DEMO, DEMO_KNOWS, chosen_model, model
from qwen3_asr_mlx_runtime.settings import QUANTIZE, SLOW_ON_A_CPU
from qwen3_asr_mlx_runtime.tools.command import table_console
from qwen3_asr_mlx_runtime.tools.evaluate.configuration import FULL_PRECISION, Configuration, configurations
from qwen3_asr_mlx_runtime.tools.evaluate.evaluation import Evaluation, Failure, Result, Scoring, evaluation
from qwen3_asr_mlx_runtime.tools.evaluate.measurement import Measured, ShowProgress, measure
from qwen3_asr_mlx_runtime.tools.evaluate.noise import noisy_files
from qwen3_asr_mlx_runtime.tools.evaluate.recipes import MANIFEST, RECIPES, fetch, slice_of
from qwen3_asr_mlx_runtime.tools.evaluate.table import show_evaluation
from qwen3_asr_mlx_runtime.tools.evaluate.waveform import spoken
from qwen3_asr_mlx_runtime.tools.machine import this_machine
from qwen3_asr_mlx_runtime.tools.manifest import NORMALISER_HELP, Entry, NormaliserChoice, normaliser_for
from qwen3_asr_mlx_runtime.tools.perftest import main as perftest
from qwen3_asr_mlx_runtime.tools.progress_bar import progress_bar
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap

PROGRAM = "qwen3-asr-mlx-evaluate"
LIMIT = 50
EXAMPLES = f"""examples:
  {PROGRAM} --model demo --decoder-mode sequential batched --snr-db -3 --manifest examples/audio/expected.jsonl
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B Qwen/Qwen3-ASR-1.7B --quantize none 8bit --manifest mine.jsonl
  {PROGRAM} --recipe librispeech:other --limit 100 --decoder-mode sequential batched --report librispeech.html

Every model runs with every quantisation in every decoder mode, each in its own process. Recipes are
librispeech[:clean|other], fleurs[:LANGUAGE, as de_de] and eka[:en|hi], from the Hugging Face Hub.
"""


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a configuration, a file or the data are at fault, with a line each on stderr; 2 for a bad
    command line."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = _command_line()
    options = parser.parse_args(words)
    _check(parser, options)
    perftest.check_words(parser, options)
    return _evaluate(options, shlex.join([PROGRAM, *words]))


def _check(parser: Parser, options: argparse.Namespace) -> None:
    if (options.manifest is None) == (options.recipe is None):
        parser.error("expected --manifest FILE or --recipe NAME, one of the two")
    for name in ("limit", "recipe_source", "save_audio"):
        if options.recipe is None and getattr(options, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with --recipe alone")


def _command_line() -> Parser:
    parser = Parser(PROGRAM, "Transcribe, score and compare models, decoder modes and quantisations.", EXAMPLES)
    _add_choices(parser)
    _add_perftest(parser)
    add = parser.add_argument
    add("--report", type=Path, default=Path("evaluation.html"), metavar="FILE", help="to write (default %(default)s)")
    add("--normaliser", choices=get_args(NormaliserChoice), help=NORMALISER_HELP)
    add("--snr-db", type=values.decibels, metavar="DB", help="add white noise to every recording, at this ratio")
    add("--noise-seed", type=values.whole_number(0, 2**32 - 1), default=0, metavar="N", help="of it (default 0)")
    add("--worst", type=values.whole_number(0, 1000), default=0, metavar="N", help="worst texts to show (default none)")
    add("--save-predictions", type=Path, metavar="FOLDER", help="what perftest --json writes, of each configuration")
    add("--json", action="store_true", help="one object in place of the table")
    return parser


def _add_choices(parser: Parser) -> None:
    add = parser.add_argument
    models = f"repositories, folders, `demo` (QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL})"
    add("--model", type=model, nargs="+", action="extend", help=models)
    modes, weights = get_args(DecoderMode), (FULL_PRECISION, *QUANTIZE)
    add("--decoder-mode", choices=modes, nargs="+", action="extend", help="default sequential")
    add("--quantize", choices=weights, nargs="+", action="extend", help=f"default {FULL_PRECISION}; {SLOW_ON_A_CPU}")
    add("--manifest", type=Path, metavar="FILE", help="JSON lines with `audio` from its folder, `text`, `language`")
    add("--recipe", metavar="NAME", help=f"a slice of a public set in its place: {', '.join(RECIPES)}")
    add("--recipe-source", metavar="FOLDER", help="where the set is, if not on the Hub")
    add("--limit", type=values.whole_number(1, 1_000_000), metavar="N", help=f"its length (default {LIMIT})")
    add("--save-audio", type=Path, metavar="FOLDER", help="keep the slice there, for --manifest FOLDER/manifest.jsonl")


def _add_perftest(parser: Parser) -> None:
    add = parser.add_argument
    count = values.whole_number(1, 1_000_000)
    add("--batch-size", type=count, help="files given to the engine at a time (default 1, or 8 if batched)")
    add("--repeat", type=count, default=1, metavar="N", help="number of runs; the result is their median")
    tokens = values.whole_number(0, MAX_NEW_TOKENS)
    add("--max-new-tokens", type=tokens, default=0, help="default 0: until the model stops")
    add("--language", type=values.language, help="the language of the audio; by default the model decides")
    add("--context", type=values.context, default="", help="words or text given to the model as background")
    add("--local-files-only", action="store_true", help="never download a model")
    perftest.add_words(parser)


def _evaluate(options: argparse.Namespace, command: str) -> int:
    from qwen3_asr_mlx_runtime.tools.evaluate.report import page  # before hours of work: its packages may be missing

    _check_outputs(options)
    with progress_bar() as show_progress, _manifest(options, show_progress) as manifest:
        listed = perftest.listed(manifest)
        default = normaliser_for(_models(options))
        entries = [entry.completed(options.language, options.normaliser, default) for entry in listed]
        outcomes = list(_outcomes(options, manifest, entries, show_progress))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    evaluated = evaluation(command, now, this_machine(), (_data(options), len(entries)), Bootstrap(), outcomes)
    if evaluated.results:
        options.report.write_text(page(evaluated), encoding="utf-8")
        _show(options, evaluated)
    return _exit_code(evaluated)


def _models(options: argparse.Namespace) -> list[str]:
    return options.model or [chosen_model(None, os.environ)]


def _data(options: argparse.Namespace) -> str:
    noise = "" if options.snr_db is None else f", with noise at {options.snr_db:g} dB from seed {options.noise_seed}"
    return f"{options.recipe or options.manifest}{noise}"


def _check_outputs(options: argparse.Namespace) -> None:
    """Fail before hours of work, not after."""
    report, folder = options.report, options.report.parent
    if report.is_dir() or not os.access(report if report.exists() else folder, os.W_OK) or not folder.is_dir():
        raise InvalidParams(f"the report cannot be written: {report}")
    if options.save_audio and (options.save_audio / MANIFEST).exists():
        raise InvalidParams(f"{options.save_audio / MANIFEST} is there already: give it to --manifest")
    if options.save_predictions:
        options.save_predictions.mkdir(parents=True, exist_ok=True)


@contextmanager
def _manifest(options: argparse.Namespace, show_progress: ShowProgress) -> Iterator[Path]:
    if options.manifest is not None:
        yield options.manifest
        return
    wanted = slice_of(options.recipe, options.recipe_source, options.limit or LIMIT)
    with TemporaryDirectory(prefix="qwen3-asr-mlx-") as folder:
        yield fetch(wanted, options.save_audio or Path(folder), show_progress)


def _outcomes(
    options: argparse.Namespace, manifest: Path, entries: Sequence[Entry], show_progress: ShowProgress
) -> Iterator[Result | Failure]:
    scoring = Scoring(manifest, entries, options.worst, Bootstrap())
    chosen = configurations(
        _models(options), options.decoder_mode or ["sequential"], options.quantize or [FULL_PRECISION]
    )
    references = {entry.audio: entry.words for entry in entries}
    with _files(options, entries) as files:
        for configuration in chosen:
            arguments = [*configuration.arguments(), *_common_arguments(options)]
            label = f"{configuration.key} of {chosen[-1].key}: {configuration.label}"
            try:
                predictions = measure(arguments, files, partial(_show_labelled, show_progress, label), references)
            except EngineUnavailable as error:
                yield Failure(configuration, error.message)
                continue
            if options.save_predictions:
                (options.save_predictions / f"{_file_name(configuration)}.json").write_bytes(predictions + b"\n")
            measured = msgspec.json.decode(predictions, type=Measured)
            result = scoring.result(configuration, measured)
            drawn = spoken(result.score.worst, measured.items, entries, files) if options.with_words else []
            yield msgspec.structs.replace(result, spoken=drawn)


def _files(options: argparse.Namespace, entries: Sequence[Entry]) -> AbstractContextManager[list[tuple[str, Path]]]:
    if options.snr_db is None:
        return nullcontext([(entry.audio, entry.path) for entry in entries])
    return noisy_files(entries, options.snr_db, options.noise_seed)


def _show_labelled(show_progress: ShowProgress, label: str, stage: str, done: int | None, total: int | None) -> None:
    show_progress(f"{label}, {stage}", done, total)


def _common_arguments(options: argparse.Namespace) -> Iterator[str]:
    yield from (f"--repeat={options.repeat}", f"--max-new-tokens={options.max_new_tokens}")
    yield f"--context={options.context}"
    if options.batch_size:
        yield f"--batch-size={options.batch_size}"
    if options.language:
        yield f"--language={options.language}"
    if options.local_files_only:
        yield "--local-files-only"
    if options.with_words:
        yield "--words"
    if options.aligner:
        yield f"--aligner={options.aligner}"
    if options.align_decoder:
        yield f"--align-decoder={options.align_decoder}"


def _file_name(configuration: Configuration) -> str:
    return re.sub(r"[^\w.]+", "-", f"{configuration.key} {configuration.label}")


def _show(options: argparse.Namespace, evaluated: Evaluation) -> None:
    if options.json:
        sys.stdout.write(msgspec.json.encode(evaluated).decode() + "\n")
        return
    if any(result.configuration.model == DEMO for result in evaluated.results):
        note(f"{PROGRAM}: {DEMO_KNOWS}")
    console = table_console()
    show_evaluation(console, evaluated)
    console.print(f"report: {options.report}", soft_wrap=True)


def _exit_code(evaluated: Evaluation) -> int:
    wrong = [(failure.configuration, failure.reason) for failure in evaluated.failures]
    wrong += [(result.configuration, result.file_error) for result in evaluated.results if result.file_error]
    for configuration, reason in wrong:
        complain(PROGRAM, f"{configuration.label}: {reason}")
    return 1 if wrong else 0
