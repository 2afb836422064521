"""Downloads from a hub on 127.0.0.1 over real connections, into the cache as the library lays it out."""

import errno
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.utils import WeakFileLock
from safetensors.numpy import save_file
from support.fake_hub import REVISION, WAIT, FakeHub

from qwen3_asr_mlx_runtime.checkpoint import download as download_module
from qwen3_asr_mlx_runtime.checkpoint import transfer
from qwen3_asr_mlx_runtime.checkpoint.files import check_files
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve
from qwen3_asr_mlx_runtime.engines.api import Progress
from qwen3_asr_mlx_runtime.errors import DiskFull, DownloadFailed, ModelError, ModelIncomplete, ModelNotFound

WEIGHTS = "model.safetensors"
SIZE = 600_000


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine(monkeypatch):
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: tuple) -> None:
        assert address[0] == "127.0.0.1", f"a connection to {address[0]}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def repository_folder(tmp_path_factory, demo_checkpoint) -> Path:
    """Every file that a model needs; its weights are numbers without meaning."""
    folder = tmp_path_factory.mktemp("repository")
    for file in demo_checkpoint.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copy(file, folder)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("not needed")
    numbers = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    save_file({"numbers": numbers}, str(folder / WEIGHTS))
    return folder


@pytest.fixture
def hub(repository_folder) -> Iterator[FakeHub]:
    hub = FakeHub(repository_folder)
    yield hub
    hub.close()


@pytest.fixture
def source(hub, tmp_path) -> Hub:
    return Hub(cache=tmp_path / "cache", endpoint=hub.endpoint, retry_seconds=0.0)


@pytest.fixture
def blobs(source) -> Path:
    return source.cache / "models--owner--name" / "blobs"


def impatient(source: Hub) -> Hub:
    return Hub(cache=source.cache, endpoint=source.endpoint, retry_seconds=0.0, stall_seconds=0.3)


def failure_of(source: Hub) -> ModelError:
    with pytest.raises(ModelError) as caught:
        resolve("owner/name", source)
    return caught.value


def test_a_whole_model_is_downloaded_with_progress(hub, source):
    reported: list[Progress] = []
    folder = resolve("owner/name", source, report=Reporter(reported.append))
    assert folder == source.cache / "models--owner--name" / "snapshots" / REVISION
    assert {file.name for file in folder.iterdir()} == hub.files.keys() - {"README.md"}
    assert all((folder / name).read_bytes() == hub.files[name] for name in hub.files if name != "README.md")
    total = sum(len(content) for name, content in hub.files.items() if name != "README.md")
    assert reported[-1] == Progress("download", total, total)
    assert {progress.stage for progress in reported} == {"download"}


def test_what_was_downloaded_is_used_without_asking_again(hub, source):
    folder = resolve("owner/name", source)
    hub.asked.clear()
    assert resolve("owner/name", source) == folder
    assert resolve("owner/name", source, local_files_only=True) == folder
    assert hub.asked == []


def test_only_files_that_loading_reads_are_fetched(hub, source):
    foreign = {"pytorch_model.bin": b"pickle", "modeling_x.py": b"code", "a/b.json": b"{}", "a/b.safetensors": b"b"}
    wanted = hub.files.keys() - {"README.md"}
    hub.files |= foreign
    folder = resolve("owner/name", source)
    assert {file.name for file in folder.iterdir()} == wanted == hub.served.keys()


def test_a_broken_connection_is_taken_up_where_it_broke(hub, source):
    hub.cut_after = [300_000]
    resolve("owner/name", source)
    assert [asked.range is None for asked in hub.weight_requests] == [True, False]
    assert hub.served[WEIGHTS] < 1.2 * len(hub.files[WEIGHTS])


def test_a_download_that_failed_is_resumed_by_the_next(hub, source, blobs):
    hub.cut_after = [300_000, *[0] * 20]
    error = failure_of(source)
    assert (error.code, error.retryable) == ("download_failed", True)
    partial = blobs / f"{hub.sha256(WEIGHTS)}.incomplete"
    kept = partial.stat().st_size
    assert 0 < kept < SIZE
    hub.asked.clear()
    hub.cut_after = []
    folder = resolve("owner/name", source)
    assert [asked.range for asked in hub.weight_requests] == [f"bytes={kept}-"]
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert not partial.exists()


