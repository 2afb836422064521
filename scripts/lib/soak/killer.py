"""Ends the worker of a bridge again and again, at random moments of its work."""

import random
import signal
import threading
import time
from collections.abc import Callable

import psutil

SIGNALS = (signal.SIGKILL, signal.SIGABRT)
LONGEST_PAUSE = 0.6  # seconds, after an outcome


class Killer:
    """`outcomes`: how many there have been. A worker is ended only after one more: after five ends without one the
    engine is lost."""

    def __init__(self, pid: int, count: int, seed: int, outcomes: Callable[[], int]) -> None:
        self.kills = 0
        self._bridge = psutil.Process(pid)
        self._count = count
        self._random = random.Random(seed)
        self._outcomes = outcomes
        self._stopping = threading.Event()
        self._last: psutil.Process | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def is_done(self) -> bool:
        return self.kills >= self._count

    def orphans(self) -> int:
        """Workers that were ended and still run."""
        return int(self._last is not None and self._last.is_running() and self._last.status() != psutil.STATUS_ZOMBIE)

    def _run(self) -> None:
        while not self.is_done and not self._stopping.is_set():
            before = self._outcomes()
            while self._outcomes() <= before:
                if self._stopping.wait(0.002):
                    return
            time.sleep(self._random.uniform(0, LONGEST_PAUSE))
            self._end_worker()

    def _end_worker(self) -> None:
        try:
            workers = [worker for worker in self._bridge.children() if worker != self._last]
            if workers:
                workers[0].send_signal(SIGNALS[self.kills % len(SIGNALS)])
                self._last = workers[0]
                self.kills += 1
        except psutil.NoSuchProcess:
            return
