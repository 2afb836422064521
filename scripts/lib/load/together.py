"""Bridges that speak at the same time, each with a process of its own that feeds it."""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from load.speaking import Heard, Plan, speak
from qwen3_asr_mlx_runtime.client import ClientError

OPEN_SECONDS = 120.0  # until all bridges are open
_barrier: "threading.Barrier"  # in a bridge's process: where it meets the others


class Failed(Exception):
    """Why a run failed, for people, in one line."""


def speak_together(plan: Plan, bridges: int, seed: int, meanwhile: Callable[[], None]) -> list[Heard]:
    """`meanwhile` is called when all streams start. Raises Failed where a bridge does not open."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(bridges + 1)
    with ProcessPoolExecutor(bridges, context, _meet_at, (barrier,)) as pool:
        talks = [pool.submit(_talk, plan, 1000 * seed + number) for number in range(bridges)]
        try:
            barrier.wait(OPEN_SECONDS)
            meanwhile()
        except threading.BrokenBarrierError:
            barrier.abort()
            errors = [error for talk in talks if isinstance(error := talk.exception(), Failed)]
            raise errors[0] if errors else Failed(f"the bridges did not open in {OPEN_SECONDS:g} s") from None
        return [talk.result() for talk in talks]


def _meet_at(barrier: "threading.Barrier") -> None:
    global _barrier  # a barrier reaches a process of a pool only by its start
    _barrier = barrier


def _talk(plan: Plan, seed: int) -> Heard:
    """In a process of its own."""
    try:
        return asyncio.run(speak(plan, seed, _start_together))
    except ClientError as error:
        _barrier.abort()
        raise Failed(error.line) from None


def _start_together() -> float:
    _barrier.wait(OPEN_SECONDS)
    return time.monotonic()
