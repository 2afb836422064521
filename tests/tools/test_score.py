"""scripts/qwen3-asr-mlx-score: what it reads, what belongs together, its figures, and what it says to mistakes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unicodedata import normalize

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.tools.manifest import Entry, read_manifest
from qwen3_asr_mlx_runtime.tools.score.alignment import Counts, align, diff_rows
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap
from qwen3_asr_mlx_runtime.tools.score.comparison import compare
from qwen3_asr_mlx_runtime.tools.score.main import main
from qwen3_asr_mlx_runtime.tools.score.matching import Pair, match
from qwen3_asr_mlx_runtime.tools.score.normalization import basic, normaliser_of
from qwen3_asr_mlx_runtime.tools.score.predictions import Prediction, Predictions, read_predictions
from qwen3_asr_mlx_runtime.tools.score.scoring import score, scores

FEW = Bootstrap(resamples=50)


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in objects))
    return path


def entry(audio: str, text: str = "", language: str | None = None, folder: Path = Path("/x")) -> Entry:
    return Entry(audio, folder / audio, text, language, 1)


class TestManifest:
    def test_paths_are_seen_from_its_folder_and_languages_are_canonical(self, tmp_path: Path) -> None:
        path = lines(
            tmp_path / "m.jsonl", {"audio": "a/b.wav", "text": "Hi.", "language": "en"}, "", {"audio": "/c", "text": ""}
        )
        first, second = read_manifest(path)
        assert first == Entry("a/b.wav", tmp_path / "a/b.wav", "Hi.", "English", 1)
        assert second == Entry("/c", Path("/c"), "", None, 3)

    @pytest.mark.parametrize(
        ("line", "expected_text"),
        [
            ('{"audio": "b", "text": "secret"', "truncated"),
            ('{"audio": "b"}', "text"),
            ('{"audio": 3, "text": "secret"}', "$.audio"),
            ('{"audio": "", "text": "secret"}', "`audio` is empty"),
            ('{"audio": "b", "text": "secret", "language": "Klingon"}', "unknown language"),
            ('{"audio": "a", "text": "secret"}', "the audio of line 1 again"),
            ("[]", "object"),
        ],
    )
    def test_a_bad_line_is_named_and_not_quoted(self, tmp_path: Path, line: str, expected_text: str) -> None:
        path = lines(tmp_path / "m.jsonl", {"audio": "a", "text": "x"}, "", line)
        with pytest.raises(InvalidParams) as caught:
            read_manifest(path)
        assert caught.value.message.startswith(f"{path}: line 3: ")
        assert expected_text in caught.value.message
        assert "secret" not in caught.value.message

    def test_bytes_that_are_no_text_are_a_bad_line_and_a_byte_order_mark_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        path.write_bytes(b'\xef\xbb\xbf{"audio": "a", "text": "x"}\r\n')
        assert read_manifest(path)[0].audio == "a"
        path.write_bytes(b'{"audio": "a", "text": "\xff"}')
        with pytest.raises(InvalidParams, match="line 1"):
            read_manifest(path)

    def test_one_without_a_line_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidParams):
            read_manifest(lines(tmp_path / "m.jsonl", ""))


ITEM = {"audio": "a.wav", "text": "one"}
FAILED = {"audio": "b.wav", "text": None, "error": {"code": "audio_empty", "message": "…"}}
SPOKEN = {"type": "final_result", "stream_id": "s", "text": "no file"}


class TestPredictions:
    @pytest.mark.parametrize("indent", [None, 1])
    def test_perftest_writes_one_object(self, tmp_path: Path, indent: int | None) -> None:
        path = lines(tmp_path / "p.json", json.dumps({"model": "demo", "items": [ITEM, FAILED]}, indent=indent))
        assert read_predictions(path).items == [Prediction("a.wav", "one", 1), Prediction("b.wav", None, 1)]

    def test_of_the_bridge_s_lines_those_with_transcripts_count(self, tmp_path: Path) -> None:
        path = lines(
            tmp_path / "p.jsonl",
            {"type": "ready", "model": "demo"},
            {"type": "transcript", **ITEM, "profile": {}},
            {"type": "batch_transcript", "items": [FAILED]},
            {"type": "realtime_batch_final", "items": [SPOKEN, {**SPOKEN, "audio": "c.wav", "text": "two"}]},
            {"type": "error", "code": "audio_not_found", "message": "…"},
            {"type": "stopped", "items": []},
        )
        found = read_predictions(path)
        assert [(one.audio, one.text, one.line) for one in found.items] == [
            *(("a.wav", "one", 2), ("b.wav", None, 3), ("c.wav", "two", 4))
        ]
        assert found.unnamed == 1

    def test_json_lines_will_do(self, tmp_path: Path) -> None:
        assert len(read_predictions(lines(tmp_path / "p.jsonl", ITEM, "", {**ITEM, "audio": "b"})).items) == 2
        assert len(read_predictions(lines(tmp_path / "p.jsonl", ITEM)).items) == 1

    @pytest.mark.parametrize(
        ("bad", "expected_text"),
        [("nonsense", "malformed"), ({"audio": "b"}, "`text`"), ({"text": "x"}, "`audio`"), (ITEM, "line 1 again")],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, bad: object, expected_text: str) -> None:
        path = lines(tmp_path / "p.jsonl", ITEM, bad)
        with pytest.raises(InvalidParams) as caught:
            read_predictions(path)
        assert caught.value.message.startswith(f"{path}: line 2: ")
        assert expected_text in caught.value.message

    def test_a_field_of_another_type_is_named_in_one_object_over_many_lines(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "p.json", json.dumps({"items": [{"audio": "a", "text": 1}]}, indent=1))
        with pytest.raises(InvalidParams, match=r"\$\.items\[0\]\.text"):
            read_predictions(path)


class TestMatching:
    def names(self, entries: list[Entry], audio: list[str], file: Path = Path("/y/p.json")) -> list[str | None]:
        """Of each entry, what it was matched with."""
        items = [Prediction(name, name, 1) for name in audio]
        found = match(entries, Predictions(file, items, 0))
        texts = {pair.entry.audio: pair.text for pair in found.pairs}
        assert [one.audio for one in found.missing] == [one.audio for one in entries if one.audio not in texts]
        assert {one.audio for one in found.unexpected} == set(audio) - set(texts.values())
        assert found.is_complete == (len(texts) == len(entries) == len(audio))
        return [texts.get(one.audio) for one in entries]

    def test_the_path_as_given_goes_first(self) -> None:
        """`b/a.wav` lies where the first entry does, seen from the predictions; it is the second nevertheless."""
        both = [Entry("a.wav", Path("/y/b/a.wav"), "", None, 1), entry("b/a.wav")]
        assert self.names(both, ["b/a.wav", "a.wav"]) == ["a.wav", "b/a.wav"]

    def test_then_the_resolved_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "link").symlink_to("real")
        both = [entry("1/a.wav", folder=tmp_path / "real"), entry("2/a.wav", folder=tmp_path / "real")]
        assert self.names(both, ["link/2/a.wav", "real/1/../1/a.wav"]) == ["real/1/../1/a.wav", "link/2/a.wav"]
        below = tmp_path / "real" / "p.json"
        assert self.names(both, ["./1/a.wav"], below) == ["./1/a.wav", None]

    def test_then_a_base_name_that_is_unique_on_both_sides(self) -> None:
        assert self.names([entry("1/a.wav"), entry("b.wav")], ["9/b.wav", "9/a.wav"]) == ["9/a.wav", "9/b.wav"]
        assert self.names([entry("1/a.wav"), entry("2/a.wav")], ["9/a.wav"]) == [None, None]
        assert self.names([entry("1/a.wav")], ["8/a.wav", "9/a.wav"]) == [None]
        assert self.names([entry("1/a.wav"), entry("2/a.wav")], ["1/a.wav", "9/a.wav"]) == ["1/a.wav", None]

    def test_what_failed_is_matched_and_has_no_text(self) -> None:
        found = match([entry("a")], Predictions(Path("p"), [Prediction("a", None, 1)], 0))
        assert (found.pairs, found.missing, found.failed) == ([], [], [Prediction("a", None, 1)])
        assert not found.is_complete


class TestNormalisation:
    @pytest.mark.parametrize(
        ("language", "text", "normal"),
        [
            ("English", "Mr. Smith's colour won't cost twenty-one dollars!", "mister smith is color will not cost $21"),
            ("English", "Seven, three one.", "731"),
            ("German", "»Straße« – ÄRGER, l'homme", "strasse ärger l homme"),
            ("Hindi", "हिन्दी में।", "हिन्दी में"),
            ("Arabic", "أربعة، صفر؟", "أربعة صفر"),
            ("Persian", "می\u200cخواهم", "میخواهم"),
            ("Chinese", "你好，世界！ＡＢＣ 1", "你好世界abc1"),
            ("Korean", "안녕 하세요.", "안녕하세요"),
            ("Thai", "สวัสดี ครับ", "สวัสดีครับ"),
            (None, "Hello, World", "hello world"),
            (None, "今日は 晴れ。", "今日は晴れ"),
        ],
    )
    def test_texts_that_say_the_same_become_the_same(self, language: str | None, text: str, normal: str) -> None:
        assert normaliser_of(language, text).apply(text) == normalize("NFKC", normal)

    def test_five_languages_are_judged_by_characters_and_the_name_says_what_was_done(self) -> None:
        by_character = ["Chinese", "Cantonese", "Japanese", "Korean", "Thai"]
        assert [normaliser_of(language, "").words for language in by_character] == [False] * 5
        assert normaliser_of("Vietnamese", "").words
        assert "whisper-normalizer 0." in normaliser_of("English", "").name
        assert "spaces" in normaliser_of("Thai", "").name

    def test_a_library_that_is_compiled_for_the_first_time_warns_nobody(self, repository: Path, tmp_path: Path) -> None:
        program = (
            f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
            "from qwen3_asr_mlx_runtime.tools.score.normalization import normaliser_of\n"
            "sys.stdout.write(normaliser_of('English', '').apply('Seven, two.'))"
        )
        command = [sys.executable, "-I", "-W", "error", "-X", f"pycache_prefix={tmp_path}", "-c", program]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (output.stdout, output.stderr) == ("72", "")

    @given(st.text())
    def test_it_is_done_once_and_for_all_with_single_spaces(self, text: str) -> None:
        assert basic(text).split(" ") == basic(text).split() or basic(text) == ""


def distance(first: list[str], second: list[str]) -> int:
    """Levenshtein's, by the textbook."""
    row = list(range(len(second) + 1))
    for above, one in enumerate(first):
        row, before = [above + 1], row
        for left, other in enumerate(second):
            row.append(min(row[-1] + 1, before[left + 1] + 1, before[left] + (one != other)))
    return row[-1]


