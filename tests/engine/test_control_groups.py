"""Memory limits of containers and services, as Linux reports them."""

import os
import sys
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.engine import control_groups, memory
from qwen3_asr_mlx_runtime.engine.control_groups import memory_limit
from qwen3_asr_mlx_runtime.engine.memory import machine_limit

UNLIMITED = 9223372036854771712  # version 1 has this instead of `max`
V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup rw,nsdelegate\n"
OTHERS = (
    "22 1 8:1 / / rw,relatime - ext4 /dev/root rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
)


def system(root: Path, groups: str, mounts: str, limits: dict[str, object]) -> Path:
    """The files of a system: groups and mounts of this process, and what each group may use."""
    files = {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHERS + mounts, **limits}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}".strip() + "\n")
    return root


def test_the_least_limit_of_nested_groups_counts(tmp_path: Path) -> None:
    limits = {"memory.max": "max", "user.slice/memory.max": 3000, "user.slice/app.scope/memory.max": "max"}
    files = {f"sys/fs/cgroup/{name}": limit for name, limit in limits.items()}
    assert memory_limit(system(tmp_path, "0::/user.slice/app.scope", V2.format(root="/"), files)) == 3000
    files["sys/fs/cgroup/user.slice/app.scope/memory.max"] = 2000
    assert memory_limit(system(tmp_path, "0::/user.slice/app.scope", V2.format(root="/"), files)) == 2000


def test_limits_of_version_1_count(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
        "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": 5000,
        "sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes": UNLIMITED,
    }
    groups = "9:name=systemd:/\n5:cpu,cpuacct:/elsewhere\n4:memory:/jobs/7\n0::/"
    assert memory_limit(system(tmp_path, groups, V1.format(root="/"), files)) == 5000


@pytest.mark.parametrize(
    ("groups", "mount", "file"),
    [
        ("4:memory:/docker/abc", V1.format(root="/docker/abc"), "sys/fs/cgroup/memory/memory.limit_in_bytes"),
        ("4:memory:/docker/abc", V1.format(root="/other"), "sys/fs/cgroup/memory/memory.limit_in_bytes"),
        ("0::/", V2.format(root="/"), "sys/fs/cgroup/memory.max"),
        ("0::/../beside", V2.format(root="/"), "sys/fs/cgroup/memory.max"),
    ],
)
def test_a_container_that_sees_its_own_group_as_the_top_finds_its_limit(tmp_path, groups, mount, file) -> None:
    assert memory_limit(system(tmp_path, groups, mount, {file: 4000})) == 4000


@pytest.mark.parametrize(
    ("groups", "mounts"), [("0::/", ""), ("0::/", V2.format(root="/")), ("", V2.format(root="/")), ("odd", "odd")]
)
def test_no_limit_is_none(tmp_path: Path, groups: str, mounts: str) -> None:
    assert memory_limit(system(tmp_path, groups, mounts, {})) is None


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no control groups")
def test_the_limits_of_the_machine_heed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(memory.mx, "default_device", lambda: memory.mx.cpu)
    for limit, held in ((None, everything), (10_000, 10_000), (UNLIMITED, everything)):
        monkeypatch.setattr(control_groups, "memory_limit", lambda limit=limit: limit)
        assert machine_limit() == int(0.8 * held)
