"""The reference implementations run here and now: against the committed goldens, and against this runtime, on a tiny
checkpoint and on one of the dimensions of Qwen3-ASR-0.6B. `scripts/reference` installs them and starts these tests.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from reference.activations import TOKENS, Activations, load
from reference.clips import FRAME_COUNTS, clip
from reference.corpus import WAYS
from reference.differences import (
    EMBEDDINGS_LIMIT,
    LOGITS_LIMIT,
    LOGPROBS_LIMIT,
    MEL_LIMIT,
    Differences,
    differences,
    max_abs,
    relative,
    table,
)
from reference.digest import Digest, load_digests
from reference.goldens import GOLDEN, write_goldens
from reference.oracles import LONG, SHORT, TESTS, Oracles, run_module
from reference.random_checkpoint import write_random_checkpoint
from reference.runtime import Runtime

pytestmark = pytest.mark.reference

Found = dict[int, Activations]

every_length = pytest.mark.parametrize("frames", FRAME_COUNTS)


class WrittenGoldens:
    """What the oracles wrote: the goldens in `folder`, the activations behind them, all that is in `work`."""

    def __init__(self, oracles: Oracles, folder: Path, work: Path, tokenizers: dict[str, Path]) -> None:
        self.folder, self.work = folder, work
        self.activations: Found = write_goldens(oracles, folder, work, tokenizers)


@pytest.fixture(scope="module")
def written(oracles: Oracles, tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, Path]) -> WrittenGoldens:
    return WrittenGoldens(oracles, tmp_path_factory.mktemp("golden"), tmp_path_factory.mktemp("work"), tokenizers)


@pytest.fixture(scope="module")
def tiny(written: WrittenGoldens, say: Callable[[str], None]) -> dict[int, Differences]:
    runtime = Runtime.load(written.work / "released")
    found = {frames: runtime.activations(clip(frames), TOKENS) for frames in FRAME_COUNTS}
    say(f"The runtime against the reference, tiny, float32:\n\n{table(found, written.activations)}")
    return {frames: differences(found[frames], written.activations[frames]) for frames in FRAME_COUNTS}


@pytest.fixture(scope="module")
def real_reference(oracles: Oracles, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The reference at the dimensions of 0.6B, one process after another: each holds the weights in float32."""
    work = tmp_path_factory.mktemp("reference")
    native = write_random_checkpoint(work / "native", size="0.6b", layout="native", dtype="bfloat16")
    oracles.run_transformers(native, work / "long.npz", LONG)
    shutil.rmtree(native)
    released = write_random_checkpoint(work / "released", size="0.6b", layout="released", dtype="bfloat16")
    oracles.run_qwen_asr(released, work / "short.npz", SHORT)
    shutil.rmtree(released)
    return load(work / "long.npz") | load(work / "short.npz")


