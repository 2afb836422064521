"""What `status` says of the engine: its memory beside the bridge's, and how often it was started again."""

import os

from support.conversation import Conversation

from qwen3_asr_mlx_runtime.engines.profile import Memory


def status(talk: Conversation) -> dict:
    return talk.send("status", id="s")[0]


def test_without_an_engine_the_memory_is_the_bridges() -> None:
    memory = status(Conversation())["memory"]
    assert memory["process"]["worker"] is None
    assert memory["rss_bytes"] == memory["process"]["bridge"]["rss_bytes"] > 0
    assert memory["rss_peak_bytes"] >= memory["rss_bytes"]
    assert memory["mlx_peak_bytes"] is None


def test_memory_of_bridge_and_worker_is_added_and_told_apart() -> None:
    talk = Conversation()
    reported = Memory(rss_bytes=1, rss_peak_bytes=7, mlx_peak_bytes=6, mlx_active_bytes=5, mlx_cache_bytes=4)
    health = talk.session._state.health
    health.worker_memory, health.worker_pid = lambda: reported, os.getpid
    reply = status(talk)
    memory, process = reply["memory"], reply["memory"]["process"]
    assert process["worker"]["rss_bytes"] > 1  # read now
    assert memory["rss_bytes"] == reply["rss_bytes"] == process["bridge"]["rss_bytes"] + process["worker"]["rss_bytes"]
    assert [memory[f"{name}_bytes"] for name in ("rss_peak", "mlx_peak", "mlx_active", "mlx_cache")] == [7, 6, 5, 4]


def test_a_transcripts_memory_is_that_of_both_processes() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="a.wav")
    talk.load()
    talk.read("a.wav")
    (job,) = talk.jobs.values()
    [reply] = talk.decode(job_id=job.id)
    assert reply["profile"]["memory"]["process"]["bridge"]["rss_bytes"] > 0


def test_restarts_are_counted_and_the_last_end_is_named() -> None:
    talk = Conversation()
    assert [status(talk)[name] for name in ("engine_restarts", "engine_last_end")] == [0, None]
    talk.send("start")
    talk.end_engine("SIGABRT")
    talk.wait(1.0)
    talk.end_engine("stalled")
    assert [status(talk)[name] for name in ("engine_restarts", "engine_last_end")] == [2, "stalled"]
