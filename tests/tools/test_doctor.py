"""The doctor's findings: what it says of a machine, and that its self-check sees what it is there to see."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from e2e.client import command
from reference.random_checkpoint import write_random_checkpoint
from support.broken_replay import FAILS, is_of_samples
from support.no_metal import NO_METAL
from support.tiny_checkpoint import write_tiny_checkpoint

from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_ALIGNER_FOLDER, DEMO_FOLDER
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.model import word_times
from qwen3_asr_mlx_runtime.model.batch import Places
from qwen3_asr_mlx_runtime.model.drift import Drift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.word_times import viterbi
from qwen3_asr_mlx_runtime.tools.doctor import machine_check, restart_check, self_check
from qwen3_asr_mlx_runtime.tools.doctor import main as doctor
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding
from qwen3_asr_mlx_runtime.tools.doctor.main import findings, main
from qwen3_asr_mlx_runtime.tools.doctor.restart_check import check_restart
from qwen3_asr_mlx_runtime.tools.doctor.words_check import check_words


@pytest.fixture
def float32_only(monkeypatch):
    monkeypatch.setattr(self_check, "TOLERANCE", {"float32": self_check.TOLERANCE["float32"]})


def failures(found) -> list[str]:
    return [finding.what for finding in found if finding.level == "failure"]


def test_every_line_says_how_it_is_and_a_trouble_what_to_do():
    assert str(Finding("ok", "MLX 1")) == "ok       MLX 1"
    assert str(Finding("failure", "no MLX", "install it")) == "failure  no MLX\n         install it"


@pytest.mark.parametrize(
    ("python", "level"), [((3, 10), "failure"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "failure")]
)
def test_the_pythons_that_will_do(python, level):
    assert machine_check._python(python).level == level


@pytest.mark.parametrize(
    ("system", "machine", "level"),
    [
        ("Darwin", "arm64", "ok"),
        ("Darwin", "x86_64", "failure"),
        ("Linux", "x86_64", "ok"),
        ("Windows", "AMD64", "failure"),
    ],
)
def test_the_machines_that_will_do(system, machine, level):
    assert machine_check._processor(system, machine).level == level


@pytest.mark.parametrize(("installed", "level"), [("0.32.0", "failure"), ("0.32.1", "ok"), ("1.0.0.dev3", "ok")])
def test_the_versions_of_mlx_that_will_do(monkeypatch, installed, level):
    monkeypatch.setattr(machine_check, "version", lambda _: installed)
    assert machine_check._mlx().level == level


def test_a_disk_without_room_and_a_folder_that_cannot_be_written_are_warned_of(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_check, "ENOUGH_DISK", 2**62)
    monkeypatch.setattr(machine_check.os, "access", lambda *_: False)
    assert [finding.level for finding in machine_check._disk(tmp_path / "not" / "there")] == ["warning", "warning"]


def test_a_model_is_looked_at_before_it_is_tried(tmp_path):
    assert "not in the cache" in failures(machine_check.check_model_files("nobody/nothing", tmp_path, "always"))[0]
    folder = write_tiny_checkpoint(tmp_path / "model")
    assert failures(machine_check.check_model_files(str(folder), None, "always")) == []
    (folder / "model.safetensors").write_bytes(b"cut")
    *_, broken = machine_check.check_model_files(str(folder), None, "always")
    assert "model_corrupt" in broken.what
    assert broken.advice.startswith("replace")


def test_a_corrupt_model_of_the_cache_can_be_downloaded_again(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "models--owner--name" / "snapshots" / "revision")
    (folder / "config.json").write_bytes(b"cut")
    *_, broken = machine_check.check_model_files(str(folder), None, "always")
    assert "downloads it again" in broken.advice


def test_a_model_that_is_too_large_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr("qwen3_asr_mlx_runtime.engine.memory.machine_limit", lambda: 1000)
    [trouble] = failures(machine_check.check_model_files("demo", None, "always"))
    assert "out_of_memory" in trouble


def test_a_sound_device_passes(float32_only):
    found = [*self_check.check_engine()]
    assert failures(found) == []
    assert len(found) == 7


def test_rows_of_a_batch_at_wrong_positions_are_seen(float32_only, monkeypatch):
    """As MLX's rotary once was for L = 1, B > 1: every row at the place of the first."""
    init = Places.__init__

    def wrong(self, *arguments):
        init(self, *arguments)
        self.positions = mx.broadcast_to(self.positions[:1], self.positions.shape)

    monkeypatch.setattr(Places, "__init__", wrong)
    assert any("a row in a batch is off" in what for what in failures(self_check.check_engine()))


