"""The command line; see scripts/soak."""

import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qwen3_asr_mlx_runtime.command import guarded
from soak.bridge import Bridge
from soak.figures import Sample, after, slope, table
from soak.killer import end_bridge, end_worker
from soak.ledger import Broken, Ledger
from soak.speech import Speech
from soak.work import Work

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = 200  # in a whole run of a given number


@dataclass(frozen=True)
class Result:
    samples: list[Sample]
    warm_up: int
    slope: float
    slope_error: float
    outcomes: dict[str, int]
    oddities: list[str]
    unanswered: int
    audio_seconds: float
    exit_code: int | None

    def failures(self, limit: float) -> list[str]:
        failed = [*self.oddities]
        if self.unanswered:
            failed.append(f"{self.unanswered} utterances without an outcome")
        if self.exit_code != 0:
            failed.append(f"the bridge ended with {self.exit_code}")
        if not self.slope <= limit:
            failed.append(f"{self.slope:.2f} MiB per thousand utterances, more than {limit:g}")
        return failed


@guarded("soak")
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.kill:
        return end_worker(options)
    if options.kill_bridge:
        return end_bridge(options)
    result = soak(options)
    failures = result.failures(options.limit)
    if result.samples:
        print(table(result.samples))
    hours = result.audio_seconds / 3600
    print(f"\n{sum(result.outcomes.values())} outcomes ({result.outcomes}) of {hours:.2f} hours of audio")
    of = "RSS" if all(sample.footprint is None for sample in result.samples) else "footprint"
    print(
        f"{of} slope after {result.warm_up} utterances: {result.slope:+.3f} ± {result.slope_error:.3f} MiB per thousand"
    )
    for failure in dict.fromkeys(failures):
        print(f"FAILED: {failure}")
    if options.json:
        facts = {"arguments": list(sys.argv[1:] if arguments is None else arguments), "platform": platform.platform()}
        options.json.write_text(json.dumps({**facts, **asdict(result), "failures": failures}, indent=1) + "\n")
    return 1 if failures else 0


def soak(options: argparse.Namespace) -> Result:
    utterances = None if options.hours else options.utterances
    every = options.every or max(10, (utterances or 20_000) // SAMPLES)
    ledger, samples, code = Ledger(), [], None
    speech = Speech(options.audio, options.shortest, options.longest, options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Bridge(ROOT, ["--model", options.model, *shlex.split(options.bridge)], ledger.receive) as bridge,
    ):
        work = Work(bridge, ledger, speech, Path(folder))
        try:
            work.open()
            for sample in work.run(utterances, options.hours and options.hours * 3600, every):
                samples.append(sample)
                _print_sample(sample, options.quiet)
            code = work.close()
        except (Broken, BrokenPipeError) as error:
            ledger.oddities.append(f"{error or type(error).__name__}; stderr: {bridge.stderr()[-2000:]}")
    return _result(options, work, ledger, samples, code)


def _result(options: argparse.Namespace, work: Work, ledger: Ledger, samples: list[Sample], code: int | None) -> Result:
    warm_up = options.warm_up if options.warm_up is not None else work.sent // 5
    warm = after(samples, warm_up)
    growth, error = slope(warm) if len(warm) > 1 else (float("nan"), float("nan"))
    return Result(
        samples=samples,
        warm_up=warm_up,
        slope=growth,
        slope_error=error,
        outcomes=dict(ledger.outcomes),
        oddities=ledger.oddities,
        unanswered=ledger.unanswered,
        audio_seconds=round(work.audio_seconds, 1),
        exit_code=code,
    )


def _print_sample(sample: Sample, quiet: bool) -> None:
    if not quiet:
        now = time.strftime("%H:%M:%S")
        print(f"{now} {sample.utterances} utterances, RSS {sample.rss:.1f} MiB", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Speech of random lengths over three streams, files and cancels, through one bridge process.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--hours", type=float, help="run for so long instead")
    parser.add_argument("--shortest", type=float, default=0.3, help="seconds of an utterance")
    parser.add_argument("--longest", type=float, default=40.0, help="seconds of an utterance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--bridge", default="", help="more arguments of the bridge, as one string")
    parser.add_argument("--audio", type=Path, default=ROOT / "examples" / "audio", help="folder of 16 kHz recordings")
    parser.add_argument("--every", type=int, help="utterances between samples (default: a 200th, at least 10)")
    parser.add_argument("--warm-up", type=int, help="utterances before the slope counts (default: a fifth)")
    parser.add_argument(
        "--limit", type=float, default=1.0, help="MiB per thousand utterances: of the footprint on macOS, else RSS"
    )
    parser.add_argument(
        "--kill",
        type=int,
        help="end the worker so often, under four streams and two files; compare the texts of a run without",
    )
    parser.add_argument("--kill-bridge", type=int, help="end so many bridges, and count the workers that outlive one")
    parser.add_argument("--json", type=Path, help="write every sample here, or the counts of --kill")
    parser.add_argument("--quiet", action="store_true", help="print nothing before the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
