import hashlib
import json
import os
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.checkpoint import integrity
from qwen3_asr_mlx_runtime.checkpoint.integrity import Verification, Verified, expected_sha256, unchanged, verify
from qwen3_asr_mlx_runtime.errors import ModelChanged, ModelCorrupt

CONTENT = b"weights" * 1000


@pytest.fixture
def blob(tmp_path) -> Path:
    blob = tmp_path / "models--owner--name" / "blobs" / hashlib.sha256(CONTENT).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(CONTENT)
    return blob


@pytest.fixture
def file(tmp_path, blob) -> Path:
    """A file of a snapshot, linked to its content as the hub's cache does it."""
    file = tmp_path / "models--owner--name" / "snapshots" / "revision" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.symlink_to(os.path.relpath(blob, file.parent))
    return file


def check(file: Path, state: Path | None = None, mode: str = "once") -> Verification:
    return verify([file], mode, Verified(state), lambda *_: None)


def tamper(blob: Path) -> None:
    """Other content of the same size."""
    blob.write_bytes(CONTENT[:-1] + b"!")


def test_right_content_is_checked_once_and_then_remembered(file, tmp_path):
    assert check(file, tmp_path / "state") == Verification("once", checked=[file.name])
    assert check(file, tmp_path / "state") == Verification("once", remembered=[file.name])
    assert check(file, tmp_path / "state", "always") == Verification("always", checked=[file.name])


def test_wrong_content_of_the_right_size_is_corrupt(file, blob, tmp_path):
    tamper(blob)
    for _ in range(2):
        with pytest.raises(ModelCorrupt) as caught:
            check(file, tmp_path / "state")
        assert caught.value.data == {"file": file.name, "delete": [str(file), str(blob)]}
    assert blob.exists()


def test_a_file_that_changed_since_is_checked_again(file, blob, tmp_path):
    check(file, tmp_path / "state")
    tamper(blob)
    os.utime(blob, ns=(0, 1))
    with pytest.raises(ModelCorrupt):
        check(file, tmp_path / "state")


def test_never_means_never(file, blob):
    tamper(blob)
    assert check(file, mode="never") == Verification("never")


def test_progress_is_reported_in_bytes(file, monkeypatch):
    monkeypatch.setattr(integrity, "_BLOCK_BYTES", 3000)
    reported: list[tuple[int, int]] = []
    verify([file], "once", Verified(None), lambda done, total: reported.append((done, total)))
    assert reported == [(3000, 7000), (6000, 7000), (7000, 7000)]


def test_a_plain_file_has_no_digest(tmp_path):
    plain = tmp_path / hashlib.sha256(b"").hexdigest()
    plain.write_bytes(CONTENT)
    assert check(plain) == Verification("once", without_digest=[plain.name])


@pytest.mark.parametrize("target", ["blobs/0123456789abcdef0123456789abcdef01234567", f"other/{'0' * 64}"])
def test_a_link_to_another_kind_of_name_has_no_digest(tmp_path, target):
    link = tmp_path / "config.json"
    link.symlink_to(target)
    assert expected_sha256(link) is None


def test_content_that_links_on_is_known_by_its_first_name(file, blob):
    shared = blob.parent / "ff" / ("f" * 64)
    shared.parent.mkdir()
    blob.rename(shared)
    blob.symlink_to(shared)
    assert check(file) == Verification("once", checked=[file.name])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2, "verified": []}', b'{"format": 1, "verified": 3}', b"\xff" * 9]
)
def test_a_memory_that_cannot_be_read_means_checking_again(file, tmp_path, content):
    (tmp_path / "verified.json").write_bytes(content)
    assert check(file, tmp_path).checked == [file.name]
    assert check(file, tmp_path).remembered == [file.name]


@pytest.mark.parametrize("state", ["a file", "/proc/none"])
def test_a_memory_that_cannot_be_written_is_done_without(file, tmp_path, state):
    (tmp_path / "a file").write_text("")
    for _ in range(2):
        assert check(file, tmp_path / state).checked == [file.name]


def test_the_memory_holds_no_name(file, tmp_path):
    check(file, tmp_path / "state")
    (written,) = (tmp_path / "state").iterdir()
    content = json.loads(written.read_bytes())
    assert content.keys() == {"format", "verified"}
    assert [len(key) for key in content["verified"]] == [64]
    assert file.name not in written.read_text()


def test_the_memory_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "_REMEMBERED", 3)
    verified = Verified(tmp_path)
    for key in "abcad":
        verified.add(key)
    assert json.loads((tmp_path / "verified.json").read_bytes())["verified"] == ["c", "a", "d"]


def test_files_that_stay_are_unchanged(file):
    with unchanged([file]):
        file.read_bytes()


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"W")
    os.utime(file, ns=(0, 1))


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)


@pytest.mark.parametrize("change", [overwrite, replace, Path.unlink, lambda file: os.truncate(file, 3)])
def test_a_file_that_changes_while_it_is_read_is_reported(file, blob, change):
    with pytest.raises(ModelChanged) as caught, unchanged([file]):
        change(blob)
    assert (caught.value.data, caught.value.retryable) == ({"file": file.name}, True)


def test_what_a_change_broke_is_reported_as_the_change(file, blob):
    def read_half_of_each() -> None:
        replace(blob)
        raise ModelCorrupt("planted")

    with pytest.raises(ModelChanged), unchanged([file]):
        read_half_of_each()


def test_another_failure_stays_what_it_is(file):
    with pytest.raises(ModelCorrupt), unchanged([file]):
        raise ModelCorrupt("planted")
