"""Marks of the values of a parameter."""

from collections.abc import Iterable
from typing import Any

import pytest


def rest_once(values: Iterable[Any]) -> list[Any]:
    """All but the first are marked `once`: slow, and more of the same."""
    first, *rest = values
    arguments = (each if isinstance(each, tuple) else (each,) for each in rest)
    return [first, *(pytest.param(*each, marks=pytest.mark.once) for each in arguments)]
