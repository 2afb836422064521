"""An evaluation → one self-contained HTML page."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from qwen3_asr_mlx_runtime.tools.evaluate.charts import charts
from qwen3_asr_mlx_runtime.tools.evaluate.evaluation import Evaluation
from qwen3_asr_mlx_runtime.tools.evaluate.plotting import MARKERS
from qwen3_asr_mlx_runtime.tools.evaluate.table import cells, cells_of_words, columns
from qwen3_asr_mlx_runtime.tools.evaluate.waveform import drawing
from qwen3_asr_mlx_runtime.tools.score.alignment import Alignment
from qwen3_asr_mlx_runtime.tools.score.word_table import WORD_COLUMNS
from qwen3_asr_mlx_runtime.tools.stages import STAGES

# matplotlib's markers as CSS.
_SHAPES = {
    "o": "border-radius: 50%",
    "s": "border-radius: 1px",
    "D": "clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%)",
    "^": "clip-path: polygon(50% 0, 100% 100%, 0 100%)",
    "v": "clip-path: polygon(0 0, 100% 0, 50% 100%)",
    "P": "clip-path: polygon(33% 0, 67% 0, 67% 33%, 100% 33%, 100% 67%, 67% 67%, 67% 100%, 33% 100%, 33% 67%, 0 67%, "
    "0 33%, 33% 33%)",
    "p": "clip-path: polygon(50% 0, 100% 38%, 81% 100%, 19% 100%, 0 38%)",
    "X": "clip-path: polygon(25% 0, 50% 25%, 75% 0, 100% 25%, 75% 50%, 100% 75%, 75% 100%, 50% 75%, 25% 100%, 0 75%, "
    "25% 50%, 0 25%)",
}
_TEMPLATE = Path(__file__).with_name("report.html")


def page(evaluation: Evaluation) -> str:
    """Every text is escaped. `evaluation` has at least one result."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    scores = [result.score for result in evaluation.results]
    names = dict.fromkeys(chain.from_iterable(score.languages for score in scores))
    return template.render(
        evaluation=evaluation,
        charts=charts(evaluation),
        columns=columns(evaluation),
        cells=cells,
        word_columns=WORD_COLUMNS,
        cells_of_words=cells_of_words,
        drawing=drawing,
        runs=runs,
        shapes=[_SHAPES[marker] for marker in MARKERS],
        stages=[
            stage for stage in STAGES.values() if any(stage in result.figures.stages for result in evaluation.results)
        ],
        stage_numbers={stage: f"{number:02x}" for number, stage in enumerate(STAGES.values(), 1)},
        normalisers={name: _normalisers(evaluation, name) for name in names},
    )


def runs(alignment: Alignment, space: str) -> Iterator[tuple[str, str, str]]:
    """(kind, reference, hypothesis)"""
    for chunk in alignment.chunks:
        yield chunk.kind, space.join(chunk.reference), space.join(chunk.hypothesis)


def _normalisers(evaluation: Evaluation, language: str) -> list[str]:
    found = (result.score.languages.get(language) for result in evaluation.results)
    return sorted({name for scores in found if scores for name in scores.normalisers})
