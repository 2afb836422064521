"""The command line; see scripts/mac-evidence."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmark.contenders import PEERS
from benchmark.environments import home, peer_python

from mac_evidence.evidence import FILE, SCHEMA, Evidence, Form, encode, read
from mac_evidence.evidence import Step as Done
from mac_evidence.machine import commit, draw, machine, thermal, watts
from mac_evidence.private import Private
from mac_evidence.report import NOT_A_MAC, page, report
from mac_evidence.runner import END_SECONDS, ROOT, Run, Runner, run_process
from mac_evidence.steps import Model, Step, steps
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve
from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.entry import INTERRUPTED
from qwen3_asr_mlx_runtime.errors import BridgeError

COLLECTED = ROOT / "docs" / "evidence"
SIZES = ("0.6B", "1.7B")
MINUTES = 30.0
IDLE_SECONDS = 60.0  # long enough for a battery's controller to tell its samples


@guarded("mac-evidence")
def main(arguments: Sequence[str] | None = None, run: Run = run_process) -> int:
    """Exit code 0 if every step passed, 1 if not, 130 after Ctrl-C. `run`: how a step is run."""
    options = _parser().parse_args(arguments)
    if options.collect:
        return collect(COLLECTED)
    form: Form = "short" if options.short else "all" if options.all else "full"
    if sys.platform != "darwin":
        print("not a Mac: the report will say so")
    peers = prepare(form)
    with tempfile.TemporaryDirectory(prefix="mac-evidence-") as folder:
        models = [] if form == "short" else found_models(Path(folder), every=form == "all")
        evidence = measured(form, steps(form, models, peers), options, run)
    others = [step for step in evidence.steps if step.outcome != "passed"]
    if any(step.outcome == "interrupted" for step in others):
        return INTERRUPTED
    return int(bool(others))


def measured(form: Form, planned: Sequence[Step], options: argparse.Namespace, run: Run) -> Evidence:
    """Run all steps. What is known is written after each."""
    where, at = machine(), commit(ROOT)
    out = options.out or new_folder(COLLECTED, where.processor, form)
    runner = Runner(options.minutes * 60 - 2 * END_SECONDS, Private.of_this_machine(ROOT), run)
    load, heat, idle = round(os.getloadavg()[0], 1), thermal(), idle_watts()
    done: list[Done] = []

    def evidence() -> Evidence:
        return Evidence(
            schema=SCHEMA,
            date=date.today().isoformat(),
            commit=at,
            form=form,
            is_mac=sys.platform == "darwin",
            machine=where,
            thermal=(heat, thermal()),
            idle_watts=idle,
            seconds=round(runner.seconds, 1),
            steps=[*done],
            load=load,
        )

    for step in runner.run(planned):
        done.append(step)
        write(out, evidence())
    if out.parent == COLLECTED:
        collect(COLLECTED)
    print(
        f"{out}: attach its two files to an issue, or add the folder to a pull request. It holds no audio and no text."
    )
    return evidence()


def write(out: Path, evidence: Evidence) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_bytes(encode(evidence))
    (out / "README.md").write_text(report(evidence), encoding="utf-8")


def collect(folder: Path) -> int:
    """Write the page again."""
    try:
        text = collected(folder)
    except ValueError as error:
        return complain("mac-evidence", str(error))
    (folder / "README.md").write_text(text, encoding="utf-8")
    return 0


def collected(folder: Path) -> str:
    """The page of all runs in a folder. Raises ValueError for a run that is not of this schema."""
    return page([(file.parent.name, read(file)) for file in sorted(folder.glob(f"*/{FILE}"))])


def found_models(folder: Path, *, every: bool) -> list[Model]:
    """0.6B, and 1.7B where its files are in the cache, or if `every`. `folder`: for random weights."""
    cache = os.environ.get("QWEN3_ASR_MLX_CACHE_DIR")
    models = []
    for name in SIZES:
        try:
            released = resolve(
                f"Qwen/Qwen3-ASR-{name}", Hub(cache=Path(cache) if cache else None), local_files_only=True
            )
            models.append(Model(name, "released", released))
        except BridgeError:
            if every or name == SIZES[0]:
                models.append(Model(name, "random", folder / name / "checkpoint"))
    return models


def prepare(form: Form) -> list[str]:
    """Make the environments of the bridge and of peers, which may download, before any clock runs. Returns the peers
    that there are."""
    launcher = ROOT / "scripts" / "qwen3-asr-mlx-bridge"
    subprocess.run([launcher, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    found = []
    for peer in PEERS if form == "all" else ():
        try:
            peer_python(peer, home())
            found.append(peer)
        except (OSError, subprocess.CalledProcessError):
            print(f"{peer} cannot be installed: it is left out")
    return found


def idle_watts() -> float | None:
    before = draw()
    if before is None:
        return None
    print(f"measuring the idle machine for {IDLE_SECONDS:g} s")
    time.sleep(IDLE_SECONDS)
    return watts(before, draw())


def new_folder(parent: Path, processor: str, form: Form) -> Path:
    """Named by day and chip, and not there yet."""
    chip = re.sub(r"[^a-z0-9]+", "-", processor.lower().partition("@")[0]).strip("-")
    name = "-".join([date.today().isoformat(), chip or "unknown", *(["short"] if form == "short" else [])])
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(parent / each for each in names if not (parent / each).exists())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/mac-evidence",
        description="Measures what only a Mac can tell, in at most 30 minutes, and writes one folder to pass on.",
        epilog="The folder holds numbers, chip, memory and versions; no audio, no text, no path, no name. On Linux it"
        f" runs too, and says {NOT_A_MAC.strip('*')}.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a few minutes: the demonstration checkpoint alone")
    form.add_argument("--all", action="store_true", help="1.7B with random weights too, and other MLX ports beside it")
    form.add_argument("--collect", action="store_true", help="run nothing: make docs/evidence/README.md again")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all steps (default: %(default)g)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: a new one in docs/evidence")
    return parser


if __name__ == "__main__":
    sys.exit(main())
