"""scripts/qwen3-asr-mlx-evaluate: real audio, the demonstration checkpoint, a report, and what it says to mistakes."""

import json
import os
import shutil
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path
from threading import Thread

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from support.browser import browser
from support.report_checks import complaints, figures
from tools.test_recipes import make_source
from tools.test_score import lines
from tools.test_score import main as score_main

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.profile import MIB
from qwen3_asr_mlx_runtime.errors import EngineUnavailable
from qwen3_asr_mlx_runtime.model_name import DEMO_KNOWS
from qwen3_asr_mlx_runtime.tools.evaluate.main import main
from qwen3_asr_mlx_runtime.tools.evaluate.measurement import Measured, measure
from qwen3_asr_mlx_runtime.tools.evaluate.noise import noisy, noisy_files
from qwen3_asr_mlx_runtime.tools.machine import this_machine
from qwen3_asr_mlx_runtime.tools.manifest import Entry
from qwen3_asr_mlx_runtime.tools.perftest.main import main as perftest

PROGRAM = "qwen3-asr-mlx-evaluate"


@pytest.fixture(scope="module")
def audio(repository: Path) -> Path:
    return repository / "examples" / "audio"


@pytest.fixture
def short(audio: Path, tmp_path: Path) -> Path:
    """A manifest of three of the examples."""
    names = {"english-one.wav", "english-five.wav", "arabic-one.wav"}
    printed = map(json.loads, (audio / "expected.jsonl").read_text().splitlines())
    chosen = [{**line, "audio": str(audio / line["audio"])} for line in printed if line["audio"] in names]
    return lines(tmp_path / "short.jsonl", *chosen)


def launched(repository: Path, folder: Path, groups: str, *arguments: object) -> subprocess.CompletedProcess:
    """The launcher of this checkout, in the environment of the tests, which has to be asked for `groups`."""
    checkout = folder / "checkout"
    (checkout / "scripts" / "lib").mkdir(parents=True)
    shutil.copy2(repository / "scripts" / PROGRAM, checkout / "scripts")
    (checkout / "src").symlink_to(repository / "src")
    environment = f'ensure_environment() {{ environment="{sys.prefix}"; test "$1" = "{groups}"; }}\n'
    (checkout / "scripts" / "lib" / "environment.sh").write_text(environment)
    command = [checkout / "scripts" / PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)


class TestProcess:
    def test_one_command_gives_a_table_and_a_report_and_a_configuration_that_fails_costs_no_other(
        self, repository: Path, short: Path, tmp_path: Path
    ) -> None:
        reported = launched(
            *(repository, tmp_path, "tools"),
            *("--model", "demo", tmp_path / "none", "--decoder-mode", "sequential", "batched"),
            *("--manifest", short, "--save-predictions", tmp_path / "predictions", "--worst", 3),
        )
        assert reported.returncode == 1
        knows, first, second = reported.stderr.splitlines()
        assert knows == f"{PROGRAM}: {DEMO_KNOWS}"
        assert first.startswith(f"{PROGRAM}: none, sequential: model '{tmp_path / 'none'}': ")
        assert second.startswith(f"{PROGRAM}: none, batched: model ")
        for shown in ("demo", "sequential", "batched", "0.00 to 0.00", "failed", "report: evaluation.html"):
            assert shown in reported.stdout
        report = tmp_path / "evaluation.html"
        written = report.read_text()
        assert "Worst utterances" not in written  # there are no errors
        assert f"{PROGRAM} --model demo {tmp_path / 'none'} --decoder-mode" in written
        predictions = tmp_path / "predictions" / "B-demo-batched.json"
        assert json.loads(predictions.read_text())["decoder_mode"] == "batched"
        assert score_main(["--expected", str(short), "--predictions", str(predictions)]) == 0
        with browser(tmp_path / "profile") as page:
            assert complaints(page, report) == []
            marks = {name: len(figure["marks"]) for name, figure in figures(page).items()}
            assert page.requests == [report.as_uri()] * 4
        assert list(marks) == ["speed", "memory", "latency", "stages", "language", "duration"]
        assert [marks[name] for name in ("speed", "memory", "latency", "language", "duration")] == [2, 2, 2, 4, 4]

    def test_a_recipe_gives_the_data_and_brings_its_packages(
        self, repository: Path, audio: Path, tmp_path: Path
    ) -> None:
        source = make_source(tmp_path / "set", "librispeech", audio)
        reported = launched(
            *(repository, tmp_path, "tools", "--recipe=librispeech", "--recipe-source", source),
            *("--limit", 2, "--model", "demo", "--save-audio", tmp_path / "slice", "--report", tmp_path / "r.html"),
            "--json",
        )
        assert (reported.returncode, reported.stderr) == (0, "")
        found = json.loads(reported.stdout)
        assert (found["data"], found["utterances"]) == ("librispeech", 2)
        # The set's texts begin with its configuration: one word too many each.
        assert found["results"][0]["score"]["overall"]["wer"]["deletions"] == 2
        assert found["results"][0]["score"]["worst"] == []
        assert len((tmp_path / "slice" / "manifest.jsonl").read_text().splitlines()) == 2
        assert found["machine"] == msgspec.to_builtins(this_machine())
        figures = found["results"][0]["figures"]
        assert figures["memory_bytes"] == figures["memory"]["rss_peak_bytes"]
        assert sum(figures["stages"].values()) == pytest.approx(sum(figures["work_seconds"]), rel=0.05)

    def test_help_shows_examples(self, repository: Path, tmp_path: Path) -> None:
        reported = launched(repository, tmp_path, "tools", "--help")
        assert (reported.returncode, reported.stderr) == (0, "")
        assert "--snr-db -3 --manifest examples/audio/expected.jsonl" in reported.stdout


