"""A model from its files to its first tokens, with planted faults."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from support.fake_hub import WAIT, FakeHub
from support.tiny_checkpoint import WEIGHTS, change_weights, write_tiny_checkpoint

from qwen3_asr_mlx_runtime.engine import recognizer as engine
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Progress
from qwen3_asr_mlx_runtime.errors import ModelChanged, ModelCorrupt

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_tiny_checkpoint(tmp_path / "model")


@pytest.fixture
def cached(tmp_path, folder) -> Path:
    """The weights' content in a hub cache at `tmp_path` that holds owner/name."""
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    (repository / "snapshots").mkdir()
    snapshot = folder.rename(repository / "snapshots" / REVISION)
    content = (snapshot / WEIGHTS).read_bytes()
    blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    (snapshot / WEIGHTS).rename(blob)
    (snapshot / WEIGHTS).symlink_to(os.path.relpath(blob, snapshot))
    return blob


def test_the_stages_of_a_load_are_reported_in_order(folder):
    reported: list[Progress] = []
    Recognizer.load(str(folder), on_progress=reported.append)
    assert [*dict.fromkeys(reported)] == [Progress(stage) for stage in ("resolve", "verify", "load", "warmup")]


def test_each_layer_of_a_slow_load_is_a_sign_of_life(folder, monkeypatch):
    monkeypatch.setattr("qwen3_asr_mlx_runtime.checkpoint.progress.INTERVAL_SECONDS", 0.0)
    reported: list[Progress] = []
    Recognizer.load(str(folder), on_progress=reported.append)
    assert reported.count(Progress("load")) > 20


def test_the_load_profile_has_every_stage(folder):
    profile = Recognizer.load(str(folder)).load_profile
    parts = [profile[f"{stage}_seconds"] for stage in ("resolve", "verify", "tokenizer", "weights", "warmup")]
    assert profile["total_seconds"] >= sum(parts) - 1e-3
    assert min(parts) >= 0
    assert WEIGHTS in profile["verification"]["without_digest"]
    json.dumps(profile)


def test_weights_of_the_cache_are_verified_once(cached, tmp_path):
    reported: list[Progress] = []
    arguments = {"cache_dir": tmp_path, "state_dir": tmp_path / "state", "local_files_only": True}
    first = Recognizer.load("owner/name", **arguments, on_progress=reported.append)
    assert first.load_profile["verification"]["checked"] == [WEIGHTS]
    size = cached.stat().st_size
    assert Progress("verify", size, size) in reported
    second = Recognizer.load("owner/name", **arguments)
    assert second.load_profile["verification"]["remembered"] == [WEIGHTS]


def test_other_weights_of_the_same_shape_are_corrupt(cached, tmp_path):
    content = bytearray(cached.read_bytes())
    content[-1] ^= 1
    cached.write_bytes(content)
    with pytest.raises(ModelCorrupt) as caught:
        Recognizer.load("owner/name", cache_dir=tmp_path)
    assert caught.value.data["file"] == WEIGHTS
    assert Recognizer.load("owner/name", cache_dir=tmp_path, verify="never").load_profile["weight_count"] > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"])
def test_weights_that_yield_no_numbers_are_corrupt(folder, name, value):
    shape = mx.load(str(folder / WEIGHTS))[name].shape
    change_weights(folder, name, mx.full(shape, value))
    with pytest.raises(ModelCorrupt, match="the weights give logits that are not finite"):
        Recognizer.load(str(folder))


@pytest.mark.parametrize("replaced", ["by another file", "in place"])
def test_weights_that_change_while_they_are_loaded_are_reported(folder, tmp_path, monkeypatch, replaced):
    other = write_tiny_checkpoint(tmp_path / "other", seed=1) / WEIGHTS
    load_model = engine.load_model

    def load_and_replace(*arguments: object, **options: object) -> object:
        model = load_model(*arguments, **options)
        if replaced == "in place":
            (folder / WEIGHTS).write_bytes(other.read_bytes())
        else:
            other.replace(folder / WEIGHTS)
        return model

    monkeypatch.setattr(engine, "load_model", load_and_replace)
    with pytest.raises(ModelChanged) as caught:
        Recognizer.load(str(folder))
    assert caught.value.data["file"] == WEIGHTS


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self._mark,)


def test_code_and_pickles_in_a_model_folder_are_never_run(folder, tmp_path):
    mark = tmp_path / "mark"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    for name in ("modeling_x.py", "configuration_x.py", "tokenization_x.py", "__init__.py"):
        (folder / name).write_text(code)
    for name in ("pytorch_model.bin", "model.pt", "model.pkl", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Trap(mark)))
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.mkdir('" + str(mark) + "') }}")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_x.Config", "AutoModel": "modeling_x.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_x.Tokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    Recognizer.load(str(folder))
    assert not mark.exists()
    pickle.loads((folder / "model.pt").read_bytes())
    assert mark.exists(), "the trap is harmless, so the test shows nothing"


def test_no_code_of_a_repository_can_be_asked_for(repository):
    sources = list((repository / "src").rglob("*.py"))
    assert sources
    for word in ("trust_remote" + "_code=", "import pickle", "torch.load", "from transformers", "import transformers"):
        assert [str(file) for file in sources if word in file.read_text()] == []


@pytest.fixture
def hub(folder) -> Iterator[FakeHub]:
    hub = FakeHub(folder)
    yield hub
    hub.close()


CHILD = """
import json, queue, sys
from pathlib import Path
from qwen3_asr_mlx_runtime.engines.api import Load, Loaded, LoadFailed, Progress
from qwen3_asr_mlx_runtime.engines.worker import WorkerEngine
from qwen3_asr_mlx_runtime.settings import parse_command_line

outcomes = queue.SimpleQueue()
thread = WorkerEngine(parse_command_line(sys.argv[1:], {}).settings, outcomes.put)
thread.send(Load())
while True:
    match outcomes.get():
        case Progress(stage, done, total):
            print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)
        case Loaded() as loaded:
            print(json.dumps({"profile": loaded.load_profile}))
            break
        case LoadFailed(error):
            print(json.dumps({"code": error.code, **error.data}))
            break
"""


def load_in_a_process(hub: FakeHub, *argv: str) -> list[dict]:
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", CHILD, "owner/name", *argv]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=WAIT, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def test_a_process_downloads_verifies_loads_and_warms_up(hub, tmp_path):
    arguments = ("--cache-dir", str(tmp_path / "cache"), "--state-dir", str(tmp_path / "state"))
    hub.cut_after = [100_000]
    *reported, last = load_in_a_process(hub, *arguments)
    stages = list(dict.fromkeys(line["stage"] for line in reported))
    assert stages == ["resolve", "download", "verify", "load", "warmup"]
    done = [line["done"] for line in reported if line["stage"] == "download" and line["done"] is not None]
    assert done == sorted(done)
    assert done[-1] == sum(len(content) for content in hub.files.values())
    assert last["profile"]["verification"]["checked"] == [WEIGHTS]
    *reported, last = load_in_a_process(hub, *arguments, "--local-files-only")
    assert [line["stage"] for line in reported] == ["resolve", "verify", "load", "warmup"]
    assert last["profile"]["verification"]["remembered"] == [WEIGHTS]


@pytest.mark.parametrize("damage", [lambda _: b"<html>", lambda data: data[:-1000], lambda _: b""])
@pytest.mark.parametrize("name", ["config.json", "vocab.json", "tokenizer_config.json", "merges.txt", WEIGHTS])
def test_a_damaged_file_never_becomes_another_error(folder, name, damage):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ModelCorrupt):
        Recognizer.load(str(folder))
