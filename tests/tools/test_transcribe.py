"""scripts/qwen3-asr-mlx-transcribe: which files it makes of which, what it says, and how it ends."""

import errno
import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import wave
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent, indent

import msgspec
import numpy as np
import psutil
import pyte
import pytest
import srt
from conformance.player import engine_command
from support.client_children import child
from support.media_file import RATE, write
from tools.test_captions import result, segment
from tools.test_score import launched

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.limits import DEFAULT_TERM_WEIGHT
from qwen3_asr_mlx_runtime.model_name import SPEECH_LEAVES
from qwen3_asr_mlx_runtime.protocol.replies import Ready
from qwen3_asr_mlx_runtime.tools.transcribe.main import PROGRAM, main
from qwen3_asr_mlx_runtime.tools.transcribe.screen import Bars, Lines, Screen, length, screen
from qwen3_asr_mlx_runtime.tools.transcribe.sources import (
    Found,
    listed,
    with_folders,
    with_outputs,
    without_done,
)
from qwen3_asr_mlx_runtime.tools.transcribe.work import write as write_whole

DEMO = ("--model", "demo", "--bridge=--local-files-only")
SEVEN = "Seven three one.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    empty = tmp_path / "recordings"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


@pytest.fixture
def sample(folder: Path, repository: Path) -> Path:
    return Path(shutil.copy(repository / "examples/audio/sample.wav", folder / "talk.wav"))


