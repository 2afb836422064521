"""The page of an evaluation: what it shows, that a browser can show it, and what it keeps to itself."""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from rich.console import Console
from support.browser import Page, browser
from support.report_checks import complaints, figures

from qwen3_asr_mlx_runtime.engines.profile import MIB, Memory, Profile, batch_profile
from qwen3_asr_mlx_runtime.protocol.transcripts import ItemError, Word
from qwen3_asr_mlx_runtime.tools.evaluate.charts import charts
from qwen3_asr_mlx_runtime.tools.evaluate.configuration import Configuration, configurations
from qwen3_asr_mlx_runtime.tools.evaluate.evaluation import Evaluation, Failure, Result, Scoring, error_rate, evaluation
from qwen3_asr_mlx_runtime.tools.evaluate.measurement import Measured, MeasuredItem
from qwen3_asr_mlx_runtime.tools.evaluate.report import page
from qwen3_asr_mlx_runtime.tools.evaluate.table import cells, cells_of_words, columns, show_evaluation
from qwen3_asr_mlx_runtime.tools.evaluate.waveform import COLUMNS, Spoken, drawing, spoken
from qwen3_asr_mlx_runtime.tools.evaluate.waveform import columns as columns_of
from qwen3_asr_mlx_runtime.tools.machine import Machine
from qwen3_asr_mlx_runtime.tools.manifest import Entry, ReferenceWord
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap
from qwen3_asr_mlx_runtime.tools.score.word_times import TimeErrors, WordFigures

MACHINE = Machine("Linux on riscv64", "A processor", 2, 8 * 2**30, {"qwen3-asr-mlx-runtime": "9.9", "mlx": "1.2.3"})
SPOKEN = {"English": "we saw the light", "German": "wir sahen das licht", "Chinese": "我们看见光", "Thai": "เราเห็นแสง"}
SECONDS = (1.0, 4.0, 8.0, 15.0, 25.0, 40.0)
BOOTSTRAP = Bootstrap(50)


def entries(count: int = 24) -> list[Entry]:
    printed = list(SPOKEN.items())
    return [
        Entry(f"clip-{number}.wav", Path("x"), printed[number % 4][1], printed[number % 4][0], number + 1)
        for number in range(count)
    ]


def profile(seconds: float, work: float) -> Profile:
    stages = {"feature_extract_seconds": 0.05, "audio_tower_seconds": 0.25, "prefill_seconds": 0.2}
    return Profile(
        stage="x",
        audio_seconds=seconds,
        total_seconds=work,
        continuation_seconds=work * 0.5,
        **{name: work * share for name, share in stages.items()},
        memory=Memory(rss_peak_bytes=500 * MIB, mlx_peak_bytes=200 * MIB),
    )


def measured(place: int, printed: list[Entry], device: str = "cpu") -> Measured:
    """The more configurations before it, the faster, and the more last letters are missed."""
    items = [
        MeasuredItem(
            entry.audio,
            entry.text[:-1] if number % 8 < place else entry.text,
            profile(SECONDS[number % len(SECONDS)], SECONDS[number % len(SECONDS)] / (place + 10) + 0.02),
        )
        for number, entry in enumerate(printed)
    ]
    whole = batch_profile([item.profile for item in items if item.profile], "batch", 1)
    return Measured(device, 1, 1.5, 9.0, whole.audio_seconds, 10.0 + place, 9.0, 33.0, whole, items)


def evaluated(models: list[str], worst: int = 0, **changes: object) -> Evaluation:
    printed = entries()
    scoring = Scoring(Path("m.jsonl"), printed, worst, BOOTSTRAP)
    chosen = configurations(models, ["sequential", "batched"], ["none"])
    results = [scoring.result(one, measured(place, printed)) for place, one in enumerate(chosen)]
    made = evaluation(
        "evaluate --x", f"{date(2026, 1, 2)}T03:04:05+00:00", MACHINE, ("m.jsonl", 24), BOOTSTRAP, results
    )
    return msgspec.structs.replace(made, **changes)


def with_words(made: Evaluation) -> Evaluation:
    """Each configuration some milliseconds worse than the one before, and every worst utterance drawn."""
    results = []
    for place, result in enumerate(made.results):
        off = np.random.default_rng(place).integers(-80, 81 + 60 * place, 200)
        half = sorted(map(int, off[:100])), sorted(map(int, off[100:]))
        errors = TimeErrors(110, 100, 40.0, 38.0, 42.0, 35.0, {80: 0.9, 160: 0.95, 240: 1.0}, *half)
        figures = WordFigures(20, {"language": 4}, 400, 2, 3.0, 55.0, errors)
        drawn = [heard_of(worst.audio, SECONDS[number % 6]) for number, worst in enumerate(result.score.worst)]
        results.append(msgspec.structs.replace(result, words=figures, spoken=drawn))
    return msgspec.structs.replace(made, results=results)


