"""How a process ended: its exit code or signal, with a name."""

import signal
from dataclasses import dataclass

_NAMES = {
    0: "done",
    1: "internal_error",
    2: "environment",
    4: "engine_lost",
    5: "parent_gone",
    126: "not_executable",
    127: "not_found",
    130: "interrupted",
    143: "terminated",
}
FINAL_CODES = frozenset({0, 2, 5, 126, 127, 130, 143})  # a restart would not help


@dataclass(frozen=True, slots=True)
class Exit:
    """A `code`, or the number of a `signal`; the other is None."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, status: int) -> "Exit":
        """From `subprocess.Popen.returncode`."""
        return cls(code=status) if status >= 0 else cls(signal=-status)

    @property
    def name(self) -> str:
        if self.signal is None:
            return _NAMES.get(-1 if self.code is None else self.code, "unknown")
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return "unknown"

    @property
    def is_final(self) -> bool:
        return self.code in FINAL_CODES

    def __str__(self) -> str:
        return f"signal {self.name}" if self.signal is not None else f"exit code {self.code}, {self.name}"
