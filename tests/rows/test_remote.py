"""Rows 128 to 132: what may go wrong with the servers of a remote engine, in the real process."""

import os
from collections.abc import Iterator

import pytest
from e2e.client import Client, command
from engines.remote.conftest import new_front
from support.vllm_front import EXAMPLES, HOLD, Front

SAMPLE = str(EXAMPLES / "sample.wav")
TEXT = "Seven three one."
CANARY = "zaqwsxcde"


@pytest.fixture
def front() -> Iterator[Front]:
    front = new_front()
    yield front
    front.release.set()
    front.stop()


@pytest.fixture
def bridge(front: Front) -> Iterator[Client]:
    """One that has loaded, and is well after the fault."""
    with Client(command(None, "--engine", front.url)) as client:
        assert client.ask("start")["type"] == "ready"
        yield client
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0
        assert "Traceback" not in client.stderr()


def test_row_128_a_server_that_ends_or_loses_an_answer_costs_nothing(front: Front, bridge: Client) -> None:
    for fault in ("reset", "half"):
        front.faults.append(fault)
        assert bridge.ask("transcribe", audio=SAMPLE)["text"] == TEXT
    front.faults.append(HOLD)
    bridge.send("transcribe", audio=SAMPLE)
    assert front.held.acquire(timeout=60)
    front.stop()
    front.start()
    assert bridge.read()["text"] == TEXT


def test_row_129_a_server_that_is_too_busy_is_asked_later(front: Front, bridge: Client) -> None:
    front.retry_after = "0"
    front.faults.extend([429, 503])
    assert bridge.ask("transcribe", audio=SAMPLE)["text"] == TEXT


@pytest.mark.parametrize(
    ("fault", "code"),
    [(500, "engine_rejected"), (400, "engine_rejected"), ("garbage", "engine_incompatible")],
)
def test_row_130_an_answer_that_is_none_costs_that_audio(
    front: Front, bridge: Client, fault: object, code: str
) -> None:
    front.faults.append(fault)
    reply = bridge.ask("batch_transcribe", audio=[SAMPLE, SAMPLE, SAMPLE])
    codes = [item.get("error", {}).get("code") for item in reply["items"]]
    assert sorted(codes, key=str) == [None, None, code]


def test_row_131_a_wrong_model_or_token_fails_the_load_and_the_next_one_tries_again(front: Front) -> None:
    front.models = {"data": [{"id": "other"}]}
    with Client(command(None, "--engine", front.url, "--model", "demo")) as client:
        assert client.ask("transcribe", audio=SAMPLE)["code"] == "engine_incompatible"
        front.models, front.token = None, CANARY
        assert client.ask("start")["code"] == "engine_rejected"
        front.token = None
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0
        assert CANARY not in client.stderr()


def test_row_132_what_the_server_cannot_is_refused_and_never_ignored(front: Front, bridge: Client) -> None:
    for options, feature in (
        ({"languages": ["en", "ar"]}, "languages"),
        ({"language": "Cantonese"}, "language"),
    ):
        error = bridge.ask("transcribe", audio=SAMPLE, **options)
        assert (error["code"], error["data"]["feature"]) == ("unsupported_by_engine", feature)
    assert os.path.basename(SAMPLE) not in bridge.stderr()  # noqa: PTH119
