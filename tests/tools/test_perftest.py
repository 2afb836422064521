"""scripts/qwen3-asr-mlx-perftest: what it takes for a model, its figures, and what it says to mistakes."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from support.no_metal import NO_METAL
from tools.test_score import launched, lines
from tools.test_score import main as score_main

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.errors import AudioEmpty
from qwen3_asr_mlx_runtime.model_name import DEMO_KNOWS
from qwen3_asr_mlx_runtime.tools.perftest.main import choose_model, main
from qwen3_asr_mlx_runtime.tools.perftest.performance import Item, Pass, Plan, transcribe, warm_up
from qwen3_asr_mlx_runtime.tools.perftest.report import report

DEFAULT = "Qwen/Qwen3-ASR-0.6B"


class TestModel:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "audio").mkdir()
        (tmp_path / "audio" / "a.wav").touch()
        (tmp_path / "a.wav").touch()

    @pytest.mark.parametrize(
        ("words", "model"),
        [
            (["demo", "a.wav"], "demo"),
            (["audio", "a.wav"], "audio"),
            (["./audio/", "a.wav"], "./audio/"),
            (["Qwen/Qwen3-ASR-1.7B", "a.wav"], "Qwen/Qwen3-ASR-1.7B"),
            (["audio/a.wav", "a.wav"], None),
            (["a.wav", "demo"], None),
            (["nothing.wav"], None),
            (["a/b/nothing.wav"], None),
        ],
    )
    def test_the_first_argument_is_one_only_if_it_can_be_nothing_else(
        self, words: list[str], model: str | None
    ) -> None:
        assert choose_model(None, words, {}) == ((model, words[1:]) if model else (DEFAULT, words))

    def test_the_option_goes_before_the_variable_and_leaves_every_argument_a_file(self) -> None:
        assert choose_model("x/y", ["demo", "a.wav"], {"QWEN3_ASR_MLX_MODEL": "z"}) == ("x/y", ["demo", "a.wav"])
        assert choose_model(None, ["a.wav"], {"QWEN3_ASR_MLX_MODEL": "z"}) == ("z", ["a.wav"])


def item(audio_seconds: float, work: float, tokens: int) -> Item:
    times = {"decode_seconds": work / 2, "audio_tower_seconds": work / 4, "total_seconds": work}
    return Item(
        audio="a",
        text="one",
        profile=Profile(stage="x", audio_seconds=audio_seconds, generated_tokens=[tokens], **times),
    )


class TestFigures:
    passes = (
        Pass([item(8.0, 9.0, 30)], seconds=9.0, read_seconds=0.5),
        Pass([item(8.0, 1.5, 30), item(4.0, 0.5, 10), Item(audio="b", error=AudioEmpty("…"))], 2.4, 0.1),
        Pass([item(8.0, 1.0, 30)], seconds=1.0, read_seconds=0.5),
    )

    def test_they_are_those_of_the_median_pass(self) -> None:
        recognizer = SimpleNamespace(model_dir="/m", load_profile={"dtype": "bfloat16"})
        reported = report("m", "8bit", recognizer, Plan([], "batched", 4, 3), (3.6, 0.2), list(self.passes))
        assert (reported.run_seconds, reported.runs, reported.read_seconds) == (2.4, [9.0, 2.4, 1.0], 0.1)
        assert (reported.audio_seconds, reported.realtime_factor, reported.realtime_factor_with_load) == (
            12.0,
            5.0,
            2.0,
        )
        assert (reported.generated_tokens, reported.generated_tokens_per_second) == (40, 40.0)
        assert (reported.profile.audio_tower_seconds, reported.profile.total_seconds) == (0.5, 2.0)
        assert (reported.files, reported.failed, reported.load_seconds, reported.warmup_seconds) == (3, 1, 3.6, 0.2)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo")


@pytest.fixture(scope="module")
def audio(repository: Path) -> Path:
    return repository / "examples" / "audio"


class TestPasses:
    def test_a_file_that_cannot_be_read_costs_its_own_item_alone(
        self, recognizer: Recognizer, audio: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "empty.wav").touch()
        paths = (tmp_path / "empty.wav", audio / "english-one.wav", audio / "arabic-one.wav")
        plan = Plan([(path.name, path) for path in paths], "batched", batch_size=2, repeat=2)
        reported: list[tuple] = []
        assert warm_up(recognizer, plan) > 0
        first, second = transcribe(recognizer, plan, lambda *progress: reported.append(progress))
        assert [one.text for one in first.items] == [None, "Eight.", "خمسة"]
        assert [one.text for one in second.items] == [one.text for one in first.items]
        assert first.items[0].error.code == "audio_empty"
        assert [done for _, done, _ in reported] == [0, 2, 3, 3, 5, 6]
        assert {(stage, total) for stage, _, total in reported} == {("transcribe", 6)}

    def test_the_engine_is_asked_for_what_was_asked_of_it(self, recognizer: Recognizer, audio: Path) -> None:
        plan = Plan([("a", audio / "english-one.wav")], language="Arabic", max_new_tokens=1)
        [only] = transcribe(recognizer, plan, lambda *_: None)
        assert (only.items[0].language, only.items[0].generated_tokens, only.items[0].finish_reason) == (
            *("Arabic", 1, "length"),
        )


@contextmanager
def watched_terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A terminal to write to, and what was written to it, whole after the end."""
    keyboard, screen = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # how Linux tells the end
            while part := os.read(keyboard, 65_536):
                shown.append(part)

    reader = Thread(target=read)
    reader.start()
    try:
        yield screen, shown
    finally:
        os.close(screen)
        reader.join()
        os.close(keyboard)


