"""Progress of files: promise I13 of the protocol monitor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ProgressBooks:
    """`done`: of each open request that asked for progress, by its place among the lines in, what was done last."""

    done: dict[int, int] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)

    def event(self, event: dict, waiting: Sequence[Any]) -> None:
        """Progress of a file. `waiting`: the requests that it may belong to, which have no reply."""
        asked = [sent for sent in waiting if sent.wants_progress and sent.place not in self.cancelled]
        assert asked, "I13: progress of a request that has its reply, was cancelled, or did not ask for it"
        done, total = event["done"], event["total"]
        assert isinstance(done, int), "I13: progress without `done`"
        assert done >= 0, "I13: less than nothing is done"
        assert total is None or done <= total, f"I13: {done} of {total} is done"
        if len(asked) == 1:  # of several without an id nobody knows whose it is
            [sent] = asked
            assert done >= self.done.get(sent.place, 0), f"I13: {done} is done after {self.done[sent.place]}"
            self.done[sent.place] = done

    def cancel_answered(self, target: Any, reply: dict) -> None:
        """`target`: the request that the cancel names, if it has no reply."""
        if target is not None and reply["state"] in ("cancelled", "cancelling"):
            self.cancelled.add(target.place)
