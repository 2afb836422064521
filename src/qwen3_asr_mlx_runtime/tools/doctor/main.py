"""scripts/qwen3-asr-mlx-doctor: is this machine ready, and does it compute what it should?"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.errors import BridgeError, DeviceUnavailable
from qwen3_asr_mlx_runtime.model_name import (
    DEFAULT_ALIGNER,
    DEFAULT_MODEL,
    DEMO,
    chosen_aligner,
    chosen_model,
    model,
    served_model,
)
from qwen3_asr_mlx_runtime.packages import missing
from qwen3_asr_mlx_runtime.tools.command import bridge_command
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure

PROGRAM = "qwen3-asr-mlx-doctor"
EXAMPLES = f"""examples:
  {PROGRAM}
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B
  {PROGRAM} --model demo --words
  {PROGRAM} --model demo --json > findings.json
  {PROGRAM} --engine http://HOST:8000

Each line is an ok, a warning or a failure, with advice. The exit code is 1 if there is a failure, else 0.
"""


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        PROGRAM, "Looks at the machine and at a model, and tries the engine on audio that it knows.", EXAMPLES
    )
    default = f"QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL}"
    parser.add_argument("--model", type=model, help=f"`demo`, a folder, or owner/name in the cache ({default})")
    parser.add_argument("--cache-dir", type=Path, help="where models are kept (default: Hugging Face's own cache)")
    parser.add_argument("--words", action="store_true", help="also try the aligner, which finds when words are said")
    aligner = f"which one ({DEFAULT_ALIGNER}, or the embedded one with --model demo)"
    parser.add_argument("--aligner", type=model, metavar="MODEL", help=aligner)
    parser.add_argument("--json", action="store_true", help="print one object at the end instead of lines")
    engine = "look at vLLM servers instead, and try them; --model: a name that they have"
    parser.add_argument("--engine", type=values.servers, metavar="URL,...", help=engine)
    token = "holds the token of the servers (QWEN3_ASR_MLX_ENGINE_TOKEN: the token)"  # noqa: S105 a help text
    parser.add_argument("--engine-token-file", type=Path, metavar="FILE", help=token)
    options = parser.parse_args(argv)
    if options.aligner and not options.words:
        parser.error("--aligner goes with --words alone")
    if options.engine and options.words:
        parser.error("--engine and --words are two calls: words are found on this machine")
    return _doctor(options)


def _doctor(options: argparse.Namespace) -> int:
    found: list[Finding] = []
    for finding in _engine_findings(options) if options.engine else _local_findings(options):
        found.append(finding)
        if not options.json:
            sys.stdout.write(f"{finding}\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps({"findings": [finding._asdict() for finding in found]}, indent=1) + "\n")
    return int(any(finding.level == "failure" for finding in found))


def _local_findings(options: argparse.Namespace) -> Iterator[Finding]:
    named = options.model or os.environ.get("QWEN3_ASR_MLX_MODEL")
    chosen = chosen_model(named, {})
    aligner = chosen_aligner(options.aligner, chosen) if options.words else None
    return findings(chosen, options.cache_dir, is_wanted=bool(named), aligner=aligner)


def _engine_findings(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        from qwen3_asr_mlx_runtime.engines.remote.exchange import TOKEN_VARIABLE, read_token
        from qwen3_asr_mlx_runtime.tools.doctor.engine_check import check_servers

        token = read_token(options.engine_token_file, os.environ.get(TOKEN_VARIABLE))
        yield from check_servers(options.engine, served_model(options.model, os.environ), token)
    except ImportError as error:
        yield failure(missing(error), "or let a launcher in scripts/ make its environment")


def findings(
    model: str, cache_dir: Path | None, is_wanted: bool = True, aligner: str | None = None
) -> Iterator[Finding]:
    """All findings, one after the other. Checks that need MLX run only if it is installed and has a device.
    `is_wanted`: the user named this model, so a missing one is a failure. `aligner`: to try, or None."""
    from qwen3_asr_mlx_runtime.tools.doctor.machine_check import check_machine, check_model_files

    try:
        yield from check_machine(cache_dir)
        whole = True
        for finding in check_model_files(model, cache_dir, "always", is_wanted):
            whole &= finding.level == "ok"
            yield finding
        from qwen3_asr_mlx_runtime.tools.doctor.restart_check import check_restart
        from qwen3_asr_mlx_runtime.tools.doctor.self_check import check_engine

        yield from check_engine()
        yield check_restart(bridge_command())
        if whole and model != DEMO:
            yield from _check_model(model, cache_dir)
        if aligner is not None:
            from qwen3_asr_mlx_runtime.tools.doctor.words_check import check_words

            yield from check_words(aligner, cache_dir)
    except DeviceUnavailable as error:
        yield failure(error.message, "log in at the screen of this Mac; a sandbox or a virtual machine may have no GPU")
    except ImportError as error:
        yield failure(missing(error), "or let a launcher in scripts/ make its environment")


def _check_model(model: str, cache_dir: Path | None) -> Iterator[Finding]:
    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
    from qwen3_asr_mlx_runtime.tools.doctor.machine_check import unusable
    from qwen3_asr_mlx_runtime.tools.doctor.self_check import check_margins

    try:
        recognizer = Recognizer.load(model, cache_dir=cache_dir, local_files_only=True)
    except BridgeError as error:
        yield unusable(model, error)
    else:
        yield check_margins(recognizer, model)
