"""A server for a test: recorded answers, or a real vLLM where there is one (scripts/test-vllm)."""

import queue
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.real_vllm import PYTHON, real_vllm
from support.vllm_front import EXAMPLES, Front, forwarding, recorded

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.api import Append, Finalize, Load, Outcome, Progress
from qwen3_asr_mlx_runtime.engines.remote import engine as engine_module
from qwen3_asr_mlx_runtime.engines.remote import pool
from qwen3_asr_mlx_runtime.engines.remote.engine import RemoteEngine
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.settings import Settings

WAIT = 120
needs_recording = pytest.mark.skipif(PYTHON is not None, reason="about a server that is made to differ")


def new_front() -> Front:
    return Front(forwarding(real_vllm().url) if PYTHON else recorded())


@pytest.fixture
def front() -> Iterator[Front]:
    front = new_front()
    yield front
    front.release.set()
    front.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short. How long a server is waited for, each test says itself."""
    monkeypatch.setattr(pool, "BACK_OFF", (0.01,))
    monkeypatch.setattr(pool, "HEALTH_SECONDS", 0.05)
    monkeypatch.setattr(engine_module, "BEAT_SECONDS", 0.01)


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    give_up_at = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < give_up_at, "it does not happen"
        time.sleep(0.001)


class Remote:
    """An engine, and what it has posted."""

    def __init__(self, *urls: str, **settings: object) -> None:
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.engine = RemoteEngine(Settings(**{"model": "served", "engine": urls, **settings}), self.outcomes.put)

    def next(self) -> Outcome:
        """The next outcome but for progress."""
        while isinstance(outcome := self.outcomes.get(timeout=WAIT), Progress):
            pass
        return outcome

    def load(self) -> Outcome:
        self.engine.send(Load())
        return self.next()

    def append(self, audio_id: int, samples: Samples) -> None:
        self.engine.send(Append(audio_id, samples))

    def start(self, id: int, samples: Samples, **options: object) -> None:
        self.append(id, samples)
        self.engine.send(Finalize(id, id, **options))

    def final(self, samples: Samples, id: int = 1, **options: object) -> Outcome:
        self.start(id, samples, **options)
        return self.next()


@pytest.fixture
def connect() -> Iterator[Callable[..., Remote]]:
    """Makes engines that have loaded."""
    made: list[Remote] = []

    def connect(*fronts: Front, loads: bool = True, **settings: object) -> Remote:
        remote = Remote(*(front.url for front in fronts), **settings)
        made.append(remote)
        if loads:
            loaded = remote.load()
            assert isinstance(loaded, engine_module.Loaded), loaded
        return remote

    yield connect
    for remote in made:
        remote.engine.close()
        assert remote.engine.join(WAIT)


@pytest.fixture(scope="session")
def audio() -> Callable[[str], Samples]:
    def samples(name: str) -> Samples:
        return np.asarray(read_file(str(EXAMPLES / f"{name}.wav")).samples)

    return samples
