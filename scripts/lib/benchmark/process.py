"""A contender's process as the benchmark sees it: commands go in, answers come out."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.contenders import CONTENDERS


class Process:
    """Started with `python` in `environment`; its stderr is this process's. To be closed."""

    def __init__(
        self,
        name: str,
        python: Path,
        environment: Mapping[str, str],
        clock: str = "wall",
        kind: str = "recogniser",
    ) -> None:
        self.name = name
        self._contender = CONTENDERS[kind][name]
        self._python, self._environment = python, environment
        orders, self._orders = os.pipe()
        answers, answers_in = os.pipe()
        command = [python, "-m", "benchmark.serve", kind, name, clock]
        self._process = subprocess.Popen(command, stdin=orders, stdout=answers_in, env=dict(environment))
        os.close(orders)
        os.close(answers_in)
        self._answers = os.fdopen(answers, "rb")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Run one command. Raises RuntimeError if the process ended instead of answering."""
        os.write(self._orders, json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended in the middle of `{do}`: see above")
        return json.loads(answer)

    def import_seconds(self) -> float:
        """Import the implementation in a fresh interpreter, by the wall; what the bare one takes is left out."""
        return self._run(self._contender.import_statement) - self._run("pass")

    def _run(self, statement: str) -> float:
        started = time.perf_counter()
        subprocess.run([self._python, "-c", statement], env=dict(self._environment), check=True)
        return time.perf_counter() - started

    def close(self) -> None:
        os.close(self._orders)
        self._process.wait()
        self._answers.close()