words = st.lists(st.sampled_from(["a", "bb", "語", "ccc"]), max_size=7)


class TestAlignment:
    @pytest.mark.parametrize(
        ("expected_text", "predicted", "counts"),
        [
            ("a b c d", "a x c d e", Counts(1, 0, 1, 4)),
            ("a b c d", "a d", Counts(0, 2, 0, 4)),
            ("", "a b", Counts(0, 0, 2, 0)),
            ("a b", "", Counts(0, 2, 0, 2)),
            ("", "", Counts()),
        ],
    )
    def test_errors_are_counted_by_kind(self, expected_text: str, predicted: str, counts: Counts) -> None:
        assert align(expected_text, predicted, "word").counts == counts

    def test_characters_are_those_of_people_who_write_them(self) -> None:
        assert align("你好世界", "你好是界吗", "character").counts == Counts(1, 0, 1, 4)

    @given(words, words)
    def test_the_errors_are_the_fewest_and_the_runs_give_both_texts_back(
        self, expected_text: list[str], predicted: list[str]
    ) -> None:
        found = align(" ".join(expected_text), " ".join(predicted), "word")
        assert found.counts.errors == distance(expected_text, predicted)
        assert [word for chunk in found.chunks for word in chunk.reference] == expected_text
        assert [word for chunk in found.chunks for word in chunk.hypothesis] == predicted

    def test_a_diff_stands_in_columns(self) -> None:
        [row] = diff_rows(align("one two three", "one too three four", "word"), 80)
        assert row == ("one two three ****", "one too three four", "    S         I")
        [row] = diff_rows(align("語字", "字語字", "character"), 80)
        assert row == ("**語字", "字語字", "I")

    @given(words, words, st.integers(8, 30))
    def test_a_diff_keeps_to_its_width(self, expected_text: list[str], predicted: list[str], width: int) -> None:
        rows = diff_rows(align(" ".join(expected_text), " ".join(predicted), "word"), width)
        assert all(cell_len(line) <= width for row in rows for line in row)
        assert [word for row in rows for word in row[0].split() if "*" not in word] == expected_text


