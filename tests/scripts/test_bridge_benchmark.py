"""scripts/bridge-benchmark: what it sends is answered, in lock step and by events."""

from pathlib import Path

import pytest
from bridge_benchmark import chunks_per_second


@pytest.mark.parametrize("lock_step", [True, False])
def test_chunks_are_counted_until_the_last_reply(repository: Path, lock_step: bool) -> None:
    assert chunks_per_second(repository, 1000, lock_step=lock_step) > 0
