"""The figures of word times, and their order: every round measures each contender in turn."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmark.audio import write_clip
from benchmark.contenders import RUNTIME
from benchmark.figures import Figures
from benchmark.process import Process
from benchmark.vocabulary import TEXT

WORDS_PER_SECOND = 80 / 30
COMPARED_SECONDS = 4.0
# What is cut into units and given classes. The first word is the language.
COMPARED = {
    "English": "It's 3.14, o'clock—don't e-mail a@b.com!",
    "German": "Die Straße heißt »Ångström«, zu 100 %.",
    "Chinese": "交易几乎停滞，今天",
    "Chinese with figures": "今天是 3.14，iPhone很贵",
    "Korean": "안녕하세요 저는 학생입니다",
    "Japanese": "今日は学校へ行きました",
}


@dataclass(frozen=True)
class WordPlan:
    repeats: int
    seconds: float
    imports: bool
    seed: int

    @property
    def text(self) -> str:
        """As many words as one says in that time."""
        return " ".join(islice(cycle(TEXT.split()), max(1, round(self.seconds * WORDS_PER_SECOND))))


class WordMeasurement:
    """The figures of a plan, and whether the contenders cut the same units and find the same classes."""

    def __init__(self, plan: WordPlan, processes: Sequence[Process], clips: Path) -> None:
        self.figures = Figures()
        self._plan = plan
        self._processes = processes
        self._clips = clips
        self._found: dict[str, dict[str, Mapping[str, Any]]] = {}  # contender → text → units, classes

    @property
    def differences(self) -> dict[str, dict[str, str]]:
        """For each peer and text, what differs from the runtime's."""
        mine = self._found[RUNTIME]
        return {
            name: {text: _difference(mine[text], answer) for text, answer in answers.items()}
            for name, answers in self._found.items()
            if name != RUNTIME
        }

    def notes(self) -> list[str]:
        """A table of `differences`, a row for each text and a column for each peer."""
        columns = self.differences
        if not columns:
            return []
        rows = [["text", *columns], ["---"] * (len(columns) + 1)]
        rows += [[text, *(found[text] for found in columns.values())] for text in self._found[RUNTIME]]
        return [f"| {' | '.join(row)} |" for row in rows]

    def run(self) -> None:
        title = f"{self._plan.seconds:g} s of English"
        for process in self._processes:  # the first pass of each compiles and loads what it needs
            self._found[process.name] = {title: process.ask("classes", **self._whole)}
        for number in range(self._plan.repeats):
            print(f"round {number + 1} of {self._plan.repeats}", file=sys.stderr, flush=True)
            if self._plan.imports:
                for process in self._processes:
                    self._add("import", "s", process, process.import_seconds())
            self._round()
        for process in self._processes:
            self._add("peak RSS", "MiB", process, process.ask("memory")["rss_peak_mib"])
        for process in self._processes:  # at the end: the segmenter of Japanese takes memory
            self._found[process.name] |= self._compared(process)

    @property
    def _whole(self) -> dict[str, str]:
        return {**self._clip(self._plan.seconds), "text": self._plan.text, "language": "English"}

    def _clip(self, seconds: float) -> dict[str, str]:
        return {"clip": str(write_clip(self._clips, seconds, self._plan.seed))}

    def _add(self, name: str, unit: str, process: Process, value: float) -> None:
        self.figures.add(name, unit, process.name, value)
        print(f"  {name}, {process.name}: {value:.4g} {unit}", file=sys.stderr, flush=True)

    def _compared(self, process: Process) -> dict[str, Mapping[str, Any]]:
        clip = self._clip(COMPARED_SECONDS)
        return {
            name: process.ask("classes", **clip, text=text, language=name.split()[0]) for name, text in COMPARED.items()
        }

    def _round(self) -> None:
        bounds = {process.name: self._bounds(process) for process in self._processes}
        for process in self._processes:
            self._add("forward pass", "s", process, process.ask("classes", **self._whole)["seconds"])
        for process in self._processes:
            answer = process.ask("align", **self._whole)
            self._add("from samples to times", "s", process, answer["seconds"])
            self._add("from samples to times, MLX peak", "MiB", process, answer["mlx_peak_mib"])
            if bounds[process.name] is not None:
                ratio = answer["seconds"] / bounds[process.name]
                self._add("from samples to times / (tower + prefill)", "", process, ratio)

    def _bounds(self, process: Process) -> float | None:
        """Tower and prefill together; None for a contender without a prefill."""
        answer = process.ask("bounds", **self._whole)
        self._add("tower", "s", process, answer["tower"])
        if "prefill" not in answer:
            return None
        self._add(f"prefill of {answer['positions']} positions", "s", process, answer["prefill"])
        return float(answer["tower"] + answer["prefill"])


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if not theirs:
        return "no units, a package is missing"
    if mine["units"] != theirs["units"]:
        return f"other units: {' '.join(theirs['units'])} for {' '.join(mine['units'])}"
    equal = sum(a == b for a, b in zip(mine["classes"], theirs["classes"], strict=True))
    return f"{equal} of {len(mine['classes'])} classes equal"
