"""Where models come from."""

from dataclasses import dataclass
from pathlib import Path

STALL_SECONDS = 120.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The hub, its cache on this machine, and the time limits.

    `cache` and `endpoint`: None means the library's own. A download fails if no byte comes for `stall_seconds`. The
    second attempt after a broken connection waits `retry_seconds`, and each later attempt as much longer.
    """

    cache: Path | None = None
    endpoint: str | None = None
    stall_seconds: float = STALL_SECONDS
    retry_seconds: float = RETRY_SECONDS

    @property
    def cache_folder(self) -> Path:
        """Raises RuntimeError if it lies in an unknown home folder."""
        from huggingface_hub import constants

        return Path(self.cache or constants.HF_HUB_CACHE).expanduser()
