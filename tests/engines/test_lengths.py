"""Budgets of tokens."""

import pytest

from qwen3_asr_mlx_runtime.engines.lengths import token_budget


@pytest.mark.parametrize(("seconds", "budget"), [(0.1, 128), (8.0, 128), (8.01, 129), (30.0, 392), (1200.0, 14_432)])
def test_the_budget_grows_with_the_audio(seconds, budget):
    assert token_budget(seconds) == budget
