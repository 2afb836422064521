import json
import math
import os
import shutil
from pathlib import Path

import pytest
from support.tiny_checkpoint import INDEX, WEIGHTS, write_tiny_checkpoint

from qwen3_asr_mlx_runtime.checkpoint.files import check_files, corrupt
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported

SHARD = "model-00002-of-00003.safetensors"
EVERY_FILE = ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "preprocessor_config.json", WEIGHTS)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_tiny_checkpoint(folder / "whole")
    write_tiny_checkpoint(folder / "sharded", shards=3)
    return folder


@pytest.fixture
def folder(originals, tmp_path) -> Path:
    return Path(shutil.copytree(originals / "whole", tmp_path / "model"))


@pytest.fixture
def sharded(originals, tmp_path) -> Path:
    return Path(shutil.copytree(originals / "sharded", tmp_path / "sharded"))


def missing(folder: Path) -> list[str]:
    with pytest.raises(ModelIncomplete) as caught:
        check_files(folder)
    return caught.value.data["missing"]


def corrupt_file(folder: Path) -> str:
    with pytest.raises(ModelCorrupt) as caught:
        check_files(folder)
    assert caught.value.data["file"] in caught.value.message
    return caught.value.data["file"]


def test_a_whole_checkpoint_lists_what_will_be_read(folder, sharded):
    assert {file.name for file in check_files(folder)} >= set(EVERY_FILE)
    assert {file.name for file in check_files(sharded)} >= {INDEX, SHARD}


@pytest.mark.parametrize("name", EVERY_FILE)
def test_every_file_is_required(folder, name):
    (folder / name).unlink()
    assert missing(folder) == [name]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_link_that_leads_nowhere_is_a_missing_file(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "blobs" / "gone")
    assert missing(folder) == [name]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_link_in_a_circle_is_a_missing_file(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    assert missing(folder) == [name]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_link_to_a_file_is_a_file(folder, name):
    (folder / name).rename(folder / "elsewhere")
    (folder / name).symlink_to(folder / "elsewhere")
    assert check_files(folder)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_pipe_or_a_folder_is_no_file(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert missing(folder) == [name]
    (folder / name).unlink()
    (folder / name).mkdir()
    assert missing(folder) == [name]


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>503</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"],
    ids=["empty", "a web page", "a pointer"],
)
def test_what_a_failed_download_leaves_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    assert corrupt_file(folder) == name


@pytest.mark.parametrize("name", [name for name in EVERY_FILE if name != "merges.txt"])
def test_a_file_that_is_cut_short_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert corrupt_file(folder) == name


@pytest.fixture
def cached(tmp_path) -> Path:
    """A file of a snapshot, as the hub's cache links it to its content."""
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "revision"
    blobs = tmp_path / "models--owner--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "content").write_text("")
    (snapshot / "config.json").symlink_to("../../blobs/content")
    return snapshot / "config.json"


def test_a_corrupt_file_of_the_cache_is_to_be_deleted_with_its_content(tmp_path, cached, monkeypatch):
    content = tmp_path / "models--owner--name" / "blobs" / "content"
    error = corrupt(cached, "is empty")
    assert error.data["delete"] == [str(cached), str(content)]
    assert "delete" in error.message
    assert str(tmp_path) not in error.message
    monkeypatch.chdir(cached.parent)
    assert corrupt(Path(cached.name), "is empty").data["delete"] == [str(cached), str(content)]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_nobody_is_advised_to_delete_a_file_of_a_folder_of_their_own(folder, name):
    (folder / name).write_bytes(b"<html>")
    with pytest.raises(ModelCorrupt) as caught:
        check_files(folder)
    assert caught.value.data == {"file": name}
    assert "delete" not in caught.value.message


def test_a_link_into_the_cache_from_a_folder_of_ones_own_is_not_downloaded_again(folder, cached):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(cached)
    with pytest.raises(ModelCorrupt) as caught:
        check_files(folder)
    assert caught.value.data == {"file": "config.json"}


def test_nothing_is_ever_deleted(folder):
    (folder / WEIGHTS).write_bytes(b"")
    corrupt_file(folder)
    assert (folder / WEIGHTS).exists()


def test_a_missing_shard_is_named(sharded):
    (sharded / SHARD).unlink()
    assert missing(sharded) == [SHARD]


def test_an_index_that_leads_nowhere_is_a_missing_file(sharded):
    (sharded / INDEX).unlink()
    (sharded / INDEX).symlink_to("gone")
    assert missing(sharded) == [INDEX]


def test_a_shard_without_its_tensors_is_named(sharded):
    shutil.copy(sharded / "model-00001-of-00003.safetensors", sharded / SHARD)
    assert missing(sharded) == [SHARD]


def test_shards_smaller_than_the_index_says_are_incomplete(sharded):
    index = json.loads((sharded / INDEX).read_text())
    size = index["metadata"]["total_size"]
    index["metadata"]["total_size"] = size + 1
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelIncomplete) as caught:
        check_files(sharded)
    assert (caught.value.data["expected_bytes"], caught.value.data["found_bytes"]) == (size + 1, size)


@pytest.mark.parametrize(
    "metadata", [None, {}, *({"total_size": size} for size in (None, "all", math.inf, math.nan, 10**400, -1))]
)
def test_an_index_need_not_report_the_size(sharded, metadata):
    index = json.loads((sharded / INDEX).read_text())
    (sharded / INDEX).write_text(json.dumps(index | {"metadata": metadata}))
    assert check_files(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, {"a": "../elsewhere.safetensors"}, {"a": "model.bin"}, {"a": 3}])
def test_an_index_that_names_no_shards_beside_it_is_corrupt(sharded, weight_map):
    (sharded / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert corrupt_file(sharded) == INDEX


def test_a_foreign_file_is_not_looked_at(folder):
    (folder / "foreign.safetensors").write_bytes(b"not ours")
    assert "foreign.safetensors" not in {file.name for file in check_files(folder)}


def test_a_native_tokenizer_and_processor_stand_for_the_others(folder):
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "preprocessor_config.json").rename(folder / "processor_config.json")
    assert {file.name for file in check_files(folder)} >= {"tokenizer.json", "processor_config.json"}


def test_a_processor_that_describes_none_is_corrupt(folder):
    (folder / "preprocessor_config.json").write_text('{"feature_extractor": []}')
    assert corrupt_file(folder) == "preprocessor_config.json"


OURS = {"feature_size": 128, "hop_length": 160, "n_fft": 400}


@pytest.mark.parametrize(
    ("extractor", "field"),
    [
        ({}, "feature_size"),
        (OURS | {"feature_size": 80}, "feature_size"),
        (OURS | {"n_fft": 512}, "n_fft"),
        (OURS | {"sampling_rate": 8000}, "sampling_rate"),
        (OURS | {"do_normalize": True}, "do_normalize"),
        (OURS | {"dither": 0.1}, "dither"),
    ],
)
def test_another_feature_extractor_is_refused(folder, extractor, field):
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    with pytest.raises(ModelUnsupported) as caught:
        check_files(folder)
    assert caught.value.data["field"] == field
