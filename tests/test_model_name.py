"""What a user may name as the model, and what is known of it before anything is loaded."""

import argparse
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance.player import engine_command
from support.tiny_checkpoint import write_tiny_checkpoint

from qwen3_asr_mlx_runtime.model_name import (
    DEFAULT_ALIGNER,
    DEFAULT_MODEL,
    DEMO_KNOWS,
    chosen_aligner,
    chosen_model,
    model,
    trouble,
)
from qwen3_asr_mlx_runtime.settings import Settings, parse_command_line
from qwen3_asr_mlx_runtime.tools.doctor.main import main as doctor
from qwen3_asr_mlx_runtime.tools.evaluate.main import main as evaluate
from qwen3_asr_mlx_runtime.tools.live.main import main as live
from qwen3_asr_mlx_runtime.tools.perftest.main import choose_model
from qwen3_asr_mlx_runtime.tools.perftest.main import main as perftest

TOO_LONG = "/" + 5000 * "x"


@pytest.fixture
def sound(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "sample.wav")


class TestDefault:
    def test_it_is_one_and_the_environment_and_a_name_go_before_it(self) -> None:
        assert Settings().model == chosen_model(None, {}) == choose_model(None, [], {})[0] == DEFAULT_MODEL
        assert chosen_model(None, {"QWEN3_ASR_MLX_MODEL": "a/b"}) == "a/b"
        assert chosen_model("demo", {"QWEN3_ASR_MLX_MODEL": "a/b"}) == "demo"

    def test_the_embedded_aligner_stands_beside_the_embedded_model(self) -> None:
        assert chosen_aligner(None, DEFAULT_MODEL) == DEFAULT_ALIGNER
        assert chosen_aligner(None, "demo") == "demo"
        assert chosen_aligner("a/b", "demo") == "a/b"

    @pytest.mark.parametrize("main", [live, perftest, evaluate, doctor])
    def test_the_help_of_every_command_names_it(self, main: Callable, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        help_text = "".join(capsys.readouterr().out.split())
        assert f"QWEN3_ASR_MLX_MODEL,or{DEFAULT_MODEL}" in help_text

    def test_live_starts_a_bridge_with_it(self, sound: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        bridge = tmp_path / "bridge"
        bridge.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {tmp_path}/arguments; exit 3\n', encoding="utf-8")
        bridge.chmod(0o700)
        assert live([sound], [str(bridge)]) == 1
        assert f"--model {DEFAULT_MODEL} " in (tmp_path / "arguments").read_text(encoding="utf-8")
        assert DEMO_KNOWS not in capsys.readouterr().err

    @pytest.mark.once
    def test_the_doctor_fails_only_where_a_model_that_is_not_there_was_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("qwen3_asr_mlx_runtime.tools.doctor.self_check.check_engine", lambda: ())
        assert doctor(["--cache-dir", str(tmp_path)]) == 0
        assert f"warning  {DEFAULT_MODEL}: the model is not in the cache" in capsys.readouterr().out
        assert doctor(["--cache-dir", str(tmp_path), "--model", DEFAULT_MODEL]) == 1


class TestWord:
    def test_a_sound_file_in_the_place_of_a_model_is_named_as_such(
        self, sound: str, capsys: pytest.CaptureFixture
    ) -> None:
        for argv, environ in (([sound], {}), (["--model", sound], {}), ([], {"QWEN3_ASR_MLX_MODEL": sound})):
            with pytest.raises(SystemExit) as ended:
                parse_command_line(argv, environ)
            assert ended.value.code == 2
            assert f"got the sound file {sound!r}" in capsys.readouterr().err

    @pytest.mark.parametrize("word", ["talk.wav", "/nowhere/talk.FLAC", "~/music/talk.m4a"])
    def test_a_sound_file_that_is_not_there_is_no_model_either(self, word: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="sound file"):
            model(word)

    def test_another_file_is_no_model(self) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="got the file"):
            model(__file__)

    @pytest.mark.parametrize("word", ["demo", "owner/name", "owner/name.wav", "/nowhere", TOO_LONG])
    def test_what_may_be_a_model_is_taken(self, word: str) -> None:
        assert model(word) == word

    def test_a_folder_may_have_the_name_of_a_sound_file(self, tmp_path: Path) -> None:
        (tmp_path / "model.wav").mkdir()
        assert model(str(tmp_path / "model.wav")) == str(tmp_path / "model.wav")


class TestTrouble:
    def test_nothing_is_known_against_a_whole_folder_the_demonstration_or_what_can_be_downloaded(
        self, tmp_path: Path
    ) -> None:
        assert trouble(str(write_tiny_checkpoint(tmp_path / "model")), None, True) is None
        assert trouble("demo", None, True) is None
        assert trouble("owner/name", tmp_path, False) is None

    @pytest.mark.parametrize("word", ["/nowhere/model", TOO_LONG, "name"])
    def test_a_folder_that_is_not_there_is_known_at_once(self, word: str) -> None:
        assert "neither a folder that exists" in str(trouble(word, None, False))

    def test_an_empty_folder_is_known_at_once(self, tmp_path: Path) -> None:
        assert "holds no config.json" in str(trouble(str(tmp_path), None, False))

    def test_without_downloads_a_model_that_is_not_in_the_cache_is_known_at_once(self, tmp_path: Path) -> None:
        assert "not in the cache" in str(trouble("owner/name", tmp_path, True))
        (tmp_path / "models--owner--name").mkdir()
        assert trouble("owner/name", tmp_path, True) is None


def started(*options: str) -> list[str]:
    """What a bridge that is started and asked nothing writes to stderr."""
    command = [*engine_command("speak"), *options]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return ran.stderr.splitlines()


def test_a_bridge_says_at_its_start_that_its_model_cannot_be_loaded_and_stays(tmp_path: Path) -> None:
    [line] = started("--model", str(tmp_path))
    assert "holds no config.json" in line
    assert str(tmp_path) not in line


def test_a_bridge_with_the_demonstration_says_what_that_knows() -> None:
    assert started("--model", "demo") == [f"qwen3-asr-mlx: {DEMO_KNOWS}"]
    assert started("--model", "owner/name") == []


def test_a_bridge_that_is_started_in_a_terminal_says_what_it_waits_for() -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        engine_command("speak"), stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as bridge:
        os.close(slave)
        assert bridge.stderr is not None
        assert b"waits for requests here, one JSON object a line" in bridge.stderr.readline()
        os.write(master, b"\x04")
        assert bridge.wait() == 0
    os.close(master)
