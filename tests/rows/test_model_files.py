"""Rows 71 to 81 and 87: what may be wrong with a model, loaded by the real engine of the real process."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from e2e.client import Client
from rows.bridge import command, real_model
from support.fake_hub import FakeHub
from support.marks import rest_once
from support.tiny_checkpoint import INDEX, WEIGHTS, change_weights, write_tiny_checkpoint

SNAPSHOT = "0" * 40


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


@pytest.fixture
def cache(original: Path, tmp_path: Path) -> Path:
    """owner/name as the hub's library lays it out: names that link to blobs, weights named by their digest."""
    repository = tmp_path / "cache" / "models--owner--name"
    snapshot = repository / "snapshots" / SNAPSHOT
    for name in ("refs", "blobs"):
        (repository / name).mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (repository / "refs" / "main").write_text(SNAPSHOT)
    for file in original.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, repository / "blobs" / digest)
        (snapshot / file.name).symlink_to(Path("../../blobs", digest))
    return tmp_path / "cache"


def cached(cache: Path, *arguments: str, before: str = "") -> Client:
    state = ("--state-dir", str(cache.parent / "state"))
    return Client(command(None, "--cache-dir", str(cache), *state, *arguments, "owner/name", before=before))


def refusal(bridge: Client) -> dict:
    """The error of `start`; the bridge stays up, unloaded, and says the same again."""
    with bridge:
        error = bridge.ask("start")
        assert error["type"] == "error", error
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.ask("transcribe", audio="/dev/null")["type"] == "error"
        assert bridge.ask("start")["code"] == error["code"]
        assert bridge.wait() == 0
        assert "Traceback" not in bridge.stderr()
    return error


def test_the_model_that_these_rows_damage_is_sound(folder: Path, cache: Path, speech: str) -> None:
    with real_model(folder) as bridge:
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.wait() == 0
    with cached(cache, "--local-files-only") as bridge:
        assert bridge.ask("start")["type"] == "ready"
        assert bridge.wait() == 0


