"""The whole bridge but for the model: what stands in for the engine does as its scenario says."""

import ctypes
import os
import subprocess
import sys
from typing import NoReturn

from support.engine_requests import SentJob
from support.fake_engine import HOLD, FakeEngine, transcript

from qwen3_asr_mlx_runtime.__main__ import main as bridge_main
from qwen3_asr_mlx_runtime.engines.api import Post
from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.settings import Settings

CANARY = "zaqwsxcde"


def _noise(_: SentJob) -> object:
    """Whatever a library may do to descriptor 1."""
    os.write(1, b"descriptor noise\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"native noise")
    libc.fflush(None)
    subprocess.run(["/bin/sh", "-c", "echo child noise; cat"], check=False)
    sys.stdout.write("python noise\n")
    sys.stdout.flush()
    return transcript()


class BrokenEngine(FakeEngine):
    def submit(self, job: SentJob) -> NoReturn:
        raise ZeroDivisionError(CANARY)


class ForgetfulEngine(FakeEngine):
    """It keeps no samples, so that what grows is what the bridge holds."""

    def submit(self, job: SentJob) -> None:
        super().submit(job)
        self.submitted.clear()


KINDS = {"broken": BrokenEngine, "forget": ForgetfulEngine}
SCRIPTS = {
    "speak": [transcript()],
    "hold": [HOLD],
    "noise": [_noise],
    "canary": [transcript(CANARY), DecodeFailed(f"{CANARY} came out of the decoder")],
}


def main(scenario: str) -> NoReturn:
    def make_engine(settings: Settings, post: Post) -> FakeEngine:
        return KINDS.get(scenario, FakeEngine)(post, SCRIPTS.get(scenario, ()))

    bridge_main(make_engine)
