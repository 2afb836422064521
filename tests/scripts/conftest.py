"""What tests of scripts/benchmark share."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def benchmark_module(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "scripts" / "lib"))

    def imported(name: str) -> ModuleType:
        return import_module(f"benchmark.{name}")

    return imported