class TestBootstrap:
    def test_the_same_seed_gives_the_same_interval_and_another_another(self) -> None:
        errors, lengths = [0, 3, 1, 0, 5, 2, 7], [9, 8, 7, 6, 11, 4, 13]
        assert FEW.rate(errors, lengths) == FEW.rate(errors, lengths)
        assert FEW.rate(errors, lengths) != Bootstrap(50, seed=1).rate(errors, lengths)

    def test_it_covers_what_is_drawn(self) -> None:
        """Of one right and one wrong utterance both, one or none is drawn; of ten like each other always the same."""
        assert Bootstrap(1000).rate([0, 1], [1, 1]) == (0.0, 1.0)
        assert FEW.rate([1] * 10, [4] * 10) == (0.25, 0.25)

    def test_it_is_as_wide_as_theory_says(self) -> None:
        """100 words, each an utterance, 20 of them wrong: 0.2 ± 1.96 √(0.2 · 0.8 / 100) = 0.2 ± 0.0784."""
        low, high = Bootstrap(4000).rate([1] * 20 + [0] * 80, [1] * 100) or (0, 0)
        assert low == pytest.approx(0.1216, abs=0.015)
        assert high == pytest.approx(0.2784, abs=0.015)

    def test_a_pair_is_drawn_together(self) -> None:
        """The second has one error less in each utterance of ten words, however different these are."""
        assert FEW.difference([5, 1, 9], [4, 0, 8], [10, 10, 10]) == (-0.1, -0.1)
        assert FEW.difference([5, 1, 9], [5, 1, 9], [10, 7, 9]) == (0.0, 0.0)

    def test_what_cannot_be_drawn_has_none(self) -> None:
        assert FEW.rate([1], [2]) is None
        assert FEW.rate([1, 1], [0, 0]) is None
        assert FEW.difference([], [], []) is None