def heard_of(audio: str, seconds: float, text: str = "light") -> Spoken:
    """A word every third of a second, and one fewer in the manifest."""
    words = [ReferenceWord(text, place / 3, place / 3 + 0.3) for place in range(int(3 * seconds))]
    wave = [50 + place % 50 for place in range(COLUMNS)]
    return Spoken(audio, seconds, [-each for each in wave], wave, words, words[1:])


@cache
def written_of(models: int, worst: int = 0) -> str:
    return page(evaluated([f"model-{number}" for number in range(models)], worst))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(shown: Page, tmp_path: Path) -> tuple[Page, Path]:
    shown.requests.clear()
    return shown, tmp_path / "report.html"


class TestPlots:
    @pytest.mark.parametrize("count", [1, 4])
    def test_every_one_is_there_and_legible_on_a_desk_and_a_phone_light_and_dark(
        self, opened: tuple[Page, Path], count: int
    ) -> None:
        browser_page, path = opened
        path.write_text(written_of(count))
        assert complaints(browser_page, path) == []
        drawn = figures(browser_page)
        assert list(drawn) == ["speed", "memory", "latency", "stages", "language", "duration"]
        marks = {name: len(figure["marks"]) for name, figure in drawn.items()}
        assert list(marks.values()) == [each * count for each in (2, 2, 2, 8, 8, 12)]
        assert browser_page.requests == [path.as_uri()] * 4

    def test_the_check_would_notice_letters_on_each_other(self, opened: tuple[Page, Path]) -> None:
        browser_page, path = opened
        written = written_of(1)
        path.write_text(re.sub("(<text[^>]*>B</text>)", r"\1\1", written))
        assert "speed: 'B' is over 'B'" in " ".join(complaints(browser_page, path))
        path.write_text(re.sub(r"font: 8\.5px|font-size: 8\.5px", "font-size: 4px", written))
        assert "pixels" in " ".join(complaints(browser_page, path))

    def test_they_say_what_the_languages_are_judged_by(self) -> None:
        [language] = [chart for chart in charts(evaluated(["one"])) if chart.name == "language"]
        labels = re.findall(r">([^<>]+ \(\d+\))</text>", language.svg)
        assert labels == ["Chinese CER (6)", "English (6)", "German (6)", "Thai CER (6)"]

    def test_durations_ascend_although_the_first_configuration_lacks_the_shortest(self) -> None:
        made = evaluated(["one"])
        first = made.results[0]
        later = {name: scores for name, scores in first.durations.items() if name != "0 to 2 s"}
        results = [msgspec.structs.replace(first, durations=later), made.results[1]]
        drawn = {chart.name: chart.svg for chart in charts(msgspec.structs.replace(made, results=results))}
        labels = re.findall(r">(\d+) (?:to|s and)[^<]*</text>", drawn["duration"])
        assert labels == ["0", "2", "5", "10", "20", "30"]

    def test_what_was_not_measured_has_none(self) -> None:
        made = evaluated(["one"])
        figures = msgspec.structs.replace(
            made.results[0].figures, realtime_factor=None, memory_bytes=None, work_seconds=[], stages={}
        )
        silent = msgspec.structs.replace(made.results[0], figures=figures, durations={})
        names = [chart.name for chart in charts(msgspec.structs.replace(made, results=[silent]))]
        assert names == ["language"]

    def test_marks_that_meet_have_letters_that_do_not(self, opened: tuple[Page, Path]) -> None:
        browser_page, path = opened
        made = evaluated(["one", "two", "three"])
        same = [
            msgspec.structs.replace(result, figures=made.results[0].figures, score=made.results[0].score)
            for result in made.results
        ]
        path.write_text(page(msgspec.structs.replace(made, results=same)))
        assert complaints(browser_page, path) == []


