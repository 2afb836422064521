"""The benchmark's arithmetic, its order, and its way from weights to table; no test looks at how long anything took."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


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


class FakeAligner(FakeProcess):
    """Aligns in 3.3 s; its tower takes 1 s and its prefill 2 s. Cuts a text into `units`; None: Korean into nothing."""

    def __init__(self, name: str, log: list[tuple[str, str]], units: list[str] | None = None) -> None:
        super().__init__(name, log)
        self._units = units

    def ask(self, do: str, **arguments: Any) -> Any:
        self._log.append((self.name, do))
        classes = {"seconds": 2.5, "units": self._units or ["a", "b"], "classes": [1, 2, 3, 4]}
        bounds = {"tower": 1.0, "prefill": 2.0, "positions": 100}
        return {
            "bounds": bounds if self.name == "runtime" else {"tower": 1.0},
            "classes": {} if self._units is None and arguments.get("language") == "Korean" else classes,
            "align": {"seconds": 3.3, "mlx_peak_mib": 12.0},
            "memory": {"rss_peak_mib": 11.0},
        }[do]


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


def measured_words(benchmark_module: Any, folder: Path, units: list[str] | None = None) -> tuple[Any, Any]:
    """With a peer that cuts `units` where the runtime cuts `a` and `b`."""
    words, log = benchmark_module("words"), list[tuple[str, str]]()
    processes = [FakeAligner("runtime", log, ["a", "b"]), FakeAligner("peer", log, units)]
    measurement = words.WordMeasurement(words.WordPlan(2, 3.0, True, 1), processes, folder)
    measurement.run()
    return measurement, log


def test_every_round_of_words_asks_each_contender_in_turn(benchmark_module, tmp_path):
    measurement, log = measured_words(benchmark_module, tmp_path)
    rounds = [do for name, do in log if name == "runtime"][1:9]
    assert rounds == ["import", "bounds", "classes", "align"] * 2
    assert [name for name, _ in log[2:18]] == ["runtime", "peer"] * 8
    assert measurement.figures["forward pass"].values == {"runtime": [2.5] * 2, "peer": [2.5] * 2}


def test_an_alignment_is_compared_with_its_tower_and_a_prefill_of_the_same_round(benchmark_module, tmp_path):
    measurement, _ = measured_words(benchmark_module, tmp_path)
    assert measurement.figures["prefill of 100 positions"].values == {"runtime": [2.0] * 2}
    ratios = measurement.figures["from samples to times / (tower + prefill)"].values
    assert ratios == {"runtime": [pytest.approx(1.1)] * 2}


@pytest.mark.parametrize(
    ("units", "note"),
    [
        (["a", "b"], "4 of 4 classes equal"),
        (["ab"], "other units: ab for a b"),
        (None, "no units, a package is missing"),
    ],
)
def test_the_table_of_texts_says_where_a_peer_differs(benchmark_module, tmp_path, units, note):
    measurement, _ = measured_words(benchmark_module, tmp_path, units)
    titles, _, *rows = measurement.notes()
    assert titles == "| text | peer |"
    assert f"| Korean | {note} |" in rows


def test_a_text_has_as_many_words_as_are_said_in_its_time(benchmark_module):
    plan = benchmark_module("words").WordPlan
    assert [len(plan(1, seconds, True, 1).text.split()) for seconds in (0.1, 30.0)] == [1, 80]


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


def test_words_to_align_are_few_tokens_of_the_vocabulary_without_meaning(benchmark_module, tmp_path):
    from qwen3_asr_mlx_runtime.model.prompt import aligner_prompt
    from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

    vocabulary = benchmark_module("vocabulary")
    tokenizer = Tokenizer.from_folder(vocabulary.write_tokenizer(tmp_path))
    words = vocabulary.TEXT.split()
    ids = aligner_prompt(tokenizer, words).input_ids(5)
    assert len(words) < len(ids) - 7 - 2 * len(words) < 1.5 * len(words)
    assert tokenizer.token_id("<timestamp>") == 151_705


def test_a_contender_that_ends_early_is_no_figure(benchmark_module, repository, tmp_path):
    environment = benchmark_module("environments").child_environment({}, own=True)
    process = benchmark_module("process").Process("runtime", Path(sys.executable), environment)
    with pytest.raises(RuntimeError, match="`load`"):
        process.ask("load", checkpoint=str(tmp_path / "nothing"), dtype="float32")
    process.close()


def run(repository: Path, folder: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """What the command prints, and its report."""
    paths = [str(repository / path) for path in ("scripts/lib", "src", "tests")]
    command = [sys.executable, "-P", "-m", "benchmark", "--workdir", folder / "work", "--repeats", "2", *options]
    command.append("--own-blas")
    command += ["--json", folder / "all.json", "--markdown", folder / "table.md"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (folder / "table.md").read_text(encoding="utf-8")
    return ran.stdout, json.loads((folder / "all.json").read_text(encoding="utf-8"))


def test_the_command_measures_the_runtime_from_random_weights_to_a_table(repository, tmp_path):
    options = ["--seconds", "0.3,1.1", "--new-tokens", "3", "--tower", "9", "--linear", "2", "--rows", "1,2"]
    table, report = run(repository, tmp_path, *options)
    values = {figure["name"]: figure["contenders"]["runtime"]["values"] for figure in report["figures"]}
    for name in ("import", "features, 1.1 s", "tower, 1.1 s", "prefill, 1.1 s", "one token", "2 clips one by one"):
        assert len(values[name]) == 2
        assert min(values[name]) > 0
    assert len(values["recording of 2 s"]) == 1
    assert all(f"| {name} |" in table for name in values)


def test_trained_weights_take_the_place_of_random_ones_and_neither_their_end_nor_a_loop_ends_a_text(
    repository, tmp_path, demo_checkpoint
):
    options = ["--checkpoint", str(demo_checkpoint), "--dtype", "float16", "--seconds", "10", "--new-tokens", "64"]
    _, report = run(repository, tmp_path, *options, "--tower", "", "--no-imports")
    values = {figure["name"]: figure["contenders"]["runtime"]["values"] for figure in report["figures"]}
    assert len(values["10 s alone"]) == 2
    assert not [*tmp_path.rglob("*.safetensors")]


def test_the_command_measures_the_aligner(repository, tmp_path):
    table, report = run(repository, tmp_path, "--words", "1.1")
    values = {figure["name"]: figure["contenders"]["runtime"]["values"] for figure in report["figures"]}
    for name in ("tower", "forward pass", "from samples to times", "from samples to times / (tower + prefill)"):
        assert len(values[name]) == 2
        assert min(values[name]) > 0
    assert all(f"| {name} |" in table for name in values)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="counting needs Linux and g++")
def test_the_command_counts_what_a_gpu_would_launch(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN3_ASR_MLX_HOME", str(tmp_path))
    table, report = run(repository, tmp_path, "--count", "--dtype", "bfloat16")
    counted = {figure["name"]: figure["contenders"]["runtime"]["values"][0] for figure in report["figures"]}
    layers, around = 3, 7  # a layer: 4 products, 3 norms, 2 compiled functions, 2 sums, 2 writes, rotation, attention
    assert counted["step, 1 row of 100 positions: kernels"] == 15 * layers + around
    assert counted["prefill of 160 positions: kernels"] == 18 * layers + around  # less is compiled, 2 buffers are made
    assert counted["step, 1 row of 100 positions: beyond the least"] > 0
    for rows in (4, 8, 16):  # the queries are copied; of 16 rows a norm and a rotation more, a compiled function less
        assert counted[f"step, {rows} rows of 100 positions: kernels"] == 16 * layers + 23
    [copies] = [row.split("|")[2:] for row in table.splitlines() if "copy for ScaledDotProductAttention" in row]
    assert [bool(cell.strip()) for cell in copies[:8]] == [False, True, True, False] * 2
    assert counted["tower, 10 s: kernels"] == 13 * 2 + 15  # of 2 layers, with windows of two lengths
    assert all(f"| {name} |" in table for name in counted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--earlier", "folder"], "--earlier belongs to --count"),
        (["--count", "--words"], "--count counts the recogniser"),
    ],
)
def test_options_of_counting_stand_with_it_alone(benchmark_module, capsys, options, message):
    with pytest.raises(SystemExit):
        benchmark_module("__main__").main(options)
    assert message in capsys.readouterr().err


def test_there_is_one_aligner_of_real_dimensions(benchmark_module, capsys):
    with pytest.raises(SystemExit):
        benchmark_module("__main__").main(["--words", "--size", "1.7b"])
    assert "--words has the sizes tiny, 0.6b" in capsys.readouterr().err


@pytest.mark.cpu
@pytest.mark.linux("elsewhere MLX's own BLAS is fast")
def test_without_the_fast_blas_it_stops_and_says_what_to_install(
    benchmark_module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = benchmark_module("__main__")
    monkeypatch.setattr(command, "openblas", lambda: ({}, ""))
    assert command.main(["--workdir", str(tmp_path)]) == 1
    assert "libopenblas0-pthread" in capsys.readouterr().err


def test_the_blas_is_named_with_its_kernels(benchmark_module: Any) -> None:
    variables, name = benchmark_module("blas").openblas()
    if not variables:
        pytest.skip("no OpenBLAS here")
    assert name.startswith("OpenBLAS ")
    assert name.split(", kernels ")[1]
