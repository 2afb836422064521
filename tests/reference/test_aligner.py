"""The aligner against the goldens that the reference implementations wrote, on a checkpoint of random weights.

How the goldens come about: tests/reference/README.md.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_mlx_runtime.model import aligner as module
from qwen3_asr_mlx_runtime.model.aligner import ForcedAligner
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.prompt import Prompt, aligner_prompt
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from reference.aligner_runtime import AlignerRuntime
from reference.alignments import CASES, NEAR_TIE, Alignment, Digest, digest, load_digests
from reference.clips import clip
from reference.differences import LOGITS_LIMIT, relative
from reference.goldens import GOLDEN, aligner_tokenizer
from reference.random_checkpoint import write_random_checkpoint

GOLDENS = load_digests(GOLDEN / "aligner.npz")
METADATA: dict[str, Any] = json.loads((GOLDEN / "aligner.json").read_text())
BFLOAT16_LIMIT = 0.15  # relative to the golden in float32

every_case = pytest.mark.parametrize("name", CASES)


def align(runtime: AlignerRuntime, name: str) -> Alignment:
    return runtime.align(clip(CASES[name].frames), CASES[name].units)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("released")
    return write_random_checkpoint(folder, size="tiny-aligner", tokenizer=demo_checkpoint)


@pytest.fixture(scope="module")
def runtime(checkpoint: Path) -> AlignerRuntime:
    return AlignerRuntime(checkpoint)


@pytest.fixture(scope="module")
def found(runtime: AlignerRuntime) -> Any:
    """Each case is run once."""
    return cache(lambda name: digest(align(runtime, name)))


def assert_equal(found: Digest, golden: Digest) -> None:
    assert found.ids.tolist() == golden.ids.tolist()
    assert relative(found.logits, golden.logits) <= LOGITS_LIMIT
    for mark, expected in zip(found.logits, golden.logits, strict=True):
        assert relative(mark, expected) <= LOGITS_LIMIT
    assert found.classes.tolist() == golden.classes.tolist()


@every_case
def test_ids_logits_and_classes_equal_the_reference(found: Any, name: str) -> None:
    assert len(GOLDENS[name].classes) == 2 * len(CASES[name].units)
    assert_equal(found(name), GOLDENS[name])


def test_no_class_of_the_goldens_is_nearly_a_tie_and_classes_vary() -> None:
    assert METADATA["smallest gap"] > NEAR_TIE
    assert len({one for golden in GOLDENS.values() for one in golden.classes.tolist()}) > 40


def test_the_reference_splits_units_into_six_pieces_and_more(runtime: AlignerRuntime) -> None:
    assert min(len(runtime.tokenizer.encode(unit)) for unit in CASES["long units"].units) >= 6


@pytest.mark.parametrize("name", ["1 s", "31 s"])
def test_one_token_before_the_audio_is_noticed(
    runtime: AlignerRuntime, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def planted(tokenizer: Tokenizer, units: Any) -> Prompt:
        prompt = aligner_prompt(tokenizer, units)
        return Prompt(
            (tokenizer.token_id("<|im_start|>"), *prompt.prefix_ids), prompt.suffix_ids, prompt.audio_token_id
        )

    monkeypatch.setattr(module, "aligner_prompt", planted)
    got, golden = digest(align(runtime, name)), GOLDENS[name]
    assert relative(got.logits, golden.logits) > 100 * LOGITS_LIMIT
    assert got.classes.tolist() != golden.classes.tolist()


@pytest.mark.parametrize("name", ["1 s", "31 s"])
def test_labels_shifted_by_one_position_are_noticed(
    runtime: AlignerRuntime, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    at_marks = ForcedAligner.at_marks
    monkeypatch.setattr(
        ForcedAligner,
        "at_marks",
        lambda self, prompts, marks: at_marks(self, prompts, [[place - 1 for place in row] for row in marks]),
    )
    got, golden = digest(align(runtime, name)), GOLDENS[name]
    assert relative(got.logits, golden.logits) > 100 * LOGITS_LIMIT
    assert got.classes.tolist() != golden.classes.tolist()


def test_all_in_one_pass_equal_the_reference(runtime: AlignerRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForcedAligner, "packs", True)
    names = ["8.01 s", "0.6 s", "31 s", "1 s", "7.99 s", "one unit"]
    features = [log_mel(clip(CASES[name].frames)) for name in names]
    together = runtime.aligner.logits(features, [CASES[name].units for name in names])
    for logits, name in zip(together, names, strict=True):
        assert_equal(digest(Alignment(GOLDENS[name].ids, logits)), GOLDENS[name])


@pytest.mark.parametrize("layout", ["native", "mlx"])
def test_every_layout_equals_the_reference(tmp_path: Path, demo_checkpoint: Path, layout: Any) -> None:
    folder = write_random_checkpoint(tmp_path, size="tiny-aligner", layout=layout, tokenizer=demo_checkpoint)
    assert_equal(digest(align(AlignerRuntime(folder), "8.01 s")), GOLDENS["8.01 s"])


def test_bfloat16_stays_near_the_float32_golden(checkpoint: Path) -> None:
    half = AlignerRuntime(checkpoint, "bfloat16")
    for name in ("0.6 s", "8.01 s", "31 s"):
        assert relative(digest(align(half, name)).logits, GOLDENS[name].logits) <= BFLOAT16_LIMIT


def test_ids_equal_those_of_the_package_whatever_the_text(demo_checkpoint: Path) -> None:
    assert_prompts_equal("demo", demo_checkpoint)


def test_ids_of_the_published_tokenizer_equal_those_of_the_package(data_folder: Path, tmp_path: Path) -> None:
    published = aligner_tokenizer(data_folder / "tokenizer" / "Qwen3-ASR", tmp_path / "tokenizer")
    assert_prompts_equal("published", published)


def assert_prompts_equal(name: str, folder: Path) -> None:
    golden = json.loads((GOLDEN / f"alignments-{name}.json").read_text())
    tokenizer = Tokenizer.from_folder(folder)
    assert len(golden["prompts"]) == 10
    for units, prefix, suffix in golden["prompts"]:
        assert aligner_prompt(tokenizer, units) == Prompt(tuple(prefix), tuple(suffix), golden["audio_pad"])
