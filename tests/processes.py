"""Figures of another process from the operating system."""

import psutil


def is_gone(pid: int) -> bool:
    """Whether it has ended, even if nobody has waited for it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
