"""What a run writes to `evidence.json`: numbers and fixed words. It holds no audio, no text, and no name of a person, a
machine or a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

SCHEMA = "qwen3-asr-mlx-evidence-1"
FILE = "evidence.json"

Outcome = Literal["passed", "failed", "timed out", "interrupted", "not run"]
Weights = Literal["demo", "released", "random"]
Form = Literal["short", "full", "all"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the file. A member that this version does not know is an error."""


class Findings(Record, tag="findings"):
    """Of the doctor."""

    ok: int
    warnings: list[str]
    failures: list[str]

    @property
    def is_right(self) -> bool:
        return not self.failures


class Tests(Record, tag="tests"):
    """`failures`: the names of the tests."""

    passed: int
    skipped: int
    failures: list[str]

    @property
    def is_right(self) -> bool:
        return self.passed > 0 and not self.failures


class Equal(Record, tag="equal"):
    """Transcripts that equal those of whole files alone. `again`: batched ones that were decoded again, or streamed
    finals that were decoded step by step."""

    how: Literal["streamed", "batched"]
    model: str
    weights: Weights
    dtype: str
    utterances: int
    equal: int
    again: int

    @property
    def is_right(self) -> bool:
        return self.equal == self.utterances > 0


class Kills(Record, tag="kills"):
    """The worker was ended so often. `texts`: those compared with an undisturbed run's. `failures`: their number."""

    kills: int
    texts: int
    different: int
    failures: int

    @property
    def is_right(self) -> bool:
        return self.kills > 0 and self.texts > 0 and not self.different and not self.failures


class Start(Record, tag="start"):
    """Seconds. `load`: of the first process, `cold` or `warm`. All but `first_…`: medians of the processes after it."""

    model: str
    weights: Weights
    processes: int
    load: str
    first_ready: float
    ready: float
    first_utterance: float
    tenth_utterance: float
    reload: float

    is_right = True


class Contender(Record):
    """Medians. `seconds`: from samples to text for `audio_seconds` of audio."""

    name: str
    load_seconds: float
    token_ms: float | None
    tower_ms: float
    prefill_ms: float
    seconds: float
    peak_mib: float


class Speed(Record, tag="speed"):
    model: str
    weights: Weights
    audio_seconds: float
    contenders: list[Contender]

    is_right = True


class Partials(Record, tag="partials"):
    """Seconds, at the pace of speech. `age`: from sending the last audio of a partial until it came."""

    model: str
    weights: Weights
    partials: int
    first_p50: float
    first_p95: float
    age_p50: float
    age_p95: float

    is_right = True


class Final(Record):
    """`pause_ms`: from `pause` to the end of speech; None without `pause`. `ready`: finals that were computed before
    the end of speech."""

    audio_seconds: float
    pause_ms: float | None
    p50_ms: float
    p95_ms: float
    count: int
    ready: int


class Finals(Record, tag="finals"):
    """From the end of speech to the final."""

    model: str
    weights: Weights
    finals: list[Final]

    is_right = True


class Memory(Record, tag="memory"):
    """`slope`: growth after the warm-up, in MiB per thousand utterances, of `measured`."""

    model: str
    weights: Weights
    measured: Literal["footprint", "RSS"]
    utterances: int
    audio_seconds: float
    slope: float
    slope_error: float
    last_mib: float
    failures: int

    @property
    def is_right(self) -> bool:
        return not self.failures


class Bridge(Record, tag="bridge"):
    """Of the process as its parent sees it. `idle_…`: of all its processes. `grown_mib`: growth of resident memory
    between a tenth of the requests and all of them, which no model answers."""

    model: str
    weights: Weights
    ping_p50_ms: float
    ping_p99_ms: float
    idle_mib: float
    idle_cpu_ms: float
    requests: int
    grown_mib: float

    is_right = True


Figures = Findings | Tests | Equal | Kills | Start | Speed | Partials | Finals | Memory | Bridge


class Step(Record):
    """`watts`: mean of the whole machine; None where the system does not tell. `figures`: None if there are none."""

    name: str
    command: str
    outcome: Outcome
    seconds: float
    watts: float | None = None
    figures: Figures | None = None


class Machine(Record):
    """`device`: MLX's. `power`: None where the system does not tell. `versions`: by package."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    device: str
    power: Literal["mains", "battery"] | None
    versions: dict[str, str]


class Evidence(Record):
    """`thermal`: the system's word for its thermal pressure at the start and at the end; None where it does not tell.
    `idle_watts`: before the first step. `load`: processes that wanted to run in the minute before it."""

    schema: Literal["qwen3-asr-mlx-evidence-1"]
    date: str
    commit: str | None
    form: Form
    is_mac: bool
    machine: Machine
    thermal: tuple[str | None, str | None]
    idle_watts: float | None
    seconds: float
    steps: list[Step]
    load: float | None = None

    def of(self, kind: type[Record]) -> Iterator[tuple[Step, Record]]:
        """The steps with figures of a kind."""
        return ((step, step.figures) for step in self.steps if isinstance(step.figures, kind))


def encode(evidence: Evidence) -> bytes:
    return msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n"


def read(file: Path) -> Evidence:
    """Raises ValueError, which names the file, if it is not one of this schema."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Evidence)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: {error}") from error