class TestWords:
    def test_their_table_their_plot_and_the_waveforms_are_legible_on_a_desk_and_a_phone(
        self, opened: tuple[Page, Path]
    ) -> None:
        browser_page, path = opened
        path.write_text(page(with_words(evaluated(["one", "two"], worst=6))))
        assert complaints(browser_page, path) == []
        drawn = figures(browser_page)
        assert [mark["id"] for mark in drawn["word-times"]["marks"]] == [f"word-times-mark-{key}" for key in "ABCD"]
        inside = """[...document.querySelectorAll(".wave svg")].map(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll("text, path, rect")].every(part => {
              const box = part.getBoundingClientRect();
              const isWithin = box.left >= frame.left - 1 && box.right <= frame.right + 1;
              return isWithin && box.bottom <= frame.bottom + 1; }); })"""
        waves = browser_page.run(inside)
        assert len(waves) == 15
        assert all(waves)

    def test_who_did_not_ask_for_them_has_none(self) -> None:
        written = written_of(1, worst=30)
        assert "<h2>Words</h2>" not in written
        assert '<path d="M' not in written.partition("Worst utterances")[2]
        assert 'id="word-times"' not in written

    def test_the_table_has_them_and_the_configuration_without_has_none(self) -> None:
        made = with_words(evaluated(["one"]))
        first, second = made.results
        made = msgspec.structs.replace(made, results=[first, msgspec.structs.replace(second, words=None)])
        row = ("400", "2", "language 4", "3.000", "55.0", "100 of 110", "40 (38, 42)", "35", "90.0, 95.0, 100.0")
        assert tuple(cells_of_words(first)) == row
        file = io.StringIO()
        show_evaluation(Console(file=file, width=60), made)
        assert [cell for cell in row if cell not in file.getvalue()] == []
        assert [cell for cell in row if f">{cell}</td>" not in page(made)] == []
        assert [chart.svg.count("-mark-") for chart in charts(made) if chart.name == "word-times"] == [1]

    def test_nothing_that_matches_has_no_plot(self) -> None:
        made = with_words(evaluated(["one"]))
        figures = msgspec.structs.replace(made.results[0].words, errors=None)
        silent = [msgspec.structs.replace(result, words=figures) for result in made.results]
        assert "word-times" not in [chart.name for chart in charts(msgspec.structs.replace(made, results=silent))]

    def test_a_word_that_looks_like_a_script_is_shown_as_it_is(self) -> None:
        made = evaluated(["one"], worst=1)
        second = made.results[1]
        drawn = [heard_of(second.score.worst[0].audio, 4.0, "<script>\"'&")]
        written = page(msgspec.structs.replace(made, results=[msgspec.structs.replace(second, spoken=drawn)]))
        assert "<script" not in written
        [svg] = re.findall(r'(?s)<div class="wave".*?(<svg.*?</svg>)', written)
        texts = [text.text for text in ElementTree.fromstring(svg).iter("text")]
        assert texts == ["<script>\"'&"] * len(texts) != []


class TestWaveform:
    def test_its_columns_are_those_of_the_samples(self) -> None:
        samples = np.zeros(16_000, np.float32)
        samples[0], samples[8_000], samples[-1] = 0.25, -0.5, 0.125
        lows, highs = columns_of(samples)
        assert (len(lows), len(highs)) == (COLUMNS, COLUMNS)
        assert [(place, low) for place, low in enumerate(lows) if low] == [(200, -100)]
        assert [(place, high) for place, high in enumerate(highs) if high] == [(0, 50), (399, 25)]
        assert columns_of(samples[:0]) == ([], [])
        assert columns_of(samples[:3]) == ([100, 0, 0], [100, 0, 0])
        assert columns_of(np.zeros(5, np.float32)) == ([0] * 5, [0] * 5)

    def test_words_lie_at_their_times_and_labels_do_not_meet(self) -> None:
        words = [ReferenceWord("considerably", place / 4, place / 4 + 0.25) for place in range(40)]
        drawn = drawing(Spoken("a", 10.0, [-1], [1], words, []))
        scale = drawn.width / 10
        assert [round(label.left / scale, 2) for label in drawn.found] == [word.start for word in words]
        assert drawn.reference == []
        ends: dict[int, float] = {}
        for label in drawn.found:
            if label.row is not None:
                assert label.x >= ends.get(label.row, 0.0)
                ends[label.row] = label.x + 7 * len(label.text)
        assert max(ends) == 2
        assert max(ends.values()) <= drawn.width
        assert any(label.row is None for label in drawn.found)

    def test_an_hour_is_as_wide_as_a_few_screens_and_a_moment_as_a_phone(self) -> None:
        widths = [drawing(Spoken("a", seconds, [-1], [1], [], [])).width for seconds in (0.0, 0.1, 10.0, 3600.0)]
        assert widths == [320, 320, 1100, 4000]

    def test_the_worst_have_the_audio_and_the_words_that_were_measured(self, tmp_path: Path) -> None:
        [result] = evaluated(["one"], worst=1).results[1:]
        [worst] = result.score.worst
        tone = np.sin(np.arange(8_000) / 10)
        soundfile.write(tmp_path / "noisy.wav", tone, 16_000)
        times = {"char_start": 0, "char_end": 1, "confidence": None}
        words = [Word(text="a", start=0.1, end=0.2, time_confidence=0.5, **times)]
        words += [Word(text="whole segment", start=0.2, end=0.5, time_confidence=None, **times)]
        items = [MeasuredItem("other"), MeasuredItem(worst.audio, "a", words=words)]
        known = Entry(worst.audio, Path("unused"), "a", None, 1, None, (ReferenceWord("A.", 0.0, 0.3),))
        [drawn] = spoken([worst], items, [known], [(worst.audio, tmp_path / "noisy.wav")])
        assert (drawn.audio, drawn.seconds, max(drawn.highs), min(drawn.lows)) == (worst.audio, 0.5, 100, -100)
        assert drawn.words == [ReferenceWord("a", 0.1, 0.2)]
        assert drawn.reference == [ReferenceWord("A.", 0.0, 0.3)]