def test_row_71_a_model_that_is_not_cached_offline(tmp_path: Path) -> None:
    error = refusal(cached(tmp_path, "--local-files-only"))
    assert (error["code"], error["data"]["offline"], error["data"]["model"]) == ("model_not_found", True, "owner/name")


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def dangling(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../../blobs/gone")

    return damage


@pytest.mark.parametrize("name", rest_once([WEIGHTS, "config.json", "vocab.json"]))
@pytest.mark.parametrize("damage", rest_once([without, dangling]))
def test_row_72_a_file_that_is_missing_or_a_link_to_nowhere(
    folder: Path, name: str, damage: Callable[[str], Callable]
) -> None:
    damage(name)(folder)
    error = refusal(real_model(folder))
    assert (error["code"], error["data"]["missing"]) == ("model_incomplete", [name])


def test_row_72_a_snapshot_of_nothing_but_a_configuration(cache: Path) -> None:
    snapshot = cache / "models--owner--name" / "snapshots" / SNAPSHOT
    for file in snapshot.iterdir():
        if file.name != "config.json":
            file.unlink()
    error = refusal(cached(cache, "--local-files-only"))
    assert error["code"] == "model_incomplete"
    assert WEIGHTS in error["data"]["missing"]


@pytest.mark.once
def test_row_72_a_missing_shard(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "sharded", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert (folder / INDEX).exists()
    error = refusal(real_model(folder))
    assert (error["code"], error["data"]["missing"]) == ("model_incomplete", ["model-00002-of-00003.safetensors"])


@pytest.mark.parametrize(
    "damage",
    rest_once(
        [
            lambda data: data[: len(data) // 2],
            lambda data: data[:-1],
            lambda _: b"<!DOCTYPE html><html>503</html>",
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            lambda _: b"",
        ]
    ),
    ids=["half", "a byte short", "a web page", "a pointer", "empty"],
)
def test_row_73_weights_that_are_none_name_the_file_and_are_not_deleted(folder: Path, damage: Callable) -> None:
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    error = refusal(real_model(folder))
    assert (error["code"], error["data"]["file"]) == ("model_corrupt", WEIGHTS)
    assert (folder / WEIGHTS).exists()


def test_row_74_weights_of_the_right_size_and_another_content(cache: Path) -> None:
    blob = (cache / "models--owner--name" / "snapshots" / SNAPSHOT / WEIGHTS).resolve()
    data = bytearray(blob.read_bytes())
    data[-1000:] = bytes(1000)
    blob.write_bytes(data)
    error = refusal(cached(cache, "--local-files-only"))
    assert (error["code"], error["data"]["file"]) == ("model_corrupt", WEIGHTS)
    assert blob.exists()


@pytest.mark.once
def test_row_74_what_was_verified_is_remembered_until_it_changes(cache: Path) -> None:
    counts = []
    for _ in range(2):
        with cached(cache, "--local-files-only") as bridge:
            counts.append(bridge.ask("start")["load_profile"]["verification"])
            assert bridge.wait() == 0
    assert counts[0] != counts[1]
    blob = (cache / "models--owner--name" / "snapshots" / SNAPSHOT / WEIGHTS).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    assert refusal(cached(cache, "--local-files-only"))["code"] == "model_corrupt"


# Only the process itself can time a change between two of its own steps.
REPLACE = """
import mlx.core as mx, shutil
_load = mx.load
def _replace(path, *arguments, **options):
    weights = _load(path, *arguments, **options)
    shutil.copy(path, path + ".new")
    import os
    os.replace(path + ".new", path)
    return weights
mx.load = _replace
"""


def test_row_75_weights_that_are_replaced_while_they_are_loaded(folder: Path, speech: str) -> None:
    with real_model(folder, before=REPLACE) as bridge:
        error = bridge.ask("start")
        assert (error["code"], error["retryable"]) == ("model_changed", True)
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


def other_type(folder: Path) -> None:
    change_config(folder, model_type="whisper")


def other_quantisation(folder: Path) -> None:
    """A layer packed into 4 bits, and a configuration that says 8."""
    layer = "model.layers.0.mlp.down_proj"
    weights = dict(mx.load(str(folder / WEIGHTS)))
    packed = zip(("weight", "scales", "biases"), mx.quantize(weights[f"{layer}.weight"], 64, 4), strict=True)
    weights |= {f"{layer}.{name}": value for name, value in packed}
    mx.eval(weights)
    mx.save_safetensors(str(folder / WEIGHTS), weights)
    change_config(folder, quantization={"group_size": 64, "bits": 8})


def other_shape(folder: Path) -> None:
    change_weights(folder, next(iter(mx.load(str(folder / WEIGHTS)))), mx.zeros((7,)))


def change_config(folder: Path, **members: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | members))


def other_dtype(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    weights = dict(mx.load(str(folder / WEIGHTS)))
    mx.eval(weights)
    mx.save_safetensors(str(folder / WEIGHTS), weights | {name: weights[name].astype(mx.uint16)})


@pytest.mark.parametrize("damage", rest_once([other_type, other_quantisation, other_shape, other_dtype]))
def test_row_76_another_type_quantisation_or_shape(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    error = refusal(real_model(folder))
    assert error["code"] == "model_unsupported"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    rest_once(
        [
            ("audio_config", "encoder_layers", 10**6),
            ("audio_config", "n_window_infer", 10**12),
            ("text_config", "num_hidden_layers", 2**31),
            ("text_config", "vocab_size", 2**53 + 1),
        ]
    ),
)
def test_row_76_a_size_that_the_weights_do_not_have(folder: Path, section: str, key: str, value: int) -> None:
    sizes = json.loads((folder / "config.json").read_text())[section]
    change_config(folder, **{section: sizes | {key: value}})
    error = refusal(real_model(folder))
    assert (error["code"], error["data"]["field"]) == ("model_unsupported", key)


@pytest.mark.once
def test_row_76_a_missing_tokenizer(folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    assert refusal(real_model(folder))["code"] == "model_incomplete"


@pytest.fixture
def hub(original: Path) -> Iterator[FakeHub]:
    hub = FakeHub(original)
    yield hub
    hub.close()


def downloading(hub: FakeHub, tmp_path: Path, *arguments: str, before: str = "") -> Client:
    """A bridge that finds the hub on 127.0.0.1 in place of the real one."""
    environment = {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path)}
    state = ("--state-dir", str(tmp_path / "state"))
    argv = command(None, "--cache-dir", str(tmp_path / "cache"), *state, *arguments, "owner/name", before=before)
    return Client(argv, env=environment)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    rest_once(
        [(401, "download_failed", False), (403, "download_failed", False), (404, "model_not_found", False),
         (429, "download_failed", True), (503, "download_failed", True)]
    ),
)  # fmt: skip
def test_row_77_a_hub_that_refuses(hub: FakeHub, tmp_path: Path, status: int, code: str, retryable: bool) -> None:
    hub.status["/api/models/"] = status
    error = refusal(downloading(hub, tmp_path))
    assert (error["code"], error["retryable"], error["data"]["http_status"]) == (code, retryable, status)


def test_row_77_an_interrupted_download_is_resumed_and_the_bridge_answers_meanwhile(
    hub: FakeHub, tmp_path: Path, speech: str
) -> None:
    half = len(hub.files[WEIGHTS]) // 2
    hub.cut_after = [half]
    hub.hang_after = half // 2
    with downloading(hub, tmp_path) as bridge:
        bridge.send("start", id="s")
        assert hub.hanging.wait(60)
        assert bridge.ask("capabilities", id="c")["id"] == "c"
        hub.released.set()
        assert bridge.read()["type"] == "ready"
        assert bridge.wait() == 0
    assert any(asked.range for asked in hub.weight_requests)


@pytest.mark.once
def test_row_77_no_hub_at_all(tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path)}
    error = refusal(Client(command(None, "owner/name"), env=environment))
    assert (error["code"], error["retryable"]) == ("download_failed", True)


FULL = """
import shutil
_usage = shutil.disk_usage
shutil.disk_usage = lambda path: _usage("/")._replace(free=1000)
"""  # a disk that is really full would be everybody's


@pytest.mark.once
def test_row_78_a_full_disk_is_reported_before_the_download(hub: FakeHub, tmp_path: Path) -> None:
    error = refusal(downloading(hub, tmp_path, before=FULL))
    assert error["code"] == "disk_full"
    assert hub.weight_requests == []


def test_row_78_two_processes_download_one_model_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.hang_after = len(hub.files[WEIGHTS]) // 2
    with downloading(hub, tmp_path) as first, downloading(hub, tmp_path) as second:
        first.send("start")
        assert hub.hanging.wait(60)
        second.send("start")
        hub.released.set()
        assert [first.read()["type"], second.read()["type"]] == ["ready", "ready"]
        assert [first.wait(), second.wait()] == [0, 0]
    assert hub.served[WEIGHTS] <= 2 * len(hub.files[WEIGHTS])


# Weights that yield numbers in the warm-up and none later: the second utterance meets what overflow would leave.
POISON = """
import mlx.core as mx
from qwen3_asr_mlx_runtime.model import generate
_prefill, _calls = generate.prefill_prompt, []
def _poisoned(*arguments):
    _calls.append(1)
    return _prefill(*arguments) * (mx.array(float("nan")) if len(_calls) in (3, 5, 6, 7) else 1)
generate.prefill_prompt = _poisoned
"""

LOADS = """
import sys
from qwen3_asr_mlx_runtime.engine import recognizer as engine
_load = engine.load_model
def _told(*arguments, **options):
    print("weights are read", file=sys.stderr)
    return _load(*arguments, **options)
engine.load_model = _told
"""


def test_row_79_logits_that_are_no_numbers_fail_that_utterance(folder: Path, speech: str) -> None:
    with real_model(folder, before=POISON) as bridge:
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.ask("transcribe", audio=speech)["code"] == "non_finite_output"
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.wait() == 0


def test_row_79_three_in_a_row_have_the_weights_read_again(folder: Path, speech: str) -> None:
    with real_model(folder, before=POISON + LOADS) as bridge:
        for _ in range(3):
            bridge.ask("transcribe", audio=speech)
        codes = [bridge.ask("transcribe", audio=speech)["code"] for _ in range(3)]
        assert codes == ["non_finite_output"] * 3
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.wait() == 0
        assert bridge.stderr().count("weights are read") == 2


@pytest.mark.once
def test_row_79_weights_that_are_no_numbers_are_refused_at_the_load(folder: Path) -> None:
    name = next(name for name in mx.load(str(folder / WEIGHTS)) if name.endswith("norm.weight"))
    change_weights(folder, name, mx.full(mx.load(str(folder / WEIGHTS))[name].shape, float("nan")))
    assert refusal(real_model(folder))["code"] == "model_corrupt"


def test_row_80_a_model_that_repeats_itself_is_ended(folder: Path, speech: str) -> None:
    weights = mx.load(str(folder / WEIGHTS))
    name = next(name for name in weights if name.endswith("norm.weight") and "layers" not in name)
    change_weights(folder, name, mx.zeros(weights[name].shape))  # every logit is 0: one token for ever
    with real_model(folder) as bridge:
        reply = bridge.ask("transcribe", audio=speech, max_new_tokens=0)
        assert (reply["finish_reason"], reply["generated_tokens"]) in (("repetition", 20), ("length", 128))
        assert bridge.wait() == 0


OUT_OF_MEMORY = """
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
_encode, _calls = Qwen3ASR.embed_audio, []
def _no_room(self, features):
    _calls.append(1)
    if len(_calls) == 3:
        raise MemoryError
    if len(_calls) == 4:
        raise RuntimeError("[metal::malloc] Unable to allocate 1 bytes.")
    if len(_calls) == 5:
        raise RuntimeError("[METAL] Command buffer execution failed: Caused GPU Timeout Error")
    return _encode(self, features)
Qwen3ASR.embed_audio = _no_room
"""  # memory that is really used up would be everybody's


def test_row_81_and_82_what_runs_out_or_gives_up_fails_that_utterance(folder: Path, speech: str) -> None:
    with real_model(folder, before=OUT_OF_MEMORY) as bridge:
        asked = {"audio": speech, "max_new_tokens": 1}
        assert bridge.ask("transcribe", **asked)["type"] == "transcript"
        codes = [bridge.ask("transcribe", **asked)["code"] for _ in range(3)]
        assert codes == ["out_of_memory", "out_of_memory", "gpu_error"]
        assert bridge.ask("transcribe", **asked)["type"] == "transcript"
        assert bridge.wait() == 0


HALF_CHARACTERS = """
import itertools
from qwen3_asr_mlx_runtime.engine import single as sequential
from qwen3_asr_mlx_runtime.model.generate import Token
_ids = itertools.count()
def _nonsense(model, embeddings, eos_ids, budget, **_):
    for position in range(budget):
        yield Token(next(_ids) % 700, 0.0, "length" if position == budget - 1 else None)
sequential.generate = _nonsense
"""  # every token of the vocabulary, one after the other, as no model would write them


@pytest.mark.once
def test_row_87_tokens_that_are_no_text_become_replacement_characters(folder: Path, speech: str) -> None:
    with real_model(folder, before=HALF_CHARACTERS) as bridge:
        replies = [bridge.ask("transcribe", audio=speech, max_new_tokens=50) for _ in range(14)]
        assert {reply["type"] for reply in replies} == {"transcript"}
        assert any("\ufffd" in reply["text"] for reply in replies)
        assert not any("<|" in reply["text"] for reply in replies)
        assert bridge.wait() == 0


@pytest.mark.parametrize("budget", rest_once([1, 7]))
def test_row_80_a_budget_ends_a_decode_and_says_so(folder: Path, speech: str, budget: int) -> None:
    with real_model(folder) as bridge:
        reply = bridge.ask("transcribe", audio=speech, max_new_tokens=budget)
        assert (reply["finish_reason"], reply["generated_tokens"]) == ("length", budget)
        assert bridge.wait() == 0
