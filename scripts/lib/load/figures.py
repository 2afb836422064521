"""What the bridges heard → the figures of a run, and a table of them."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from load.servers import Counts
from load.speaking import Heard
from qwen3_asr_mlx_runtime.tools.live.record import percentile

SHARES = (50, 95, 99)
Spread = dict[str, float | None]


@dataclass(frozen=True)
class Window:
    """What counts: from `start` to `stop`, in seconds since the start of all streams."""

    start: float
    stop: float

    @property
    def seconds(self) -> float:
        return self.stop - self.start

    def __contains__(self, when: float) -> bool:
        return self.start <= when < self.stop


@dataclass(frozen=True)
class Row:
    """The figures of so many bridges. `ended`: utterances whose speech ended in the window, as many as finals should
    come; `failures`: what became of those without a text. In `end_to_final` these have waited for ever: a percentile
    that meets one is None. `late`: how long after its time a chunk went out. `cpu`: share of all cores of this
    machine."""

    bridges: int
    streams: int
    ended: int
    ended_per_second: float
    finals_per_second: float
    audio_per_second: float
    tokens_per_final: float | None
    end_to_final: Spread
    partial_age: Spread
    partial_interval: Spread
    failures: dict[str, int]
    refused_chunks: dict[str, int]
    late: Spread
    cpu: float
    servers: Counts | None


def row(heard: Sequence[Heard], window: Window, *, streams: int, cpu: float, servers: Counts | None) -> Row:
    spoken = [each for one in heard for each in one.spoken]
    ended = [each for each in spoken if each.ended in window]
    texts = [each for each in spoken if each.failure is None and each.final_at is not None and each.final_at in window]
    partials = [(at, at - each.begun - seconds) for each in spoken for at, seconds in each.partials]
    gaps = [after - before for each in spoken for (before, _), (after, _) in pairwise(each.partials) if after in window]
    return Row(
        bridges=len(heard),
        streams=streams,
        ended=len(ended),
        ended_per_second=len(ended) / window.seconds,
        finals_per_second=len(texts) / window.seconds,
        audio_per_second=sum(each.seconds for each in texts) / window.seconds,
        tokens_per_final=sum(each.tokens for each in texts) / len(texts) if texts else None,
        end_to_final=spread(math.inf if each.latency is None else each.latency for each in ended),
        partial_age=spread(age for at, age in partials if at in window),
        partial_interval=spread(gaps),
        failures=dict(Counter(each.failure for each in ended if each.failure is not None)),
        refused_chunks=dict(sum((one.refused for one in heard), Counter[str]())),
        late=spread(seconds for one in heard for seconds in one.late),
        cpu=cpu,
        servers=servers,
    )


def spread(values: Iterable[float]) -> Spread:
    """Percentiles; None without values, and where the value is infinite."""
    ordered = sorted(values)
    found = {f"p{share}": percentile(ordered, share) for share in SHARES}
    return {name: None if value is None or math.isinf(value) else round(value, 4) for name, value in found.items()}


HEAD = (
    "| bridges | streams | ended/s | finals/s | audio s/s | end → final p50, p95, p99, ms | partial age p50, p95, ms "
    "| partials apart p50, ms | without a text | running, waiting | server tokens/s | chunks late p99, ms | CPU |"
)


def table(rows: Sequence[Row]) -> str:
    return "\n".join([HEAD, "|---:" * HEAD.count(" |") + "|", *map(line, rows)])


def line(row: Row) -> str:
    failures = ", ".join(f"{count} {code}" for code, count in sorted(row.failures.items())) or "0"
    refused = "".join(f", {count} chunks {code}" for code, count in sorted(row.refused_chunks.items()))
    servers = row.servers
    cells: list[Any] = [
        row.bridges,
        row.streams,
        f"{row.ended_per_second:.2f}",
        f"{row.finals_per_second:.2f}",
        f"{row.audio_per_second:.1f}",
        _milliseconds(row.end_to_final, "p50", "p95", "p99"),
        _milliseconds(row.partial_age, "p50", "p95"),
        _milliseconds(row.partial_interval, "p50"),
        failures + refused,
        f"{servers.running:.0f}, {servers.waiting:.0f}" if servers else "–",
        f"{servers.tokens_per_second:,.0f}" if servers else "–",
        _milliseconds(row.late, "p99"),
        f"{row.cpu:.0%}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _milliseconds(spread: Spread, *names: str) -> str:
    values = (spread[name] for name in names)
    return ", ".join("–" if value is None else f"{1000 * value:,.0f}" for value in values)
