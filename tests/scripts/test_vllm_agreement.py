"""What scripts/reference --vllm counts, against answers that a real vLLM gave: no server is started."""

import json
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest
import vllm_agreement
from support.vllm_front import EXAMPLES, Front, Reply, recorded
from vllm_agreement import Write, Written, count, local, served

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Utterance

Change = Callable[[dict], None]  # of a choice of an answer


@pytest.fixture(scope="module")
def ours() -> Write:
    return local(Recognizer.load("demo", dtype="float32"))


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front(recorded())
    yield front
    front.stop()


@pytest.fixture(scope="module")
def sample() -> Utterance:
    return Utterance(read_file(str(EXAMPLES / "sample.wav")).samples)


def change_answers(front: Front, change: Change) -> None:
    answers = front.answers

    def changed(*request: object) -> Reply:
        reply = answers(*request)
        body = json.loads(reply.body)
        if "choices" in body:
            change(body["choices"][0])
        return reply._replace(body=json.dumps(body).encode())

    front.answers = changed


def replacing(old: str, new: str) -> Change:
    def change(choice: dict) -> None:
        choice["message"]["content"] = choice["message"]["content"].replace(old, new)

    return change


def test_the_examples_are_written_alike(ours: Write, front: Front, sample: Utterance) -> None:
    examples = [Utterance(read_file(str(path)).samples) for path in sorted(EXAMPLES.glob("*.wav"))]
    found = count(ours, served(front.url), [*examples, Utterance(sample.samples, context="names")])
    assert (found.clips, found.languages, found.texts, found.differing) == (len(examples) + 1, 0, 0, [])
    assert 0 < found.apart < 1e-4
    assert found.agrees


@pytest.mark.parametrize(
    ("old", "new", "languages", "texts"),
    [
        ("language English", "language Arabic", 1, 0),
        ("three", "four", 0, 1),
        ("one.", "one. ", 0, 1),  # a parser would drop it
        ("language English<asr_text>Seven", "language Arabic<asr_text>Nine", 1, 1),
        ("language English<asr_text>", "", 1, 0),
    ],
)
def test_a_clip_that_differs_is_counted_by_what_differs(
    ours: Write, front: Front, sample: Utterance, old: str, new: str, languages: int, texts: int
) -> None:
    change_answers(front, replacing(old, new))
    found = count(ours, served(front.url), [sample])
    assert (found.clips, found.languages, found.texts, found.differing) == (1, languages, texts, [0])
    assert not found.agrees


def test_a_log_probability_that_is_far_apart_is_no_agreement(ours: Write, front: Front, sample: Utterance) -> None:
    def change(choice: dict) -> None:
        choice["logprobs"]["content"][2]["logprob"] -= 0.01

    change_answers(front, change)
    found = count(ours, served(front.url), [sample])
    assert found.differing == []
    assert found.apart == pytest.approx(0.01, abs=1e-4)
    assert not found.agrees


def test_answers_of_another_number_of_tokens_are_infinitely_apart(ours: Write, front: Front, sample: Utterance) -> None:
    change_answers(front, lambda choice: choice["logprobs"]["content"].pop())
    assert count(ours, served(front.url), [sample]).apart == np.inf


def test_each_clip_is_compared_with_its_own_answer() -> None:
    def writing(*texts: str) -> Write:
        return lambda utterance: Written(texts[len(utterance.samples) - 400], np.zeros(1))

    clips = [Utterance(np.zeros(400 + number, np.float32)) for number in range(20)]
    texts = [str(number) for number in range(20)]
    changed = [*texts[:7], "another", *texts[8:]]
    assert count(writing(*texts), writing(*changed), clips).differing == [7]


def test_both_get_the_same_pcm(ours: Write, front: Front, sample: Utterance) -> None:
    heard = []

    def listening(utterance: Utterance) -> Written:
        heard.append(utterance.samples)
        return ours(utterance)

    count(listening, served(front.url), [Utterance(sample.samples + np.float32(0.3 / 32768))])
    [asked] = front.asked
    [samples] = heard
    assert samples.dtype == np.float32
    assert asked.pcm == (samples * 32768).astype("<i2").tobytes()
    assert np.array_equal(samples, sample.samples)


def test_a_refusal_is_an_error_and_no_text(ours: Write, front: Front, sample: Utterance) -> None:
    front.faults.append(400)
    with pytest.raises(httpx2.HTTPStatusError):
        count(ours, served(front.url), [sample])


@pytest.mark.parametrize(("text", "status"), [("three", 0), ("four", 1)])
def test_the_command_prints_a_row_for_each_set_and_tells_whether_all_are_equal(
    front: Front,
    sample: Utterance,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    status: int,
) -> None:
    asked = []

    def test_sets(*arguments: object) -> Iterator[tuple[str, Iterator[SimpleNamespace]]]:
        asked.append(arguments[1:])
        yield "speech", iter([SimpleNamespace(utterance=sample)])
        yield "silence", iter([SimpleNamespace(utterance=Utterance(np.zeros(8_000, np.float32)))])

    change_answers(front, replacing("three", text))
    monkeypatch.setitem(sys.modules, "testsets", SimpleNamespace(TAKES=("test", "val"), test_sets=test_sets))
    monkeypatch.setattr(vllm_agreement, "real_vllm", lambda *_: front)
    monkeypatch.setattr("sys.argv", ["reference", "--scale", "0.5", "--seed", "7", "--split", "val"])
    assert vllm_agreement.main() == status
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert asked == [("val", 7, 0.5)]
    assert {each.count("|") for each in (head, line, *rows)} == {7}
    assert [row.split(" | ")[:2] for row in rows] == [["| speech", f"{1 - status} of 1"], ["| silence", "1 of 1"]]