def test_a_hub_that_cannot_resume_sends_all_of_it_again(hub, source):
    hub.cut_after = [300_000]
    hub.ignore_range = True
    folder = resolve("owner/name", source)
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_partial_file_that_is_too_long_is_restarted(hub, source, blobs):
    blobs.mkdir(parents=True)
    (blobs / f"{hub.sha256(WEIGHTS)}.incomplete").write_bytes(b"x" * (SIZE * 2))
    assert (resolve("owner/name", source) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_what_is_not_what_the_hub_names_never_reaches_the_cache(hub, source, blobs):
    hub.tamper = lambda data: data[:-1] + b"!"
    error = failure_of(source)
    assert (error.code, error.retryable, error.data["reason"]) == ("download_failed", True, "digest")
    assert not (blobs / hub.sha256(WEIGHTS)).exists()
    hub.tamper = lambda data: data
    assert (resolve("owner/name", source) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize(
    ("status", "error_code", "code", "retryable", "next_step"),
    [
        (401, "RepoNotFound", "model_not_found", False, "check its name"),
        (401, None, "download_failed", False, "HF_TOKEN"),
        (404, None, "model_not_found", False, "check its name"),
        (404, "RepoNotFound", "model_not_found", False, "check its name"),
        (403, None, "download_failed", False, "(HTTP 403): check HF_TOKEN"),
        (403, "GatedRepo", "download_failed", False, "accept it on the model's page"),
        (429, None, "download_failed", True, "(HTTP 429): start again later"),
        (503, None, "download_failed", True, "(HTTP 503): start again later"),
    ],
)
def test_a_refusal_reports_its_status_whether_to_try_again_and_what_to_do(
    hub, source, status, error_code, code, retryable, next_step
):
    hub.status["/api/models/"] = status
    hub.error_code = error_code
    error = failure_of(source)
    assert (error.code, error.retryable, error.data["http_status"]) == (code, retryable, status)
    assert next_step in error.message
    assert len(hub.asked) == 1


@pytest.mark.parametrize(("status", "tries", "retryable"), [(403, 1, False), (429, 1, True), (503, 10, True)])
def test_a_refusal_in_the_middle_reports_its_status_too(hub, source, status, tries, retryable):
    hub.status[WEIGHTS] = status
    error = failure_of(source)
    assert (error.code, error.retryable, error.data["http_status"]) == ("download_failed", retryable, status)
    assert len(hub.weight_requests) == tries


def test_a_hub_that_is_not_there_is_worth_another_try(source, hub):
    hub.close()
    error = failure_of(source)
    assert (error.code, error.retryable, error.data["reason"]) == ("download_failed", True, "ConnectError")
    assert "(ConnectError): connect to a network" in error.message


def test_a_repository_without_weights_is_refused_before_anything_is_fetched(hub, source):
    del hub.files[WEIGHTS]
    with pytest.raises(ModelIncomplete) as caught:
        resolve("owner/name", source)
    assert caught.value.data["missing"] == [WEIGHTS]
    assert len(hub.asked) == 1


def test_a_digest_in_the_listing_that_is_none_names_no_place(hub, source, monkeypatch, tmp_path):
    describe = hub.describe()
    for sibling in describe["siblings"]:
        if "lfs" in sibling:
            sibling["lfs"]["sha256"] = "../../../elsewhere"
    monkeypatch.setattr(hub, "describe", lambda: describe)
    reported: list[Progress] = []
    folder = resolve("owner/name", source, report=Reporter(reported.append))
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    assert reported[-1].total < SIZE, "it was measured at that place"


def test_a_mirror_that_reports_no_sizes_serves_too(hub, source, monkeypatch):
    names = [{"rfilename": name} for name in hub.files]
    monkeypatch.setattr(hub, "describe", lambda: {"id": "owner/name", "sha": REVISION, "siblings": names})
    reported: list[Progress] = []
    folder = resolve("owner/name", source, report=Reporter(reported.append))
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert reported == [Progress("download")]


def test_a_full_disk_is_reported_before_anything_is_fetched(hub, source, monkeypatch):
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1_000))
    with pytest.raises(DiskFull) as caught:
        resolve("owner/name", source)
    assert caught.value.data == {"needed": pytest.approx(1.1 * SIZE, rel=0.05), "free": 1_000}
    assert not caught.value.retryable
    assert hub.weight_requests == []