SAID = [
    ("a.wav", "The cat sat down.", "The cat sad down now", "German"),  # S 1, I 1 of 4
    ("b.wav", "eins zwei", "eins zwei", "German"),  # 0 of 2
    ("c.wav", "uno dos tres", "dos", "Spanish"),  # D 2 of 3
    ("d.wav", "你好世界", "你号世", "Chinese"),  # S 1, D 1 of 4 characters
]


def scored(expected_text: list[tuple[str, str, str, str]] = SAID) -> list:
    return [score(Pair(entry(audio, text, language), predicted)) for audio, text, predicted, language in expected_text]


class TestRates:
    def test_errors_of_a_group_are_added_before_they_are_divided(self) -> None:
        whole = scores(scored(), FEW)
        assert whole.wer is not None
        assert (whole.wer.substitutions, whole.wer.deletions, whole.wer.insertions, whole.wer.length) == (1, 2, 1, 9)
        assert whole.wer.rate == pytest.approx(4 / 9)
        # "sat" → "sad" and " now": S 1, I 4 of 16; 0 of 9; "uno " and " tres": D 9 of 12; S 1, D 1 of 4
        assert (whole.cer.substitutions, whole.cer.deletions, whole.cer.insertions) == (2, 10, 4)
        assert whole.cer.rate == pytest.approx(16 / 41)

    def test_what_is_judged_by_characters_has_no_words(self) -> None:
        chinese = scores(scored(SAID[3:]), FEW)
        assert chinese.wer is None
        assert chinese.cer.rate == 0.5

    @given(st.lists(st.tuples(words.filter(bool), words), min_size=1, max_size=5))
    def test_it_is_what_jiwer_says_of_all_of_them(self, expected_text: list[tuple[list[str], list[str]]]) -> None:
        texts = [(" ".join(one), " ".join(other)) for one, other in expected_text]
        found = scores(scored([(str(n), one, other, "German") for n, (one, other) in enumerate(texts)]), Bootstrap(1))
        assert found.wer is not None
        assert found.wer.rate == pytest.approx(jiwer.wer(*map(list, zip(*texts, strict=True))))
        assert found.cer.rate == pytest.approx(jiwer.cer(*map(list, zip(*texts, strict=True))))


