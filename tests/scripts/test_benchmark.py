"""The benchmark's arithmetic, its order, and its way from weights to table; no test looks at how long anything took."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def benchmark_module(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "scripts" / "lib"))

    def imported(name: str) -> ModuleType:
        return import_module(f"benchmark.{name}")

    return imported


class FakeProcess:
    """Answers every command with the same figures; `log` is shared and keeps who was asked what."""

    def __init__(self, name: str, log: list[tuple[str, str]]) -> None:
        self.name = name
        self._log = log

    def import_seconds(self) -> float:
        self._log.append((self.name, "import"))
        return 1.0

    def ask(self, do: str, **arguments: Any) -> Any:
        self._log.append((self.name, f"{do} {arguments['mode']}" if do == "total" else do))
        if do == "total":
            batched = arguments["mode"] != "one by one" and self.name != "runtime"
            return (
                {} if batched else {"seconds": 2.0, "mlx_peak_mib": 12.0, "tokens": [[7, 8]] * len(arguments["clips"])}
            )
        stages = {"tower": 0.5, "prefill": 0.25, "steps": [0.1, 0.3, 0.2], "tokens": [[7, 8]]}
        memory = {"rss_mib": 10.0, "rss_peak_mib": 11.0, "mlx_peak_mib": 12.0, "seconds": 60.0}
        return {"features": [0.001, 0.003, 0.002], "tower": 0.5, "stages": stages, "memory": memory, "long": memory}[do]


def plan(benchmark_module: Any, **changes: Any) -> Any:
    usual = {"repeats": 2, "seconds": [2.0, 1.0], "new_tokens": 2, "tower": [], "rows": [], "linear": [], "seed": 1}
    return benchmark_module("plan").Plan(**{**usual, "imports": False, **changes})


def measured(benchmark_module: Any, folder: Path, **changes: Any) -> tuple[Any, list[tuple[str, str]]]:
    log: list[tuple[str, str]] = []
    processes = [FakeProcess("runtime", log), FakeProcess("peer", log)]
    measurement = benchmark_module("plan").Measurement(plan(benchmark_module, **changes), processes, folder)
    measurement.run()
    return measurement, log


def test_the_median_of_a_figure_is_that_of_its_rounds(benchmark_module):
    figure = benchmark_module("figures").Figure("total", "s", {"runtime": [5.0, 1.0, 2.0]})
    assert figure.median("runtime") == 2.0
    assert figure.as_json()["contenders"]["runtime"] == {
        "median": 2.0,
        "min": 1.0,
        "max": 5.0,
        "values": [5.0, 1.0, 2.0],
    }


def test_a_ratio_compares_contenders_round_by_round(benchmark_module):
    values = {"runtime": [1.0, 10.0, 2.0], "peer": [2.0, 20.0, 8.0]}  # medians 2 and 8
    figure = benchmark_module("figures").Figure("total", "s", values)
    assert figure.ratio("runtime", "peer") == 0.5
    assert figure.ratio("peer", "runtime") == 2.0


def test_a_table_has_a_row_for_each_figure_and_ratios_where_both_were_measured(benchmark_module):
    figures = benchmark_module("figures").Figures()
    for value in (1.0, 3.0):
        figures.add("total", "s", "runtime", value)
        figures.add("total", "s", "peer", 2 * value)
    figures.add("batched", "s", "runtime", 1234.0)
    assert benchmark_module("figures").markdown(figures, ["runtime", "peer"]).splitlines() == [
        "| what | unit | runtime | peer | runtime / peer |",
        "| --- | --- | ---: | ---: | ---: |",
        "| total | s | 2 (1 … 3) | 4 (2 … 6) | 0.50 |",
        "| batched | s | 1,234 |  |  |",
    ]


def test_agreement_names_the_first_token_that_differs(benchmark_module):
    tokens = {"runtime": [[1, 2, 3], [4, 5, 6]], "peer": [[1, 2, 3], [4, 9, 6]]}
    assert benchmark_module("figures").agreement(tokens, "runtime") == {"peer": [None, 1]}


def test_every_round_asks_each_contender_in_turn(benchmark_module, tmp_path):
    _, log = measured(benchmark_module, tmp_path, imports=True, tower=[3.0], rows=[1])
    warm_up = 2 * (1 + 1 + 2)  # stages, one by one, two decoder modes
    asked = log[warm_up:]
    rounds = asked[: len(asked) - 2]  # then memory, once each
    assert [name for name, _ in rounds] == ["runtime", "peer"] * (len(rounds) // 2)
    assert [do for _, do in rounds[0::2]] == [do for _, do in rounds[1::2]]
    assert rounds[: len(rounds) // 2] == rounds[len(rounds) // 2 :]


def test_a_figure_has_one_value_a_round_and_a_step_is_the_median_of_the_steps(benchmark_module, tmp_path):
    measurement, _ = measured(benchmark_module, tmp_path, repeats=3)
    assert measurement.figures["one token"].values == {"runtime": [200.0] * 3, "peer": [200.0] * 3}
    assert measurement.figures["features, 2 s"].values["peer"] == [2.0] * 3
    assert measurement.figures["2 clips, `batched`"].values == {"runtime": [2.0] * 3}  # the peer has no such call


def test_long_recordings_are_reported_by_the_minute(benchmark_module, tmp_path):
    measurement, _ = measured(benchmark_module, tmp_path, linear=[300.0])
    assert measurement.figures["recording of 300 s, each minute"].values == {"runtime": [12.0]}


def test_audio_is_the_same_for_the_same_seed_and_within_range(benchmark_module):
    speech_like = benchmark_module("audio").speech_like
    audio = speech_like(3.1, seed=1)
    assert audio.shape == (49_600,)
    assert audio.dtype == np.float32
    assert 0.01 < np.abs(audio).max() <= 1.0
    assert np.array_equal(audio, speech_like(3.1, seed=1))
    assert not np.array_equal(audio, speech_like(3.1, seed=2))


def test_prompts_are_as_long_with_the_vocabulary_without_meaning_as_with_the_published_one(benchmark_module, tmp_path):
    from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
    from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(benchmark_module("vocabulary").write_tokenizer(tmp_path))
    prompt = PromptBuilder(tokenizer).build("", None)
    assert len(prompt.input_ids(0)) == 15
    assert prompt.audio_token_id == 151_676
    assert tokenizer.decode([0, 151_642, 151_704]).endswith("<asr_text>")


def test_a_contender_that_ends_early_is_no_figure(benchmark_module, repository, tmp_path):
    environment = benchmark_module("environments").child_environment({}, own=True)
    process = benchmark_module("process").Process("runtime", Path(sys.executable), environment)
    with pytest.raises(RuntimeError, match="`load`"):
        process.ask("load", checkpoint=str(tmp_path / "nothing"), dtype="float32")
    process.close()


def test_the_command_measures_the_runtime_from_random_weights_to_a_table(repository, tmp_path):
    paths = [str(repository / folder) for folder in ("scripts/lib", "src", "tests")]
    command = [sys.executable, "-P", "-m", "benchmark", "--workdir", tmp_path / "work", "--repeats", "2"]
    command += ["--seconds", "0.3,1.1", "--new-tokens", "3", "--tower", "9", "--linear", "2", "--rows", "1,2"]
    command += ["--json", tmp_path / "all.json", "--markdown", tmp_path / "table.md"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (tmp_path / "table.md").read_text(encoding="utf-8")
    report = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    values = {figure["name"]: figure["contenders"]["runtime"]["values"] for figure in report["figures"]}
    for name in ("import", "features, 1.1 s", "tower, 1.1 s", "prefill, 1.1 s", "one token", "2 clips one by one"):
        assert len(values[name]) == 2
        assert min(values[name]) > 0
    assert len(values["recording of 2 s"]) == 1
    assert all(f"| {name} |" in ran.stdout for name in values)
