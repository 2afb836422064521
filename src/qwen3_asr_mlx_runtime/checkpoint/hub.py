"""Where models come from."""

from dataclasses import dataclass
from pathlib import Path

STALL_SECONDS = 120.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The hub, its cache on this machine, and how patient to be with it.

    `cache` and `endpoint`: None means the library's own. A download that brings nothing for `stall_seconds` is given
    up; `retry_seconds` lie before the second try of a broken connection, as much again before each later one.
    """

    cache: Path | None = None
    endpoint: str | None = None
    stall_seconds: float = STALL_SECONDS
    retry_seconds: float = RETRY_SECONDS

    @property
    def cache_folder(self) -> Path:
        """Raises RuntimeError where it lies in a home that is not known."""
        from huggingface_hub import constants

        return Path(self.cache or constants.HF_HUB_CACHE).expanduser()
