"""What the engine does in the rows' processes, where a real decode would only cost time."""

import os
import signal
import subprocess
import threading
from typing import NoReturn

from support.fake_engine import DIE, HANG, HOLD, FakeEngine, transcript, transcript_of

from qwen3_asr_mlx_runtime.__main__ import main as bridge_main
from qwen3_asr_mlx_runtime.engines.api import Job, Post
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import DecodeFailed, NonFiniteOutput
from qwen3_asr_mlx_runtime.settings import Settings

MARKER = "zaqwsxcde"
LINE_BREAKS = "one\u2028two\u2029three\u0085four\u000bfive\u000csix\r\nseven\t\x1b[31m\x00\U0001f600\ud800"
NOISE_BYTES = 10 * 2**20


def _abort(_: Job) -> NoReturn:
    os.kill(os.getpid(), signal.SIGABRT)
    threading.Event().wait()
    raise AssertionError


def _noise_on_stderr(_: Job) -> object:
    """More than any pipe holds, written as a library would: without asking whether anybody reads."""
    noise = b"a warning of a library\n" * 4096
    for _ in range(NOISE_BYTES // len(noise)):
        os.write(2, noise)
    return transcript()


def _leave_a_child(_: Job) -> object:
    """A child that outlives the decode, and that must not have inherited the wire."""
    subprocess.Popen(["/bin/sh", "-c", "sleep 5 & exit 0"], close_fds=False).wait()
    return transcript()


def _length(job: Job) -> Transcript:
    return transcript_of(job, f"{len(job.utterance.samples)} samples")


def _every_third_fails(job: Job) -> object:
    return DecodeFailed("planted") if job.id % 3 == 0 else _length(job)


class BrokenEngine(FakeEngine):
    """One whose calls fail, which no engine's may: a bug, and main's last line."""

    def submit(self, job: Job) -> NoReturn:
        raise ZeroDivisionError(MARKER)


SCRIPTS: dict[str, list] = {
    "speak": [_length],
    "hold": [HOLD],
    "breaks": [transcript(LINE_BREAKS)],
    "hang": [HANG],
    "hang once": [HANG, _length],
    "abort": [_abort],
    "stderr": [_noise_on_stderr],
    "child": [_leave_a_child],
    "options": [lambda job: transcript(str(job.utterance.language))],
    "canary": [transcript(MARKER), DecodeFailed(f"{MARKER} came out of the decoder"), _length],
    "holds second": [_length, HOLD],
    "second fails": [_length, DecodeFailed("planted"), _length],
    "second dies": [_length, DIE, _length],
    "third": [_every_third_fails],
    "nan": [NonFiniteOutput("logits are not numbers"), _length],
    "memory": [lambda _: (_ for _ in ()).throw(MemoryError), _length],
}


def main(scenario: str) -> NoReturn:
    def make_engine(settings: Settings, post: Post) -> FakeEngine:
        if scenario == "broken":
            return BrokenEngine(post)
        load_script = [HOLD] if scenario == "loading" else ()
        return FakeEngine(post, SCRIPTS.get(scenario, [_length]), load_script)

    bridge_main(make_engine)
