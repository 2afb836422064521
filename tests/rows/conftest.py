"""What the rows share: a recording, and a bridge that must be up after every fault."""

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import command


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Half a second at 16 kHz."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.zeros(8_000, np.int16), 16_000)
    return str(path)


class Process:
    """One bridge for a module; another one where a test has left it in the middle of something."""

    def __init__(self) -> None:
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(command("speak")).__enter__()
        return self._client

    def end(self) -> None:
        if self._client is not None:
            self._client.__exit__()
            self._client = None


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    process = Process()
    yield process
    if process._client is not None:
        assert process.client.wait() == 0
    process.end()


@pytest.fixture
def bridge(process: Process, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A bridge that is up before a fault, and after it."""
    failed = request.session.testsfailed
    yield process.client
    if request.session.testsfailed > failed:
        process.end()
    else:
        assert process.client.ask("capabilities")["type"] == "capabilities"
