"""The reference environments, for the tests that compare live."""

import pytest

from reference.oracles import QWEN_ASR_VARIABLE, TRANSFORMERS_VARIABLE, Oracles


@pytest.fixture(scope="session")
def oracles() -> Oracles:
    found = Oracles.from_environment()
    if found is None:
        pytest.skip(f"{TRANSFORMERS_VARIABLE} and {QWEN_ASR_VARIABLE} name no environments: run scripts/reference")
    return found
