"""Rows 59 to 68, 70 and 88: order, limits, races and the end, in the real process."""

import base64

import numpy as np
import pytest
from e2e.client import Client
from rows.bridge import command
from support.marks import rest_once

TEXT = "8000 samples"
BATCH = {"batch_size": 4, "max_batch_delay_ms": 50}


def pcm(samples: int) -> str:
    return base64.b64encode(np.zeros(samples, "<i2").tobytes()).decode()


def read_all(bridge: Client, count: int) -> list[dict]:
    return [bridge.read() for _ in range(count)]


@pytest.mark.once
def test_row_59_a_hundred_thousand_pings(speech: str) -> None:
    count = 100_000
    with Client(command("speak")) as bridge:
        line = b'{"type":"ping"}'
        for _ in range(count):
            bridge.monitor.sent(line)
        bridge.process.stdin.write((line + b"\n") * 1000)
        for _ in range(count // 1000 - 1):
            bridge.process.stdin.write((line + b"\n") * 1000)
        assert bridge.wait() == 0
        assert [reply["type"] for reply in bridge.monitor.replies] == ["pong"] * count


def test_row_59_work_beyond_the_limit_is_rejected_as_busy_and_nothing_else_is_lost(speech: str) -> None:
    with Client(command("hold")) as bridge:
        limit = bridge.ask("capabilities")["limits"]["max_pending_requests"]
        bridge.ask("start")
        count = limit + 100
        for number in range(count):
            bridge.send("transcribe", id=number, audio=speech)
        refused = read_all(bridge, count - limit)
        assert {reply["code"] for reply in refused} == {"busy"}
        assert all(reply["retryable"] and reply["data"]["retry_after_ms"] > 0 for reply in refused)
        assert bridge.ask("stop", mode="abort")["type"] in ("error", "stopped")
        assert bridge.wait() == 0


def test_row_59_a_lock_step_client_is_never_rejected_as_busy(speech: str) -> None:
    count = 1_000
    with Client(command("speak")) as bridge:
        for _ in range(count):
            bridge.send("transcribe", audio=speech)
        assert bridge.wait() == 0
        assert [reply["type"] for reply in bridge.monitor.replies] == ["transcript"] * count


def test_row_59_a_flood_of_short_utterances_is_bounded_and_each_that_was_accepted_is_named() -> None:
    with Client(command("hold")) as bridge:
        limit = bridge.ask("capabilities")["limits"]["max_pending_utterances"]
        bridge.ask("hello", id="h", want=["events"])
        bridge.ask("start_stream", id="s", stream_id="s", auto_flush=True)
        for _ in range(limit + 100):
            bridge.send("end_utterance", stream_id="s", pcm16=pcm(1))
        replies = read_all(bridge, limit + 100)
        assert [reply.get("code", reply["type"]) for reply in replies] == ["utterance_queued"] * limit + [
            "limit_exceeded"
        ] * 100
        bridge.send("stop", mode="abort")
        assert bridge.wait(close=False) == 0
        assert len(bridge.monitor.replies[-1]["unfinished"]) == limit


def test_row_61_flushes_of_an_empty_queue_and_two_at_once(speech: str) -> None:
    with Client(command("speak")) as bridge:
        assert (bridge.ask("flush")["count"], bridge.ask("flush")["items"]) == (0, [])
        for number in range(3):
            bridge.ask("end_utterance", pcm16=pcm(10), utterance_id=f"u{number}")
        bridge.send("flush")
        bridge.send("flush")
        first, second = read_all(bridge, 2)
        assert [item["utterance_id"] for item in first["items"]] == ["u0", "u1", "u2"]
        assert (second["count"], second["items"]) == (0, [])
        assert bridge.wait() == 0


def test_row_61_a_flush_answers_for_what_was_queued_when_it_came() -> None:
    with Client(command("speak")) as bridge:
        for line in range(2):
            bridge.send("end_utterance", pcm16=pcm(10), utterance_id=f"u{line}")
        bridge.send("flush")
        bridge.send("end_utterance", pcm16=pcm(10), utterance_id="later")
        replies = read_all(bridge, 4)
        assert [item["utterance_id"] for item in replies[2]["items"]] == ["u0", "u1"]
        assert [item["utterance_id"] for item in bridge.ask("flush")["items"]] == ["later"]
        assert bridge.wait() == 0


@pytest.mark.parametrize("members", [{}, {"mode": "drain"}])
def test_row_62_stop_finishes_what_came_before_it(speech: str, members: dict) -> None:
    with Client(command("speak")) as bridge:
        for _ in range(20):
            bridge.send("transcribe", audio=speech)
        bridge.send("stop", **members)
        assert bridge.wait(close=False) == 0
        assert [reply["type"] for reply in bridge.monitor.replies] == ["transcript"] * 20 + ["stopped"]


@pytest.mark.parametrize(
    "members", [{"mode": "abort"}, {"deadline_ms": 50}, {"mode": "drain", "deadline_ms": 0}], ids=str
)
@pytest.mark.parametrize("scenario", ["hold", "hang"])
def test_row_62_stop_may_end_it_sooner_and_names_what_was_left(speech: str, scenario: str, members: dict) -> None:
    with Client(command(scenario)) as bridge:
        bridge.ask("start")
        bridge.ask("start_stream", id="s", stream_id="s")
        bridge.send("transcribe", id="t", audio=speech)
        bridge.ask("end_utterance", id="e", stream_id="s", utterance_id="u", pcm16=pcm(10))
        bridge.send("stop", id="stop", **members)
        assert bridge.wait(close=False) == 0
        *others, last = bridge.monitor.replies
        assert last["type"] == "stopped"
        assert [reply["code"] for reply in others if reply.get("id") == "t"] == ["shutting_down"]
        assert {left["code"] for left in last["unfinished"]} == {"shutting_down"}
        assert {(left["stream_id"], left["utterance_id"]) for left in last["unfinished"] if "id" not in left} == {
            ("s", "u")
        }


def test_row_62_samples_that_no_boundary_ended_are_counted_in_stopped() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("audio_chunk", stream_id="s", pcm16=pcm(77))
        assert bridge.ask("stop")["dropped_samples"] == 77
        assert bridge.wait(close=False) == 0


def test_row_63_a_request_behind_stop_is_refused(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", id="t", audio=speech)
        bridge.send("stop", id="stop", mode="abort")
        bridge.send("transcribe", id="late", audio=speech)
        assert bridge.wait() == 0
        replies = {reply["id"]: reply for reply in bridge.monitor.replies if "id" in reply}
        assert replies["late"]["code"] == "shutting_down"
        assert bridge.monitor.replies[-1]["type"] == "stopped"


def test_row_64_cancel_of_what_runs_waits_has_finished_and_never_was(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        for name in ("running", "waiting"):
            bridge.send("transcribe", id=name, audio=speech)
        for name in ("waiting", "running"):
            bridge.send("cancel", id=f"c-{name}", target=name)
        replies = {reply["id"]: reply for reply in read_all(bridge, 4)}
        assert {replies[name]["code"] for name in ("running", "waiting")} == {"cancelled"}
        assert {replies[f"c-{name}"]["state"] for name in ("running", "waiting")} <= {"cancelled", "cancelling"}
        for name in ("running", "never was"):
            state = bridge.ask("cancel", id="c", target=name)["state"]
            assert state in ({"already_done", "unknown"} if name == "running" else {"unknown"})
        assert bridge.wait() == 0


@pytest.mark.parametrize("number", rest_once(range(20)))
def test_row_64_cancel_and_completion_race_and_the_target_gets_one_reply(speech: str, number: int) -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("start")
        for position in range(20):
            bridge.send("transcribe", id=position, audio=speech)
            if position >= number:
                bridge.send("cancel", id=f"c{position}", target=position - number)
        assert bridge.wait() == 0  # the monitor has counted: one reply each
        outcomes = [reply for reply in bridge.monitor.replies if isinstance(reply.get("id"), int)]
        assert {reply.get("code", "transcript") for reply in outcomes} <= {"transcript", "cancelled"}


def test_row_65_start_twice_joins_one_load(speech: str) -> None:
    with Client(command("speak")) as bridge:
        for name in ("a", "b"):
            bridge.send("start", id=name)
        bridge.send("transcribe", id="t", audio=speech)
        replies = read_all(bridge, 3)
        assert {reply["id"] for reply in replies} == {"a", "b", "t"}
        assert [reply["load_seconds"] for reply in replies if reply["type"] == "ready"] == [1.5, 1.5]
        assert bridge.wait() == 0


def test_row_66_the_timer_starts_a_batch_that_nothing_fills() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("hello", id=1, want=["events"])
        bridge.ask("start_stream", id=2, stream_id="s", auto_flush=True, **BATCH)
        assert bridge.ask("end_utterance", id=3, stream_id="s", pcm16=pcm(10))["type"] == "utterance_queued"
        event = bridge.read()
        assert (event["type"], event["event"], event["reason"]) == ("realtime_batch_final", True, "delay")
        assert [item["text"] for item in event["items"]] == ["10 samples"]
        assert bridge.wait() == 0


def test_row_66_the_boundary_that_fills_the_batch_is_an_event_too_where_the_timer_is_on() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("hello", id=1, want=["events"])
        bridge.ask("start_stream", id=2, stream_id="s", auto_flush=True, batch_size=2, max_batch_delay_ms=60_000)
        for number in range(2):
            bridge.send("end_utterance", id=f"e{number}", stream_id="s", pcm16=pcm(10))
        replies = read_all(bridge, 4)
        assert [reply["type"] for reply in replies if "id" in reply] == ["utterance_queued"] * 2
        events = [reply for reply in replies if reply.get("event")]
        assert [(event["reason"], event["count"]) for event in events] == [("batch_size", 1)] * 2
        assert bridge.wait() == 0


def test_row_66_without_the_timer_nothing_is_said_that_was_not_asked_for() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("start_stream", stream_id="s", batch_size=2, max_batch_delay_ms=0)
        assert bridge.ask("end_utterance", stream_id="s", pcm16=pcm(10))["type"] == "utterance_queued"
        assert bridge.ask("ping")["type"] == "pong"
        final = bridge.ask("end_utterance", stream_id="s", pcm16=pcm(20))
        assert (final["type"], final["reason"], final["count"]) == ("realtime_batch_final", "batch_size", 2)
        assert bridge.wait() == 0


def test_row_67_a_flood_of_one_stream_does_not_starve_another() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("hello", id="h", want=["events"])
        for name in ("flood", "rare"):
            bridge.ask("start_stream", id=name, stream_id=name, auto_flush=True, batch_size=4, max_batch_delay_ms=20)
        for number in range(100):
            bridge.send("end_utterance", id=number, stream_id="flood", utterance_id=f"f{number}", pcm16=pcm(10))
        bridge.send("end_utterance", id="r", stream_id="rare", utterance_id="rare", pcm16=pcm(10))
        assert bridge.wait() == 0
        items = [item for reply in bridge.monitor.replies for item in reply.get("items", ())]
        assert sorted(item["utterance_id"] for item in items if item["stream_id"] == "rare") == ["rare"]
        assert len(items) == 101


def test_row_67_options_of_one_stream_do_not_apply_to_another() -> None:
    with Client(command("options")) as bridge:
        bridge.ask("hello", id="h", want=["events"])
        for name, language in (("a", "Arabic"), ("b", "English")):
            members = {"stream_id": name, "auto_flush": True, "batch_size": 2, "max_batch_delay_ms": 20}
            assert bridge.ask("start_stream", id=name, language=language, **members)["type"] == "stream_ready"
        for name in ("a", "b"):
            bridge.send("end_utterance", id=f"e{name}", stream_id=name, pcm16=pcm(10))
        assert bridge.wait() == 0
        items = [item for reply in bridge.monitor.replies for item in reply.get("items", ())]
        assert {item["stream_id"]: item["text"] for item in items} == {"a": "Arabic", "b": "English"}


def test_row_68_one_bad_item_fails_alone() -> None:
    with Client(command("third")) as bridge:
        bridge.ask("start_stream", stream_id="s", batch_size=6)
        for number in range(5):
            bridge.ask("end_utterance", stream_id="s", utterance_id=f"u{number}", pcm16=pcm(10))
        final = bridge.ask("end_utterance", stream_id="s", utterance_id="u5", pcm16=pcm(10))
        assert (final["count"], final["failed"]) == (6, 2)
        texts = [(item["utterance_id"], item["text"], item.get("error", {}).get("code")) for item in final["items"]]
        bad = {("u2", None, "decode_failed"), ("u5", None, "decode_failed")}
        assert set(texts) == bad | {(f"u{number}", "10 samples", None) for number in (0, 1, 3, 4)}
        assert bridge.wait() == 0


IMPATIENT = "from qwen3_asr_mlx_runtime.bridge import watchdog; watchdog.STALL_SECONDS = 0.5"


def test_row_88_an_engine_that_hangs_is_killed_and_audio_that_hangs_it_again_fails(speech: str) -> None:
    with Client(command("hang", before=IMPATIENT)) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", id="t", audio=speech)
        assert bridge.ask("ping", id="p")["type"] == "pong"
        [reply] = read_all(bridge, 1)
        assert (reply["id"], reply["code"]) == ("t", "engine_crashed")
        assert bridge.ask("status", id="s")["engine_last_end"] == "stalled"
        assert bridge.wait() == 0
        assert "Thread" in bridge.stderr()  # where every thread stood


def test_row_70_a_session_has_a_name_of_its_own() -> None:
    sessions = set()
    for _ in range(2):
        with Client(command("speak")) as bridge:
            first = bridge.ask("hello", id="r1", want=["events"])
            assert bridge.ask("hello", id="r1", want=["events"])["session"] == first["session"]
            sessions.add(first["session"])
            assert bridge.wait() == 0
    assert len(sessions) == 2
