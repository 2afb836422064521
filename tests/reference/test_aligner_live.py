"""The aligners of the reference implementations run here and now: against the committed goldens, and against this
runtime, on a tiny checkpoint and on one of the dimensions of Qwen3-ForcedAligner-0.6B. `scripts/reference` starts these
tests.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reference.aligner_runtime import AlignerRuntime
from reference.alignments import CASES, LONG, NEAR_TIE, SHORT, Alignment, digest, gaps, load, load_digests
from reference.clips import clip
from reference.differences import LOGITS_LIMIT, relative
from reference.goldens import DEMO, GOLDEN, write_aligner_goldens
from reference.oracles import TESTS, Oracles, run_module
from reference.random_checkpoint import write_random_checkpoint

pytestmark = pytest.mark.reference

Found = dict[str, Alignment]

every_case = pytest.mark.parametrize("name", CASES)


class Written:
    """What the oracles wrote: the goldens in `folder`, the alignments behind them, all that is in `work`."""

    def __init__(self, oracles: Oracles, folder: Path, work: Path, tokenizers: dict[str, Path]) -> None:
        self.folder, self.work = folder, work
        self.alignments: Found = write_aligner_goldens(oracles, folder, work, tokenizers)


@pytest.fixture(scope="module")
def written(oracles: Oracles, tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, Path]) -> Written:
    return Written(oracles, tmp_path_factory.mktemp("golden"), tmp_path_factory.mktemp("work"), tokenizers)


@pytest.fixture(scope="module")
def tiny(written: Written, say: Callable[[str], None]) -> Found:
    runtime = AlignerRuntime(written.work / "aligner-released")
    found = {name: runtime.align(clip(case.frames), case.units) for name, case in CASES.items()}
    say(f"The aligner against the reference, tiny, float32:\n\n{table(found, written.alignments)}")
    return found


@pytest.fixture(scope="module")
def real_reference(oracles: Oracles, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One process after another: each holds the weights in float32."""
    work = tmp_path_factory.mktemp("reference")
    align = {"native": oracles.align_by_transformers, "released": oracles.align_by_qwen_asr}
    found: Found = {}
    for layout in ("native", "released"):
        folder = real_checkpoint(work / layout, layout)
        align[layout](folder, work / f"{layout}.npz")
        found |= load(work / f"{layout}.npz")
        shutil.rmtree(folder)
    return found


@pytest.fixture(scope="module")
def real(
    real_reference: Found, tmp_path_factory: pytest.TempPathFactory, repository: Path, say: Callable[[str], None]
) -> Found:
    """The runtime on the same weights, in a process of its own."""
    work = tmp_path_factory.mktemp("runtime")
    folder = real_checkpoint(work / "released", "released")
    environment = os.environ | {"PYTHONPATH": f"{repository / 'src'}{os.pathsep}{TESTS}"}
    run_module(Path(sys.executable), "reference.aligner_runtime", folder, work / "found.npz", environment=environment)
    shutil.rmtree(folder)
    found = load(work / "found.npz")
    say(f"The aligner against the reference, real dimensions, float32:\n\n{table(found, real_reference)}")
    return found


def real_checkpoint(folder: Path, layout: str) -> Path:
    return write_random_checkpoint(folder, size="aligner", layout=layout, dtype="bfloat16", tokenizer=DEMO)


def table(found: Found, expected: Found) -> str:
    rows = [
        f"| {name} | {len(expected[name].ids)} | {len(expected[name].logits)} "
        f"| {relative(found[name].logits, expected[name].logits):.1e} "
        f"| {(found[name].logits.argmax(1) == expected[name].logits.argmax(1)).sum()} "
        f"| {gaps(expected[name].logits).min():.4f} |"
        for name in CASES
    ]
    header = (
        "| case | ids | marks | logits at marks, relative | equal classes | smallest gap |\n|---|---|---|---|---|---|"
    )
    return "\n".join([header, *rows])


@every_case
def test_the_committed_goldens_are_what_the_oracles_write(written: Written, name: str) -> None:
    fresh, golden = (load_digests(folder / "aligner.npz")[name] for folder in (written.folder, GOLDEN))
    assert fresh.ids.tolist() == golden.ids.tolist()
    assert fresh.classes.tolist() == golden.classes.tolist()
    assert relative(fresh.logits, golden.logits) <= LOGITS_LIMIT
    assert fresh.logits.tolist() == digest(written.alignments[name]).logits.tolist()


def test_the_committed_weights_are_those_of_today(written: Written) -> None:
    fresh, golden = (json.loads((folder / "aligner.json").read_text()) for folder in (written.folder, GOLDEN))
    assert fresh["checkpoint"] == golden["checkpoint"]


@pytest.mark.parametrize("name", ["demo", "published"])
def test_the_committed_prompts_are_those_of_the_package(written: Written, name: str) -> None:
    if not (written.folder / f"alignments-{name}.json").exists():
        pytest.skip("the published tokenizer is not here: set QWEN3_ASR_MLX_TEST_DATA")
    fresh, golden = (json.loads((one / f"alignments-{name}.json").read_text()) for one in (written.folder, GOLDEN))
    assert (fresh["audio_pad"], fresh["prompts"]) == (golden["audio_pad"], golden["prompts"])


def test_the_oracles_agree_where_both_apply(written: Written) -> None:
    by_qwen_asr = load(written.work / "aligner-qwen-asr.npz")
    for name in LONG:
        ours, theirs = by_qwen_asr[name], written.alignments[name]
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert relative(ours.logits, theirs.logits) <= 1e-5
    assert {*LONG, *SHORT} == {*CASES}


@every_case
def test_the_tiny_aligner_equals_the_reference(tiny: Found, written: Written, name: str) -> None:
    assert_equal(tiny[name], written.alignments[name])


@every_case
def test_the_aligner_equals_the_reference_at_real_dimensions(real: Found, real_reference: Found, name: str) -> None:
    assert_equal(real[name], real_reference[name])


def assert_equal(found: Alignment, expected: Alignment) -> None:
    assert found.ids.tolist() == expected.ids.tolist()
    assert relative(found.logits, expected.logits) <= LOGITS_LIMIT
    clear = gaps(expected.logits) > NEAR_TIE
    assert clear.mean() > 0.98
    assert found.logits.argmax(1)[clear].tolist() == expected.logits.argmax(1)[clear].tolist()
