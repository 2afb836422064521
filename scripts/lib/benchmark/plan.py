"""The figures of recognition, and their order: every round measures each contender in turn."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmark.audio import write_clip
from benchmark.contenders import RUNTIME
from benchmark.figures import Figures, agreement
from benchmark.process import Process

ONE_BY_ONE = "one by one"
BATCH_MODES = ("sequential", "batched")
FEATURE_TIMES = 20


@dataclass(frozen=True)
class Plan:
    """`seconds`: the clips that are transcribed; the longest is also taken apart into stages. `tower`: lengths that
    only the tower sees. `rows`: sizes of a batch of copies of the shortest clip. `linear`: lengths of one recording."""

    repeats: int
    seconds: Sequence[float]
    new_tokens: int
    tower: Sequence[float]
    rows: Sequence[int]
    linear: Sequence[float]
    imports: bool
    seed: int


class Measurement:
    """The figures of a plan, and the tokens each contender wrote for each clip."""

    def __init__(self, plan: Plan, processes: Sequence[Process], clips: Path) -> None:
        self.figures = Figures()
        self.tokens: dict[str, list[list[int]]] = {}
        self._plan = plan
        self._processes = processes
        self._clips = clips
        self._lengths = sorted(plan.seconds)

    def run(self) -> None:
        self._warm_up()
        for number in range(self._plan.repeats):
            print(f"round {number + 1} of {self._plan.repeats}", file=sys.stderr, flush=True)
            if self._plan.imports:
                self._imports()
            self._features()
            self._stages()
            self._totals()
            self._towers()
            self._rows()
        self._memory()
        self._linear()

    @property
    def differences(self) -> dict[str, list[int | None]]:
        """For each peer and clip, the index of the first token that differs from the runtime's; None for none."""
        return agreement(self.tokens, RUNTIME)

    def notes(self) -> list[str]:
        """Whether the contenders agree, a line for each peer."""
        lines = []
        for contender, first in self.differences.items():
            equal = sum(index is None for index in first)
            rest = f"; first differences: {first}" if equal < len(first) else ""
            lines.append(f"{contender}: the tokens of {equal} of {len(first)} clips equal the runtime's{rest}.")
        return lines

    def _clip(self, seconds: float) -> str:
        return str(write_clip(self._clips, seconds, self._plan.seed))

    def _add(self, name: str, unit: str, process: Process, value: float) -> None:
        self.figures.add(name, unit, process.name, value)
        print(f"  {name}, {process.name}: {value:.4g} {unit}", file=sys.stderr, flush=True)

    def _warm_up(self) -> None:
        """Compile and load everything; return the tokens, on which all contenders must agree."""
        clips = [self._clip(seconds) for seconds in self._lengths]
        for process in self._processes:
            process.ask("stages", clip=clips[-1], new_tokens=2)
            answer = process.ask("total", clips=clips, new_tokens=self._plan.new_tokens, mode=ONE_BY_ONE)
            self.tokens[process.name] = answer["tokens"]
            for mode in BATCH_MODES:
                process.ask("total", clips=clips, new_tokens=2, mode=mode)

    def _imports(self) -> None:
        for process in self._processes:
            self._add("import", "s", process, process.import_seconds())

    def _features(self) -> None:
        longest = self._lengths[-1]
        for process in self._processes:
            values = process.ask("features", clip=self._clip(longest), times=FEATURE_TIMES)
            self._add(f"features, {longest:g} s", "ms", process, 1000 * median(values))

    def _stages(self) -> None:
        longest = self._lengths[-1]
        for process in self._processes:
            answer = process.ask("stages", clip=self._clip(longest), new_tokens=self._plan.new_tokens)
            self._add(f"tower, {longest:g} s", "ms", process, 1000 * answer["tower"])
            self._add(f"prefill, {longest:g} s", "ms", process, 1000 * answer["prefill"])
            if answer["steps"]:
                self._add("one token", "ms", process, 1000 * median(answer["steps"]))

    def _totals(self) -> None:
        clips = [self._clip(seconds) for seconds in self._lengths]
        self._total(f"{self._lengths[-1]:g} s alone", clips[-1:], ONE_BY_ONE)
        if len(clips) == 1:
            return
        self._total(f"{len(clips)} clips one by one", clips, ONE_BY_ONE)
        for mode in BATCH_MODES:
            self._total(f"{len(clips)} clips, `{mode}`", clips, mode)

    def _total(self, name: str, clips: Sequence[str], mode: str) -> None:
        for process in self._processes:
            answer = process.ask("total", clips=clips, new_tokens=self._plan.new_tokens, mode=mode)
            if answer:
                self._add(name, "s", process, answer["seconds"])
                self._add(f"{name}, MLX peak", "MiB", process, answer["mlx_peak_mib"])

    def _towers(self) -> None:
        for seconds in self._plan.tower:
            for process in self._processes:
                answer = process.ask("tower", clip=self._clip(seconds))
                self._add(f"tower, {seconds:g} s", "ms", process, 1000 * answer)

    def _rows(self) -> None:
        for rows in self._plan.rows:
            self._total(f"{rows} rows, `batched`", [self._clip(self._lengths[0])] * rows, "batched")

    def _memory(self) -> None:
        for process in self._processes:
            answer = process.ask("memory")
            self._add("peak RSS", "MiB", process, answer["rss_peak_mib"])

    def _linear(self) -> None:
        for seconds in self._plan.linear:
            for process in self._processes:
                if process.name != RUNTIME:
                    continue
                answer = process.ask("long", clip=self._clip(seconds), new_tokens=self._plan.new_tokens)
                self._add(f"recording of {seconds:g} s", "s", process, answer["seconds"])
                self._add(f"recording of {seconds:g} s, each minute", "s", process, answer["seconds"] / seconds * 60)
                self._add(f"recording of {seconds:g} s, MLX peak", "MiB", process, answer["mlx_peak_mib"])
                self._add(f"recording of {seconds:g} s, RSS", "MiB", process, answer["rss_mib"])