class TestComparison:
    def test_it_reports_the_difference_and_what_changed_worse_first(self) -> None:
        others = [
            ("a.wav", "The cat sat down.", "the cat sat down", "German"),
            SAID[1],
            ("c.wav", "uno dos tres", "", "Spanish"),
        ]
        found = compare(scored(), scored(others), FEW)
        assert found.overall.utterances == 3
        assert found.overall.wer is not None
        assert found.overall.wer.difference == pytest.approx(3 / 9 - 4 / 9)
        assert [(one.audio, one.first_errors, one.second_errors) for one in found.changed] == [
            *(("c.wav", 2, 3), ("a.wav", 2, 0))
        ]
        assert set(found.languages) == {"German", "Spanish"}

    def test_texts_that_say_the_same_have_not_changed(self) -> None:
        loud = [(audio, text, predicted.upper() + "!", language) for audio, text, predicted, language in SAID]
        found = compare(scored(), scored(loud), FEW)
        assert found.changed == []
        assert found.overall.cer.interval == (0.0, 0.0)


@pytest.fixture
def expected(tmp_path: Path) -> Path:
    expected_text = [{"audio": audio, "text": text, "language": language} for audio, text, _, language in SAID]
    return lines(tmp_path / "expected.jsonl", *expected_text)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return lines(tmp_path / "first.jsonl", *({"audio": audio, "text": predicted} for audio, _, predicted, _ in SAID))


def ran(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, list[str]]:
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err.splitlines()