@pytest.mark.cpu  # a GPU may be ten times as far off
def test_logits_that_are_a_little_off_are_seen(float32_only, monkeypatch):
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: head(self, hidden) * 1.02)
    assert any("from the reference" in what for what in failures(self_check.check_engine()))


def test_streams_that_get_other_tokens_are_seen(float32_only, monkeypatch):
    transcribe = self_check._streamed

    def other(recognizer, utterance):
        return transcribe(recognizer, self_check.Utterance(utterance.samples[:20_000], language=utterance.language))

    monkeypatch.setattr(self_check, "_streamed", other)
    assert any("transcripts of streams differ" in what for what in failures(self_check.check_engine()))


def test_a_drift_that_cannot_be_measured_is_a_failure(float32_only, monkeypatch):
    monkeypatch.setattr(Drift, "margin", lambda *_: float("inf"))
    assert failures(self_check.check_engine())[0].startswith("float32: ε is inf for batches")


def test_memory_that_does_not_come_back_is_seen(float32_only, monkeypatch):
    held = []
    step = EngineScheduler.step

    def leaks(self):
        held.append(mx.ones((256, 1024)))
        mx.eval(held[-1])
        return step(self)

    monkeypatch.setattr(EngineScheduler, "step", leaks)
    assert any("left behind" in what for what in failures(self_check.check_engine()))


BROKEN_REPLAYS = {"fails": FAILS, "is of less audio": is_of_samples(20_000)}


@pytest.mark.parametrize("broken", BROKEN_REPLAYS.values(), ids=BROKEN_REPLAYS)
def test_a_replay_that_is_broken_is_seen(broken):
    found = check_restart(command(None, before=broken))
    assert found.level == "failure"
    assert "texts are missing or others" in found.what


def test_a_bridge_that_does_not_survive_its_worker_is_seen():
    lost = "from qwen3_asr_mlx_runtime.session import model_state; model_state.MAX_ENDS = 1"
    found = check_restart(command(None, before=lost))
    assert (found.level, "0 restarts" in found.what) == ("failure", True)


def test_an_engine_that_raises_is_a_failure_and_no_traceback(float32_only, monkeypatch, capsys):
    def fail(*_):
        raise DecodeFailed("planted")

    monkeypatch.setattr(self_check.Recognizer, "transcribe_batch", fail)
    assert main([]) == 1
    assert "planted" in "".join(capsys.readouterr())


def test_findings_are_printed_as_one_object_if_asked(monkeypatch, capsys):
    found = [Finding("ok", "good"), Finding("failure", "bad", "mend it")]
    monkeypatch.setattr(doctor, "findings", lambda *_, **__: iter(found))
    assert main(["--json"]) == 1
    printed = json.loads(capsys.readouterr().out)["findings"]
    assert [Finding(**finding) for finding in printed] == found
    found.pop()
    assert main(["--json"]) == 0


def test_a_model_that_is_not_there_is_a_failure_and_the_rest_is_still_reported(float32_only, tmp_path):
    found = [*findings("nobody/nothing", tmp_path)]
    assert len(failures(found)) == 1
    assert Finding("ok", "memory is back where it was") in found


def test_the_margins_of_another_model_are_measured(float32_only, tmp_path):
    folder = str(write_tiny_checkpoint(tmp_path / "model"))
    assert [*findings(folder, None)][-1].what.startswith(f"{folder}: ε is ")