class TestProcess:
    def test_what_it_writes_of_the_examples_scores_without_an_error(
        self, repository: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        options = ("--decoder-mode", "batched", "--batch-size", 3, "--repeat", 2, "--json")
        reported = launched(
            repository, tmp_path, "qwen3-asr-mlx-perftest", "demo", "--manifest", audio / "expected.jsonl", *options
        )
        assert (reported.returncode, reported.stderr) == (0, "")
        [line] = reported.stdout.splitlines()
        found = json.loads(line)
        assert (
            found["items"][0].items()
            >= {"audio": "sample.wav", "text": "Seven three one.", "language": "English"}.items()
        )
        assert found["items"][0]["audio_embeddings_shape"] == [22, 192]
        assert (found["model"], found["decoder_mode"], found["batch_size"], len(found["runs"])) == (
            "demo",
            "batched",
            3,
            2,
        )
        assert found["generated_tokens"] == sum(one["generated_tokens"] for one in found["items"])
        assert found["realtime_factor"] > found["realtime_factor_with_load"] > 0
        assert found["profile"]["memory"]["mlx_peak_bytes"] > 0
        predictions = tmp_path / "predictions.json"
        predictions.write_text(reported.stdout)
        assert (
            score_main(["--expected", str(audio / "expected.jsonl"), "--predictions", str(predictions), "--json"]) == 0
        )
        assert json.loads(capsys.readouterr().out)["reports"][0]["overall"]["wer"]["rate"] == 0.0

    def test_people_see_tables_and_a_terminal_the_progress(self, repository: Path, audio: Path, tmp_path: Path) -> None:
        with watched_terminal() as (screen, shown):
            options = {"capture_output": False, "stdout": -1, "stderr": screen, "env": {**os.environ, "TERM": "xterm"}}
            reported = launched(
                *(repository, tmp_path, "qwen3-asr-mlx-perftest"),
                *("--model", "demo", "--show-text", audio / "english-one.wav", "--quantize", "8bit"),
                **options,
            )
        assert reported.returncode == 0
        assert b"transcribe" in b"".join(shown)
        assert b"100%" in b"".join(shown)
        for word in ("Eight.", "11×192", "load", "× real time, with load", "audio tower", "prefill", "resident, peak"):
            assert word in reported.stdout
        assert "\x1b" not in reported.stdout

    def test_the_text_is_only_shown_when_asked_for(
        self, audio: Path, capsys: pytest.CaptureFixture, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Recognizer, "load", lambda *_, **__: recognizer)
        monkeypatch.chdir(audio)
        assert main(["demo", "english-one.wav"]) == 0
        reported = capsys.readouterr()
        assert "english-one.wav" in reported.out
        assert "Eight" not in reported.out
        assert reported.err == f"qwen3-asr-mlx-perftest: {DEMO_KNOWS}\n"


class TestWords:
    def spoken(self, audio: Path, folder: Path) -> Path:
        """A manifest of two examples, one with words a tenth of a second before or behind those that are found."""
        words = [
            {"text": text, "start": start, "end": end}
            for text, start, end in (("seven", 0.1, 0.6), ("tree", 0.6, 0.9), ("one", 0.9, 1.6))
        ]
        first = {"audio": str(audio / "sample.wav"), "text": "Seven three one.", "words": words}
        return lines(folder / "m.jsonl", first, {"audio": str(audio / "english-one.wav"), "text": "Eight."})

    @pytest.mark.parametrize("mode", ["sequential", "batched"])
    def test_each_utterance_has_them_and_all_have_their_figures(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture, mode: str
    ) -> None:
        manifest = self.spoken(audio, tmp_path)
        options = ["--words", "--repeat", "2", "--decoder-mode", mode, "--json"]
        assert main(["demo", "--manifest", str(manifest), *options]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [[word["text"] for word in each["words"]] for each in found["items"]] == [
            ["Seven", "three", "one."],
            ["Eight."],
        ]
        word = found["items"][0]["words"][1]
        assert (word["char_start"], word["char_end"]) == (6, 12)
        assert 0.9 < word["confidence"] <= 1
        assert 0 < word["time_confidence"] <= 1
        aligners = [each["aligner"] for each in found["items"]]
        assert {(each["model"], each["decoder"]) for each in aligners} == {("demo", "viterbi")}
        figures = found["words"]
        assert (figures["utterances"], figures["words"], figures["zero_length"], figures["without"]) == (2, 4, 0, {})
        assert figures["seconds"] == pytest.approx(sum(each["seconds"] for each in aligners), abs=1e-3)
        assert figures["realtime_factor"] == pytest.approx(found["audio_seconds"] / figures["seconds"], rel=0.02)
        errors = figures["errors"]
        assert (errors["reference_words"], errors["matched"], len(errors["starts_ms"])) == (3, 2, 2)
        heard = found["items"][0]["words"]
        assert errors["starts_ms"] == sorted(
            round(1000 * (word["start"] - start)) for word, start in ((heard[0], 0.1), (heard[2], 0.9))
        )
        assert found["align_seconds"] > 0 < found["aligner_load_seconds"]

    def test_the_table_has_them_without_their_text(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main(["demo", "--manifest", str(self.spoken(audio, tmp_path)), "--words"]) == 0
        reported = capsys.readouterr().out
        for shown in ("align s", "load of the aligner", "≤ 80, 160, 240 ms %", "2 of 3"):
            assert shown in reported
        assert "Seven" not in reported

    def test_nobody_who_does_not_ask_gets_them(self, audio: Path, capsys: pytest.CaptureFixture) -> None:
        assert main(["demo", str(audio / "english-one.wav"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["words"], found["align_seconds"], found["aligner_load_seconds"]) == (None, None, None)
        assert {"words", "aligner"} & {*found["items"][0]} == set()

    def test_a_language_without_words_is_a_reason_and_costs_no_text(
        self, audio: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main(["demo", str(audio / "english-one.wav"), "--words", "--language", "Thai", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["words"]["without"] == {"language": 1}
        assert (found["items"][0]["words"], found["items"][0]["warnings"]) == (None, ["words_unavailable: language"])
        assert found["items"][0]["text"]

    def test_an_aligner_that_is_not_there_is_one_line(
        self, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        command = ["demo", str(audio / "english-one.wav"), "--words", "--aligner", "no/where", "--local-files-only"]
        assert main([*command, "--json"]) == 1
        reported = capsys.readouterr()
        assert reported.out == ""
        assert reported.err.startswith("qwen3-asr-mlx-perftest: aligner 'no/where': the model is not in the cache")

    def test_its_options_go_with_it(self, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit) as left:
            main(["demo", "x", "--aligner", "a/b"])
        assert left.value.code == 2
        assert "--aligner goes with --words alone" in capsys.readouterr().err


class TestMistakes:
    def ran(self, capsys: pytest.CaptureFixture, *arguments: object) -> tuple[str, str]:
        """What was written to stdout, and the one line on stderr."""
        assert main([str(argument) for argument in arguments]) == 1
        reported = capsys.readouterr()
        [line] = reported.err.splitlines()
        assert line.startswith("qwen3-asr-mlx-perftest: ")
        return reported.out, line

    def test_a_file_that_is_not_there_is_reported_before_anything_is_loaded(
        self, capsys: pytest.CaptureFixture, audio: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(Recognizer, "load")
        out, line = self.ran(capsys, "demo", audio / "sample.wav", "/nowhere.wav")
        assert (out, line) == ("", "qwen3-asr-mlx-perftest: no such file: '/nowhere.wav'")

    def test_a_bad_line_of_a_manifest_is_named(self, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
        bad = lines(tmp_path / "m.jsonl", {"audio": "a.wav", "text": ""}, {"text": "x"})
        assert f"{bad}: line 2: " in self.ran(capsys, "demo", "--manifest", bad)[1]
        missing = lines(tmp_path / "m.jsonl", "", {"audio": "a.wav", "text": ""})
        assert f"{missing}: line 2: no such file" in self.ran(capsys, "demo", "--manifest", missing)[1]
        assert "/nowhere.jsonl" in self.ran(capsys, "demo", "--manifest", "/nowhere.jsonl")[1]

    def test_a_model_that_is_not_there(self, capsys: pytest.CaptureFixture, audio: Path, tmp_path: Path) -> None:
        out, line = self.ran(capsys, "nobody/nothing", audio / "sample.wav", "--local-files-only")
        assert out == ""
        assert "model 'nobody/nothing': the model is not in the cache" in line
        assert "lacks config.json" in self.ran(capsys, tmp_path, audio / "sample.wav")[1]
        assert "neither `demo`" in self.ran(capsys, "--model", "nothing", audio / "sample.wav")[1]

    def test_audio_without_a_sample(self, capsys: pytest.CaptureFixture, audio: Path, tmp_path: Path) -> None:
        empty = tmp_path / "empty.wav"
        empty.touch()
        out, line = self.ran(capsys, "demo", empty, "--json")
        assert out == ""
        assert "expected a sound file, got 0 bytes" in line
        out, line = self.ran(capsys, "demo", audio / "english-one.wav", empty, "--json")
        assert "1 of 2 files failed" in line
        assert [one["text"] for one in json.loads(out)["items"]] == ["Eight.", None]
        assert json.loads(out)["items"][1]["error"]["code"] == "audio_empty"

    @pytest.mark.parametrize(
        "arguments", [[], ["demo"], ["no/file.wav"], ["--repeat", "0", "x"], ["--language", "Klingon", "x"], ["-z"]]
    )
    def test_a_command_line_that_is_wrong(self, capsys: pytest.CaptureFixture, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.endswith("(see qwen3-asr-mlx-perftest --help)")

    def test_help_shows_examples(self, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit) as left:
            main(["--help"])
        assert left.value.code == 0
        assert "qwen3-asr-mlx-perftest demo examples/audio/sample.wav" in capsys.readouterr().out


def test_no_metal_device_is_one_line_and_no_traceback(repository: Path) -> None:
    program = NO_METAL + "import sys\nfrom qwen3_asr_mlx_runtime.tools.perftest.main import main\nsys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program, "--model", "demo", str(repository / "README.md")],
        cwd=repository / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    [line] = ran.stderr.splitlines()
    assert "No Metal device available" in line
