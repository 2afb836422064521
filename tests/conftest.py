"""What every test may ask for: the repository, the recordings beside it, the embedded checkpoint."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Files that are marked `once` as a whole: slow, and about arithmetic, another language or another program, which no
# version of Python changes. The launcher stands here because .ci/run has it make the environment of each Python.
ONCE = {
    "e2e/test_decoder_modes",
    "e2e/test_overload",
    "test_agreement",
    "test_benchmark",
    "test_demo",
    "test_doctor",
    "test_launcher",
    "test_live",
    "test_node_client",
    "test_parity",
    "test_quantization_loss",
    "test_report",
    "test_soak",
    "test_web_example",
}

# How long an example takes on a busy machine says nothing about the code.
settings.register_profile("timeless", deadline=None, print_blob=True)
settings.load_profile("timeless")


@pytest.fixture
def no_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BLAS that is loaded into every process starts its threads there, which Node and Chromium do not bear."""
    monkeypatch.delenv("LD_PRELOAD", raising=False)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Recordings that are no part of the repository; a test that asks for them is skipped where they are missing."""
    folder = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set QWEN3_ASR_MLX_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    return ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo"


@pytest.hookimpl(tryfirst=True)  # before what `-m` leaves out is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    once = {ROOT / "tests" / f"{name}.py" for name in ONCE}
    for item in items:
        if item.path in once:
            item.add_marker(pytest.mark.once)