class TestCommand:
    def test_one_object_holds_all_of_it(self, capsys: pytest.CaptureFixture, expected: Path, predictions: Path) -> None:
        code, out, err = ran(capsys, "--expected", expected, "--predictions", predictions, "--json", "--worst", 2)
        assert (code, err) == (0, [])
        output = json.loads(out)
        [report] = output["reports"]
        assert report["overall"]["wer"]["rate"] == pytest.approx(4 / 9)
        assert len(report["overall"]["wer"]["interval"]) == 2
        assert list(report["languages"]) == ["Chinese", "German", "Spanish"]
        assert report["languages"]["Chinese"]["wer"] is None
        assert [one["audio"] for one in report["worst"]] == ["c.wav", "a.wav"]
        assert report["worst"][0]["alignment"]["chunks"][0] == {
            "kind": "delete",
            "reference": ["uno"],
            "hypothesis": [],
        }
        assert output["comparison"] is None

    def test_people_see_a_table_the_worst_and_the_normalisers(
        self, capsys: pytest.CaptureFixture, expected: Path, predictions: Path
    ) -> None:
        code, out, err = ran(capsys, "--expected", expected, "--predictions", predictions)
        assert (code, err) == (0, [])
        assert "44.44 %" in out
        assert "German: basic (NFKC" in out
        assert "  expected the cat sat down ***\n  got      the cat sad down now\n" in out

    def test_two_files_are_compared(
        self, capsys: pytest.CaptureFixture, expected: Path, predictions: Path, tmp_path: Path
    ) -> None:
        right = lines(tmp_path / "right.jsonl", *({"audio": audio, "text": text} for audio, text, _, _ in SAID))
        both = ("--expected", expected, "--predictions", predictions, "--predictions", right)
        code, out, _ = ran(capsys, *both, "--json")
        output = json.loads(out)["comparison"]
        assert code == 0
        assert output["overall"]["wer"]["difference"] == pytest.approx(-4 / 9)
        assert [one["audio"] for one in output["changed"]] == ["a.wav", "c.wav", "d.wav"]
        assert "3 of 4 utterances changed" in ran(capsys, *both)[1]

    def test_what_has_no_match_is_listed_and_the_exit_is_1(
        self, capsys: pytest.CaptureFixture, expected: Path, tmp_path: Path
    ) -> None:
        some = lines(tmp_path / "p.jsonl", {"audio": "z.wav", "text": "x"}, {"audio": "a.wav", "text": "x"}, FAILED)
        some.write_text(some.read_text().replace('{"audio": "b.wav"', '{"type": "transcript", "audio": "b.wav"'))
        code, out, [line] = ran(capsys, "--expected", expected, "--predictions", some)
        assert code == 1
        assert line.endswith("2 not predicted, 1 not expected, 1 failed")
        assert all(name in out for name in ("c.wav", "d.wav", "z.wav", "b.wav"))
        [report] = json.loads(ran(capsys, "--expected", expected, "--predictions", some, "--json")[1])["reports"]
        assert (report["missing"], report["unexpected"], report["failed"]) == (["c.wav", "d.wav"], ["z.wav"], ["b.wav"])

    def test_a_language_stands_for_lines_that_name_none(
        self, capsys: pytest.CaptureFixture, predictions: Path, tmp_path: Path
    ) -> None:
        bare = lines(tmp_path / "bare.jsonl", *({"audio": audio, "text": text} for audio, text, _, _ in SAID))
        given = ("--expected", bare, "--predictions", predictions, "--json")
        assert list(json.loads(ran(capsys, *given)[1])["reports"][0]["languages"]) == ["unspecified"]
        assert list(json.loads(ran(capsys, *given, "--language", "th")[1])["reports"][0]["languages"]) == ["Thai"]


