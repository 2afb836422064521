import json
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from checkpoint.test_quantize import same_weights
from mlx.utils import tree_flatten
from reference.random_checkpoint import write_random_checkpoint
from safetensors import safe_open
from support.tiny_checkpoint import write_tiny_checkpoint

from qwen3_asr_mlx_runtime.checkpoint.files import check_files
from qwen3_asr_mlx_runtime.checkpoint.save import save_model
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.tools.quantize import main


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("source") / "tiny")


def run(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, dict]:
    """The exit code and the one line of stdout."""
    code = main([str(argument) for argument in argv])
    [line] = capsys.readouterr().out.splitlines()
    return code, json.loads(line)


@pytest.mark.parametrize("scheme", ["8bit", "mixed"])
def test_what_is_saved_loads_to_the_bit_as_what_is_quantised_at_load(source, tmp_path, capsys, scheme):
    code, line = run(capsys, source, tmp_path / "target", "--scheme", scheme)
    assert (code, line["type"], line["scheme"]) == (0, "quantized", scheme)
    for dtype in (None, "bfloat16"):
        loaded = load_model(tmp_path / "target", dtype)
        assert same_weights(loaded, load_model(source, dtype, quantize=scheme))
    assert line["quantization"]["layers"][1] == {
        "part": "decoder",
        "bits": loaded.model.layers[0].mlp.down_proj.bits,
        "group_size": 64,
        "count": 14,
    }


def tokenizer_files(folder: Path) -> Path:
    tiny = write_tiny_checkpoint(folder)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (tiny / name).unlink()
    return tiny


@pytest.mark.parametrize("layout", ["released", "native", "mlx"])
def test_every_layout_is_saved_in_that_of_mlx_community(tmp_path, capsys, layout):
    tokenizer = tokenizer_files(tmp_path / "tokenizer")
    source = write_random_checkpoint(
        tmp_path / "source", layout=layout, dtype="bfloat16", shards=2, tokenizer=tokenizer
    )
    (source / "LICENSE").touch()
    (source / "README.md").touch()
    target = tmp_path / "target"
    assert run(capsys, source, target, "--scheme", "mixed")[0] == 0
    assert {file.name for file in target.iterdir()} == {
        *("LICENSE", "config.json", "generation_config.json", "merges.txt", "model.safetensors"),
        *("model.safetensors.index.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json"),
    }
    check_files(target)
    with safe_open(target / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "mlx"}
        stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (a handle, not a mapping)
        assert stored["audio_tower.conv2d1.weight"].get_shape() == [16, 3, 3, 1]
        assert stored["audio_tower.proj1.scales"].get_dtype() == "BF16"
        assert "lm_head.weight" not in stored
    config = json.loads((target / "config.json").read_text())
    section = config.pop("quantization")
    assert config.pop("quantization_config") == section
    assert config == json.loads((source / "config.json").read_text())
    common, eight = ({"group_size": 64, "bits": bits, "mode": "affine"} for bits in (4, 8))
    exceptions = {name: section.pop(name) for name in list(section) if isinstance(section[name], dict)}
    assert section == common
    assert exceptions.keys() == {
        name.removesuffix(".scales")
        for name in stored
        if name.endswith(".scales") and not name.startswith("model.layers.")
    }
    assert all(value == eight for value in exceptions.values())


def test_mlx_lm_reads_the_bits_of_each_layer_from_what_is_saved(source, tmp_path, capsys):
    """As mlx-lm does at load: a layer is quantised where it has scales, as its entry says or else as all are."""
    import mlx.nn as nn

    run(capsys, source, tmp_path / "target", "--scheme", "mixed")
    section = json.loads((tmp_path / "target" / "config.json").read_text())["quantization"]
    weights = mx.load(str(tmp_path / "target" / "model.safetensors"))
    model = load_model(source, join=False)
    nn.quantize(
        model,
        group_size=section["group_size"],
        bits=section["bits"],
        mode=section["mode"],
        class_predicate=lambda path, _: section.get(path, f"{path}.scales" in weights),
    )
    model.load_weights(list(weights.items()), strict=True)
    assert same_weights(model, load_model(source, quantize="mixed", join=False))


def test_a_target_that_exists_is_left_alone(source, tmp_path, capsys):
    (tmp_path / "target").mkdir()
    code, line = run(capsys, source, tmp_path / "target", "--scheme", "8bit")
    assert (code, line["type"], line["code"]) == (1, "error", "invalid_params")
    assert list(tmp_path.rglob("*")) == [tmp_path / "target"]


