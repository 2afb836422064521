"""The command that measures the change of logits by quantised weights."""

import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def loss(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(repository / "scripts" / "lib"))
    import quantization_loss

    return quantization_loss


def test_equal_logits_have_no_loss_and_others_their_divergence(loss):
    width = np.ones((1, 2), np.float32)
    even, uneven = (np.log(np.array([row, [0.9, 0.1]], np.float32)) for row in ([0.4, 0.6], [0.8, 0.2]))
    reference = loss.Outcome(even, width, 2.0, 3.0)
    assert loss.figures(reference, reference) == "| 2 | 3 | 2 | 0 | 0 | 0.0000 | 100.0 % | 0.0000 |"
    cells = loss.figures(reference, loss.Outcome(uneven, 2 * width, 1.0, 2.0)).split(" | ")
    divergence = 0.4 * np.log(0.4 / 0.8) + 0.6 * np.log(0.6 / 0.2)
    assert float(cells[4]) == pytest.approx(divergence, rel=0.01)
    assert float(cells[3]) == pytest.approx(divergence / 2, rel=0.05)
    assert cells[6:] == ["50.0 %", "1.0000 |"]


def test_the_table_has_a_row_for_each_scheme(loss, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quantization-loss", "--weights", "demo", "--tokens", "3"])
    monkeypatch.setattr(loss, "read_file", _first_second(loss.read_file))
    loss.main()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["demo", "none"], ["demo", "8bit"], ["demo", "mixed"]]
    assert len({len(row) for row in rows} | {loss.HEADER.splitlines()[0].count("|") - 1}) == 1
    none, eight, mixed = (float(row[7]) for row in rows)
    assert 0 == none < eight < mixed < 0.2


def _first_second(read):
    class Short:
        def __init__(self, file: str) -> None:
            self.samples = read(file).samples[:16_000]

    return Short
