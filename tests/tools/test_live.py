"""scripts/qwen3-asr-mlx-live: its figures, what it shows, how it feeds, and what it says to mistakes."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conformance.player import engine_command
from hypothesis import given
from hypothesis import strategies as st
from tools.test_score import launched

from qwen3_asr_mlx_runtime.audio.pcm16 import pcm16
from qwen3_asr_mlx_runtime.client.messages import decode, encode
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal
from qwen3_asr_mlx_runtime.tools.live.main import main
from qwen3_asr_mlx_runtime.tools.live.record import Partial, Record, prefix_distance, summary
from qwen3_asr_mlx_runtime.tools.live.screen import Lines, Silent, Terminal
from qwen3_asr_mlx_runtime.tools.live.session import Failed, Plan, Recording, Session


def record(*partials: tuple[float, float, str, str], final: str | None = None) -> Record:
    """A second of audio in chunks of 100 ms at the pace of speech, from time 10 on, ended at 11, told at 11.25."""
    one = Record("talk.wav", 0, 1.0, started=10.0, ended=11.0)
    one.sent = [(number / 10, 10 + number / 10) for number in range(1, 11)]
    one.partials = [Partial(at, audio, text, stable, 0.05) for at, audio, text, stable in partials]
    if final is not None:
        one.final, one.final_at = {"text": final, "decode_seconds": 0.1, "language": "English"}, 11.25
    return one


class TestFigures:
    reported = ((10.6, 0.5, "", ""), (10.85, 0.7, "one too", "one"), (11.0, 0.9, "one two three", "one two"))

    def test_times_are_taken_from_the_first_chunk_the_last_audio_of_a_partial_and_the_end(self) -> None:
        figures = record(*self.reported, final="one two three").figures()
        assert (figures["first_partial_seconds"], figures["first_text_seconds"]) == (0.6, 0.85)
        assert (figures["cadence_p50_seconds"], figures["cadence_p95_seconds"]) == (0.15, 0.25)
        assert (figures["lag_p50_seconds"], figures["lag_p95_seconds"]) == (0.1, 0.15)
        assert figures["end_to_final_seconds"] == 0.25
        assert figures["real_time_factor"] == 1.25
        assert figures["work_seconds"] == 0.25

    def test_a_stable_text_that_does_not_begin_the_final_is_an_error_and_its_wrong_words_are_counted(self) -> None:
        right = record(*self.reported, final="one two three").figures()
        assert (right["stable_errors"], right["stable_words"], right["wrong_stable_words"]) == (0, 2, 0)
        wrong = record(*self.reported, final="one to three").figures()
        assert (wrong["stable_errors"], wrong["wrong_stable_words"]) == (1, 1)
        assert record(*self.reported, final="").figures()["wrong_stable_words"] == 2

    def test_without_partials_nothing_is_invented(self) -> None:
        figures = record(final="one").figures()
        assert figures["first_partial_seconds"] is figures["cadence_p50_seconds"] is figures["lag_p95_seconds"] is None
        assert (figures["partials"], figures["stable_words"]) == (0, 0)

    def test_a_run_is_summed_up_over_all_streams(self) -> None:
        whole = summary([record(*self.reported, final="one two three"), record(final="")], wall_seconds=1.5)
        assert (whole["audio_seconds"], whole["real_time_factor"]) == (2.0, 0.75)
        assert whole["work_share"] == round(0.35 / 1.5, 4)
        assert (whole["partials"], whole["first_partial_p95_seconds"]) == (3, 0.6)

    @given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
    def test_a_beginning_has_no_wrong_words_and_nothing_else_has_none(self, words: list[str], final: list[str]) -> None:
        assert (prefix_distance(words, final) == 0) == (final[: len(words)] == words)
        assert prefix_distance(words, final) <= len(words)


class Paper:
    """What a terminal shows of what was written to it; a capital is a letter that is not dim."""

    def __init__(self, written: str) -> None:
        self.rows, self._row, self._column, self._dim = [""], 0, 0, False
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|.", written, re.DOTALL):
            self._take(part)

    def _take(self, part: str) -> None:
        match part:
            case "\r":
                self._column = 0
            case "\n":
                self._row, self._column = self._row + 1, 0
                self.rows += [""] * (self._row + 1 - len(self.rows))
            case "\x1b[J":
                self.rows[self._row :] = [self.rows[self._row][: self._column]]
            case "\x1b[2m" | "\x1b[22m":
                self._dim = part == "\x1b[2m"
            case _ if part.startswith("\x1b"):
                self._row -= int(part[2:-1])
                assert self._row >= 0
            case _:
                shown = part if self._dim else part.upper()
                self.rows[self._row] = self.rows[self._row][: self._column] + shown
                self._column += 1


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("LINES", "8")
    return 24


class TestScreen:
    def test_a_terminal_is_rewritten_in_place_with_stable_text_as_usual_and_the_rest_dim(self, columns: int) -> None:
        out, one = io.StringIO(), record()
        screen = Terminal(out)
        screen.begin([one])
        for text, stable in (("seven", ""), ("seven three four one", "seven"), ("seven three", "seven three")):
            one.partials.append(Partial(10.5, 0.5, text, stable, 0.1))
            screen.changed(one)
            shown = "".join(Paper(out.getvalue()).rows)
            assert shown == f"talk.wav: {stable.upper()}{text[len(stable) :]}"
        assert max(map(len, Paper(out.getvalue()).rows)) < columns

    def test_streams_stand_below_each_other_and_the_final_in_their_place(self, columns: int) -> None:
        out, two = io.StringIO(), [record(), record()]
        for place, one in enumerate(two, 1):
            one.stream = place
        screen = Terminal(out)
        screen.begin(two)
        two[1].partials.append(Partial(10.5, 0.5, "six", "", 0.1))
        screen.changed(two[1])
        assert Paper(out.getvalue()).rows == ["talk.wav [1]: ", "talk.wav [2]: six"]
        two[0].final, two[0].final_at = {"text": "five"}, 11.25
        screen.changed(two[0])
        screen.end()
        shown = Paper(out.getvalue()).rows
        assert shown[0].startswith("talk.wav [1]: FIVE (no")
        assert shown[-2:] == ["talk.wav [2]: six", ""]

    def test_what_does_not_fit_on_the_screen_is_left_out_at_its_top(self, columns: int) -> None:
        out, one = io.StringIO(), record((10.5, 0.5, "word " * 60, ""))
        screen = Terminal(out)
        for _ in range(3):
            screen.begin([one]) if not out.getvalue() else screen.changed(one)
        assert len(Paper(out.getvalue()).rows) == 7

    def test_lines_are_broken_between_words(self, columns: int) -> None:
        out = io.StringIO()
        Terminal(out).begin([record((10.5, 0.5, "seventeen eighteen nineteen twenty " + 30 * "x", ""))])
        rows = Paper(out.getvalue()).rows
        assert rows == ["talk.wav: seventeen ", "eighteen nineteen ", "twenty ", 22 * "x" + "x", 7 * "x"]

    def test_wide_characters_take_two_columns(self, columns: int) -> None:
        out, one = io.StringIO(), record((10.5, 0.5, "語" * 30, ""))
        Terminal(out).begin([one])
        assert max(len(row) + row.count("語") for row in Paper(out.getvalue()).rows) < columns

    def test_elsewhere_each_revision_is_a_line(self) -> None:
        out, one = io.StringIO(), record((10.6, 0.5, "one two", "one"))
        lines = Lines(out)
        lines.changed(one)
        one.final, one.final_at = {"text": "One two."}, 11.25
        lines.changed(one)
        first, last = out.getvalue().splitlines()
        assert first == "talk.wav 0.50 s: one| two"
        assert last == "talk.wav final, first text after 0.60 s, 1 partial, final 0.25 s after the end: One two."

    def test_where_a_hypothesis_takes_a_stable_word_back_only_what_agrees_is_shown_as_stable(self) -> None:
        assert record((10.6, 0.5, "one ten", "one two")).partials[0].stable_part == "one t"

    def test_no_text_steers_the_terminal(self, columns: int) -> None:
        out = io.StringIO()
        Terminal(out).begin([record((10.5, 0.5, "a\x1b[31mb\x07c\nd", ""))])
        assert "\x1b[31m" not in out.getvalue()
        assert "\x07" not in out.getvalue()


class ScriptedBridge:
    """Answers at once: a partial for each so many ms of audio, a final at the boundary."""

    def __init__(self, interval_ms: int) -> None:
        self.interval = interval_ms / 1000
        self.streams: dict[str, ScriptedStream] = {}
        self.events: list[PartialResult | RealtimeBatchFinal] = []
        self.known: dict[str, float] = {}  # the audio of partials that were read
        self.now = 0.0
        self.lead = 0.0

    def clock(self) -> float:
        return self.now

    def start_stream(self, name: str, **options: object) -> "ScriptedStream":
        self.streams[name] = ScriptedStream(self, name, options)
        return self.streams[name]

    def next_event(self, timeout: float | None) -> PartialResult | RealtimeBatchFinal | None:
        if self.events:
            event = self.events.pop(0)
            if isinstance(event, PartialResult):
                self.known[event.stream_id] = event.audio_seconds
            return event
        assert timeout is not None, "waits for an event that never comes"
        self.now += timeout
        return None


class ScriptedStream:
    def __init__(self, bridge: ScriptedBridge, name: str, options: dict[str, object]) -> None:
        self.stream_id = name
        self.options = options
        self.ready = SimpleNamespace(partials=True)
        self.audio = b""
        self._bridge = bridge
        self._received = 0.0

    def append(self, pcm: bytes) -> None:
        self.audio += pcm
        seconds, bridge = len(self.audio) / 32_000, self._bridge
        bridge.lead = max(bridge.lead, seconds - bridge.known.get(self.stream_id, 0.0))
        if seconds - self._received >= bridge.interval - 1e-9:
            self._received = seconds
            reported = {"audio_seconds": seconds, "text": "one", "stable_text": "", "seconds": 0.01}
            bridge.events.append(PartialResult(stream_id=self.stream_id, samples_buffered=0, chunks=0, **reported))

    def end_utterance(self) -> None:
        names = {"stream_id": self.stream_id, "utterance_id": "u", "source": "buffer", "samples": 0, "job": 1}
        item = {**names, "text": "one", "decode_seconds": 0.1, "queue_seconds": 0.0, "audio_gap": False}
        batch = {"type": "realtime_batch_final", "reason": "batch_size", "count": 1, "failed": 0, "items": [item]}
        figures = {"total_seconds": 0.1, "load_seconds": 0.0, "decoder_mode": "sequential", "redecoded": 0}
        message = decode(encode({**batch, **figures, "profile": {"stage": "batch"}}))
        assert isinstance(message, RealtimeBatchFinal)
        self._bridge.events.append(message)


def talk(seconds: float) -> Recording:
    samples = np.random.default_rng(1).integers(-99, 99, int(seconds * 16_000)).astype("<i2")
    return Recording("talk.wav", samples.tobytes())


class TestFeeding:
    def play(self, plan: Plan, recording: Recording) -> tuple[ScriptedBridge, list[Record]]:
        bridge = ScriptedBridge(plan.interval_ms)
        session = Session(bridge, plan, Silent(), bridge.clock)
        session.start()
        return bridge, session.play(recording)

    @pytest.mark.parametrize("waits", [True, False])
    def test_every_stream_gets_the_whole_file_and_gives_its_partials_and_its_final(self, waits: bool) -> None:
        recording = talk(2.05)
        bridge, records = self.play(Plan(streams=3, waits=waits), recording)
        assert [bridge.streams[f"live-{number}"].audio for number in (1, 2, 3)] == [recording.pcm] * 3
        assert [(one.stream, len(one.partials), one.text) for one in records] == [(n, 4, "one") for n in (1, 2, 3)]

    def test_at_the_pace_of_speech_a_chunk_goes_in_real_time(self) -> None:
        _, (one,) = self.play(Plan(chunk_ms=250), talk(1.1))
        assert [(round(audio, 2), round(when, 2)) for audio, when in one.sent] == [
            *((0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0), (1.1, 1.1))
        ]

    def test_without_waiting_no_audio_is_fed_beyond_an_interval_without_a_partial(self) -> None:
        bridge, (one,) = self.play(Plan(waits=False, interval_ms=400), talk(3.0))
        assert bridge.now == 0.0
        assert len(one.partials) == 7
        assert bridge.lead <= 0.4 + 1e-9

    def test_a_partial_that_never_comes_ends_it(self) -> None:
        bridge = ScriptedBridge(10_000)
        session = Session(bridge, Plan(waits=False), Silent(), bridge.clock)
        session.start()
        with pytest.raises(Failed, match="no partial came"):
            session.play(talk(2.0))

    def test_what_is_asked_for_is_what_the_plan_says(self) -> None:
        plan = Plan(interval_ms=300, language="en", context="kettle")
        bridge, _ = self.play(plan, talk(0.2))
        asked = bridge.streams["live-1"].options
        assert (asked["partials"], asked["auto_flush"]) == (True, True)
        assert (asked["partial_interval_ms"], asked["language"], asked["context"]) == (300, "en", "kettle")

    def test_16_bit_audio_is_fed_as_it_is_in_the_file(self, tmp_path: Path) -> None:
        path, recording = tmp_path / "talk.wav", talk(0.5)
        soundfile.write(path, pcm16(recording.pcm), 16_000, subtype="PCM_16")
        assert Recording.read(path) == recording


@pytest.fixture
def speech(tmp_path: Path) -> str:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(1_600), 16_000, subtype="PCM_16")
    return str(path)


class TestMistakes:
    def ran(self, capsys: pytest.CaptureFixture, *arguments: str, engine: str = "speak") -> tuple[int, str]:
        code = main([*arguments], engine_command(engine))
        reported = capsys.readouterr()
        assert reported.out == ""
        [line] = reported.err.splitlines()
        return code, line

    def test_a_file_that_is_not_there(self, capsys: pytest.CaptureFixture) -> None:
        assert self.ran(capsys, "/nowhere.wav") == (1, "qwen3-asr-mlx-live: no such file: '/nowhere.wav'")

    def test_a_file_that_holds_no_sound(self, capsys: pytest.CaptureFixture) -> None:
        code, line = self.ran(capsys, __file__)
        assert code == 1
        assert "no header of a sound file" in line

    def test_a_model_that_is_not_there(self, capsys: pytest.CaptureFixture, speech: str) -> None:
        code, line = self.ran(capsys, speech, engine="no_model")
        assert (code, line.split(":")[1].strip()) == (1, "model_not_found")

    def test_what_the_bridge_refuses(self, capsys: pytest.CaptureFixture, speech: str) -> None:
        code, line = self.ran(capsys, "--language", "Klingon", speech)
        assert (code, line.split(":")[1].strip()) == (1, "invalid_params")

    def test_a_bridge_that_does_not_start(self, capsys: pytest.CaptureFixture, speech: str) -> None:
        code, line = self.ran(capsys, "--bridge=--nonsense", speech)
        assert code == 1
        assert "exit code 2" in line
        assert "--nonsense" in line

    def test_a_bridge_that_breaks(self, capsys: pytest.CaptureFixture, speech: str) -> None:
        code, line = self.ran(capsys, speech, engine="broken")
        assert (code, line.split(":")[1].strip()) == (1, "internal_error")

    @pytest.mark.parametrize("arguments", [[], ["--chunk-ms", "3", "x"], ["--streams", "0", "x"], ["--nonsense", "x"]])
    def test_a_command_line_that_is_wrong(self, capsys: pytest.CaptureFixture, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_the_launcher_starts_it_and_help_shows_examples(repository: Path, tmp_path: Path) -> None:
    reported = launched(repository, tmp_path, "qwen3-asr-mlx-live", "--help", groups="")
    assert (reported.returncode, reported.stderr) == (0, "")
    assert "qwen3-asr-mlx-live --model demo examples/audio/sample.wav" in reported.stdout


def test_the_whole_of_it_against_a_stand_in_for_the_engine(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(38_400), 16_000, subtype="PCM_16")
    assert main(["--json", "--no-wait", "--streams", "2", str(path)], engine_command("count")) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [one["text"] for one in reported["utterances"]] == ["38400 samples"] * 2
    assert [one["partials"] for one in reported["utterances"]] == [4, 4]
    assert reported["stable_errors"] > 0  # the stand-in's partials are not what it says in the end
