"""When a process counts as hung, when to signal it, and why it ended: pure decisions, by the caller's clock."""

from dataclasses import dataclass
from signal import SIGKILL, SIGTERM, Signals

from qwen3_asr_mlx_runtime.client.child import STDERR_BYTES
from qwen3_asr_mlx_runtime.client.errors import (
    BridgeExited,
    BridgeFatal,
    BridgeHung,
    BridgePipeClosed,
    ClientError,
    ProtocolError,
)
from qwen3_asr_mlx_runtime.client.events import MAX_EVENTS
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.messages import MAX_LINE_BYTES
from qwen3_asr_mlx_runtime.protocol.replies import Fatal

_SLEPT_SECONDS = 5.0  # the thread checks twice a second: after a longer pause the app or the machine was suspended


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds, bytes and numbers of docs/clients.md."""

    open_seconds: float = 60.0
    hang_seconds: float = 20.0
    grace_seconds: float = 2.0
    unwritten_bytes: int = 1 << 20
    kept_bytes: int = 64 << 20
    chunk_seconds: float = 0.1
    line_bytes: int = MAX_LINE_BYTES
    events: int = MAX_EVENTS
    stderr_bytes: int = STDERR_BYTES
    restarts: int = 5
    restart_seconds: float = 180.0
    engine_pause_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Due:
    ping: bool = False
    signal: Signals | None = None


class Life:
    """Times are those of one monotonic clock, in seconds."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.blamed: ClientError | None = None
        self._limits = limits
        self._last_check = now
        self._quiet_since = now  # no output since then although a request is open
        self._stuck_since = now  # no input taken since then although lines wait
        self._waits = False
        self._pinged = False
        self._is_ending = False
        self._greets_until: float | None = now + limits.open_seconds
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._closed_until: float | None = None
        self._fatal: Fatal | None = None

    def greeted(self, now: float) -> None:
        self._greets_until = None
        self._quiet_since = self._stuck_since = now

    def request_sent(self, now: float) -> None:
        if not self._waits:
            self._quiet_since, self._waits = now, True

    def output_received(self, now: float) -> None:
        self._quiet_since, self._pinged = now, False

    def input_taken(self, now: float) -> None:
        """The process read some input, or a line was written to an empty queue."""
        self._stuck_since = now

    def blame(self, error: ClientError) -> None:
        """Record why the process is ended. The first error is the cause."""
        self.blamed = self.blamed or error
        self._is_ending = True

    def end_within(self, seconds: float, now: float) -> None:
        self._is_ending = True
        self._greets_until = None
        self._term_at = now + seconds
        kill_at = self._term_at + self._limits.grace_seconds
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)

    def kill_now(self) -> None:
        self._is_ending = True
        self._kill_at = 0.0

    def fatal_received(self, fatal: Fatal, now: float) -> None:
        self._fatal = fatal
        self.pipe_closed(now)

    def pipe_closed(self, now: float) -> None:
        """The process must end by itself within the grace time, or is killed."""
        self._closed_until = self._closed_until or now + self._limits.grace_seconds

    def due(self, now: float, *, waits: bool, writes: bool) -> Due:
        """What to do now. Each signal and ping is returned once."""
        self._after_sleep(now)
        self._waits = waits
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            return Due(signal=SIGKILL)
        if self._term_at is not None and now >= self._term_at:
            self._term_at = None
            return Due(signal=SIGTERM)
        if not self._is_ending and (problem := self._problem(now, waits=waits, writes=writes)):
            self.blame(problem)
            return Due(signal=SIGKILL)
        if waits and not self._pinged and self._greets_until is None:
            self._pinged = now - self._quiet_since >= self._limits.hang_seconds / 2
            return Due(ping=self._pinged)
        return Due()

    def loss(self, exit: Exit, *, has_half_line: bool, is_closing: bool) -> ClientError | None:
        """Why the process ended; None if the app ended it (`is_closing`)."""
        if self._fatal is not None and not is_closing:
            return BridgeFatal.of(self._fatal, retryable=self._fatal.retryable or not exit.is_final)
        if self.blamed is not None or is_closing:
            return self.blamed
        if has_half_line and exit.code == 0:
            return ProtocolError.at(0, "it ended within a line")
        return BridgeExited(f"The speech bridge ended unexpectedly ({exit}).", retryable=not exit.is_final)

    def _after_sleep(self, now: float) -> None:
        slept = now - self._last_check
        self._last_check = now
        if slept > _SLEPT_SECONDS:
            self._quiet_since += slept
            self._stuck_since += slept

    def _problem(self, now: float, *, waits: bool, writes: bool) -> ClientError | None:
        if self._closed_until is not None:
            if now < self._closed_until:
                return None
            return BridgePipeClosed("The speech bridge closed its pipes and did not end.", retryable=True)
        if self._greets_until is not None:
            late = now >= self._greets_until
            return BridgeHung("The speech bridge did not start in time.", retryable=True) if late else None
        if waits and now - self._quiet_since >= self._limits.hang_seconds:
            return BridgeHung("The speech bridge does not answer any more.", retryable=True)
        if writes and now - self._stuck_since >= self._limits.hang_seconds:
            return BridgeHung("The speech bridge does not take any more audio.", retryable=True)
        return None