class TestWords:
    def test_a_sound_aligner_passes(self):
        found = [*check_words("demo", None)]
        assert [finding.level for finding in found] == ["ok"] * 4
        assert found[2].what == "the aligner demo knows Arabic, English"
        assert re.fullmatch(r"each of \d+ words has its time in the audio: 24.7 s were .* in [\d.]+ s", found[3].what)

    def test_one_that_is_not_there_or_broken_is_a_failure(self, tmp_path):
        assert "not in the cache" in failures(check_words("nobody/nothing", tmp_path))[0]
        broken = shutil.copytree(DEMO_ALIGNER_FOLDER, tmp_path / "broken")
        (broken / "model.safetensors").write_bytes(b"cut")
        assert "model_corrupt" in failures(check_words(str(broken), None))[0]
        assert "model_unsupported" in failures(check_words(str(DEMO_FOLDER), None))[0]

    def test_one_that_was_never_trained_is_doubted(self, tmp_path, demo_checkpoint):
        folder = write_random_checkpoint(tmp_path, size="tiny-aligner", tokenizer=demo_checkpoint)
        last = [*check_words(str(folder), None)][-1]
        assert (last.level, "confidence is 0.0" in last.what) == ("warning", True)

    def test_one_that_knows_no_language_of_the_known_audio_is_not_tried(self, tmp_path):
        folder = shutil.copytree(DEMO_ALIGNER_FOLDER, tmp_path / "thai")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "support_languages": ["Thai"]}))
        last = [*check_words(str(folder), None)][-1]
        assert (last.level, "was not tried" in last.what) == ("warning", True)

    @pytest.mark.parametrize("late", [100_000, -100])
    def test_times_that_lie_outside_of_the_audio_or_cross_are_seen(self, monkeypatch, late):
        def moved(scores, duration):
            return [
                replace(time, end_ms=time.end_ms + late * place) for place, time in enumerate(viterbi(scores, duration))
            ]

        monkeypatch.setattr(word_times, "viterbi", moved)
        assert "words without a time in their audio" in failures(check_words("demo", None))[0]

    def test_words_that_cannot_be_found_are_a_failure(self, monkeypatch):
        monkeypatch.setattr("qwen3_asr_mlx_runtime.engine.word_aligner.WordAligner.load", lambda _: None)
        monkeypatch.setattr(word_times, "viterbi", lambda *_: 1 / 0)
        assert "known clips have no words" in failures(check_words("demo", None))[0]

    def test_they_are_tried_only_if_asked_and_their_failure_is_the_commands(self, monkeypatch, capsys):
        monkeypatch.setattr(self_check, "check_engine", lambda: iter(()))
        monkeypatch.setattr(restart_check, "check_restart", lambda _: Finding("ok", "restarted"))
        assert main(["--model", "demo"]) == 0
        assert "aligner" not in capsys.readouterr().out
        assert main(["--model", "demo", "--words"]) == 0
        assert "ok       the aligner demo knows Arabic, English\n" in capsys.readouterr().out
        assert main(["--model", "demo", "--words", "--aligner", "no/where"]) == 1
        assert "failure  the aligner no/where: " in capsys.readouterr().out

    def test_its_option_goes_with_it(self, capsys):
        with pytest.raises(SystemExit) as left:
            main(["--aligner", "no/where"])
        assert left.value.code == 2
        assert "--aligner goes with --words alone" in capsys.readouterr().err


def test_no_metal_device_is_a_finding_and_no_traceback(repository: Path):
    program = NO_METAL + "import sys\nfrom qwen3_asr_mlx_runtime.tools.doctor.main import main\nsys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=repository / "src", capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (1, "")
    *_, found, advice = ran.stdout.splitlines()
    assert found.startswith("failure  MLX has no device to compute on: [metal::load_device] No Metal device")
    assert "log in" in advice
    assert "GiB free" in ran.stdout


def test_as_a_process(repository: Path):
    program = "import sys\nfrom qwen3_asr_mlx_runtime.tools.doctor.main import main\nsys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program, "--model", "demo"],
        cwd=repository / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert "ok       memory is back where it was\n" in ran.stdout
    assert "ok       the worker was killed in a decode, and every text came all the same\n" in ran.stdout