@pytest.fixture(scope="module")
def real_runtime(oracles: Oracles, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Found:
    """The runtime on the same weights, in a process of its own. `oracles` is asked for only so that this is skipped
    together with the rest."""
    work = tmp_path_factory.mktemp("runtime")
    released = write_random_checkpoint(work / "released", size="0.6b", layout="released", dtype="bfloat16")
    environment = os.environ | {"PYTHONPATH": f"{repository / 'src'}{os.pathsep}{TESTS}"}
    run_module(Path(sys.executable), "reference.runtime", released, work / "found.npz", environment=environment)
    shutil.rmtree(released)
    return load(work / "found.npz")


@pytest.fixture(scope="module")
def real(real_reference: Found, real_runtime: Found, say: Callable[[str], None]) -> dict[int, Differences]:
    say(f"The runtime against the reference, dimensions of 0.6B, float32:\n\n{table(real_runtime, real_reference)}")
    return {frames: differences(real_runtime[frames], real_reference[frames]) for frames in FRAME_COUNTS}


@every_length
def test_the_committed_goldens_are_what_the_oracles_write(written: WrittenGoldens, frames: int) -> None:
    fresh, golden = load_digests(written.folder / "tiny.npz")[frames], load_digests(GOLDEN / "tiny.npz")[frames]
    assert fresh.tokens.tolist() == golden.tokens.tolist()
    assert fresh.prompt_ids.tolist() == golden.prompt_ids.tolist()
    assert max_abs(fresh.gaps, golden.gaps) <= 1e-2
    for name, apart, limit in apart_by(fresh, golden):
        assert apart <= limit, name


def apart_by(fresh: Digest, golden: Digest) -> Iterator[tuple[str, float, float]]:
    for field in fields(Digest):
        pair = getattr(fresh, field.name), getattr(golden, field.name)
        if field.name.startswith("mel"):
            yield field.name, max_abs(*pair), MEL_LIMIT
        if field.name == "embeddings":
            yield field.name, relative(*pair), EMBEDDINGS_LIMIT
        if field.name.endswith("logits"):
            yield field.name, relative(*pair), LOGITS_LIMIT
        if field.name == "logprobs":
            yield field.name, max_abs(*pair), LOGPROBS_LIMIT


def test_the_committed_metadata_is_what_the_oracles_say(written: WrittenGoldens) -> None:
    fresh, golden = (json.loads((folder / "tiny.json").read_text()) for folder in (written.folder, GOLDEN))
    assert fresh["clips"] == golden["clips"]
    assert fresh["checkpoint"] == golden["checkpoint"]
    assert without_builds(fresh["oracles"]) == without_builds(golden["oracles"])


@pytest.mark.parametrize("name", ["rules", "alignment", "prompts-demo", "prompts-published"])
def test_the_committed_rules_are_those_of_the_oracle(written: WrittenGoldens, name: str) -> None:
    if not (written.folder / f"{name}.json").exists():
        pytest.skip("the published tokenizer is not here: set QWEN3_ASR_MLX_TEST_DATA")
    fresh, golden = (json.loads((folder / f"{name}.json").read_text()) for folder in (written.folder, GOLDEN))
    for table_name in ("cos", "sin") if name == "rules" else ():
        tables = [np.array(rules["mrope"].pop(table_name)) for rules in (fresh, golden)]
        assert max_abs(*tables) <= 1e-5
    assert without_builds(fresh) == without_builds(golden)


def without_builds(value: Any) -> Any:
    """torch tells its build after a plus: 2.13.0+cpu."""
    return json.loads(json.dumps(value).replace("+cpu", ""))


def test_the_oracles_agree_where_both_apply(written: WrittenGoldens, say: Callable[[str], None]) -> None:
    qwen_asr = load(written.work / "qwen-asr.npz")
    found = {frames: qwen_asr[frames] for frames in LONG}
    say(f"qwen-asr, with its window mask put in, against transformers, tiny:\n\n{table(found, written.activations)}")
    for frames in LONG:
        apart = differences(found[frames], written.activations[frames])
        assert apart.mel <= 1e-6
        assert apart.embeddings <= 3e-6
        assert apart.logits <= 3e-5
        assert apart.equal_tokens == TOKENS
        assert apart.logprobs <= 1e-4


@every_length
def test_the_tiny_runtime_equals_the_reference(tiny: dict[int, Differences], frames: int) -> None:
    assert_within_limits(tiny[frames])


@every_length
def test_the_runtime_equals_the_reference_at_real_dimensions(real: dict[int, Differences], frames: int) -> None:
    assert_within_limits(real[frames])


def test_the_demonstration_checkpoint_transcribes_as_the_reference_does(
    oracles: Oracles, demo_checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    """Speech and trained weights, by the reference's own path from samples to text. Texts that are sure of themselves
    survive many a fault, so the probability of every step is compared too. All clips together span three windows."""
    recordings = sorted((repository / "examples" / "audio").glob("*.wav"))
    clips = {file.stem: read_file(str(file)).samples for file in recordings}
    clips["all together"] = np.concatenate(list(clips.values()))
    np.savez(tmp_path / "clips.npz", **clips)
    oracles.run_transcripts(demo_checkpoint, tmp_path / "clips.npz", tmp_path / "transcripts.json")
    written = json.loads((tmp_path / "transcripts.json").read_text())
    recognizer = Recognizer.load(str(demo_checkpoint), dtype="float32")
    for name, samples in clips.items():
        for (language, context), expected in zip(WAYS, written[name], strict=True):
            found = recognizer.transcribe(Utterance(samples, language=language, context=context, logprobs=True))
            assert (found.language or "", found.text) == (expected["language"], expected["text"]), name
            assert [*found.token_ids] == expected["tokens"], name
            assert max_abs(np.array(found.logprobs), np.array(expected["logprobs"])) <= LOGPROBS_LIMIT, name


def test_what_the_doctor_expects_is_what_the_reference_writes(
    oracles: Oracles, demo_checkpoint: Path, tmp_path: Path
) -> None:
    pcm, _ = soundfile.read(demo_checkpoint / "self-check.flac", dtype="int16")
    expected = json.loads((demo_checkpoint / "self-check.json").read_text(encoding="utf-8"))
    samples = (pcm / 32768).astype(np.float32)
    np.savez(
        tmp_path / "clips.npz", **{str(one): samples[case["start"] : case["stop"]] for one, case in enumerate(expected)}
    )
    oracles.run_transcripts(demo_checkpoint, tmp_path / "clips.npz", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    for number, case in enumerate(expected):
        found = written[str(number)][WAYS.index((case["forced_language"], ""))]
        assert found["tokens"] == case["tokens"]
        assert max_abs(np.array(found["logprobs"]), np.array(case["logprobs"])) <= 1e-5


def assert_within_limits(apart: Differences) -> None:
    assert apart.mel <= MEL_LIMIT
    assert apart.embeddings <= EMBEDDINGS_LIMIT
    assert apart.logits <= LOGITS_LIMIT
    assert apart.equal_tokens == TOKENS
    assert apart.logprobs <= LOGPROBS_LIMIT
    assert apart.smallest_gap > 1e-3
