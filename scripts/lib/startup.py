"""From exec to `ready`, the first utterance beside the tenth, and one after `unload`: medians over fresh processes.

scripts/startup [--runs 7] [--model demo] [--audio FILE] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwen3_asr_mlx_runtime.command import guarded

ROOT = Path(__file__).resolve().parents[2]
UTTERANCES = 10
READY, RELOADED = "exec to ready", "utterance after unload"


def ask(process: Any, **request: str) -> dict[str, Any]:
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    reply: dict[str, Any] = json.loads(process.stdout.readline())
    if reply["type"] in ("error", "fatal"):
        raise RuntimeError(f"{request['type']}: {reply['code']}")
    return reply


@dataclass(frozen=True)
class Run:
    """One process's life up to its eleventh utterance, before which its model is unloaded. `load`: whether the first
    load was cold or warm, as `ready` says."""

    load: str
    seconds: dict[str, float]


def one_run(command: list[str], audio: str) -> Run:
    def utterance() -> float:
        begun = time.perf_counter()
        ask(process, type="transcribe", audio=audio)
        return time.perf_counter() - begun

    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        ready = ask(process, type="start")
        seconds = {READY: time.perf_counter() - started}
        profile = ready["load_profile"]
        seconds |= {
            "of it: reading the weights": profile["weights_seconds"],
            "of it: warm-up": profile["warmup_seconds"],
        }
        seconds["of it: the rest"] = seconds[READY] - profile["weights_seconds"] - profile["warmup_seconds"]
        for number in range(1, UTTERANCES + 1):
            took = utterance()
            if number in (1, UTTERANCES):
                seconds[f"utterance {number}"] = took
        ask(process, type="unload")
        seconds[RELOADED] = utterance()
        ask(process, type="stop")
    return Run(ready["load"], seconds)


@guarded("startup")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--audio", default=str(ROOT / "examples" / "audio" / "sample.wav"))
    parser.add_argument("--json", type=Path, help="write every run here")
    options = parser.parse_args()
    command = [str(ROOT / "scripts" / "qwen3-asr-mlx-bridge"), "--model", options.model]
    runs = [one_run(command, options.audio) for _ in range(options.runs)]
    for name in runs[0].seconds:
        values = sorted(run.seconds[name] for run in runs)
        print(f"{name:28} {statistics.median(values):6.3f} s ({values[0]:.3f} … {values[-1]:.3f})")
    if options.json:
        options.json.write_text(json.dumps({"model": options.model, "runs": [asdict(run) for run in runs]}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
