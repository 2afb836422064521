"""What the tests of both embedded checkpoints share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def demo_scripts(repository: Path) -> Iterator[None]:
    """The modules of scripts/demo can be imported."""
    sys.path.insert(0, str(repository / "scripts" / "demo"))
    yield
    sys.path.pop(0)