def pcm(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    """Of stderr, without the one about the model and the last one, about time."""
    return capsys.readouterr().err.splitlines()[1:-1]


def found(*paths: object, is_recursive: bool = False, output_dir: Path | None = None) -> list[Found]:
    return listed(map(str, paths), is_recursive=is_recursive, output_dir=output_dir)


class TestSources:
    def test_a_folder_gives_its_sound_and_video_files_by_name_without_hidden_ones(self, folder: Path) -> None:
        for name in ("b.WAV", "a.m4a", "notes.txt", ".hidden.wav", "._a.m4a", "deep/c.mp3", ".cache/d.wav"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        assert [each.path.name for each in found(folder)] == ["a.m4a", "b.WAV"]
        assert [each.path.name for each in found(folder, is_recursive=True)] == ["a.m4a", "b.WAV", "c.mp3"]

    def test_a_folder_that_links_to_itself_comes_once(self, folder: Path) -> None:
        (folder / "a.wav").touch()
        (folder / "again").symlink_to(folder)
        assert [each.path.name for each in found(folder, is_recursive=True)] == ["a.wav"]

    def test_outputs_lie_beside_the_file_or_in_the_same_place_of_another_folder(self, folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep/a.wav").touch()
        beside, apart = (
            with_outputs(found(folder, is_recursive=True, output_dir=output_dir), ["srt"])[0].outputs["srt"]
            for output_dir in (None, Path("/texts"))
        )
        assert (beside, apart) == (folder / "deep/a.srt", Path("/texts/deep/a.srt"))

    def test_a_file_named_twice_comes_once(self, sample: Path) -> None:
        assert len(found("talk.wav", sample, "./talk.wav", "../recordings/talk.wav")) == 1

    def test_files_that_differ_in_their_kind_alone_keep_it_in_the_names_of_their_outputs(self, folder: Path) -> None:
        files = [Found(folder / name, folder) for name in ("talk.wav", "Talk.m4a", "other.wav")]
        made = [source.outputs["txt"].name for source in with_outputs(files, ["txt"])]
        assert made == ["talk.wav.txt", "Talk.m4a.txt", "other.txt"]

    def test_no_output_is_one_of_the_files(self, folder: Path) -> None:
        (source,) = with_outputs([Found(folder / "notes.txt", folder)], ["txt"])
        assert source.outputs["txt"].name == "notes.txt.txt"

    @pytest.mark.parametrize("files", [("a/talk.wav", "b/talk.wav"), ("a/talk.wav", "a/talk.m4a", "a/talk.wav.mp3")])
    def test_two_files_that_would_become_one_are_refused(self, folder: Path, files: tuple[str, ...]) -> None:
        with pytest.raises(InvalidParams, match=r"would both become .*talk.wav.txt"):
            with_outputs(found(*files, output_dir=folder), ["txt"])

    def test_a_folder_of_the_name_of_an_output_is_no_output(self, sample: Path) -> None:
        sample.with_suffix(".txt").mkdir()
        (source,) = with_outputs(found(sample), ["txt", "srt"])
        sample.with_suffix(".srt").touch()
        assert [*without_done(source).outputs] == ["txt"]

    def test_what_cannot_be_read_or_written_is_trouble_of_its_own(
        self, sample: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked = sample.with_name("locked")
        locked.mkdir()
        read = Path.iterdir

        def refuse(path: Path) -> Iterator[Path]:
            if path == locked:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return read(path)

        monkeypatch.setattr(Path, "iterdir", refuse)
        files = found(sample.parent, "x" * 300 + ".wav", is_recursive=True)
        assert [(each.path.name[:6], each.trouble) for each in files] == [
            ("locked", "Permission denied"),
            ("talk.w", None),
            ("xxxxxx", None),
        ]
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert with_folders(with_outputs(found(sample), ["txt"])[0]).trouble.startswith("no permission to write into ")


class TestFiles:
    def test_each_format_is_a_file_beside_the_recording(self, sample: Path, capsys: pytest.CaptureFixture) -> None:
        assert main([*DEMO, "--format", "txt,srt,vtt,json,tsv", "talk.wav"]) == 0
        assert names(sample.parent) == [f"talk.{kind}" for kind in ("json", "srt", "tsv", "txt", "vtt", "wav")]
        assert sample.with_suffix(".txt").read_text() == SEVEN
        (caption,) = srt.parse(sample.with_suffix(".srt").read_text())
        assert caption.content == SEVEN.strip()
        words = json.loads(sample.with_suffix(".json").read_text())["words"]
        assert caption.start.total_seconds() == words[0]["start"]
        assert lines(capsys) == ["talk.wav -> talk.txt, talk.srt, talk.vtt, talk.json, talk.tsv"]

    def test_a_video_is_transcribed_too(self, sample: Path, capsys: pytest.CaptureFixture) -> None:
        samples = np.frombuffer(pcm(sample), "<i2")
        write(sample.with_name("film.mp4"), [np.repeat(samples, RATE // 16_000)[None]], video=True)
        sample.unlink()
        assert main([*DEMO, "film.mp4"]) == 0
        assert sample.with_name("film.txt").read_text() == SEVEN
        assert lines(capsys) == ["film.mp4 -> film.txt"]

    def test_what_is_there_is_kept_and_what_is_missing_is_made(
        self, sample: Path, capsys: pytest.CaptureFixture
    ) -> None:
        mine = sample.with_suffix(".txt")
        mine.write_text("corrected by hand")
        broken = engine_command("broken")
        assert main(["--model", "demo", "."], broken) == 0
        assert capsys.readouterr().err == "1 of 1 file done before: --overwrite transcribes again\n"
        assert main([*DEMO, "--format", "txt,json", "."]) == 0
        assert (mine.read_text(), sample.with_suffix(".json").exists()) == ("corrected by hand", True)
        assert main([*DEMO, "--overwrite", "."]) == 0
        assert mine.read_text() == SEVEN

    def test_one_that_fails_is_reported_and_the_rest_is_done(self, sample: Path, capsys: pytest.CaptureFixture) -> None:
        sample.with_name("empty.wav").touch()
        assert main([*DEMO, "missing.wav", "."]) == 1
        assert names(sample.parent) == ["empty.wav", "talk.txt", "talk.wav"]
        empty, missing, done = sorted(lines(capsys))
        assert empty.startswith("empty.wav: audio_empty: ")
        assert missing.startswith("missing.wav: audio_not_found: ")
        assert done == "talk.wav -> talk.txt"

    def test_an_output_that_cannot_be_written_fails_alone(
        self, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        taken = tmp_path / "taken"
        taken.touch()
        asked = bridge("os._exit(9)")
        assert main(["--model", "demo", "--output-dir", str(taken), "talk.wav"], asked) == 1
        assert lines(capsys) == [f"talk.wav: File exists: {taken}"]

    def test_without_times_of_words_it_says_that_captions_are_estimates(
        self, sample: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*DEMO, "--no-words", "--format", "srt", "talk.wav"]) == 0
        (caption,) = srt.parse(sample.with_suffix(".srt").read_text())
        assert caption.start.total_seconds() == 0.0
        assert lines(capsys)[1:] == ["talk.wav: the times of srt are estimates, without word times: not requested"]

    def test_a_language_that_the_aligner_does_not_know_is_said_once(
        self, folder: Path, capsys: pytest.CaptureFixture
    ) -> None:
        whole = "[dict(text='Seven.', start=0, end=9, char_start=0, char_end=6, confidence=None, time_confidence=None)]"
        answers = bridge(f"answer(words={whole}, warnings=['words_unavailable: language'])")
        assert main(["--model", "demo", "--format", "vtt", "talk.wav"], answers) == 0
        assert lines(capsys)[1:] == ["talk.wav: the times of vtt are estimates, without word times: language"]

    def test_words_are_asked_for_with_words_and_for_captions_alone(self, sample: Path) -> None:
        assert main([*DEMO, "--format", "json", "talk.wav"]) == 0
        assert "words" not in json.loads(sample.with_suffix(".json").read_text())
        assert main([*DEMO, "--format", "json", "--words", "--overwrite", "talk.wav"]) == 0
        assert len(json.loads(sample.with_suffix(".json").read_text())["words"]) == 3


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"talk\.txt") as failed:
        write_whole(tmp_path / "talk.txt", "text")
    assert failed.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_a_long_name_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("x" * 251 + ".txt"), "text")
    assert len(names(tmp_path)[0]) == 255


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    with path.open() as open_before:
        write_whole(path, "new")
        assert (open_before.read(), path.read_text()) == ("old", "new")
    assert names(tmp_path) == ["talk.txt"]


class TestPrinting:
    def test_texts_are_printed_in_the_order_of_the_files(
        self, folder: Path, repository: Path, capsys: pytest.CaptureFixture
    ) -> None:
        audio = repository / "examples/audio"
        files = [audio / "english-ten.wav", audio / "sample.wav", audio / "english-one.wav"]
        assert main([*DEMO, "--stdout", *map(str, files)]) == 0
        assert capsys.readouterr().out.splitlines()[1] == SEVEN.strip()
        assert names(folder) == []

    def test_json_is_printed_as_a_line_for_each_file(self, sample: Path, capsys: pytest.CaptureFixture) -> None:
        shutil.copy(sample, sample.with_name("two.wav"))
        assert main([*DEMO, "--stdout", "--format", "json", "two.wav", "talk.wav"]) == 0
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [each["audio"] for each in printed] == ["two.wav", "talk.wav"]

    @pytest.mark.parametrize("rate", [None, 16_000])
    def test_stdin_takes_a_sound_file_or_pcm_and_leaves_no_copy(
        self,
        sample: Path,
        rate: int | None,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture,
    ) -> None:
        data = sample.read_bytes() if rate is None else pcm(sample)
        copies = tmp_path / "copies"
        copies.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(copies))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data + b"\0" * (rate is not None))))
        assert main([*DEMO, *(["--pcm", str(rate)] if rate else []), "-"]) == 0
        assert capsys.readouterr().out == SEVEN
        assert (names(sample.parent), names(copies)) == (["talk.wav"], [])

    def test_the_text_of_stdin_goes_into_a_folder_that_is_named(
        self, sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sample.read_bytes())))
        assert main([*DEMO, "--output-dir", "texts", "-"]) == 0
        assert (sample.parent / "texts/stdin.txt").read_text() == SEVEN
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("stdin", [None, pytest.param("tty", id="a terminal")])
    def test_stdin_that_is_closed_or_a_terminal_is_refused(
        self, folder: Path, stdin: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("sys.stdin", stdin and Shown(80))
        assert main([*DEMO, "-"]) == 1
        assert "expected audio on stdin, " in capsys.readouterr().err

    def test_pcm_beyond_the_limit_is_not_read_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("qwen3_asr_mlx_runtime.tools.transcribe.main.MAX_AUDIO_SECONDS", 1.0)
        stdin = io.BytesIO(bytes(1 << 20))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stdin))
        assert main([*DEMO, "--pcm", "8000", "-"]) == 1
        assert "expected at most 1 s of audio on stdin" in capsys.readouterr().err
        assert stdin.tell() < 1 << 20


