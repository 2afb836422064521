"""scripts/load: what it counts, and a small run against recorded answers of a server."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from benchmark.vocabulary import FIRST_SPECIAL, LITERAL
from load.__main__ import main
from load.figures import Window, row, spread, table
from load.random_model import FIRST_WORD, HEAD_SCALE, write_model
from load.servers import Counts, Watch, totals
from load.speaking import NO_FINAL, Heard, Spoken
from support.vllm_front import HOLD, Answers, Front, Reply, recorded

CHAT_ANSWER = {
    "choices": [
        {
            "message": {"content": "language English<asr_text>One."},
            "finish_reason": "stop",
            "logprobs": {"content": [{"logprob": -0.1}]},
            "token_ids": [1],
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}
METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1.2e+06
vllm:request_success_total{engine="0",finished_reason="stop"} 40.0
vllm:request_success_total{engine="0",finished_reason="length"} 2.0
"""
PROBES = 5  # what a load asks for: two chats, three transcriptions
WINDOW = Window(10.0, 20.0)


def spoken(ended: float, latency: float | None, failure: str | None = None, seconds: float = 2.0) -> Spoken:
    at = None if latency is None else ended + latency
    return Spoken(seconds, ended - seconds, ended, at, failure, tokens=4)


def figures(*heard: Heard) -> dict[str, str]:
    """The cells of the row, by the names of the head."""
    counts = Counts(running=2.4, waiting=0.2, tokens_per_second=1234.0, requests_per_second=5.0)
    head, _, cells = table([row(heard, WINDOW, streams=2, cpu=0.5, servers=counts)]).splitlines()
    names, values = ([cell.strip() for cell in line.strip("|").split("|")] for line in (head, cells))
    return dict(zip(names, values, strict=True))


def test_what_ended_in_the_window_counts_and_comes_in_order_of_latency() -> None:
    before, after = spoken(9.9, 0.05), spoken(20.0, 9.0)
    found = figures(Heard([before, *(spoken(10.0 + 0.05 * n, n / 100) for n in range(1, 101)), after]), Heard())
    assert (found["bridges"], found["streams"]) == ("2", "2")
    assert found["end → final p50, p95, p99, ms"] == "500, 950, 990"
    assert (found["ended/s"], found["finals/s"]) == ("10.00", "10.00")
    assert found["audio s/s"] == "20.0"
    assert found["without a text"] == "0"
    assert (found["running, waiting"], found["server tokens/s"], found["CPU"]) == ("2, 0", "1,234", "50%")


def test_an_utterance_without_a_text_has_waited_for_ever() -> None:
    lost, failed = spoken(12.0, None, NO_FINAL), spoken(13.0, 0.1, "engine_rejected")
    found = figures(Heard([*(spoken(11.0, 0.2) for _ in range(18)), lost, failed], refused=Counter({"queue_full": 3})))
    assert found["without a text"] == "1 engine_rejected, 1 no_final, 3 chunks queue_full"
    assert found["end → final p50, p95, p99, ms"] == "200, –, –"
    assert (found["ended/s"], found["finals/s"]) == ("2.00", "1.80")


def test_the_age_of_a_partial_counts_from_its_newest_audio() -> None:
    one = spoken(15.0, 0.1, seconds=4.0)  # since 11.0
    one.partials = [(11.6, 0.5), (12.3, 1.0), (13.0, 1.5)]
    two = spoken(11.0, 0.1, seconds=2.0)  # one before the window, one in it
    two.partials = [(9.8, 0.5), (10.3, 1.0)]
    found = figures(Heard([one, two], late=[0.0] * 99 + [0.004]))
    assert found["partial age p50, p95, ms"] == "300, 500"
    assert found["partials apart p50, ms"] == "700"
    assert found["chunks late p99, ms"] == "0"


def test_without_values_there_is_no_percentile() -> None:
    assert spread([]) == {"p50": None, "p95": None, "p99": None}
    assert figures(Heard())["partial age p50, p95, ms"] == "–, –"


def test_metrics_are_summed_over_their_labels() -> None:
    assert totals(METRICS) == {
        "vllm:num_requests_running": 5.0,
        "vllm:num_requests_waiting": 7.0,
        "vllm:generation_tokens_total": 1.2e6,
        "vllm:request_success_total": 42.0,
    }


