"""What vLLM servers tell of themselves at /metrics: their queues, and what they have written."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
TOKENS, REQUESTS = "vllm:generation_tokens_total", "vllm:request_success_total"
_NAMES = (RUNNING, WAITING, TOKENS, REQUESTS)
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Counts:
    """Of all servers. `running` and `waiting`: requests, the mean of a window; the rest is a rate over it."""

    running: float
    waiting: float
    tokens_per_second: float
    requests_per_second: float


@dataclass
class Watch:
    """Looks at the servers. Times are seconds of one clock."""

    urls: Sequence[str]
    seen: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def look(self, now: float) -> None:
        """A look at which a server does not answer is left out."""
        try:
            pages = [httpx2.get(f"{url}/metrics", timeout=_PATIENCE_SECONDS) for url in self.urls]
        except httpx2.TransportError:
            return
        if all(page.status_code == httpx2.codes.OK for page in pages):
            counted = [totals(page.text) for page in pages]
            self.seen.append((now, {name: sum(each[name] for each in counted) for name in _NAMES}))

    def counts(self) -> Counts | None:
        """None where the servers have told nothing, or once."""
        if len(self.seen) < 2:  # a rate needs two looks
            return None
        (first, before), (last, after) = self.seen[0], self.seen[-1]
        return Counts(
            running=statistics.mean(each[RUNNING] for _, each in self.seen),
            waiting=statistics.mean(each[WAITING] for _, each in self.seen),
            tokens_per_second=(after[TOKENS] - before[TOKENS]) / (last - first),
            requests_per_second=(after[REQUESTS] - before[REQUESTS]) / (last - first),
        )


def totals(page: str) -> dict[str, float]:
    """The sum over all labels of each metric, 0 of one that is not there. `page`: in Prometheus' text format."""
    found = dict.fromkeys(_NAMES, 0.0)
    for line in page.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in found:
            found[name] += float(line.rpartition(" ")[2])
    return found
