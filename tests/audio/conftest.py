"""What is read of a sound file."""

from typing import Any

import pytest

from qwen3_asr_mlx_runtime.audio import recording, refusal
from qwen3_asr_mlx_runtime.audio.sound_file import SoundFile


@pytest.fixture
def frames_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of frames of each block that is read."""
    read: list[int] = []
    original = SoundFile.read

    def counted(self: SoundFile, *args: Any, **options: Any) -> Any:
        block = original(self, *args, **options)
        read.append(len(block))
        return block

    monkeypatch.setattr(SoundFile, "read", counted)
    return read


@pytest.fixture
def without_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if PyAV were not installed."""
    for module in (recording, refusal):
        monkeypatch.setattr(module, "has_media", lambda: False)
