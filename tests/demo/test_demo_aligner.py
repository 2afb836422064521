"""The embedded aligner: its files keep to the released layout, and its test sets know when each word is spoken."""

import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

SHARED = ("vocab.json", "merges.txt", "tokenizer_config.json", "preprocessor_config.json")


@pytest.fixture(scope="module")
def folder(demo_checkpoint: Path) -> Path:
    return demo_checkpoint.parent / "demo_aligner"


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, mx.array]:
    return mx.load(str(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def testsets(demo_scripts: None) -> ModuleType:
    import testsets

    return testsets


def test_the_files_are_small_and_the_weights_bfloat16(folder, weights):
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6_000_000
    assert {array.dtype for array in weights.values()} == {mx.bfloat16}


def test_the_head_is_its_own_with_a_row_for_each_class(weights, config):
    thinker = config["thinker_config"]
    text = thinker["text_config"]
    assert weights["thinker.lm_head.weight"].shape == (5000, text["hidden_size"])
    assert weights["thinker.model.embed_tokens.weight"].shape == (text["vocab_size"], text["hidden_size"])
    assert (thinker["classify_num"], text["tie_word_embeddings"]) == (5000, False)


def test_the_weights_are_those_of_the_configured_layers(weights, config):
    thinker = config["thinker_config"]
    for size, section, prefix in (
        ("encoder_layers", "audio_config", "thinker.audio_tower.layers."),
        ("num_hidden_layers", "text_config", "thinker.model.layers."),
    ):
        layers = {name.split(".")[3] for name in weights if name.startswith(prefix)}
        assert layers == {str(index) for index in range(thinker[section][size])}


def test_every_linear_layer_can_be_quantised(weights):
    inputs = {name: array.shape[1] for name, array in weights.items() if array.ndim == 2}
    assert len(inputs) > 40
    assert {name: size for name, size in inputs.items() if size % 64} == {}


def test_the_configuration_says_that_it_is_an_aligner_and_what_its_classes_mean(folder, config):
    added = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    assert "forced_aligner" in config["thinker_config"]["model_type"]
    assert config["timestamp_segment_time"] == 80
    mark = added[str(config["timestamp_token_id"])]
    assert (mark["content"], mark["special"]) == ("<timestamp>", False)


@pytest.mark.parametrize("name", SHARED)
def test_the_tokenizer_and_the_features_are_the_recognisers(folder, demo_checkpoint, name):
    assert (folder / name).read_bytes() == (demo_checkpoint / name).read_bytes()


def test_a_wrong_text_differs_in_the_way_that_it_is_named(testsets):
    import evaluate_doubt

    sound = testsets.silence(1.0)
    case, before = (
        testsets.Case(testsets.Utterance(sound), text, "English") for text in ("Seven one one.", "Two six.")
    )
    found = evaluate_doubt.texts(np.random.default_rng(1), case, before)
    right, other = ["Seven", "one", "one"], found["every word changed"]
    assert (found["right"], found["of another clip"], found["right, twice"]) == (right, ["Two", "six"], right * 2)
    assert (len(other), any(a == b for a, b in zip(right, other, strict=True))) == (3, False)
    assert sum(a != b for a, b in zip(right, found["one word changed"], strict=True)) == 1


def test_each_word_of_a_test_utterance_has_its_span_within_it(testsets, data_folder):
    if not (data_folder / testsets.ARABIC).is_file():
        pytest.skip("no recordings: set QWEN3_ASR_MLX_TEST_DATA")
    cases = [case for _, cases in testsets.aligner_sets(data_folder, "test", 1, 0.02) for case in cases]
    assert len(cases) >= 20
    for case in cases:
        assert len(case.spans) == len(case.text.split())
        times = [time for span in case.spans for time in span]
        assert all(before <= after for before, after in pairwise([0.0, *times, case.utterance.seconds]))
        assert all(end - start > 0.05 for start, end in case.spans)
