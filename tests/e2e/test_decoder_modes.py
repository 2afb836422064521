"""Batches in the real process, with the real engine and the embedded checkpoint."""

import base64
import json
from pathlib import Path

import pytest
from e2e.client import Client, command

from qwen3_asr_mlx_runtime.audio.recording import read_file


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "examples" / "audio"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, str]:
    """The texts of the recordings by their paths."""
    entries = [json.loads(line) for line in (folder / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    return {str(folder / one["audio"]): one["text"] for one in entries}


@pytest.fixture(scope="module")
def utterances(expected: dict[str, str]) -> list[tuple[str, str]]:
    """Eight utterances: PCM in base64, and the text."""
    pcm = [base64.b64encode((read_file(path).samples * 32767).astype("<i2").tobytes()).decode() for path in expected]
    return [*zip(pcm, expected.values(), strict=True)][:8]


def demo() -> Client:
    return Client(command(None, "--model", "demo", "--local-files-only"))


def until(bridge: Client, *types: str) -> list[dict]:
    """Read until one line of each of these types came."""
    lines, missing = [], [*types]
    while missing:
        lines.append(bridge.read())
        if lines[-1]["type"] in missing:
            missing.remove(lines[-1]["type"])
    return lines


def texts(reply: dict) -> list[str | None]:
    return [item["text"] for item in reply["items"]]


def test_both_modes_write_the_same_and_batches_say_how_sure_they_were(expected: dict[str, str]) -> None:
    files = [*expected]
    with demo() as bridge:
        one_by_one = bridge.ask("batch_transcribe", audio=files, decoder_mode="sequential", logprobs=True)
        together = bridge.ask("batch_transcribe", audio=files, decoder_mode="batched", logprobs=True)
        unguarded = bridge.ask("batch_transcribe", audio=files, decoder_mode="batched", drift_guard=False)
        assert bridge.wait() == 0
    assert texts(one_by_one) == texts(together) == [*expected.values()]
    assert [one["decoder_mode"] for one in (one_by_one, together, unguarded)] == ["sequential", "batched", "batched"]
    assert (one_by_one["redecoded"], unguarded["redecoded"], unguarded["failed"]) == (0, 0, 0)
    for alone, item in zip(one_by_one["items"], together["items"], strict=True):
        assert alone["generated_token_ids"] == item["generated_token_ids"]
        assert item["token_logprobs"] == pytest.approx(alone["token_logprobs"], abs=0.05)
        assert 0 < item["confidence"]["minimum"] <= item["confidence"]["mean"] <= 1


def test_a_flush_of_eight_in_a_batch(utterances: list[tuple[str, str]]) -> None:
    with demo() as bridge:
        assert bridge.ask("start_stream", batch_size=16, max_batch_delay_ms=60_000)["type"] == "stream_ready"
        for pcm16, _ in utterances:
            assert bridge.ask("end_utterance", pcm16=pcm16)["type"] == "utterance_queued"
        final = bridge.ask("flush", decoder_mode="batched")
        assert bridge.wait() == 0
    assert texts(final) == [text for _, text in utterances]
    assert (final["count"], final["failed"], final["decoder_mode"]) == (8, 0, "batched")


def test_streams_speak_beside_a_batch_of_files(expected: dict[str, str], utterances: list[tuple[str, str]]) -> None:
    files = [*expected] * 6
    with demo() as bridge:
        bridge.ask("hello", want=["events"])
        for stream_id, mode in (("a", "batched"), ("b", "batched"), ("c", "sequential")):
            options = {"auto_flush": True, "batch_size": 1, "decoder_mode": mode}
            bridge.ask("start_stream", id=stream_id, stream_id=stream_id, **options)
        bridge.send("batch_transcribe", id="files", audio=files, decoder_mode="batched")
        for number, (pcm16, _) in enumerate(utterances):
            stream_id = "abc"[number % 3]
            bridge.send("end_utterance", id=number, stream_id=stream_id, utterance_id=str(number), pcm16=pcm16)
        lines = until(bridge, *["realtime_batch_final"] * 8, "batch_transcript")
        assert bridge.wait() == 0
    types = [line["type"] for line in lines]
    entries = {item["utterance_id"]: item["text"] for line in lines for item in line.get("items", ()) if "job" in item}
    assert entries == {str(number): text for number, (_, text) in enumerate(utterances)}
    assert types[-1] == "batch_transcript", "utterances go before files"
    assert texts(lines[-1]) == [*expected.values()] * 6


def test_a_member_of_a_batch_that_runs_is_cancelled_alone(utterances: list[tuple[str, str]]) -> None:
    long = base64.b64encode(b"".join(base64.b64decode(pcm16) for pcm16, _ in utterances) * 4).decode()
    with demo() as bridge:
        bridge.ask("start_stream", id="s", batch_size=16, max_batch_delay_ms=60_000)
        bridge.ask("end_utterance", id="long", utterance_id="long", pcm16=long)
        for number, (pcm16, _) in enumerate(utterances):
            bridge.ask("end_utterance", id=number, utterance_id=str(number), pcm16=pcm16)
        bridge.send("flush", id="flush", decoder_mode="batched")
        wait_until_decoding(bridge)
        bridge.send("cancel", id="cancel", stream_id="default", utterance_id="long")
        cancelled, final = until(bridge, "cancel_result", "realtime_batch_final")
        assert bridge.wait() == 0
    assert cancelled["state"] == "cancelling"
    assert final["items"][0]["error"]["code"] == "cancelled"
    assert texts(final) == [None, *(text for _, text in utterances)]


def wait_until_decoding(bridge: Client) -> None:
    while bridge.ask("status", id="status")["queues"]["decoding"] == 0:
        pass


@pytest.mark.parametrize("mode", ["abort", "drain"])
def test_a_stop_while_a_batch_runs(expected: dict[str, str], mode: str) -> None:
    files = [*expected] * 4
    with demo() as bridge:
        bridge.ask("start", id="start")
        bridge.send("batch_transcribe", id="files", audio=files, decoder_mode="batched")
        wait_until_decoding(bridge)
        bridge.send("stop", id="stop", mode=mode)
        lines = until(bridge, "stopped")
        assert bridge.wait(close=False) == 0
    entries = next(line for line in lines if line["id"] == "files")
    if mode == "abort":
        assert (entries["code"], lines[-1]["reason"]) == ("shutting_down", "abort")
    else:
        assert (texts(entries), lines[-1]["completed"]) == ([*expected.values()] * 4, len(files))


def test_a_batch_whose_time_is_over_ends_with_what_it_has(expected: dict[str, str]) -> None:
    files = [*expected] * 28
    with demo() as bridge:
        bridge.ask("start", id="start")
        late = bridge.ask("batch_transcribe", id="files", audio=files, decoder_mode="batched", timeout_ms=150)
        after = bridge.ask("batch_transcribe", id="after", audio=files[:2], decoder_mode="batched")
        assert bridge.wait() == 0
    codes = {item.get("error", {}).get("code") for item in late.get("items", ())} | {late.get("code")}
    assert "timeout" in codes
    assert codes <= {"timeout", None}
    assert texts(after) == [*expected.values()][:2]
