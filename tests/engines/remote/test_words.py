"""Words beside a remote engine: by a worker of this machine that holds only the aligner."""

import os
import signal
from collections.abc import Callable

import pytest
from engines.remote.conftest import Remote, until
from support.in_worker import planted
from support.vllm_front import Front

from qwen3_asr_mlx_runtime.engines import worker
from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, Cancel, LoadAligner, Unloaded
from qwen3_asr_mlx_runtime.engines.utterance import Samples

Connect = Callable[..., Remote]
Audio = Callable[[str], Samples]
TEXT = "Seven three one."


def align(remote: Remote, id: int, samples: Samples) -> object:
    remote.append(id, samples)
    remote.engine.send(Align(id, id, TEXT, "English"))
    return remote.next()


def test_without_an_aligner_no_word_has_a_time(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front)
    remote.engine.send(LoadAligner())
    outcome = align(remote, 1, audio("sample"))
    assert (outcome.job_id, outcome.error.code, outcome.error.data) == (
        1,
        "unsupported_by_engine",
        {"feature": "words"},
    )
    assert remote.engine.pid is None


def test_an_aligner_finds_them_in_a_process_that_decodes_nothing(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front, aligner="demo")
    assert remote.engine.pid is None
    asked = len(front.asked)
    outcome = align(remote, 1, audio("sample"))
    assert isinstance(outcome, Aligned), outcome
    assert [(word.char_start, word.char_end) for word in outcome.words] == [(0, 6), (6, 12), (12, 16)]
    assert (outcome.model, len(front.asked)) == ("demo", asked)
    assert remote.engine.memory.rss_bytes > 0
    assert remote.engine.pid not in (None, os.getpid())
    remote.engine.unload()
    assert remote.engine.pid is None
    unloaded = remote.next()
    assert isinstance(unloaded, Unloaded)
    assert unloaded.freed_bytes > 0
    assert isinstance(align(remote, 2, audio("sample")), Aligned)


def test_it_is_loaded_before_it_is_needed(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front, aligner="demo")
    remote.engine.send(LoadAligner())
    pid = remote.engine.pid
    assert pid is not None
    assert isinstance(align(remote, 1, audio("sample")), Aligned)
    assert remote.engine.pid == pid


def test_one_that_cannot_be_loaded_costs_the_words(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front, aligner="owner/aligner", local_files_only=True)
    assert align(remote, 1, audio("sample")).error.code == "model_not_found"
    assert remote.final(audio("sample"), id=2).transcript.text == TEXT


def test_the_end_of_its_process_costs_the_words_that_it_had(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front, aligner="demo")
    assert isinstance(align(remote, 1, audio("sample")), Aligned)
    os.kill(remote.engine.pid, signal.SIGSTOP)
    remote.append(2, audio("sample"))
    remote.engine.send(Align(2, 2, TEXT, "English"))
    os.kill(remote.engine.pid, signal.SIGKILL)
    outcome = remote.next()
    assert (outcome.job_id, outcome.error.code) == (2, "engine_crashed")
    assert remote.final(audio("sample"), id=3).transcript.text == TEXT
    assert isinstance(align(remote, 4, audio("sample")), Aligned)


def test_one_where_mlx_does_not_import_costs_the_words(
    front: Front, connect: Connect, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = "import sys; sys.modules['mlx.core'] = None"
    monkeypatch.setattr(worker, "_PROGRAM", planted(worker._PROGRAM, without))
    remote = connect(front, aligner="demo")
    error = align(remote, 1, audio("sample")).error
    assert (error.code, "mlx" in error.message) == ("engine_unavailable", True)
    assert align(remote, 3, audio("sample")).error.message == error.message
    assert remote.final(audio("sample"), id=2).transcript.text == TEXT


def test_one_that_is_stuck_is_seen_although_the_servers_are_spoken_to(
    front: Front, connect: Connect, audio: Audio
) -> None:
    remote = connect(front, aligner="demo")
    engine = remote.engine
    remote.append(1, audio("sample"))
    engine.send(Align(1, 1, TEXT, "English"))
    assert engine.load_stage == "start"
    assert isinstance(remote.next(), Aligned)
    os.kill(engine.pid, signal.SIGSTOP)
    remote.append(3, audio("sample"))
    engine.send(Align(3, 3, TEXT, "English"))

    def is_still() -> bool:
        before, beats = engine.heartbeats, engine._connection.beats
        until(lambda: engine._connection.beats > beats + 5)
        return engine.heartbeats == before

    until(is_still)
    engine.kill("stalled")


def test_a_cancel_ends_it(front: Front, connect: Connect, audio: Audio) -> None:
    remote = connect(front, aligner="demo")
    assert isinstance(align(remote, 1, audio("sample")), Aligned)
    os.kill(remote.engine.pid, signal.SIGSTOP)
    remote.append(2, audio("sample"))
    remote.engine.send(Align(2, 2, TEXT, "English"))
    remote.engine.send(Cancel(2))
    os.kill(remote.engine.pid, signal.SIGCONT)
    outcome = remote.next()
    assert outcome.job_id == 2
    assert isinstance(outcome, Aligned) or outcome.error.code == "cancelled"
