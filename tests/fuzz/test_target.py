"""Random conversations, and those that broke something once; scripts/fuzz looks for more, guided by coverage."""

from pathlib import Path

import pytest
from fuzz.target import Play, play
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.intake import Intake

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.bin"))


@settings(max_examples=200)
@example(b"")
@given(st.binary(max_size=2000))
def test_every_byte_string_is_a_conversation_that_keeps_the_promises(data: bytes) -> None:
    play(data)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_broke_something_once(path: Path) -> None:
    play(path.read_bytes())


def test_a_defect_that_is_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio that is forgotten at the end of its stream: some conversation shows it."""
    monkeypatch.setattr(Intake, "buffered_samples", property(lambda _: 0))
    chunk_to_a_new_stream = bytes([0, 11, 0, 1, 1, 1])
    with pytest.raises(AssertionError):
        Play(chunk_to_a_new_stream).run()