class TestPage:
    def test_it_refers_to_nothing_outside_of_itself(self) -> None:
        written = written_of(1, worst=30)
        assert re.findall(r"https?:|//[a-z]|@import|<(?:script|link|img|iframe|object|embed)|\bsrc=", written) == []
        assert set(re.findall(r"""(?:href|url)(?:=["']|\()(.)""", written)) == {"#"}
        ids = re.findall(r'\bid="([^"]+)"', written)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)|url\(#([^)]+)', written)) <= {
            pair for name in ids for pair in ((name, ""), ("", name))
        }

    def test_a_text_that_looks_like_a_script_is_shown_and_does_nothing(self, opened: tuple[Page, Path]) -> None:
        browser_page, path = opened
        evil = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
        printed = [Entry(f"{evil}.wav", Path("x"), f"a {evil} b", "German", 1), *entries(4)]
        scoring = Scoring(Path("m"), printed, 3, BOOTSTRAP)
        result = scoring.result(Configuration("A", evil, "sequential", None), measured(8, printed))
        worst = result.score.worst[0].alignment
        harsh = msgspec.structs.replace(
            worst, chunks=[msgspec.structs.replace(worst.chunks[0], kind="substitute", reference=[evil])]
        )
        score = msgspec.structs.replace(
            result.score, worst=[msgspec.structs.replace(result.score.worst[0], alignment=harsh, audio=evil)]
        )
        made = evaluation(
            evil,
            f"2026-01-01{evil}",
            msgspec.structs.replace(MACHINE, processor=evil),
            (evil, 5),
            BOOTSTRAP,
            [
                msgspec.structs.replace(result, score=score, file_error=evil),
                Failure(Configuration("B", evil, "batched", None), evil),
            ],
        )
        path.write_text(page(made))
        browser_page.open(path, 1280, 900)
        assert browser_page.run("[document.scripts.length, document.images.length]") == [0, 0]
        assert browser_page.run("document.title") == f"Evaluation of {evil}"
        assert browser_page.run("document.body.innerText").count("<script>") >= 8
        assert browser_page.requests == [path.as_uri()]

    def test_it_holds_no_text_unless_it_is_asked_for_the_worst(self) -> None:
        words = {word for text in SPOKEN.values() for word in text.split()} - {"the", "light"}
        assert [word for word in words if re.search(rf"\b{word}\b", written_of(1))] == []
        asked = written_of(1, worst=30)
        assert "<del>light</del> <ins>ligh</ins>" in asked
        assert "clip-0.wav (English), 1 of 4 words wrong" in asked

    def test_it_says_how_it_was_made(self) -> None:
        written = written_of(1)
        for reported in (
            "evaluate --x",
            "2026-01-02T03:04:05+00:00",
            "A processor, 2 cores",
            "8 GiB",
            "Linux on riscv64",
        ):
            assert reported in written
        for reported in ("qwen3-asr-mlx-runtime 9.9", "mlx 1.2.3", "50 bootstrap drawings", "decoded on the CPU"):
            assert reported in written
        assert "over the languages that separate words" in written
        assert "Chinese: basic (NFKC, case folded, without punctuation and symbols and spaces)" in written

    def test_what_failed_is_named_beside_what_did_not(self) -> None:
        failure = Failure(Configuration("C", "x/none", "sequential", "8bit"), "it is not there")
        made = evaluated(["one"], failures=[failure])
        written = page(msgspec.structs.replace(made, results=made.results[:1]))
        assert "C: none, sequential, 8bit: it is not there" in written
        assert "<b>A</b> one, sequential" in written

    def test_the_heading_of_the_difference_names_what_is_compared(self) -> None:
        made = evaluated(["one"])
        assert "WER minus A’s (95 %)" in columns(made)
        assert "<th>WER minus A’s (95 %)</th>" in page(made)
        without_first = msgspec.structs.replace(made, results=made.results[1:])
        assert "WER minus B’s (95 %)" in columns(without_first)