@pytest.fixture
def front() -> Iterator[Front]:
    real, looks = recorded(), [0]

    def answers(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/metrics":
            looks[0] += 100
            page = METRICS.replace("1.2e+06", str(looks[0]))
            return Reply(200, page.encode(), "text/plain")
        if method == "POST" and json.loads(body).get("max_tokens") == 7:
            return Reply(200, json.dumps(CHAT_ANSWER).encode())
        return real(method, path, headers, body)

    front = Front(_without_forms(answers, real))
    yield front
    front.stop()


def _without_forms(answers: Answers, real: Answers) -> Answers:
    """`real` for requests that are no JSON."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        is_form = "multipart" in headers.get("Content-Type", "")
        return (real if is_form else answers)(method, path, headers, body)

    return answer


def test_watch_has_means_and_rates_and_leaves_out_a_server_that_does_not_answer(front: Front) -> None:
    watch = Watch([front.url])
    watch.look(1.0)
    assert watch.counts() is None
    watch.look(3.0)
    front.stop()
    watch.look(4.0)
    assert watch.counts() == Counts(running=5.0, waiting=7.0, tokens_per_second=50.0, requests_per_second=0.0)
    front.start()


ARGUMENTS = ("--bridges", "1", "--streams", "2", "--seconds", "1.5", "--warm-up", "0.5", "--max-new-tokens", "7")
SPEECH = ("--shortest", "0.5", "--longest", "0.6", "--pause", "0.1")


def run(front: Front, tmp_path: Path, *more: str) -> dict:
    report = tmp_path / "report.json"
    assert main(["--engine", front.url, *ARGUMENTS, *SPEECH, *more, "--json", str(report)]) == 0
    return json.loads(report.read_text(encoding="utf-8"))


def test_a_bridge_with_two_streams_has_a_final_for_each_utterance(
    front: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(front, tmp_path, "--interval-ms", "100")
    [found] = report["rows"]
    assert (found["bridges"], found["streams"], found["failures"], found["refused_chunks"]) == (1, 2, {}, {})
    assert found["ended"] >= 2
    assert found["end_to_final"]["p99"] is not None
    assert found["partial_age"]["p50"] is not None
    assert found["servers"]["running"] == 5.0
    assert report["settings"]["max_new_tokens"] == 7
    assert capsys.readouterr().out.count("\n") == 3


def test_what_the_server_refuses_is_counted_by_its_code(front: Front, tmp_path: Path) -> None:
    ready = [None] * PROBES
    front.faults.extend([*ready, *[400] * 100])
    [found] = run(front, tmp_path, "--no-partials")["rows"]
    assert found["failures"] == {"engine_rejected": found["ended"]}
    assert found["finals_per_second"] == 0
    assert found["partial_age"] == {"p50": None, "p95": None, "p99": None}


def test_a_final_that_never_comes_is_counted(front: Front, tmp_path: Path) -> None:
    ready = [None] * PROBES
    front.faults.extend([*ready, *[HOLD] * 100])
    [found] = run(front, tmp_path, "--no-partials", "--patience", "0")["rows"]
    assert found["failures"] == {NO_FINAL: found["ended"]}
    front.release.set()


def test_a_server_that_is_not_there_ends_it_in_one_line(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    front.models = {"data": [{"id": "a"}, {"id": "b"}]}
    assert main(["--engine", front.url, *ARGUMENTS]) == 1
    assert "engine_incompatible" in capsys.readouterr().err


def test_a_folder_without_recordings_ends_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine", "http://127.0.0.1:1", "--audio", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("load: no recordings in")


def test_random_weights_write_the_mark_of_a_text_and_then_words_without_an_end(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    ids = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    [mark] = [int(id) for id, token in ids.items() if token["content"] == "<asr_text>"]
    assert [int(id) for id in ids] == list(range(FIRST_SPECIAL, max(LITERAL) + 1))  # transformers knows no gaps
    with (tmp_path / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()

        def rows(name: str, *tokens: int) -> list[bytes]:
            width = 2 * header[name]["shape"][1]
            places = [start + header[name]["data_offsets"][0] + token * width for token in tokens]
            return [file.seek(place) and file.read(width) for place in places]

        newline = json.loads((tmp_path / "vocab.json").read_text("utf-8"))["Ċ"]
        texts = [newline, mark, *range(FIRST_WORD, FIRST_WORD + 40)]
        embedded = rows("thinker.model.embed_tokens.weight", *texts[:-1])
        heads = rows("thinker.lm_head.weight", *texts[1:])
    for embedding, head in zip(embedded, heads, strict=True):
        values, before = numbers(head), numbers(embedding)
        assert np.allclose(values, HEAD_SCALE * before, rtol=0.02)


def numbers(stored: bytes) -> np.ndarray:
    """bfloat16 → float32"""
    return (np.frombuffer(stored, "<u2").astype("<u4") << 16).view("<f4")
