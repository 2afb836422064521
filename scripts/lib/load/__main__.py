"""N bridges with M streams each, in real time against the same vLLM servers: what comes, and how late, as N grows.

    scripts/load --engine http://gpu:8000 --bridges 1,2,4,8 --streams 8 --seconds 30
    scripts/load --engine http://gpu:8000 --no-partials --json figures.json

Every stream speaks utterances of `--shortest` to `--longest` seconds, `--pause` seconds apart: joined recordings of
`--audio`. Audio and boundaries go out by the clock, whatever has been answered, and latencies count from where the
speech ended by that clock. An utterance without a text counts too. Prints a row for each N. The first seconds
(`--warm-up`), in which the streams begin one after the other, do not count.

A `chunks late` that grows says that this machine, not the servers, is at its limit.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from soak.speech import Speech

from load.figures import Row, Window, line, row, table
from load.servers import Watch
from load.speaking import Plan
from load.together import Failed, speak_together
from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command import complain, guarded, note
from qwen3_asr_mlx_runtime.tools.command import add_bridge_option, bridge_command

PROGRAM = "load"
ROOT = Path(__file__).resolve().parents[3]
LOOK_SECONDS = 1.0


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows = []
    try:
        _check_audio(options)
        for bridges in options.bridges:
            rows.append(measured(options, bridges))
            note(line(rows[-1]))
    except Failed as error:
        return complain(PROGRAM, str(error))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(_report(options, rows), indent=1) + "\n", encoding="utf-8")
    return 0


def _check_audio(options: argparse.Namespace) -> None:
    """Raises Failed for a folder without recordings, or with one that is not 16-bit PCM, mono, at 16 kHz."""
    try:
        Speech(options.audio, options.shortest, options.longest, options.seed)
    except (FileNotFoundError, ValueError) as error:
        raise Failed(str(error)) from None


def measured(options: argparse.Namespace, bridges: int) -> Row:
    """Raises Failed where a bridge does not open."""
    window = Window(options.warm_up, options.warm_up + options.seconds)
    watch, cpu = Watch(options.engine), []
    heard = speak_together(_plan(options), bridges, options.seed, lambda: cpu.append(_watch(watch, window)))
    return row(heard, window, streams=options.streams, cpu=cpu[0], servers=watch.counts())


def _watch(watch: Watch, window: Window) -> float:
    """Look at the servers until the window ends; the share of this machine's cores that worked in it."""
    started = time.monotonic()
    time.sleep(window.start)
    psutil.cpu_percent()
    while (now := time.monotonic() - started) < window.stop:
        watch.look(now)
        time.sleep(max(0.0, min(now + LOOK_SECONDS, window.stop) - (time.monotonic() - started)))
    return psutil.cpu_percent() / 100


def _plan(options: argparse.Namespace) -> Plan:
    command = [*bridge_command(), "--engine", ",".join(options.engine), *options.bridge]
    return Plan(
        command=tuple(command),
        streams=options.streams,
        audio=options.audio,
        shortest=options.shortest,
        longest=max(options.shortest, options.longest),
        pause=options.pause,
        seconds=options.warm_up + options.seconds,
        stagger=options.warm_up,
        patience=options.patience,
        partial_interval_ms=None if options.no_partials else options.interval_ms,
        decoder_mode=options.decoder_mode,
        max_new_tokens=options.max_new_tokens,
    )


def _report(options: argparse.Namespace, rows: Sequence[Row]) -> dict[str, object]:
    settings = {name: value for name, value in vars(options).items() if name not in ("audio", "json", "bridge")}
    machine = {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    return {"machine": machine, "settings": settings, "rows": [asdict(each) for each in rows]}


def _counts(text: str) -> list[int]:
    return [values.whole_number(1, 1024)(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--engine", type=values.servers, required=True, metavar="URL,…", help="the vLLM servers, as of the bridge")
    add("--bridges", type=_counts, default=[1, 2, 4, 8], metavar="N,…", help="so many bridges (default: 1,2,4,8)")
    add("--streams", type=values.whole_number(1, 64), default=8, help="of each bridge (default: %(default)s)")
    add("--seconds", type=values.seconds(0.1), default=30.0, help="that count, for each N (default: %(default)s)")
    add("--warm-up", type=values.seconds(0), default=10.0, help="seconds before these (default: %(default)s)")
    add("--patience", type=values.seconds(0), default=30.0, help="for the last finals (default: %(default)s)")
    add("--shortest", type=values.seconds(0.1, 600), default=2.0, help="utterance, in seconds (default: %(default)s)")
    add("--longest", type=values.seconds(0.1, 600), default=10.0, help="utterance, in seconds (default: %(default)s)")
    add("--pause", type=values.seconds(0), default=0.5, help="between utterances (default: %(default)s)")
    add("--audio", type=Path, default=ROOT / "examples" / "audio", help="folder of 16 kHz recordings")
    add("--no-partials", action="store_true", help="finals alone")
    add("--interval-ms", type=values.whole_number(100, 60_000), default=500, help="of partials (default: %(default)s)")
    add("--decoder-mode", choices=("sequential", "batched"), help="of the streams (default: that of the bridge)")
    add("--max-new-tokens", type=values.whole_number(1, 4096), help="of each text: for random weights, which never end")
    add("--seed", type=int, default=1)
    add("--json", type=Path, help="also write everything here")
    add_bridge_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
