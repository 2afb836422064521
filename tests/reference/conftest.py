"""What the live comparisons share: the environments of the oracles, and a way to report figures."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reference.oracles import QWEN_ASR_VARIABLE, TRANSFORMERS_VARIABLE, Oracles


@pytest.fixture(scope="session")
def oracles() -> Oracles:
    found = Oracles.from_environment()
    if found is None:
        pytest.skip(f"{TRANSFORMERS_VARIABLE} and {QWEN_ASR_VARIABLE} name no environments: run scripts/reference")
    return found


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a table of what was measured to the terminal."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


@pytest.fixture(scope="session")
def tokenizers(repository: Path, demo_checkpoint: Path) -> dict[str, Path]:
    """That of the demonstration checkpoint, and the published one where it is there."""
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or repository / "../shared/data")
    published = data.resolve() / "tokenizer" / "Qwen3-ASR"
    return {"demo": demo_checkpoint} | ({"published": published} if published.is_dir() else {})