def test_a_disk_that_fills_on_the_way_is_reported_too(source, hub, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(transfer, "_append", full)
    error = failure_of(source)
    assert (error.code, error.data.keys()) == ("disk_full", {"needed", "free"})
    assert "--cache-dir" in error.message


def test_a_stalled_download_is_given_up_and_the_next_goes_on(hub, source, blobs):
    hub.hang_after = 300_000
    error = failure_of(impatient(source))
    assert (error.code, error.retryable, error.data["reason"]) == ("download_failed", True, "stalled")
    assert "check the network" in error.message
    assert hub.hanging.is_set()
    kept = (blobs / f"{hub.sha256(WEIGHTS)}.incomplete").stat().st_size
    assert kept > 0
    hub.hang_after = None
    hub.released.set()
    folder = resolve("owner/name", source)
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.weight_requests[-1].range is not None


def test_a_disk_that_is_slow_to_hash_is_no_stall(hub, source, monkeypatch):
    hashing, looked_often = threading.Event(), threading.Event()
    sha256 = transfer._sha256
    steps = iter(range(10**6))
    spent = 0

    def hash_slowly(file: Path) -> str:
        hashing.set()
        assert looked_often.wait(WAIT)
        hashing.clear()
        return sha256(file)

    def clock() -> float:
        nonlocal spent
        if hashing.is_set():
            spent = next(steps)
        if spent >= 20:
            looked_often.set()
        return spent * 100.0

    monkeypatch.setattr(transfer, "_sha256", hash_slowly)
    monkeypatch.setattr(download_module, "INTERVAL_SECONDS", 0.01)
    folder = download_module.download("owner/name", source, Reporter(), clock)
    assert (folder / WEIGHTS).exists()


def test_another_process_that_downloads_is_waited_for(hub, source):
    lock = source.cache / ".locks" / "models--owner--name" / f"{hub.sha256(WEIGHTS)}.lock"
    lock.parent.mkdir(parents=True)
    reported: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    result: queue.SimpleQueue[Path] = queue.SimpleQueue()
    waiting = threading.Thread(target=lambda: result.put(resolve("owner/name", source, report=Reporter(reported.put))))
    with WeakFileLock(lock):
        waiting.start()
        while reported.get(timeout=WAIT).stage != "waiting_for_lock":
            pass
        assert hub.weight_requests == []
    folder = result.get(timeout=WAIT)
    waiting.join(WAIT)
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_another_process_that_does_nothing_is_not_waited_for_forever(hub, source):
    lock = source.cache / ".locks" / "models--owner--name" / f"{hub.sha256(WEIGHTS)}.lock"
    lock.parent.mkdir(parents=True)
    with WeakFileLock(lock):
        error = failure_of(impatient(source))
    assert (error.code, error.retryable, error.data["reason"]) == ("download_failed", True, "waiting_for_lock")
    assert "another process" in error.message


def test_a_token_goes_to_the_hub_and_nowhere_else(hub, source, repository_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    elsewhere = FakeHub(repository_folder)
    hub.redirect_weights_to = elsewhere.endpoint
    elsewhere.cut_after = [300_000]
    resolve("owner/name", source)
    elsewhere.close()
    assert {asked.authorization for asked in hub.asked} == {"Bearer hf_secret"}
    assert {asked.authorization for asked in elsewhere.asked} == {None}
    assert [asked.range is None for asked in elsewhere.weight_requests] == [True, False]


def test_a_link_that_leads_nowhere_is_mended_by_a_download(hub, source, blobs):
    resolve("owner/name", source)
    (blobs / hub.sha256(WEIGHTS)).unlink()
    with pytest.raises(ModelIncomplete) as caught:
        resolve("owner/name", source, local_files_only=True)
    assert caught.value.data["missing"] == [WEIGHTS]
    assert (resolve("owner/name", source) / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("place", ["a file", "/proc/none"])
def test_a_cache_that_cannot_be_written_fails_the_download(hub, tmp_path, place):
    (tmp_path / "a file").write_text("")
    error = failure_of(Hub(cache=tmp_path / place, endpoint=hub.endpoint))
    assert error.code in ("download_failed", "model_not_found")
    assert "cache" in error.message


def test_a_cache_in_a_home_that_is_not_known_is_not_found(hub):
    error = failure_of(Hub(cache=Path("~no-such-user/cache"), endpoint=hub.endpoint))
    assert (error.code, error.data["reason"]) == ("model_not_found", "RuntimeError")


CHILD = """
import json, sys
from pathlib import Path
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve

def tell(**line):
    print(json.dumps(line), flush=True)

cache = Path(sys.argv[1]) if sys.argv[1] else None
report = Reporter(lambda progress: tell(stage=progress.stage, done=progress.done))
try:
    tell(folder=str(resolve("owner/name", Hub(cache=cache), report=report)))
except BridgeError as error:
    tell(code=error.code, **error.data)
"""


def child(hub: FakeHub, cache: Path | str, **environ: str) -> subprocess.Popen:
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "PYTHONPATH": os.pathsep.join(sys.path), **environ}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache)], stdout=subprocess.PIPE, text=True, env=environment
    )


