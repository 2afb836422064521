"""scripts/qwen3-asr-mlx-score: expected texts and predictions → error rates."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.tools.command import table_console
from qwen3_asr_mlx_runtime.tools.manifest import NORMALISER_HELP, NormaliserChoice, normaliser_for, read_manifest
from qwen3_asr_mlx_runtime.tools.score.bootstrap import CONFIDENCE, Bootstrap
from qwen3_asr_mlx_runtime.tools.score.comparison import Comparison, compare
from qwen3_asr_mlx_runtime.tools.score.matching import Matching, match
from qwen3_asr_mlx_runtime.tools.score.predictions import Predictions, read_predictions
from qwen3_asr_mlx_runtime.tools.score.scoring import Report, Scored, report, score
from qwen3_asr_mlx_runtime.tools.score.table import show_comparison, show_report

PROGRAM = "qwen3-asr-mlx-score"
EXAMPLES = f"""examples:
  qwen3-asr-mlx-perftest demo --manifest examples/audio/expected.jsonl --json > predictions.json
  {PROGRAM} --expected examples/audio/expected.jsonl --predictions predictions.json
  {PROGRAM} --expected examples/audio/expected.jsonl --predictions predictions.json --worst 0 --json
  {PROGRAM} --expected EXPECTED --predictions FULL --predictions 8BIT

FILE of --expected: JSON lines with `audio`, `text` and, where known, `language`. Of --predictions: what
qwen3-asr-mlx-perftest --json wrote, what the bridge replied, or JSON lines with `audio` and `text`.
"""


class Outcome(msgspec.Struct, frozen=True):
    """The object that --json writes. `comparison` is null for one file of predictions."""

    version: str
    expected: str
    confidence: float
    resamples: int
    seed: int
    reports: list[Report]
    comparison: Comparison | None


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if an utterance has no match or a file cannot be read, with one line on stderr; 2 for a bad
    command line."""
    parser = _parser()
    options = parser.parse_args(argv)
    if len(options.predictions) > 2:
        parser.error("--predictions is given more than twice")
    return _score(options)


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Word and character error rates of predictions, and the differences of two.", EXAMPLES)
    add = parser.add_argument
    add("--expected", type=Path, metavar="FILE", required=True, help="the expected texts")
    add("--predictions", type=Path, metavar="FILE", required=True, action="append", help="twice: compare the two")
    add("--language", type=values.language, help="name or ISO code, of lines of --expected that name none")
    add("--normaliser", choices=get_args(NormaliserChoice), help=NORMALISER_HELP)
    add("--worst", type=values.whole_number(0, 1_000_000), default=5, metavar="N", help="to show (default %(default)s)")
    count = values.whole_number(1, 1_000_000)
    add("--resamples", type=count, default=Bootstrap.resamples, help="samples of the bootstrap (default %(default)s)")
    add("--seed", type=values.whole_number(0, 2**32 - 1), default=Bootstrap.seed, help="of it (default %(default)s)")
    add("--json", action="store_true", help="one object in place of tables")
    return parser


def _score(options: argparse.Namespace) -> int:
    listed = read_manifest(options.expected)
    bootstrap = Bootstrap(options.resamples, options.seed)
    files = [read_predictions(path) for path in options.predictions]
    default = normaliser_for(file.model for file in files)
    entries = [entry.completed(options.language, options.normaliser, default) for entry in listed]
    matchings = [match(entries, predictions) for predictions in files]
    for predictions, matching in zip(files, matchings, strict=True):
        if not matching.pairs:
            raise InvalidParams(f"{predictions.path}: none of its predictions is of an utterance in {options.expected}")
    scored = [[score(pair) for pair in matching.pairs] for matching in matchings]
    _write(options, _outcome(options, bootstrap, files, matchings, scored))
    return _exit_code(files, matchings)


def _outcome(
    options: argparse.Namespace,
    bootstrap: Bootstrap,
    files: Sequence[Predictions],
    matchings: Sequence[Matching],
    scored: Sequence[Sequence[Scored]],
) -> Outcome:
    reports = [
        report(str(file.path), matching, utterances, file.unnamed, bootstrap, options.worst)
        for file, matching, utterances in zip(files, matchings, scored, strict=True)
    ]
    comparison = compare(scored[0], scored[1], bootstrap) if len(scored) == 2 else None
    return Outcome(
        __version__, str(options.expected), CONFIDENCE, bootstrap.resamples, bootstrap.seed, reports, comparison
    )


def _write(options: argparse.Namespace, outcome: Outcome) -> None:
    if options.json:
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        return
    console = table_console()
    for file_report in outcome.reports:
        show_report(console, file_report)
    if outcome.comparison is not None:
        show_comparison(console, outcome.comparison)


def _exit_code(files: Sequence[Predictions], matchings: Sequence[Matching]) -> int:
    code = 0
    for predictions, matching in zip(files, matchings, strict=True):
        if not matching.is_complete:
            counts = (
                f"{len(matching.missing)} not predicted, {len(matching.unexpected)} not expected, "
                f"{len(matching.failed)} failed"
            )
            code = complain(PROGRAM, f"{predictions.path}: not every utterance could be scored: {counts}")
    return code