def bridge(on_transcribe: str, *arguments: str) -> list[str]:
    """A stand-in that runs this code for each `transcribe`, with the message `asked`, and `answer` to answer it."""
    transcript = msgspec.to_builtins(result(segment(0.0, 9.0, "Seven three one.")).reply)
    ready = msgspec.to_builtins(Ready(model="demo", model_dir="", load_seconds=0.1, load_profile={}, load="warm"))
    program = f"""
def answer(**members):
    say({{**{transcript!r}, **members}}, id=asked["id"])
greet()
while True:
    asked = read()
    if asked["type"] == "transcribe":
{indent(dedent(on_transcribe), "        ")}
    elif asked["type"] == "stop":
        say(STOPPED, id=asked["id"])
        sys.exit(0)
    else:
        say({{"start": {ready!r}}}.get(asked["type"], PONG), id=asked["id"])
"""
    return child(program, *arguments)


class TestRequests:
    def asked(self, folder: Path, *arguments: str) -> tuple[list[str], dict]:
        """The arguments of the bridge, and the request for a file."""
        keep = "open('asked.json', 'w').write(json.dumps([sys.argv[1:], asked])); answer()"
        assert main([*arguments, "talk.wav"], bridge(keep)) == 0
        return json.loads((folder / "asked.json").read_text())

    def test_a_file_may_last_four_hours(self, folder: Path) -> None:
        options, _ = self.asked(folder, "--model", "demo", "--bridge=--lazy --dtype float32")
        assert options[:7] == ["--model", "demo", "--max-audio-seconds", "14400", "--lazy", "--dtype", "float32"]

    @pytest.mark.parametrize("named", ["option", "option=", "variable"])
    def test_servers_have_their_own_model_and_it_is_said_that_speech_leaves(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str
    ) -> None:
        monkeypatch.delenv("QWEN3_ASR_MLX_MODEL", raising=False)
        option = {"option": ["--bridge=--engine http://a"], "option=": ["--bridge=--engine=http://a"]}.get(named, [])
        if not option:
            monkeypatch.setenv("QWEN3_ASR_MLX_ENGINE", "http://a")
        options, _ = self.asked(folder, *option)
        assert options[:2] == ["--model", "served"]
        assert capsys.readouterr().err.startswith(f"{PROGRAM}: {SPEECH_LEAVES}\n")
        options, _ = self.asked(folder, *option, "--model", "own/model", "--overwrite")
        assert options[:2] == ["--model", "own/model"]

    def test_without_servers_nothing_is_said_of_speech_that_leaves(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("QWEN3_ASR_MLX_MODEL", raising=False)
        options, _ = self.asked(folder, "--bridge=--engine-token-file t")
        assert options[:2] == ["--model", "Qwen/Qwen3-ASR-0.6B"]
        assert SPEECH_LEAVES not in capsys.readouterr().err

    def test_options_become_members_of_the_request(self, folder: Path) -> None:
        _, asked = self.asked(folder, "--language", "en", "--context", "kettle", "--track", "2")
        assert (asked["language"], asked["context"], asked["track"]) == ("English", "kettle", 2)
        assert (asked["segments"], asked["words"], asked["progress"]) == (True, False, True)
        assert asked["decoder_mode"] == "batched"
        assert asked["audio"] == str(folder / "talk.wav")

    def test_languages_too(self, folder: Path) -> None:
        _, asked = self.asked(folder, "--languages", "en,Arabic", "--words")
        assert (asked["languages"], asked["words"]) == (["English", "Arabic"], True)

    def test_terms_too(self, folder: Path) -> None:
        _, asked = self.asked(folder, "--terms", "Ada Lovelace, Menabrea=3")
        assert asked["terms"] == [
            {"text": "Ada Lovelace", "weight": DEFAULT_TERM_WEIGHT},
            {"text": "Menabrea", "weight": 3},
        ]


class TestFailures:
    def test_a_crash_of_the_bridge_costs_the_file_that_causes_it(
        self, folder: Path, capsys: pytest.CaptureFixture
    ) -> None:
        for number in range(24):
            (folder / f"{number:02}{'-bad' * (number % 4 == 1)}.wav").touch()
        assert main([".", "--model", "demo"], bridge("os._exit(9) if 'bad' in asked['audio'] else answer()")) == 1
        good = [name for name in names(folder) if name.endswith(".txt")]
        assert good == [f"{number:02}.txt" for number in range(24) if number % 4 != 1]
        assert sum("bad.wav: bridge_exited: " in line for line in lines(capsys)) == 6

    @pytest.mark.linux("macOS has no such names")
    def test_a_name_that_is_not_utf_8_fails_alone(self, folder: Path, capsys: pytest.CaptureFixture) -> None:
        for name in (b"\xff.wav", b"talk.wav"):
            Path(os.fsdecode(name)).touch()
        assert main(["--model", "demo", "."], bridge("answer()")) == 1
        assert "talk.txt" in names(folder)
        assert any(line.endswith(": its name is not UTF-8") for line in lines(capsys))

    def test_a_model_that_is_not_there_ends_it_at_once(self, sample: Path, capsys: pytest.CaptureFixture) -> None:
        assert main(["--model", "demo", "talk.wav"], engine_command("no_model")) == 1
        assert lines(capsys)[0].startswith("qwen3-asr-mlx-transcribe: model_not_found: ")
        assert names(sample.parent) == ["talk.wav"]

    def test_a_segment_that_ends_early_is_reported(self, folder: Path, capsys: pytest.CaptureFixture) -> None:
        assert (
            main(["--model", "demo", "talk.wav"], bridge("answer(finish_reason='repetition', warnings=['odd'])")) == 0
        )
        assert lines(capsys)[1:] == [
            "talk.wav: odd",
            "talk.wav: a part of the speech may be missing: finish_reason repetition",
        ]

    def test_a_reader_that_goes_away_ends_it_without_a_word(self, sample: Path, repository: Path) -> None:
        with started(repository, "--stdout", "talk.wav") as process:
            process.stdout.close()
            assert process.wait() == 1
            assert "Traceback" not in process.stderr.read().decode()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "the following arguments are required: FILE"),
            (["--format", "doc", "x.wav"], "expected txt, srt, vtt, json, tsv, got 'doc'"),
            (["--stdout", "--format", "txt,srt", "x.wav"], "what is printed has one --format"),
            (["--stdout", "--format", "srt", "x.wav", "y.wav"], "srt is printed of one file, got 2"),
            (["--stdout", "--format", "srt", "x.wav", "-"], "srt is printed of one file, got 2"),
            (["--format", "srt,vtt", "-"], "what is printed has one --format"),
            (["--stdout", "--output-dir", "texts", "x.wav"], "--stdout writes no files into --output-dir"),
            (["--pcm", "16000", "x.wav"], "--pcm is about stdin: name - as a file"),
            ([""], "expected a path, got nothing"),
            (["--output-dir=", "x.wav"], "expected a path, got nothing"),
            (['--bridge="', "x.wav"], "expected options as in a shell: No closing quotation"),
            (["--language", "Klingon", "x.wav"], "unknown language"),
            (["."], "the folders hold no sound or video files: try --recursive"),
            (["-r", "."], "the folders hold no sound or video files (see"),
        ],
    )
    def test_a_command_line_that_is_wrong(
        self, folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture
    ) -> None:
        with pytest.raises(SystemExit, match=r"^2$"):
            main(arguments)
        assert said in capsys.readouterr().err