class TestMistakes:
    def test_a_file_that_is_not_there(self, capsys: pytest.CaptureFixture, expected: Path) -> None:
        code, out, [line] = ran(capsys, "--expected", expected, "--predictions", "/nowhere.json")
        assert (code, out) == (1, "")
        assert line == "qwen3-asr-mlx-score: No such file or directory: /nowhere.json"
        assert ran(capsys, "--expected", "/nowhere", "--predictions", expected)[0] == 1

    def test_a_bad_line(self, capsys: pytest.CaptureFixture, expected: Path, tmp_path: Path) -> None:
        bad = lines(tmp_path / "bad.jsonl", {"audio": "a", "text": "x"}, {"audio": "b"})
        code, out, [line] = ran(capsys, "--expected", bad, "--predictions", expected)
        assert (code, out) == (1, "")
        assert f"{bad}: line 2: " in line

    def test_predictions_of_something_else(self, capsys: pytest.CaptureFixture, expected: Path, tmp_path: Path) -> None:
        other = lines(tmp_path / "other.jsonl", {"audio": "else.wav", "text": "x"})
        code, out, [line] = ran(capsys, "--expected", expected, "--predictions", other)
        assert (code, out) == (1, "")
        assert "none of its predictions" in line

    @pytest.mark.parametrize(
        "arguments", [[], ["--expected", "x"], ["--expected", "x", *["--predictions", "y"] * 3], ["--nonsense"]]
    )
    def test_a_command_line_that_is_wrong(self, capsys: pytest.CaptureFixture, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.endswith("(see qwen3-asr-mlx-score --help)")


def launched(
    repository: Path, folder: Path, name: str, *arguments: object, groups: str = "tools", **options: object
) -> subprocess.CompletedProcess:
    """A launcher of this checkout, in an environment that is there already: this one."""
    checkout = folder / "checkout"
    (checkout / "scripts" / "lib").mkdir(parents=True, exist_ok=True)
    shutil.copy2(repository / "scripts" / name, checkout / "scripts")
    if not (checkout / "src").exists():
        (checkout / "src").symlink_to(repository / "src")
    environment = f'ensure_environment() {{ environment="{sys.prefix}"; test "$1" = "{groups}"; }}\n'
    (checkout / "scripts" / "lib" / "environment.sh").write_text(environment)
    command = [checkout / "scripts" / name, *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, text=True, check=False, **{"capture_output": True, **options}
    )


def test_the_launcher_starts_it_and_help_shows_examples(repository: Path, tmp_path: Path) -> None:
    output = launched(repository, tmp_path, "qwen3-asr-mlx-score", "--help")
    assert (output.returncode, output.stderr) == (0, "")
    assert "--expected examples/audio/expected.jsonl" in output.stdout


DIGITS = "Zero one two three four five six seven eight nine."


@pytest.mark.parametrize(
    ("line", "options", "model", "words"),
    [
        ({}, [], None, 1),  # Whisper's English reads one number
        ({"normaliser": "basic"}, [], None, 10),
        ({}, ["--normaliser", "basic"], None, 10),
        ({}, [], "demo", 10),
        ({"normaliser": "by-language"}, [], "demo", 1),
        ({"normaliser": "basic"}, ["--normaliser", "by-language"], "demo", 1),
    ],
)
def test_digits_are_distinguished_where_line_option_or_the_demonstration_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, line: dict, options: list[str], model: str | None, words: int
) -> None:
    expected = lines(tmp_path / "expected.jsonl", {"audio": "a.wav", "text": DIGITS, "language": "en", **line})
    predictions = tmp_path / "predictions.json"
    written = {"items": [{"audio": "a.wav", "text": DIGITS.replace("nine", "one")}]}
    predictions.write_text(json.dumps(written if model is None else {"model": model, **written}))
    assert main(["--expected", str(expected), "--predictions", str(predictions), "--json", *options]) == 0
    rate = json.loads(capsys.readouterr().out)["reports"][0]["overall"]["wer"]
    assert (rate["length"], rate["substitutions"]) == (words, 1)


def test_a_normaliser_that_is_unknown_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = lines(tmp_path / "expected.jsonl", {"audio": "a.wav", "text": "one", "normaliser": "mine"})
    assert main(["--expected", str(expected), "--predictions", str(expected)]) == 1
    assert "line 1: Invalid enum value 'mine'" in capsys.readouterr().err


def test_nobody_who_reads_is_no_traceback(repository: Path, tmp_path: Path, expected: Path, predictions: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ("--expected", expected, "--predictions", predictions, "--json")
    options = {"capture_output": False, "stdout": writer, "stderr": subprocess.PIPE}
    output = launched(repository, tmp_path, "qwen3-asr-mlx-score", *arguments, **options)
    os.close(writer)
    assert (output.returncode, output.stderr) == (1, "")