class TestTable:
    @pytest.mark.parametrize("width", [40, 80, 120, 200])
    def test_no_number_is_cut_however_narrow_the_terminal_is(self, width: int) -> None:
        made = evaluated(["a model with a rather long name"])
        made = msgspec.structs.replace(made, failures=[Failure(Configuration("C", "m", "batched", None), "x")])
        file = io.StringIO()
        show_evaluation(Console(file=file, width=width), made)
        reported = file.getvalue()
        assert "…" not in reported
        for result in made.results:
            assert [cell for cell in cells(result) if cell not in reported] == []
        assert "failed" in reported


class TestFigures:
    def test_each_configuration_differs_from_the_first(self) -> None:
        first, second = evaluated(["one"]).results
        assert first.difference is None
        assert error_rate(first.score.overall).rate == 0.0
        assert second.difference.wer.second == error_rate(second.score.overall).rate > 0
        reported = list(cells(second))
        assert reported[3].startswith("+")
        assert reported[4:] == ["11.0", "1.065", "3.656", "1.50", "500"]

    def test_memory_is_that_of_the_device(self) -> None:
        scoring = Scoring(Path("m"), entries(4), 0, BOOTSTRAP)
        one = Configuration("A", "m", "sequential", None)
        on = {device: scoring.result(one, measured(0, entries(4), device)).figures for device in ("cpu", "gpu")}
        assert {device: figures.memory_bytes // MIB for device, figures in on.items()} == {"cpu": 500, "gpu": 200}

    def test_utterances_are_grouped_by_seconds(self) -> None:
        [result, _] = evaluated(["one"]).results
        names = ["0 to 2 s", "2 to 5 s", "5 to 10 s", "10 to 20 s", "20 to 30 s", "30 s and more"]
        assert {name: scores.utterances for name, scores in result.durations.items()} == dict.fromkeys(names, 4)

    def test_a_file_that_failed_is_out_of_the_rates_and_named(self) -> None:
        printed = entries(4)
        found = measured(0, printed)
        failed = MeasuredItem(printed[0].audio, error=ItemError(code="audio_empty", message="nothing in it"))
        found = msgspec.structs.replace(found, items=[failed, *found.items[1:]])
        scoring = Scoring(Path("m"), printed, 0, BOOTSTRAP)
        result: Result = scoring.result(Configuration("A", "m", "sequential", None), found)
        assert result.score.failed == [printed[0].audio]
        assert result.score.overall.utterances == 3
        assert result.file_error == "1 of 4 files failed; the first: nothing in it"


def test_models_that_end_the_same_have_their_whole_names() -> None:
    chosen = configurations(["a/x", "b/x", "a/y", "a/x"], ["batched"], ["none"])
    assert [one.label for one in chosen] == ["a/x, batched", "b/x, batched", "y, batched"]


def test_every_combination_is_a_configuration_once() -> None:
    chosen = configurations(["a/x", "a/x", "y"], ["sequential", "batched"], ["none", "8bit"])
    assert [f"{one.key} {one.label}" for one in chosen] == [
        *("A x, sequential", "B x, batched", "C x, sequential, 8bit", "D x, batched, 8bit"),
        *("E y, sequential", "F y, batched", "G y, sequential, 8bit", "H y, batched, 8bit"),
    ]
    assert chosen[2].arguments() == ["--model=a/x", "--decoder-mode=sequential", "--quantize=8bit"]
    many = configurations(map(str, range(30)), ["sequential"], ["none"])
    assert [one.key for one in many][24:28] == ["Y", "Z", "AA", "AB"]
