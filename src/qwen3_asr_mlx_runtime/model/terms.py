"""Shallow fusion with terms: the tokens that begin a term, or continue one, gain a bonus on their logits.

A token that is written cannot be taken back, and with it the bonus of a term that is never completed. So a token that
continues a term gains twice as much: to leave the term costs what its beginning gained.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from qwen3_asr_mlx_runtime.limits import MAX_TERM_WEIGHT

Bonuses = Mapping[int, float]
"""What the logit of each token gains."""

NO_BONUSES: Bonuses = {}


class WeightedIds(NamedTuple):
    """The tokens of a term, and what its first one gains."""

    ids: tuple[int, ...]
    weight: float


class _Node:
    """`bonuses`: of the tokens that lead to the `children`."""

    def __init__(self) -> None:
        self.children: dict[int, _Node] = {}
        self.bonuses: dict[int, float] = {}


class TermTrie:
    """The tokens of all terms. `begins`: the token behind which the text begins; None where it begins at once."""

    def __init__(self, terms: Iterable[WeightedIds], begins: int | None = None) -> None:
        self._root = _Node()
        self._begins = begins
        self._depth = 0
        for ids, weight in terms:
            self._add(ids, weight)

    def _add(self, ids: Sequence[int], weight: float) -> None:
        self._depth = max(self._depth, len(ids))
        node, bonus = self._root, weight
        for id in ids:
            node.bonuses[id] = max(bonus, node.bonuses.get(id, 0.0))
            node, bonus = node.children.setdefault(id, _Node()), min(2 * weight, MAX_TERM_WEIGHT)

    def bonuses(self, ids: Sequence[int]) -> Bonuses:
        """Of the tokens that may follow these, all that are generated so far."""
        if self._begins is not None and self._begins not in ids:
            return NO_BONUSES
        found = self._root.bonuses
        for first in range(max(0, len(ids) - self._depth + 1), len(ids)):
            node = self._follow(ids[first:])
            for id, bonus in node.bonuses.items() if node is not None else ():
                if bonus > found.get(id, 0.0):
                    found = {**found, id: bonus}
        return found

    def _follow(self, ids: Iterable[int]) -> _Node | None:
        node = self._root
        for id in ids:
            if id not in node.children:
                return None
            node = node.children[id]
        return node
