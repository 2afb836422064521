"""From exec to `ready`, and how the first utterance compares with the tenth: medians over fresh processes.

scripts/startup [--runs 7] [--model demo] [--audio FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qwen3_asr_mlx_runtime.command import guarded

ROOT = Path(__file__).resolve().parents[2]
UTTERANCES = 10


def ask(process: Any, **request: str) -> dict[str, Any]:
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    reply: dict[str, Any] = json.loads(process.stdout.readline())
    return reply


def one_run(command: list[str], audio: str) -> dict[str, float]:
    """Seconds of one process's life up to its tenth utterance."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        ready = ask(process, type="start")
        seconds = {"exec to ready": time.perf_counter() - started}
        profile = ready["load_profile"]
        seconds |= {
            "of it: reading the weights": profile["weights_seconds"],
            "of it: warm-up": profile["warmup_seconds"],
        }
        seconds["of it: the rest"] = seconds["exec to ready"] - profile["weights_seconds"] - profile["warmup_seconds"]
        for number in range(1, UTTERANCES + 1):
            begun = time.perf_counter()
            ask(process, type="transcribe", audio=audio)
            if number in (1, UTTERANCES):
                seconds[f"utterance {number}"] = time.perf_counter() - begun
        ask(process, type="stop")
    return seconds


@guarded("startup")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--audio", default=str(ROOT / "examples" / "audio" / "sample.wav"))
    options = parser.parse_args()
    command = [str(ROOT / "scripts" / "qwen3-asr-mlx-bridge"), "--model", options.model]
    runs = [one_run(command, options.audio) for _ in range(options.runs)]
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        print(f"{name:28} {statistics.median(values):6.3f} s ({values[0]:.3f} … {values[-1]:.3f})")


if __name__ == "__main__":
    sys.exit(main())
