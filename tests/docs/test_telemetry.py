"""docs/telemetry.md names every field of profiles, of memory and of the monitor."""

from pathlib import Path

import msgspec
import pytest

from qwen3_asr_mlx_runtime.engines.profile import Memory, Profile
from qwen3_asr_mlx_runtime.tools.distribution import Spread
from qwen3_asr_mlx_runtime.tools.monitor.figures import Recent, Summary


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "docs" / "telemetry.md").read_text(encoding="utf-8")


def test_every_field_of_a_profile_is_there(document: str) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(Profile)]
    assert [name for name in names if f"`{name}`" not in document] == []


def test_every_reading_of_memory_is_there(document: str) -> None:
    names = [field.name for field in msgspec.structs.fields(Memory) if not field.name.endswith("_mb")]
    assert [name for name in names if f"`{name}`" not in document] == []


@pytest.mark.parametrize(("struct", "prefix"), [(Summary, ""), (Recent, "recent."), (Spread, "")])
def test_every_figure_of_the_monitor_is_there(document: str, struct: type[msgspec.Struct], prefix: str) -> None:
    section = document.partition("## The monitor")[2]
    names = {field.name for field in msgspec.structs.fields(struct)} - {"recent"}  # told member by member
    assert [name for name in names if f"`{prefix}{name}`" not in section] == []