class TestWords:
    def test_they_are_measured_drawn_and_kept_with_the_predictions(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        words = [{"text": "Eight", "start": 0.1, "end": 0.5}]
        wrong = {
            "audio": str(audio / "sample.wav"),
            "text": "Seven three two.",
            "language": "en",
            "normaliser": "basic",
        }
        manifest = lines(
            tmp_path / "m.jsonl", {"audio": str(audio / "english-one.wav"), "text": "Eight.", "words": words}, wrong
        )
        report, kept = tmp_path / "r.html", tmp_path / "kept"
        options = ["--words", "--align-decoder", "official", "--worst", "2", "--json"]
        command = ["--model", "demo", "--manifest", str(manifest), "--report", str(report)]
        assert main([*command, "--save-predictions", str(kept), *options]) == 0
        [result] = json.loads(capsys.readouterr().out)["results"]
        assert (result["words"]["utterances"], result["words"]["words"], result["words"]["without"]) == (2, 4, {})
        assert (result["words"]["errors"]["matched"], result["words"]["errors"]["reference_words"]) == (1, 1)
        [drawn] = result["spoken"]
        assert [word["text"] for word in drawn["words"]] == ["Seven", "three", "one."]
        assert 0 < drawn["words"][0]["start"] < drawn["words"][-1]["end"] <= drawn["seconds"]
        saved = json.loads((kept / "A-demo-sequential.json").read_text())
        assert saved["items"][0]["aligner"]["decoder"] == "official"
        assert saved["words"] == result["words"]
        written = report.read_text()
        assert written.count('<div class="wave"') == 1
        assert 'id="word-times"' in written

    def test_an_aligner_that_is_not_there_costs_no_report_of_the_text(
        self, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        command = ["--model", "demo", "--manifest", str(short), "--report", str(tmp_path / "r.html"), "--words"]
        assert main([*command, "--aligner", "no/where", "--local-files-only"]) == 1
        assert "demo, sequential: aligner 'no/where': the model is not in the cache" in capsys.readouterr().err


class TestMeasurement:
    @pytest.fixture
    def files(self, audio: Path) -> list[tuple[str, Path]]:
        return [("one", audio / "english-one.wav")]

    def test_the_peak_is_of_its_own_process_and_progress_is_reported(self, files: list[tuple[str, Path]]) -> None:
        large = np.ones(400 * MIB, np.uint8)
        reported: list[tuple] = []
        found = measure(["--model=demo"], files, lambda *progress: reported.append(progress))
        measured = msgspec.json.decode(found, type=Measured)
        assert measured.profile.memory.rss_peak_bytes < large.nbytes
        assert [(item.audio, item.text) for item in measured.items] == [("one", "Eight.")]
        assert reported[-1] == ("transcribe", 1, 1)

    def test_a_process_that_ends_is_a_reason(self, files: list[tuple[str, Path]]) -> None:
        def kill(*_: object) -> None:
            for process in active_children():
                process.kill()

        with pytest.raises(EngineUnavailable, match="its process ended: signal 9"):
            measure(["--model=demo"], files, kill)


class TestNoise:
    def test_it_is_the_same_for_the_same_seed_and_as_loud_as_was_asked(self) -> None:
        tone = np.sin(np.arange(160_000) / 10).astype(np.float32)
        added = noisy(tone, -6.0, (1, 0)) - tone
        assert 10 * np.log10(np.mean(tone**2) / np.mean(added**2)) == pytest.approx(-6.0, abs=0.1)
        assert np.array_equal(noisy(tone, -6.0, (1, 0)), noisy(tone, -6.0, (1, 0)))
        assert not np.array_equal(noisy(tone, -6.0, (1, 0)), noisy(tone, -6.0, (1, 1)))
        assert not np.array_equal(noisy(tone, -6.0, (1, 0)), noisy(tone, -6.0, (2, 0)))

    def test_silence_stays_silence_and_nothing_stays_nothing(self) -> None:
        assert not noisy(np.zeros(9, np.float32), 0.0, (0, 0)).any()
        assert len(noisy(np.zeros(0, np.float32), 0.0, (0, 0))) == 0

    def test_a_file_that_cannot_be_read_is_left_to_whoever_transcribes_it(self, tmp_path: Path) -> None:
        entry = Entry("empty.wav", tmp_path / "empty.wav", "one", None, 1)
        entry.path.touch()
        with noisy_files([entry], 0.0, 0) as files:
            assert files == [("empty.wav", entry.path)]

    def test_the_examples_with_noise_have_errors_and_every_digit_counts(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        report = tmp_path / "report.html"
        options = ["--manifest", str(audio / "expected.jsonl"), "--report", str(report), "--json", "--snr-db", "-6"]
        assert main(["--model", "demo", *options]) == 0
        reported = json.loads(capsys.readouterr().out)
        assert reported["data"].endswith("expected.jsonl, with noise at -6 dB from seed 0")
        for language, digits in (("English", 19), ("Arabic", 10)):
            rate = reported["results"][0]["score"]["languages"][language]["wer"]
            assert rate["length"] == digits
            assert 0 < rate["rate"] < 1

    def test_a_ratio_that_is_no_number_is_refused(self, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit):
            main(["--manifest", "x", "--snr-db", "loud"])
        assert "expected -100 to 100 decibels, got 'loud'" in capsys.readouterr().err


class TestQuantizedOnACPU:
    def test_it_is_logged_how_slow_that_is(
        self, audio: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recognizer = Recognizer.load("demo")
        monkeypatch.setattr(Recognizer, "load", lambda *_, **__: recognizer)
        monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
        assert perftest(["demo", str(audio / "english-one.wav"), "--quantize", "8bit", "--json"]) == 0
        slow = "qwen3-asr-mlx-perftest: --quantize 8bit: quantised weights are on a CPU about ten times slower"
        assert capsys.readouterr().err.startswith(slow)
        assert perftest(["demo", str(audio / "english-one.wav"), "--json"]) == 0
        assert capsys.readouterr().err == ""


class TestMistakes:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def ran(self, capsys: pytest.CaptureFixture, *arguments: object) -> str:
        """The one line on stderr. No report was written."""
        assert main([str(argument) for argument in arguments]) == 1
        reported = capsys.readouterr()
        assert reported.out == ""
        [line] = reported.err.splitlines()
        assert line.startswith(f"{PROGRAM}: ")
        assert not Path("evaluation.html").exists()
        return line

    def test_a_bad_line_of_a_manifest_is_named(self, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
        bad = lines(tmp_path / "m.jsonl", {"audio": "a.wav", "text": ""}, {"text": "x"})
        assert f"{bad}: line 2: " in self.ran(capsys, "--model", "demo", "--manifest", bad)
        missing = lines(tmp_path / "m.jsonl", "", {"audio": "a.wav", "text": ""})
        assert f"{missing}: line 2: no such file" in self.ran(capsys, "--model", "demo", "--manifest", missing)
        assert "/nowhere.jsonl" in self.ran(capsys, "--manifest", "/nowhere.jsonl")

    def test_a_manifest_may_come_through_a_pipe(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        line = {"audio": str(audio / "english-one.wav"), "text": "Eight."}
        os.mkfifo(tmp_path / "pipe")
        writer = Thread(target=(tmp_path / "pipe").write_text, args=(json.dumps(line),))
        writer.start()
        assert main(["--model", "demo", "--manifest", str(tmp_path / "pipe"), "--json"]) == 0
        writer.join()
        assert json.loads(capsys.readouterr().out)["results"][0]["score"]["overall"]["wer"]["rate"] == 0

    def test_an_unknown_model_alone_is_one_line(self, capsys: pytest.CaptureFixture, audio: Path) -> None:
        printed = self.ran(capsys, "--model", "no-model", "--manifest", audio / "expected.jsonl")
        assert "no-model, sequential: model 'no-model': " in printed

    def test_audio_without_a_sample(self, capsys: pytest.CaptureFixture, audio: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.wav").touch()
        alone = lines(tmp_path / "alone.jsonl", {"audio": "empty.wav", "text": "one"})
        assert "expected a sound file, got 0 bytes" in self.ran(capsys, "--model", "demo", "--manifest", alone)
        good = {"audio": str(audio / "english-one.wav"), "text": "<b>Nine.", "language": "en"}
        both = lines(tmp_path / "both.jsonl", good, {"audio": "empty.wav", "text": "one"})
        assert main(["--model", "demo", "--manifest", str(both), "--worst", "1"]) == 1
        reported = capsys.readouterr()
        _, line = reported.err.splitlines()
        assert "demo, sequential: 1 of 2 files failed; the first: " in line
        written = Path("evaluation.html").read_text()
        assert "1 of 2 files failed" in written
        assert "Worst utterances" in written
        assert "<b>Nine" not in written

    def test_places_that_cannot_be_written_to_are_reported_before_anything_is_measured(
        self, capsys: pytest.CaptureFixture, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qwen3_asr_mlx_runtime.tools.evaluate.main.measure", None)
        manifest = ("--manifest", audio / "expected.jsonl")
        assert "cannot be written: nowhere/r.html" in self.ran(capsys, *manifest, "--report", "nowhere/r.html")
        assert "cannot be written" in self.ran(capsys, *manifest, "--report", tmp_path)
        (tmp_path / "manifest.jsonl").touch()
        kept = self.ran(capsys, "--recipe", "eka", "--save-audio", tmp_path)
        assert kept.endswith(f"{tmp_path / 'manifest.jsonl'} is there already: give it to --manifest")
        assert "expected a recipe" in self.ran(capsys, "--recipe", "none")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_the_right_to_write_is_reported_before_anything_is_measured(
        self, capsys: pytest.CaptureFixture, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qwen3_asr_mlx_runtime.tools.evaluate.main.measure", None)
        (tmp_path / "closed").mkdir(0o500)
        report = tmp_path / "closed" / "r.html"
        assert "cannot be written" in self.ran(capsys, "--manifest", audio / "expected.jsonl", "--report", report)

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--manifest", "m", "--recipe", "eka"],
            ["--manifest", "m", "--quantize", "2bit"],
            ["--manifest", "m", "--decoder-mode"],
            ["--manifest", "m", "demo"],
            ["--manifest", "m", "--worst", "-1"],
            ["--manifest", "m", "--limit", "10"],
            ["--manifest", "m", "--recipe-source", "folder"],
            ["--manifest", "m", "--save-audio", "folder"],
            ["--manifest", "m", "--aligner", "a/b"],
        ],
    )
    def test_a_command_line_that_is_wrong(self, capsys: pytest.CaptureFixture, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.endswith(f"(see {PROGRAM} --help)")
