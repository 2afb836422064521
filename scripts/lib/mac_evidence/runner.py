"""Runs steps one after the other, each within its limit and all within a budget."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from msgspec.structs import replace

from mac_evidence import evidence
from mac_evidence.evidence import Figures, Findings, Outcome, Tests
from mac_evidence.machine import Draw, draw, watts
from mac_evidence.private import Private
from mac_evidence.steps import ANSWER, Step

ROOT = Path(__file__).resolve().parents[3]
LEAST_SECONDS = 10.0  # left of the budget, or a step is not begun
END_SECONDS = 5.0  # for a step to end when it is told to
TAIL = 30  # lines of what a step that failed wrote, for the person who runs it
# The settings of the person who runs it are not those of the evidence.
KEPT = {
    f"QWEN3_ASR_MLX_{name}"
    for name in ("HOME", "PYTHON", "BACKEND", "CACHE_DIR", "TEST_DATA", "NO_INSTALL", "LAUNCHED")
}


@dataclass(frozen=True)
class Ran:
    """`code`: None if the limit was reached. `log`: what the step said, for the screen alone."""

    code: int | None
    answer: bytes
    log: str = ""


Run = Callable[[Step, float], Ran]
Say = Callable[[str], None]


def run_process(step: Step, limit: float) -> Ran:
    """Run the command of a step in the checkout, for so many seconds at most. Nothing that it started outlives it."""
    in_file = any(ANSWER in word for word in step.command)
    with tempfile.TemporaryDirectory(prefix="mac-evidence-") as folder:
        answer, printed, log = (Path(folder) / name for name in ("answer", "printed", "log"))
        with printed.open("wb") as stdout, log.open("wb") as stderr:
            process = psutil.Popen(
                [word.replace(ANSWER, str(answer)) for word in step.command],
                cwd=ROOT,
                env=child_environment(os.environ) | step.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C is for this process, which ends the step itself
            )
            code = None
            try:
                code = process.wait(limit)
            except psutil.TimeoutExpired:
                pass
            finally:
                if code is None:
                    end(process)
        said = [log, printed] if in_file else [log]
        told = "".join(file.read_text(encoding="utf-8", errors="replace") for file in said)
        wanted = answer if in_file else printed
        return Ran(code, wanted.read_bytes() if wanted.exists() else b"", told)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without settings of the runtime, and without the hub's network."""
    kept = {name: value for name, value in environ.items() if not name.startswith("QWEN3_ASR_MLX_") or name in KEPT}
    return kept | {"HF_HUB_OFFLINE": "1"}


def end(process: psutil.Process) -> None:
    """End a process and everything below it."""
    tree = [process]
    with suppress(psutil.NoSuchProcess):
        tree += process.children(recursive=True)
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                send(each)
        _, tree = psutil.wait_procs(tree, END_SECONDS)


class Runner:
    """Runs steps and tells on the screen what becomes of them. `budget`: seconds for all."""

    def __init__(
        self,
        budget: float,
        private: Private,
        run: Run = run_process,
        say: Say = lambda line: print(line, flush=True),
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[], Draw | None] = draw,
    ) -> None:
        self._private = private
        self._run = run
        self._say = say
        self._clock = clock
        self._measure = measure
        self._started = clock()
        self._budget = budget

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    def run(self, steps: Sequence[Step]) -> Iterator[evidence.Step]:
        """A result for each step, as it comes. After an interrupt the rest is not run."""
        interrupted = False
        for number, step in enumerate(steps, 1):
            left = self._budget - self.seconds
            if interrupted or left < LEAST_SECONDS or (step.needs is not None and not step.needs.is_dir()):
                result = self._result(step, "not run", 0.0)
            else:
                result = self._one(step, min(step.limit, left))
                interrupted = result.outcome == "interrupted"
            minutes = max(0.0, self._budget - self.seconds) / 60
            took = f" in {result.seconds:.0f} s" if result.outcome != "not run" else ""
            self._say(f"{number:2} of {len(steps)}  {step.name}: {result.outcome}{took}; {minutes:.0f} min are left")
            yield result

    def _one(self, step: Step, limit: float) -> evidence.Step:
        before, started = self._measure(), self._clock()
        try:
            ran = self._run(step, limit)
        except KeyboardInterrupt:
            return self._result(step, "interrupted", self._clock() - started)
        except OSError as error:
            ran = Ran(1, b"", str(error))
        seconds = self._clock() - started
        outcome, figures = judged(step, ran)
        if outcome == "failed":
            self._say("\n".join(ran.log.splitlines()[-TAIL:]))
        return self._result(step, outcome, seconds, watts(before, self._measure()), figures)

    def _result(
        self,
        step: Step,
        outcome: Outcome,
        seconds: float,
        watts: float | None = None,
        figures: Figures | None = None,
    ) -> evidence.Step:
        words = ["python" if word == sys.executable else word for word in step.command]
        return evidence.Step(
            name=step.name,
            command=self._private.clean(shlex.join(words)),
            outcome=outcome,
            seconds=round(seconds, 1),
            watts=watts,
            figures=cleaned(figures, self._private),
        )


def judged(step: Step, ran: Ran) -> tuple[Outcome, Figures | None]:
    """What became of a step, and its figures, which are None where the answer cannot be read."""
    if ran.code is None:
        return "timed out", None
    try:
        figures = step.read(ran.answer)
        if figures is not None:  # a constructor checks no types
            figures = msgspec.convert(msgspec.to_builtins(figures), Figures)
    except (ValueError, TypeError, LookupError, msgspec.MsgspecError):
        return "failed", None
    is_right = ran.code == 0 and (figures is None or figures.is_right)
    return "passed" if is_right else "failed", figures


def cleaned(figures: Figures | None, private: Private) -> Figures | None:
    """The figures whose texts come from a command have no names and paths in them."""
    match figures:
        case Findings(warnings=warnings, failures=failures):
            warnings, failures = ([private.clean(text) for text in texts] for texts in (warnings, failures))
            return replace(figures, warnings=warnings, failures=failures)
        case Tests(failures=failures):
            return replace(figures, failures=[private.clean(text) for text in failures])
    return figures
