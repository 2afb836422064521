"""The command line; see scripts/qwen3-asr-mlx-live."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qwen3_asr_mlx_runtime.client import Bridge, ClientError, Limits, Setup
from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.model_name import DEFAULT_MODEL, model
from qwen3_asr_mlx_runtime.tools.command import add_bridge_option, bridge_command, bridge_model, note_model
from qwen3_asr_mlx_runtime.tools.live.record import Record, summary
from qwen3_asr_mlx_runtime.tools.live.screen import Lines, Screen, Silent, Terminal
from qwen3_asr_mlx_runtime.tools.live.session import Failed, Plan, Recording, Session

PROGRAM = "qwen3-asr-mlx-live"
EXAMPLES = f"""examples:
  {PROGRAM} --model demo examples/audio/sample.wav
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B --language en --interval-ms 300 talk.wav
  {PROGRAM} --model demo --streams 4 --no-wait --json examples/audio/sample.wav > figures.json
"""


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None, bridge: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 for an error, with one line on stderr; 2 for a bad command line; 130 when interrupted. `bridge`:
    the command line of a bridge to use instead of this package's."""
    options = _parser().parse_args(arguments)
    try:
        options.model = bridge_model(options)
        note_model(PROGRAM, options, brief=options.json)
        recordings = [Recording.read(path) for path in options.files]
        records, seconds = _run(options, recordings, [*(bridge or bridge_command()), *_bridge_options(options)])
        if options.json:
            sys.stdout.write(json.dumps(_report(options, records, seconds), indent=1) + "\n")
        return 0
    except ClientError as error:
        return complain(PROGRAM, error.line)
    except (Failed, BridgeError) as error:
        return complain(PROGRAM, str(error))


def _run(
    options: argparse.Namespace, recordings: Sequence[Recording], command: Sequence[str]
) -> tuple[list[Record], float]:
    plan = Plan(
        streams=options.streams,
        chunk_ms=options.chunk_ms,
        interval_ms=options.interval_ms,
        waits=not options.no_wait,
        language=options.language,
        context=options.context,
    )
    with Bridge(Setup(command=command, limits=Limits(chunk_seconds=plan.chunk_ms / 1000))) as bridge:
        session = Session(bridge, plan, _screen(options))
        session.start()
        started = time.monotonic()
        records = [record for recording in recordings for record in session.play(recording)]
        seconds = time.monotonic() - started
    return records, seconds


def _screen(options: argparse.Namespace) -> Screen:
    if options.json:
        return Silent()
    return Terminal(sys.stdout) if sys.stdout.isatty() else Lines(sys.stdout)


def _report(options: argparse.Namespace, records: Sequence[Record], seconds: float) -> dict[str, object]:
    settings = {name: getattr(options, name) for name in ("model", "streams", "chunk_ms", "interval_ms", "no_wait")}
    return {**settings, **summary(records, seconds)}


def _bridge_options(options: argparse.Namespace) -> list[str]:
    return ["--model", options.model, *options.bridge]


def _whole(lowest: int, highest: int) -> type:
    def number(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"expected {lowest} to {highest}, got {value}")
        return value

    number.__name__ = "whole number"
    return number  # type: ignore[return-value]


def _parser() -> Parser:
    parser = Parser(
        PROGRAM,
        "Show the text of sound files at the pace of speech: stable text as usual, what may change dim.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("files", metavar="FILE", type=Path, nargs="+", help="each is one utterance, one file after the other")
    add("--model", type=model, help=f"repository, folder, or demo (QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL})")
    add("--interval-ms", type=_whole(100, 60_000), default=500, help="audio between partials (default: %(default)s)")
    add("--chunk-ms", type=_whole(10, 30_000), default=100, help="audio in each chunk (default: %(default)s)")
    add("--language", help="name or ISO code; by default the model decides")
    add("--context", help="words or text that the model may take as background")
    add(
        "--streams",
        type=_whole(1, 64),
        default=1,
        help="streams that get each file at once (default: %(default)s)",
    )
    add("--no-wait", action="store_true", help="feed as fast as partials come, not at the pace of speech")
    add("--json", action="store_true", help="show nothing; print one object of figures at the end")
    add_bridge_option(parser)
    return parser