def lines(process: subprocess.Popen) -> list[dict]:
    output, _ = process.communicate(timeout=WAIT)
    return [json.loads(line) for line in output.splitlines()]


def test_a_process_killed_in_a_download_leaves_what_the_next_resumes(hub, source, blobs):
    hub.hang_after = 300_000
    first = child(hub, source.cache)
    done = 0
    while done < 290_000:
        done = json.loads(first.stdout.readline()).get("done") or 0
    first.send_signal(signal.SIGKILL)
    assert first.wait(WAIT) == -signal.SIGKILL
    first.stdout.close()
    kept = (blobs / f"{hub.sha256(WEIGHTS)}.incomplete").stat().st_size
    assert kept >= 290_000 - 100_000
    hub.hang_after = None
    hub.asked.clear()
    reported = lines(child(hub, source.cache))
    assert Path(reported[-1]["folder"], WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert [asked.range for asked in hub.weight_requests] == [f"bytes={kept}-"]


def test_a_hub_switched_off_by_the_environment_is_not_asked(hub, source):
    reported = lines(child(hub, source.cache, HF_HUB_OFFLINE="1"))
    assert (reported[-1]["code"], reported[-1]["offline"]) == ("model_not_found", True)
    assert hub.asked == []


def test_without_a_home_that_can_be_written_a_code_says_so(hub):
    reported = lines(child(hub, "", HOME="/proc/none", HF_HOME="/proc/none/huggingface"))
    assert reported[-1]["code"] == "download_failed"
    assert hub.weight_requests == []


def test_without_downloads_nothing_is_asked(hub, source):
    with pytest.raises(ModelNotFound) as caught:
        resolve("owner/name", source, local_files_only=True)
    assert caught.value.data["offline"] is True
    assert hub.asked == []


def test_every_failure_of_a_download_has_a_code(source, monkeypatch):
    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(download_module, "snapshot_download", surprise)
    with pytest.raises(DownloadFailed) as caught:
        resolve("owner/name", source)
    assert caught.value.data["reason"] == "ZeroDivisionError"


def test_a_folder_that_was_downloaded_passes_the_check(source, hub):
    assert {file.name for file in check_files(resolve("owner/name", source))} >= {"config.json", WEIGHTS}
