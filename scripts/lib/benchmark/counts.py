"""What each contender would launch on a GPU, case by case, with nothing timed but the host; see docs/data/counts.md."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from benchmark.audio import write_clip
from benchmark.contenders import RUNTIME
from benchmark.figures import Figures
from benchmark.process import Process

ROWS, POSITIONS = (1, 4, 8, 16), (100, 400)
PREFILL_POSITIONS = 160
TOWER_SECONDS = 10.0
_ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    rows: int = 1
    positions: int = 0


CASES = [
    *(
        Case(f"step, {rows} row{'s' * (rows > 1)} of {positions} positions", "step", rows, positions)
        for positions in POSITIONS
        for rows in ROWS
    ),
    Case(f"prefill of {PREFILL_POSITIONS} positions", "prefill", positions=PREFILL_POSITIONS),
    Case(f"tower, {TOWER_SECONDS:g} s", "tower"),
]


@dataclass(frozen=True)
class Least:
    """What a decoder step has to read: each weight once, and the keys and values of the positions that exist."""

    weights: int
    position: int

    @classmethod
    def of(cls, checkpoint: Path) -> "Least":
        config = json.loads((checkpoint / "config.json").read_bytes())["thinker_config"]["text_config"]
        tensors: dict[str, Any] = {}
        for file in checkpoint.glob("*.safetensors"):
            with file.open("rb") as stream:
                tensors |= json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        read = [tensor for name, tensor in tensors.items() if name.startswith("thinker.model.")]
        size = _ITEM_BYTES[read[0]["dtype"]]
        heads, width = config["num_key_value_heads"], config["head_dim"]
        return cls(
            weights=size * sum(prod(tensor["shape"]) for tensor in read),
            position=2 * size * config["num_hidden_layers"] * heads * width,
        )

    def bytes(self, rows: int, positions: int) -> int:
        """Of a step that adds a position to each of so many rows."""
        return self.weights + rows * (positions + 1) * self.position


class CountMeasurement:
    """`start` gives the process of a contender, loaded. One is open at a time, since each holds the weights."""

    def __init__(self, names: Sequence[str], start: Callable[[str, ExitStack], Process], least: Least, clips: Path):
        self.figures = Figures()
        self.differences: dict[str, Any] = {}
        self._names, self._start, self._least, self._clips = names, start, least, clips
        self._mine: dict[str, Mapping[str, Any]] = {}

    def run(self) -> None:
        answers: dict[str, dict[str, Any]] = {}
        for name in self._names:
            with ExitStack() as stack:
                process = self._start(name, stack)
                print(f"counting {name}", file=sys.stderr, flush=True)
                answers[name] = {case.name: self._ask(process, case) for case in CASES}
        for case in CASES:
            for name in self._names:
                if answers[name][case.name]:
                    self._add(case, name, answers[name][case.name])
        self._mine = answers[RUNTIME]

    def _ask(self, process: Process, case: Case) -> Any:
        clip = str(write_clip(self._clips, TOWER_SECONDS, 1))
        return process.ask("count", what=case.what, clip=clip, rows=case.rows, positions=case.positions)

    def _add(self, case: Case, name: str, counted: Mapping[str, Any]) -> None:
        add = self.figures.add
        add(f"{case.name}: primitives", "", name, counted["primitives"])
        add(f"{case.name}: kernels", "", name, counted["kernels"])
        add(f"{case.name}: read and written", "MB", name, counted["bytes"] / 1e6)
        if case.what == "step":
            least = self._least.bytes(case.rows, case.positions)
            copied = counted["copied"] if counted["queues_ahead"] else 0
            add(f"{case.name}: beyond the least", "%", name, 100 * (counted["bytes"] / least - 1))
            if counted["queues_ahead"]:
                add(f"{case.name}: copies of held buffers", "MB", name, copied / 1e6)
            add(f"{case.name}: with them, beyond the least", "%", name, 100 * ((counted["bytes"] + copied) / least - 1))
        add(f"{case.name}: host", "ms", name, 1000 * counted["seconds"])

    def notes(self) -> list[str]:
        """The runtime's kernels, by primitive: as many, and the MB they move."""
        cases = [case.name for case in CASES if self._mine.get(case.name)]
        totals = {
            name: max(self._mine[case]["kernels_by_name"].get(name, 0) for case in cases)
            for name in dict.fromkeys(name for case in cases for name in self._mine[case]["kernels_by_name"])
        }
        lines = [f"| {RUNTIME} | {' | '.join(cases)} |", f"| --- |{' ---: |' * len(cases)}"]
        for name in sorted(totals, key=lambda one: -totals[one]):
            cells = [self._cell(case, name) for case in cases]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return lines

    def _cell(self, case: str, name: str) -> str:
        counted = self._mine[case]
        kernels = counted["kernels_by_name"].get(name, 0)
        return f"{kernels} ({counted['bytes_by_name'][name] / 1e6:,.1f})" if kernels else ""
