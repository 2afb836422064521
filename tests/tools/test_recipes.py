"""Slices of public sets, streamed from local folders that are laid out as the sets are on the Hub."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub.errors import HTTPError

from qwen3_asr_mlx_runtime.errors import DownloadFailed, InvalidParams
from qwen3_asr_mlx_runtime.tools.evaluate.recipes import RECIPES, fetch, slice_of
from qwen3_asr_mlx_runtime.tools.manifest import read_manifest

SOUNDS = ("english-one.wav", "sample.wav", "english-five.wav")
SAID = ("EIGHT", "SEVEN THREE ONE", "TWO NINE FOUR ZERO SIX")
# By recipe: (configuration, file of its split `test`), and the fields beside `audio`.
LAYOUTS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "librispeech": (
        {"clean": "clean/test/0000.parquet", "other": "other/test/0000.parquet"},
        {"file": "x", "text": "", "speaker_id": 6930, "chapter_id": 75918, "id": "6930-75918-0000"},
    ),
    "fleurs": (
        {
            "en_us": "parquet-data/en_us/test-00000-of-00001.parquet",
            "cmn_hans_cn": "parquet-data/cmn_hans_cn/test-00000-of-00001.parquet",
            "af_za": "parquet-data/af_za/test-00000-of-00001.parquet",
        },
        {"id": 1, "num_samples": 9, "path": "x", "transcription": "", "raw_transcription": "Raw.", "gender": 0},
    ),
    "eka": (
        {"en": "en/test-00000-of-00001.parquet", "hi": "hi/test-00000-of-00001.parquet"},
        {"duration": 1.0, "text": "", "audio_language": "x", "text_language": "x", "recording_context": "conversation"},
    ),
}


def audio_of(sounds: Path, number: int) -> dict[str, Any]:
    return {"path": f"clips/utterance {number}.wav", "bytes": (sounds / SOUNDS[number]).read_bytes()}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """As the datasets library does it, which needs torch to write audio, and none to read its bytes."""
    table = pyarrow.Table.from_pylist(rows)
    kinds = {name: {"dtype": str(table.schema.field(name).type), "_type": "Value"} for name in rows[0]}
    kinds["audio"] = {"sampling_rate": 16_000, "_type": "Audio"}
    described = {"huggingface": json.dumps({"info": {"features": kinds}})}
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(table.replace_schema_metadata(described), path)


@pytest.fixture
def sounds(repository: Path) -> Path:
    return repository / "examples" / "audio"


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, sounds: Path) -> Path:
    """The folder of the recipe that the test names, `librispeech` where it names none."""
    return make_source(tmp_path / "set", getattr(request, "param", "librispeech"), sounds)


def make_source(folder: Path, recipe: str, sounds: Path) -> Path:
    files, fields = LAYOUTS[recipe]
    configs = []
    for config, path in files.items():
        pattern = f"{path.rpartition('-00000')[0] or path.rpartition('/')[0] + '/'}*"
        configs.append(f"- config_name: {config}\n  data_files:\n  - split: test\n    path: {pattern}\n")
        written = {RECIPES[recipe].text: ""}
        rows = [
            {"audio": audio_of(sounds, number), **fields, **dict.fromkeys(written, f"{config}: {text}")}
            for number, text in enumerate(SAID)
        ]
        write_rows(folder / path, rows)
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(configs) + "---\n")
    return folder


def nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("source", "words", "config", "language"),
    [
        ("librispeech", "librispeech", "clean", "English"),
        ("librispeech", "librispeech:other", "other", "English"),
        ("fleurs", "fleurs", "en_us", "English"),
        ("fleurs", "fleurs:cmn_hans_cn", "cmn_hans_cn", "Chinese"),
        ("fleurs", "fleurs:af_za:test", "af_za", None),
        ("eka", "eka", "en", "English"),
        ("eka", "eka:hi", "hi", "Hindi"),
    ],
    indirect=["source"],
)
def test_a_slice_is_sound_files_as_they_are_and_their_manifest(
    source: Path, words: str, config: str, language: str | None, tmp_path: Path, sounds: Path
) -> None:
    manifest = fetch(slice_of(words, str(source), 2), tmp_path / "slice", nothing)
    entries = read_manifest(manifest)
    assert [(entry.text, entry.language) for entry in entries] == [(f"{config}: {text}", language) for text in SAID[:2]]
    assert [entry.audio for entry in entries] == ["00000-utterance_0.wav", "00001-utterance_1.wav"]
    assert [entry.path.read_bytes() for entry in entries] == [(sounds / name).read_bytes() for name in SOUNDS[:2]]


def test_no_more_rows_are_read_than_are_wanted(tmp_path: Path, sounds: Path) -> None:
    source = make_source(tmp_path / "set", "librispeech", sounds)
    path = source / "clean" / "test" / "0000.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    rows[2]["text"] = None
    path.unlink()
    path.parent.rmdir()
    write_rows(path, rows)
    reported: list[tuple] = []
    fetch(slice_of("librispeech", str(source), 2), tmp_path / "two", lambda *progress: reported.append(progress))
    assert reported == [("fetch librispeech", 0, 2), ("fetch librispeech", 1, 2)]
    with pytest.raises(InvalidParams, match="row 2 lacks `audio` or `text`"):
        fetch(slice_of("librispeech", str(source), 3), tmp_path / "three", nothing)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("librispeech:nope", "'nope' not found"),
        ("librispeech:clean:train", "train"),
        ("eka", "'en' not found"),
    ],
)
def test_what_the_set_lacks_is_reported(source: Path, words: str, written: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match=written):
        fetch(slice_of(words, str(source), 2), tmp_path / "slice", nothing)


def test_a_set_that_needs_a_program_is_reported(tmp_path: Path) -> None:
    (tmp_path / "fleurs").mkdir()
    (tmp_path / "fleurs" / "fleurs.py").write_text("raise SystemExit\n")
    with pytest.raises(InvalidParams, match="recipe fleurs: Dataset scripts are no longer supported"):
        fetch(slice_of("fleurs", str(tmp_path / "fleurs"), 1), tmp_path / "slice", nothing)


def test_a_file_of_the_set_that_is_damaged_is_reported_once(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (source / "clean" / "test" / "0000.parquet").write_bytes(b"damaged")
    with pytest.raises(InvalidParams, match="recipe librispeech: "):
        fetch(slice_of("librispeech", str(source), 1), tmp_path / "slice", nothing)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("words", ["", "voxpopuli", "fleurs:a:b:c"])
def test_an_unknown_recipe_is_reported_with_those_that_are_known(words: str) -> None:
    with pytest.raises(InvalidParams, match="librispeech, fleurs, eka"):
        slice_of(words, None, 1)


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match="no such folder"):
        slice_of("eka", str(tmp_path / "none"), 1)


@pytest.mark.parametrize("kind", [ConnectionError, HTTPError])
def test_a_hub_that_cannot_be_reached_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Exception]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise kind("Couldn't reach it\nand more")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DownloadFailed, match=r"recipe fleurs: Couldn't reach it$"):
        fetch(slice_of("fleurs", None, 1), tmp_path, nothing)
