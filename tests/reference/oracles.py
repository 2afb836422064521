"""The two reference environments, as `scripts/reference` makes them, and programs run in them."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reference import alignments
from reference.clips import FRAME_COUNTS

TRANSFORMERS_VARIABLE = "QWEN3_ASR_MLX_ORACLE_TRANSFORMERS"
QWEN_ASR_VARIABLE = "QWEN3_ASR_MLX_ORACLE_QWEN_ASR"

TESTS = Path(__file__).resolve().parent.parent

# transformers pads what is shorter than one second of frames; qwen-asr takes it as it is, and so do we.
LONG = tuple(frames for frames in FRAME_COUNTS if frames >= 100)
SHORT = tuple(frames for frames in FRAME_COUNTS if frames < 100)


@dataclass(frozen=True)
class Oracles:
    """The Python of each reference environment."""

    transformers: Path
    qwen_asr: Path

    @classmethod
    def from_environment(cls) -> "Oracles | None":
        pythons = [os.environ.get(name) for name in (TRANSFORMERS_VARIABLE, QWEN_ASR_VARIABLE)]
        return cls(*(Path(python) for python in pythons if python)) if all(pythons) else None

    def run_transformers(self, checkpoint: Path, out: Path, frame_counts: Iterable[int] = LONG) -> None:
        self._run(self.transformers, "reference.oracle_transformers", checkpoint, out, _frames(frame_counts))

    def run_qwen_asr(self, checkpoint: Path, out: Path, frame_counts: Iterable[int] = SHORT) -> None:
        self._run(self.qwen_asr, "reference.oracle_qwen_asr", checkpoint, out, _frames(frame_counts))

    def align_by_transformers(self, checkpoint: Path, out: Path, cases: Iterable[str] = alignments.LONG) -> None:
        self._run(self.transformers, "reference.oracle_aligner_transformers", checkpoint, out, _cases(cases))

    def align_by_qwen_asr(self, checkpoint: Path, out: Path, cases: Iterable[str] = alignments.SHORT) -> None:
        self._run(self.qwen_asr, "reference.oracle_aligner_qwen_asr", checkpoint, out, _cases(cases))

    def run_rules(self, out: Path) -> None:
        self._run(self.qwen_asr, "reference.oracle_rules", "rules", out)

    def run_prompts(self, tokenizer: Path, out: Path) -> None:
        self._run(self.qwen_asr, "reference.oracle_rules", "prompts", tokenizer, out)

    def run_alignment(self, given: Path, out: Path) -> None:
        self._run(self.qwen_asr, "reference.oracle_alignment", given, out)

    def run_alignments(self, tokenizer: Path, out: Path) -> None:
        self._run(self.qwen_asr, "reference.oracle_rules", "alignments", tokenizer, out)

    def run_transcripts(self, checkpoint: Path, clips: Path, out: Path) -> None:
        self._run(self.qwen_asr, "reference.oracle_transcripts", checkpoint, clips, out)

    def _run(self, python: Path, module: str, *arguments: str | Path) -> None:
        """torch brings its own BLAS and would be slowed or broken by one preloaded for MLX."""
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        environment |= {
            "PYTHONPATH": str(TESTS),
            "HF_HUB_OFFLINE": "1",
            "GOMP_SPINCOUNT": "0",
            "OMP_WAIT_POLICY": "passive",
        }
        run_module(python, module, *arguments, environment=environment)


def run_module(python: Path, module: str, *arguments: str | Path, environment: dict[str, str]) -> None:
    """Raise RuntimeError with the end of its output unless the module ends well."""
    command = [str(python), "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def _frames(frame_counts: Iterable[int]) -> str:
    return "--frames=" + ",".join(map(str, frame_counts))


def _cases(names: Iterable[str]) -> str:
    return "--cases=" + ",".join(names)
