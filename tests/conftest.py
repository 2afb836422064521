"""What every test may ask for: the repository, the recordings beside it, the embedded checkpoint."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes on a busy machine says nothing about the code.
settings.register_profile("timeless", deadline=None, print_blob=True)
settings.load_profile("timeless")


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
