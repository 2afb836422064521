"""Ends the worker of a bridge, or the bridge itself, again and again at random moments of its work."""

import argparse
import contextlib
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from soak.bridge import Bridge
from soak.ledger import Broken, Ledger
from soak.speech import Speech
from soak.work import LANES, Lane, run_together

SIGNALS = (signal.SIGKILL, signal.SIGABRT)
LONGEST_PAUSE = 0.6  # seconds, after one or more texts
MOST_TEXTS = 8
AT_ONCE = 0.25  # of the ends: before another text comes, so perhaps in the load
MOST_AT_ONCE = 3  # after five ends without a text the engine is lost
ORPHAN_SECONDS = 1.0  # of a worker after its bridge
MOST_SECONDS = 10.0  # on a busy machine
LONGEST_LIFE = 4.0  # of a bridge: start, load and work


class Killer:
    """Ends the worker so often, with either signal in turn. `texts`: how many there have been."""

    def __init__(self, pid: int, count: int, seed: int, texts: Callable[[], int]) -> None:
        self.kills = 0
        self._bridge = psutil.Process(pid)
        self._count = count
        self._random = random.Random(seed)
        self._texts = texts
        self._at_once = 0
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

    def _run(self) -> None:
        while not self.is_done and self._wait_for_text():
            if self._stopping.wait(self._random.uniform(0, LONGEST_PAUSE)):
                return
            self._end_worker()

    def _wait_for_text(self) -> bool:
        """Wait for one or more, but not always. False where it is to stop."""
        if self._at_once < MOST_AT_ONCE and self._random.random() < AT_ONCE:
            self._at_once += 1
            return True
        enough, self._at_once = self._texts() + self._random.randint(1, MOST_TEXTS), 0
        while self._texts() < enough:
            if self._stopping.wait(0.002):
                return False
        return True

    def _end_worker(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in self._bridge.children():
                if worker != self._last:
                    worker.send_signal(SIGNALS[self.kills % len(SIGNALS)])
                    self._last = worker
                    self.kills += 1


@dataclass
class Run:
    """One conversation of a bridge that works all the time: how much of it each lane had."""

    ledger: Ledger
    sent: list[int]
    kills: int = 0
    failures: list[str] = field(default_factory=list)


def end_worker(options: argparse.Namespace) -> int:
    """The same work twice, disturbed and undisturbed: no outcome is lost or doubled, and no text differs."""
    disturbed = _converse(options, options.kill, [sys.maxsize] * len(LANES))
    undisturbed = _converse(options, 0, disturbed.sent)
    failures = [*disturbed.failures, *undisturbed.failures]
    texts, others = disturbed.ledger.texts, undisturbed.ledger.texts
    both = texts.keys() & others.keys()
    different = sum(texts[key] != others[key] for key in both)
    if different:
        failures.append(f"{different} texts differ from those of an undisturbed run")
    ledger = disturbed.ledger
    print(f"{disturbed.kills} ends, restarts by attempt {dict(sorted(ledger.attempts.items()))}")
    print(f"{ledger.outcomes.total()} outcomes {dict(ledger.outcomes)}, {ledger.partials} partials")
    print(f"{len(both)} texts compared, {different} differ")
    for failure in dict.fromkeys(failures):
        print(f"FAILED: {failure}")
    if options.json:
        counts = {"kills": disturbed.kills, "outcomes": dict(ledger.outcomes), "compared": len(both)}
        options.json.write_text(json.dumps({**counts, "different": different, "failures": failures}) + "\n")
    return 1 if failures else 0


def end_bridge(options: argparse.Namespace) -> int:
    """Kill so many bridges, each at a random moment of its start, load or work: no worker outlives one."""
    moments = random.Random(options.seed)
    left, seconds = 0, []
    for _ in range(options.kill_bridge):
        with _bridge(options, Ledger()) as (bridge, lanes):
            timer = threading.Timer(moments.uniform(0, LONGEST_LIFE), os.kill, (bridge.pid, signal.SIGKILL))
            timer.start()
            with contextlib.suppress(Broken, BrokenPipeError):
                _open(lanes)
                run_together(lanes, [sys.maxsize] * len(LANES), lambda: False)
            timer.join()
            ended = time.monotonic()
            while (orphans := _running(bridge.pid)) and time.monotonic() < ended + MOST_SECONDS:
                time.sleep(0.005)
            left += orphans
            seconds.append(time.monotonic() - ended)
    late = sum(each > ORPHAN_SECONDS for each in seconds)
    print(f"{len(seconds)} bridges killed: {late} workers left after {ORPHAN_SECONDS:g} s, {left} for good")
    print(f"the slowest ended after {max(seconds):.3f} s")
    return 1 if late else 0


def _converse(options: argparse.Namespace, kills: int, most: Sequence[int]) -> Run:
    ledger = Ledger()
    with _bridge(options, ledger) as (bridge, lanes):
        run = Run(ledger, [])
        try:
            _open(lanes)
            before = bridge.descriptors()
            killer = Killer(bridge.pid, kills, options.seed, lambda: ledger.outcomes["text"])
            run_together(lanes, most, lambda: kills > 0 and killer.is_done)
            killer.stop()
            ledger.wait_until_open(0)
            lanes[0].ask("start")  # after the last end the model is loaded again
            run.failures += _left(bridge, before)
            run.kills, run.sent = killer.kills, [lane.sent for lane in lanes]
            lanes[0].ask("stop")
            if code := bridge.wait(60):
                run.failures.append(f"the bridge ended with {code}")
        except (Broken, BrokenPipeError) as error:
            run.failures.append(f"{error or type(error).__name__}; stderr: {bridge.stderr()[-2000:]}")
    if ledger.unanswered:
        run.failures.append(f"{ledger.unanswered} utterances without an outcome")
    run.failures += ledger.oddities
    return run


@contextmanager
def _bridge(options: argparse.Namespace, ledger: Ledger) -> Iterator[tuple[Bridge, list[Lane]]]:
    root = Path(__file__).resolve().parents[3]
    arguments = ["--model", options.model, *shlex.split(options.bridge)]
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Bridge(root, arguments, ledger.receive) as bridge:
        lanes = []
        for number, name in enumerate(LANES):
            speech = Speech(options.audio, options.shortest, options.longest, options.seed + number)
            lanes.append(Lane(bridge, ledger, speech, name, Path(folder)))
        yield bridge, lanes


def _open(lanes: Sequence[Lane]) -> None:
    lanes[0].ask("hello", want=["events", "progress"])
    lanes[0].ask("start")
    for lane in lanes:
        lane.open()


def _left(bridge: Bridge, descriptors: int) -> Iterator[str]:
    """What the workers that have ended have left in a bridge that works again."""
    give_up_at = time.monotonic() + 60
    while (more := bridge.descriptors() - descriptors) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    if more:
        yield f"{more} descriptors more than before"
    if (count := len(psutil.Process(bridge.pid).children())) != 1:
        yield f"{count} workers instead of one"


def _running(group: int) -> int:
    """Processes of this group that run."""
    running = 0
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            running += os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE
    return running
