"""scripts/live-stability: what it counts as a stable word that was wrong, and a small run of it."""

from collections.abc import Sequence

import pytest
from live_stability import Count, StreamedTexts, main

from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.session import local_agreement as stability


@pytest.fixture(autouse=True)
def rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "STABLE_HYPOTHESES", 2)
    monkeypatch.setattr(stability, "STABLE_SECONDS", 1.0)


def streamed(texts: Sequence[str], final: str) -> StreamedTexts:
    """A hypothesis every half second."""
    hypotheses = [Hypothesis(text, "English", 0.5 * place, 1, 0, 0.1) for place, text in enumerate(texts, 1)]
    return StreamedTexts(hypotheses, final)


def counted(*all_texts: StreamedTexts) -> Count:
    count = Count()
    for one in all_texts:
        count.add(one)
    return count


def test_what_was_stable_and_stands_in_the_final_is_right() -> None:
    found = counted(streamed(["one", "one two", "one two three", "one two three"], "one two three four"))
    assert (found.utterances, found.words, found.stable, found.wrong, found.with_wrong) == (1, 4, 2, 0, 0)
    assert (found.shown_stable, found.shown) == (3, 9)


def test_a_stable_word_that_the_final_has_not_is_counted_and_so_is_its_utterance() -> None:
    repeated = ["ten two", "ten two", "ten two six", "ten two six"]
    found = counted(streamed(repeated, "one two six"), streamed(repeated, "ten two six"), streamed(repeated, ""))
    assert (found.stable, found.wrong, found.with_wrong) == (6, 3, 2)


def test_the_age_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = streamed(["one", "one two", "one two"], "one two")
    assert counted(texts).stable == 1
    monkeypatch.setattr(stability, "STABLE_SECONDS", 1.5)
    assert counted(texts).stable == 0


def test_a_small_run_prints_its_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--scale", "0.01", "--after", "1.0", "2.0", "--seed", "29", "--interval-ms", "1000"]
    monkeypatch.setattr("sys.argv", ["live-stability", *arguments])
    main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert head.count("|") == rows[0].count("|")
    assert [row[0] for row in cells] == [kind for kind in ("plain", "quiet start", "loud end", "noise") for _ in "ab"]
    assert sum(int(row[3]) for row in cells) > 0
    assert [row[2] for row in cells] == ["1 s", "2 s"] * 4
    assert [row[6] for row in cells[::2]] != [row[6] for row in cells[1::2]]
