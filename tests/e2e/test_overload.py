"""More than a process likes: each gets its outcome or its code, the others finish, and the process lives."""

from pathlib import Path

import numpy as np
import pytest
from e2e.client import Client, command
from support.wave_file import write_pcm16

RATE = 16_000
MIB = 1024 * 1024


def write_wav(path: Path, seconds: float) -> str:
    """Noise so quiet that there is nothing to say about it."""
    noise = np.random.default_rng(0).integers(-20, 20, round(seconds * RATE)).astype(np.int16)
    return write_pcm16(path, noise)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_wav(tmp_path_factory.mktemp("short") / "short.wav", 0.3)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", 1200)


@pytest.fixture(scope="module")
def sample(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "english-ten.wav")


def demo(*arguments: str) -> Client:
    return Client(command(None, "--model", "demo", "--local-files-only", *arguments))


def answers(bridge: Client, *ids: str) -> dict[str, dict]:
    """The replies to these requests, in whatever order they come."""
    found: dict[str, dict] = {}
    while found.keys() < set(ids):
        reply = bridge.read()
        found[reply["id"]] = reply
    return found


def decoding(bridge: Client) -> bool:
    return bridge.ask("status", id=f"status-{len(bridge.monitor.replies)}")["queues"]["decoding"] > 0


def begin(bridge: Client, **request: object) -> None:
    """Send it, and wait until it is being decoded."""
    bridge.send(**request)
    while not decoding(bridge):
        pass


def test_twenty_minutes_do_not_keep_a_third_of_a_second_waiting(long: str, short: str) -> None:
    with demo() as bridge:
        bridge.ask("hello", want=["events"])
        bridge.ask("start_stream", auto_flush=True, batch_size=1)
        begin(bridge, type="batch_transcribe", id="long", audio=[long])
        assert bridge.ask("end_utterance", audio=short)["type"] == "utterance_queued"
        event = bridge.read()
        assert (event["type"], event["count"], event["failed"]) == ("realtime_batch_final", 1, 0)
        assert decoding(bridge)
        bridge.send("cancel", id="cancel", target="long")
        replies = answers(bridge, "cancel", "long")
        assert (replies["cancel"]["state"], replies["long"]["code"]) == ("cancelling", "cancelled")
        assert bridge.ask("transcribe", audio=short)["type"] == "transcript"
        assert bridge.ask("stop")["completed"] == 2
        assert bridge.wait() == 0


def test_a_batch_of_256_has_256_outcomes_and_one_that_is_larger_is_refused(short: str) -> None:
    paths = [short] * 256
    paths[7], paths[255] = "/nowhere.wav", "-"
    with demo() as bridge:
        refused = bridge.ask("batch_transcribe", audio=[*paths, short])
        assert refused["code"] == "invalid_params"
        replies = bridge.ask("batch_transcribe", audio=paths, decoder_mode="batched", max_new_tokens=1)
        assert (replies["count"], replies["failed"]) == (256, 2)
        codes = {number: item["error"]["code"] for number, item in enumerate(replies["items"]) if "error" in item}
        assert codes == {7: "audio_not_found", 255: "path_not_allowed"}
        assert [item["audio"] for item in replies["items"]] == paths
        assert bridge.ask("ping")["type"] == "pong"


def test_a_cancel_is_answered_in_every_phase(sample: str, long: str) -> None:
    with demo() as bridge:
        bridge.send("transcribe", id="loading", audio=sample)
        bridge.send("cancel", id="c1", target="loading")
        replies = answers(bridge, "loading", "c1")
        assert (replies["c1"]["state"], replies["loading"]["code"]) == ("cancelled", "cancelled")
        assert bridge.ask("start")["type"] == "ready"
        begin(bridge, type="transcribe", id="decoding", audio=long)
        bridge.send("transcribe", id="waiting", audio=sample)
        bridge.send("cancel", id="c2", target="waiting")
        bridge.send("cancel", id="c3", target="decoding")
        replies = answers(bridge, "waiting", "decoding", "c2", "c3")
        assert {replies["c2"]["state"], replies["c3"]["state"]} <= {"cancelled", "cancelling"}
        assert replies["c3"]["state"] == "cancelling"
        assert {replies["waiting"]["code"], replies["decoding"]["code"]} == {"cancelled"}
        assert bridge.ask("transcribe", id="done", audio=sample)["type"] == "transcript"
        assert bridge.ask("cancel", id="c4", target="done")["state"] == "already_done"
        assert bridge.ask("cancel", id="c5", target="never")["state"] == "unknown"
        assert bridge.ask("stop")["completed"] == 1
        assert bridge.wait() == 0


def test_a_model_that_does_not_fit_is_refused_and_the_process_lives(sample: str) -> None:
    with demo("--memory-limit-mb", "4") as bridge:
        for request in ({"type": "start"}, {"type": "transcribe", "audio": sample}):
            refused = bridge.ask(**request)
            assert (refused["type"], refused["code"], refused["retryable"]) == ("error", "out_of_memory", True)
            assert refused["data"]["limit_bytes"] == 4 * MIB < refused["data"]["needed_bytes"]
        assert bridge.ask("ping")["state"] == "failed"
        assert bridge.ask("status")["memory"]["mlx_active_bytes"] < 4 * MIB
        assert bridge.ask("stop")["type"] == "stopped"
        assert bridge.wait() == 0


def test_audio_that_does_not_fit_is_refused_before_it_is_decoded_and_the_others_finish(
    sample: str, short: str, long: str
) -> None:
    """Pieces of 20 minutes: the memory of one grows with its length."""
    with demo("--memory-limit-mb", "64", "--max-chunk-seconds", "1200") as bridge:
        replies = bridge.ask("batch_transcribe", audio=[short, long, sample])
        assert [item.get("error", {}).get("code") for item in replies["items"]] == [None, "out_of_memory", None]
        assert replies["items"][2]["text"] == "Zero one two three four five six seven eight nine."
        assert bridge.ask("status")["memory"]["mlx_peak_bytes"] < 64 * MIB
        assert bridge.ask("transcribe", audio=long)["data"]["limit_bytes"] == 64 * MIB