def test_the_folders_above_a_target_are_made(source, tmp_path, capsys):
    code, line = run(capsys, source, tmp_path / "models" / "tiny" / "8bit", "--scheme", "8bit")
    assert (code, line["type"]) == (0, "quantized")
    check_files(tmp_path / "models" / "tiny" / "8bit")


def test_a_target_below_a_file_is_refused_before_anything_is_loaded(source, tmp_path, capsys):
    (tmp_path / "file").touch()
    code, line = run(capsys, "nobody/nothing", tmp_path / "file" / "models" / "8bit", "--scheme", "8bit")
    assert (code, line["code"]) == (1, "invalid_params")


def test_a_target_that_appears_meanwhile_is_left_alone(source, tmp_path, monkeypatch):
    model = load_model(source, quantize="8bit", join=False)
    monkeypatch.setattr(mx, "save_safetensors", _then(mx.save_safetensors, (tmp_path / "target").mkdir))
    with pytest.raises(InvalidParams):
        save_model(model, source, tmp_path / "target")
    assert list(tmp_path.rglob("*")) == [tmp_path / "target"]


def _then(first, second):
    def both(*args: object, **options: object) -> None:
        first(*args, **options)
        second()

    return both


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), "disk_full"), (RuntimeError("[write]"), "io_error")]
)
def test_nothing_is_left_of_a_write_that_fails(source, tmp_path, capsys, monkeypatch, error, code):
    def fail(file: str, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(mx, "save_safetensors", fail)
    assert run(capsys, source, tmp_path / "target", "--scheme", "8bit")[1]["code"] == code
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_cut_short_never_get_their_name(source, tmp_path, capsys, monkeypatch):
    def cut(file: str, weights: dict, **options: object) -> None:
        save(file, weights, **options)
        whole = Path(file).read_bytes()
        Path(file).write_bytes(whole[:-1])

    save = mx.save_safetensors
    monkeypatch.setattr(mx, "save_safetensors", cut)
    assert run(capsys, source, tmp_path / "target", "--scheme", "8bit")[1]["code"] == "model_corrupt"
    assert list(tmp_path.iterdir()) == []


def test_a_tower_of_four_bits_has_to_be_forced(source, tmp_path, capsys):
    code, line = run(capsys, source, tmp_path / "target", "--scheme", "4bit")
    assert (code, line["code"]) == (1, "model_unsupported")
    assert not (tmp_path / "target").exists()
    assert run(capsys, source, tmp_path / "target", "--scheme", "4bit", "--force")[0] == 0
    assert load_model(tmp_path / "target", force_4bit_tower=True).audio_tower.proj1.bits == 4


def test_what_is_quantised_already_is_not_quantised_again(source, tmp_path, capsys):
    run(capsys, source, tmp_path / "first", "--scheme", "8bit")
    code, line = run(capsys, tmp_path / "first", tmp_path / "second", "--scheme", "mixed")
    assert (code, line["code"]) == (1, "model_unsupported")


def test_the_folder_has_the_permissions_of_any_other(source, tmp_path, capsys):
    run(capsys, source, tmp_path / "target", "--scheme", "8bit")
    (tmp_path / "other").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("target", "other")}
    assert len(modes) == 1


def test_a_signal_ends_it_and_leaves_nothing(repository, source, tmp_path):
    program = (
        f"import os, signal, sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        "import mlx.core as mx\n"
        "from qwen3_asr_mlx_runtime.tools.quantize import main\n"
        "mx.save_safetensors = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, "-I", "-c", program, str(source), str(tmp_path / "target"), "--scheme", "8bit"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (128 + signal.SIGTERM, "")
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_to_stderr(source, tmp_path, capsys):
    assert main([str(source), str(tmp_path / "target"), "--scheme", "8bit"]) == 0
    assert capsys.readouterr().err.split() == ["resolve", "quantize", "save"]


def test_the_launcher_starts_it(repository, source, tmp_path):
    """In an environment that is there already: this one."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts" / "lib").mkdir(parents=True)
    shutil.copy2(repository / "scripts" / "qwen3-asr-mlx-quantize", checkout / "scripts")
    (checkout / "src").symlink_to(repository / "src")
    environment = f'ensure_environment() {{ environment="{sys.prefix}"; }}\n'
    (checkout / "scripts" / "lib" / "environment.sh").write_text(environment)
    command = [checkout / "scripts" / "qwen3-asr-mlx-quantize", source, tmp_path / "target", "--scheme", "mixed"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["target"] == str(tmp_path / "target")
    assert dict(tree_flatten(load_model(tmp_path / "target").parameters()))