def started(repository: Path, *arguments: str, **options: object) -> subprocess.Popen:
    """The command as a process, with the demonstration model."""
    start = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        "from qwen3_asr_mlx_runtime.entry import transcribe; transcribe()"
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-c", start, *DEMO, *arguments],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


@pytest.fixture
def long_talk(sample: Path) -> Path:
    """Several minutes: the sample again and again."""
    data = pcm(sample)
    path = sample.with_name("long.wav")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(data * 200)
    sample.unlink()
    return path


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The bridge and its worker, once they are there."""
    while len(found := psutil.Process(process.pid).children(recursive=True)) < 2:
        assert process.poll() is None
    return found


class TestEnds:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda n: str(n)
    )
    def test_a_signal_leaves_no_bridge_and_no_half_file(
        self, long_talk: Path, repository: Path, number: int, code: int
    ) -> None:
        with started(repository, "--format", "txt,json", "long.wav") as process:
            bridges = family(process)
            process.send_signal(number)
            said = process.stderr.read().decode().splitlines()
        assert process.returncode == code
        assert psutil.wait_procs(bridges, timeout=60)[1] == []
        assert names(long_talk.parent) == ["long.wav"]
        assert said[-1 - (number == signal.SIGINT)].startswith("0 of 1 file done: ")

    def test_it_ends_with_its_terminal_and_leaves_no_bridge(self, long_talk: Path, repository: Path) -> None:
        master, slave = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        with started(
            repository, "long.wav", stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal
        ) as process:
            os.close(slave)
            bridges = family(process)
            os.close(master)
            assert process.wait() > 0  # by itself, not by the signal
        assert psutil.wait_procs(bridges, timeout=60)[1] == []
        assert names(long_talk.parent) == ["long.wav"]

    def test_a_kill_leaves_no_bridge(self, long_talk: Path, repository: Path) -> None:
        with started(repository, "long.wav") as process:
            bridges = family(process)
            process.kill()
        assert psutil.wait_procs(bridges, timeout=60)[1] == []


class TestScreen:
    def test_a_terminal_shows_a_bar_of_all_files_and_one_of_each_that_takes_long(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "long.wav").write_bytes(bytes(3000))
        (folder / "short.wav").write_bytes(bytes(1000))
        shown = Shown(80)
        monkeypatch.setattr("sys.stderr", shown)
        with screen({"long.wav": 3000, "short.wav": 1000}) as bars:
            bars.loading("download", 1, 4)
            shown.redraw(bars)
            assert shown.rows[0].startswith("model: download 25 %")
            bars.loaded()
            bars.working("long.wav", 30_000, 60_000)
            shown.redraw(bars)
            assert (shown.rows[0].split(" ━")[0], shown.rows[1].split(" ━")[0]) == ("0 of 2 files", "long.wav    ")
            assert re.search(r" 38% \d:\d\d$", shown.rows[0])
            assert re.search(r" 50% \d:\d\d$", shown.rows[1])
            bars._progress.tasks[0].start_time -= 60.0
            shown.redraw(bars)
            assert shown.rows[0].endswith(" 38% 1:40")
            bars.ended("long.wav")
            bars.say("long.wav -> [bold]:smile:.txt")
            shown.redraw(bars)
            assert shown.rows[0] == "long.wav -> [bold]:smile:.txt"
            assert shown.rows[1].startswith("1 of 2 files")
            assert "75%" in shown.rows[1]
        assert shown.rows == ["long.wav -> [bold]:smile:.txt"]

    def test_what_is_printed_to_the_same_terminal_stands_above_the_bar(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = Shown(80)
        monkeypatch.setattr("sys.stderr", shown)
        monkeypatch.setattr("sys.stdout", shown)
        with screen({"a.wav": 10}) as bars:
            bars.print("Seven.\n")
            shown.redraw(bars)
            assert [row.split(" ")[0] for row in shown.rows] == ["Seven.", "a.wav"]
        assert shown.rows == ["Seven."]

    def test_what_is_printed_elsewhere_does_not_pass_through_the_terminal(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        shown = Shown(80)
        monkeypatch.setattr("sys.stderr", shown)
        with screen({"a.wav": 10}) as bars:
            bars.print("Seven.\n")
        assert (capsys.readouterr().out, shown.rows) == ("Seven.\n", [])

    def test_without_a_terminal_a_line_tells_every_ten_seconds_how_far_it_is(
        self, capsys: pytest.CaptureFixture
    ) -> None:
        now = [0.0]
        plain = Lines(lambda: now[0])
        for now[0], done in ((1.0, 5), (10.0, 65), (12.0, 70), (21.0, 3670)):
            plain.working("a.wav", done * 1000, 7200_000)
        now[0] = 40.0
        plain.loading("download", 1, 2)
        assert capsys.readouterr().err.splitlines() == [
            "a.wav: 1:05 of 2:00:00",
            "a.wav: 1:01:10 of 2:00:00",
            "model: download 50 %",
        ]

    def test_without_rich_a_terminal_gets_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
        monkeypatch.setattr("sys.stderr", Shown(80))
        with screen({"a.wav": 1}) as plain:
            assert isinstance(plain, Lines)

    def test_a_long_file_tells_how_far_it_is_while_it_is_transcribed(
        self, long_talk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[tuple[int, int | None]] = []
        monkeypatch.setattr(Lines, "working", lambda _self, _name, done, total: told.append((done, total)))
        assert main([*DEMO, "long.wav"]) == 0
        milliseconds = len(pcm(long_talk)) // 32
        assert len(told) > 2
        assert {total for _, total in told} == {milliseconds}
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert 0 < told[-1][0] < milliseconds


class Shown(io.StringIO):
    """A terminal, as it looks."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._screen = pyte.Screen(columns, 20)
        self._stream = pyte.Stream(self._screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def redraw(self, bars: Screen) -> None:
        assert isinstance(bars, Bars)
        bars._progress.refresh()

    @property
    def rows(self) -> list[str]:
        rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows


def test_the_launcher_starts_it_and_help_shows_examples(repository: Path, tmp_path: Path) -> None:
    output = launched(repository, tmp_path, "qwen3-asr-mlx-transcribe", "--help", groups="")
    assert (output.returncode, output.stderr) == (0, "")
    assert "qwen3-asr-mlx-transcribe TALK.m4a" in output.stdout


def test_a_length_reads_as_on_a_clock() -> None:
    assert [length(seconds) for seconds in (0, 5.4, 65, 3599.6, 7325)] == ["0:00", "0:05", "1:05", "1:00:00", "2:02:05"]
