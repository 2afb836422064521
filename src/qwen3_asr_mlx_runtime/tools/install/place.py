"""The target path of the folder: which folders it may replace, and how to replace one without a gap."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwen3_asr_mlx_runtime.tools.install.environment import Failed

RECORD = "installed.json"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_place(prefix: Path, used: list[Path | None]) -> None:
    """Raises Failed where the folder would replace what was not made here, or hold, or lie in, what it is made of."""
    for folder in used:
        if folder is not None and (prefix.is_relative_to(folder) or folder.is_relative_to(prefix)):
            raise Failed(f"{prefix} and {folder}, which it is made of, lie in one another: name another folder")
    if prefix.exists() and (not prefix.is_dir() or (any(prefix.iterdir()) and not _is_ours(prefix))):
        raise Failed(f"{prefix} is there already and was not made by this command: name another folder, or remove it")


def _is_ours(folder: Path) -> bool:
    try:
        return "stamp" in json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def part_of(prefix: Path) -> Path:
    """Where the new folder is built. The name is unique to this command, so leftovers of a killed one are removed."""
    return prefix.with_name(f".{prefix.name}.qwen3-asr-mlx.part")


def _old(prefix: Path) -> Path:
    return prefix.with_name(f".{prefix.name}.qwen3-asr-mlx.old")


def recover(prefix: Path) -> None:
    """Clean up after a killed installation: remove the part; restore the old folder if no new one replaced it."""
    shutil.rmtree(part_of(prefix), ignore_errors=True)
    _restore(prefix)
    shutil.rmtree(_old(prefix), ignore_errors=True)


def _restore(prefix: Path) -> None:
    if _old(prefix).exists() and not prefix.exists():
        _old(prefix).rename(prefix)


def replace(prefix: Path) -> None:
    """Move the part into place. A signal meanwhile is handled afterwards."""
    with _undisturbed():
        try:
            if prefix.exists():
                prefix.rename(_old(prefix))
            part_of(prefix).rename(prefix)
        finally:
            _restore(prefix)
    recover(prefix)


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
