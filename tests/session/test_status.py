"""What `status` says of memory while the engine's thread imports MLX, and where MLX has no device."""

import sys
from types import ModuleType

import pytest
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.engines.api import Progress
from qwen3_asr_mlx_runtime.errors import EngineUnavailable

COUNTERS = ("get_peak_memory", "get_active_memory", "get_cache_memory")


@pytest.fixture
def mlx(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """MLX as another thread sees it while it is imported."""
    module = ModuleType("mlx.core")
    monkeypatch.setitem(sys.modules, "mlx.core", module)
    return module


def no_device() -> int:
    raise RuntimeError("[metal::load_device] No Metal device available.")


def memory(talk: Conversation) -> dict:
    return talk.send("status", id="s")[0]["memory"]


def test_mlx_is_not_asked_for_its_memory_before_the_engine_has_reported_a_load(mlx: ModuleType) -> None:
    talk = Conversation()
    talk.send("start")
    mlx.get_peak_memory = lambda: 1024  # the others are yet to come
    assert memory(talk)["mlx_peak_bytes"] is None
    assert memory(talk)["rss_peak_bytes"] > 0
    for name in COUNTERS:
        setattr(mlx, name, lambda: 2048)
    talk.session.outcome(Progress("resolve"))
    assert memory(talk)["mlx_active_bytes"] == 2048


def test_mlx_without_a_device_is_never_asked_for_its_memory(mlx: ModuleType) -> None:
    talk = Conversation()
    talk.send("start")
    for name in COUNTERS:
        setattr(mlx, name, no_device)
    talk.fail_load(EngineUnavailable("no device"))
    assert memory(talk)["mlx_active_bytes"] is None


def test_a_counter_that_mlx_no_longer_has_is_no_silent_null(mlx: ModuleType) -> None:
    talk = Conversation()
    talk.send("start")
    talk.load()
    with pytest.raises(AttributeError):
        memory(talk)
