"""A real vLLM that serves the demonstration checkpoint, where QWEN3_ASR_MLX_TEST_VLLM names the Python that has it."""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import httpx2

PYTHON = os.environ.get("QWEN3_ASR_MLX_TEST_VLLM")
START_SECONDS = 1200
_ROOT = Path(__file__).resolve().parents[2]
_MODEL = "src/qwen3_asr_mlx_runtime/demo"  # the server tells it to its clients, so it is no path of a machine
_OPTIONS = ("--served-model-name", "demo", "--max-model-len", "2048", "--dtype", "float32", "--enforce-eager")
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


class RealVllm:
    """One server at one port, with `options` of vLLM besides those of every one. `start` waits until it answers."""

    def __init__(self, python: str, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._python = python
        self._options = (*_OPTIONS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        module = ("-m", "vllm.entrypoints.openai.api_server")
        place = ("--model", _MODEL, "--host", "127.0.0.1", "--port", str(self._port))
        kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self._process = subprocess.Popen(
            [self._python, *module, *place, *self._options],
            cwd=_ROOT,
            env={**kept, **_ENVIRONMENT},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        give_up_at = time.monotonic() + START_SECONDS
        while not self._is_well():
            assert self._process.poll() is None, f"vLLM has ended: {self._tail()}"
            assert time.monotonic() < give_up_at, f"vLLM does not start: {self._tail()}"
            time.sleep(0.5)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _is_well(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", timeout=10).status_code == 200
        except httpx2.TransportError:
            return False

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")


@cache
def real_vllm(*options: str) -> RealVllm:
    """The one of this process with these options, started."""
    if PYTHON is None:
        raise ValueError("QWEN3_ASR_MLX_TEST_VLLM is not set: scripts/test-vllm sets it")
    server = RealVllm(PYTHON, *options)
    atexit.register(server.kill)
    server.start()
    return server
