"""What only a real server shows: the texts of recordings that the checkpoint was not trained on, and an end of it."""

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from engines.remote.conftest import Remote, until
from support.real_vllm import PYTHON, RealVllm, real_vllm

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Finished
from qwen3_asr_mlx_runtime.engines.remote import pool
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance

pytestmark = pytest.mark.skipif(PYTHON is None, reason="no vLLM: scripts/test-vllm")
HELD_OUT = {"English, 1 to 12 digits": 44, "Arabic, 1 to 12 digits": 18}
TEXT = "Seven three one."


class Real:
    """A server without anything before it, by the face of a Front."""

    def __init__(self) -> None:
        self.server: RealVllm = real_vllm()
        self.url = self.server.url


@pytest.fixture(scope="module")
def held_out(repository: Path, data_folder: Path) -> Iterator[list[Utterance]]:
    sys.path.insert(0, str(repository / "scripts" / "demo"))
    import testsets

    sets = dict(testsets.test_sets(data_folder, "test", 2026, 1.0))
    yield [case.utterance for name, count in HELD_OUT.items() for case in islice(sets[name], count)]
    sys.path.pop(0)


def test_held_out_digits_have_the_texts_of_the_local_engine(
    connect: Callable[..., Remote], held_out: list[Utterance]
) -> None:
    local = Recognizer.load("demo", dtype="float32")
    remote = connect(Real())
    pairs = [
        (remote.final(each.samples, id=id).transcript.text, local.transcribe(each).text)
        for id, each in enumerate(held_out)
    ]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    assert len(pairs) == sum(HELD_OUT.values())


def test_nothing_is_lost_where_the_server_is_killed_and_starts_again(
    connect: Callable[..., Remote], audio: Callable[[str], Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 1800.0)
    real = Real()
    remote = connect(real)
    for id in range(6):
        remote.start(id, audio("english-ten"))
    [member] = remote.engine._connection._pool._members
    until(lambda: member.outstanding == 6)
    real.server.kill()
    for id in range(6, 8):
        remote.start(id, audio("sample"))
    real.server.start()
    outcomes = [remote.next() for _ in range(8)]
    assert all(isinstance(each, Finished) for each in outcomes)
    assert {each.job_id for each in outcomes} == {*range(8)}
    assert {each.transcript.text for each in outcomes if each.job_id >= 6} == {TEXT}
