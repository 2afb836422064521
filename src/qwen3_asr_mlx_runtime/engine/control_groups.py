"""The memory limit of this process's control groups on Linux, versions 1 and 2, including the enclosing groups."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LIMITS = {"cgroup": "memory.limit_in_bytes", "cgroup2": "memory.max"}  # by the type of file system


def memory_limit(root: Path = Path("/")) -> int | None:
    """The lowest limit in bytes; None without a limit. `root`: the folder of the system's files."""
    try:
        files = [*_limit_files(root)]
    except (OSError, ValueError):
        return None
    limits = [limit for file in files if (limit := _read(file)) is not None]
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    """The limit files of this process's group and of all enclosing groups that are mounted."""
    groups = dict(_groups((root / "proc/self/cgroup").read_text(encoding="utf-8")))
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(maxsplit=2)
        if kind not in groups or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        top, point = (PurePosixPath(path) for path in mount.split()[3:5])
        inside = groups[kind].relative_to(top) if groups[kind].is_relative_to(top) else PurePosixPath()
        for folder in (inside, *inside.parents):
            yield root / point.relative_to("/") / folder / _LIMITS[kind]


def _groups(text: str) -> Iterator[tuple[str, PurePosixPath]]:
    """The groups that count this process's memory, by the type of their file system."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "cgroup2", PurePosixPath(path)
        elif "memory" in controllers.split(","):
            yield "cgroup", PurePosixPath(path)


def _read(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or `max`
        return None
