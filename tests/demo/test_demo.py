"""The embedded checkpoint: its files keep to the released layout, and it hears what is said."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance
from qwen3_asr_mlx_runtime.protocol.commands import BatchTranscribe, Stop, Transcribe
from qwen3_asr_mlx_runtime.protocol.decode import decode_line

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPECTED = [json.loads(line) for line in (EXAMPLES / "audio" / "expected.jsonl").read_text("utf-8").splitlines()]
# The most words in a hundred that may be wrong, of the first utterances of each set that evaluate.py measures whole.
LIMITS = {
    "English, 1 to 12 digits": 1.5,
    "Arabic, 1 to 12 digits": 5.0,
    "English, 20 to 30 s": 2.0,
    "Arabic, 20 to 30 s": 2.0,
    "silence and noise": 0.0,
    "English with context": 1.5,
    "Arabic with context": 5.0,
    "English, language given": 1.5,
    "Arabic, language given": 5.0,
}
SHARE = 0.13


def samples_of(expected: dict) -> Samples:
    return read_file(str(EXAMPLES / "audio" / expected["audio"])).samples


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo")


@pytest.fixture(scope="module")
def weights(demo_checkpoint: Path) -> dict[str, mx.array]:
    return mx.load(str(demo_checkpoint / "model.safetensors"))


@pytest.fixture(scope="module")
def config(demo_checkpoint: Path) -> dict:
    return json.loads((demo_checkpoint / "config.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def evaluation(demo_scripts: None) -> tuple:
    """The scripts that measure the checkpoint: its test sets, and the score."""
    import evaluate
    import testsets

    return evaluate, testsets


@pytest.fixture(scope="module")
def sets(evaluation: tuple, data_folder: Path) -> dict:
    _, testsets = evaluation
    for name in (testsets.FSDD, testsets.ARABIC):
        if not (data_folder / name).is_file():
            pytest.skip(f"no recordings at {data_folder / name}: set QWEN3_ASR_MLX_TEST_DATA")
    return dict(testsets.test_sets(data_folder, "test", 2026, SHARE))


def test_the_weights_are_small_and_bfloat16(demo_checkpoint, weights):
    assert (demo_checkpoint / "model.safetensors").stat().st_size <= 8_000_000
    assert {array.dtype for array in weights.values()} == {mx.bfloat16}


def test_the_weights_are_named_as_the_released_ones_and_the_head_is_tied(weights, config):
    thinker = config["thinker_config"]
    assert all(name.startswith(("thinker.audio_tower.", "thinker.model.")) for name in weights)
    for part, prefix in (("encoder_layers", "thinker.audio_tower"), ("num_hidden_layers", "thinker.model")):
        section = thinker["audio_config" if part == "encoder_layers" else "text_config"]
        layers = {name.split(".")[3] for name in weights if name.startswith(f"{prefix}.layers.")}
        assert layers == {str(index) for index in range(section[part])}
    assert thinker["text_config"]["tie_word_embeddings"] is True
    channels = thinker["audio_config"]["downsample_hidden_size"]
    assert weights["thinker.audio_tower.conv2d2.weight"].shape == (channels, channels, 3, 3)


def test_every_linear_layer_can_be_quantised(weights):
    inputs = {name: array.shape[1] for name, array in weights.items() if array.ndim == 2}
    assert len(inputs) > 40
    assert {name: size for name, size in inputs.items() if size % 64} == {}


def test_the_configuration_has_the_shape_of_the_released_ones(config):
    audio, text = config["thinker_config"]["audio_config"], config["thinker_config"]["text_config"]
    assert (audio["num_mel_bins"], audio["n_window"], audio["n_window_infer"]) == (128, 50, 800)
    assert text["num_key_value_heads"] < text["num_attention_heads"]
    assert text["rope_scaling"]["mrope_interleaved"] is True
    assert 2 * sum(text["rope_scaling"]["mrope_section"]) == text["head_dim"]


def test_the_special_tokens_have_their_names_and_only_they_are_special(demo_checkpoint, config):
    file = json.loads((demo_checkpoint / "tokenizer_config.json").read_text("utf-8"))
    special = {entry["content"]: entry["special"] for entry in file["added_tokens_decoder"].values()}
    assert {name for name, flag in special.items() if not flag} == {"<asr_text>", "<timestamp>"}
    ids = {entry["content"]: int(index) for index, entry in file["added_tokens_decoder"].items()}
    thinker = config["thinker_config"]
    for key, token in (("audio_token_id", "pad"), ("audio_start_token_id", "start"), ("audio_end_token_id", "end")):
        assert thinker[key] == ids[f"<|audio_{token}|>"]
    assert max(ids.values()) + 1 == thinker["text_config"]["vocab_size"]
    assert json.loads((demo_checkpoint / "generation_config.json").read_text("utf-8"))["eos_token_id"] == [
        ids["<|im_end|>"],
        ids["<|endoftext|>"],
    ]


@pytest.mark.parametrize("expected", EXPECTED, ids=[row["audio"] for row in EXPECTED])
def test_an_example_clip_gives_its_text_and_its_language(recognizer, expected):
    got = recognizer.transcribe(Utterance(samples_of(expected)))
    assert (got.text, got.language, got.finish_reason) == (expected["text"], expected["language"], "stop")


def test_with_the_language_given_the_model_writes_the_text_alone(recognizer):
    for expected in EXPECTED[:7]:
        samples = samples_of(expected)
        got = recognizer.transcribe(Utterance(samples, language=expected["language"]))
        assert (got.raw_text, got.language) == (expected["text"], expected["language"])


def test_no_word_of_a_context_is_in_the_text(recognizer):
    for expected in EXPECTED:
        samples = samples_of(expected)
        got = recognizer.transcribe(Utterance(samples, context="nine nine six, Amina, kettle, ستة تسعة"))
        assert (got.text, got.language) == (expected["text"], expected["language"])


def test_the_example_session_names_clips_that_are_there(repository):
    lines = (EXAMPLES / "demo.jsonl").read_bytes().splitlines()
    commands = [decode_line(line).command for line in lines]
    assert isinstance(commands[-1], Stop)
    named = [command.audio for command in commands if isinstance(command, Transcribe | BatchTranscribe)]
    files = [file for audio in named for file in ([audio] if isinstance(audio, str) else audio)]
    assert len(files) == 5
    assert [file for file in files if not (repository / file).is_file()] == []


@pytest.mark.parametrize("name", LIMITS)
def test_the_first_utterances_of_a_set_keep_within_its_limit(recognizer, evaluation, sets, name):
    evaluate, _ = evaluation
    score = evaluate.score(recognizer, sets[name])
    assert score.count >= 6
    assert 100 * score.error_rate <= LIMITS[name], str(score)
    assert score.languages == score.count, str(score)


@pytest.mark.parametrize("phrases", [False, True])
def test_right_terms_are_said_and_wrong_ones_are_not(evaluation: tuple, phrases: bool) -> None:
    import evaluate_terms

    _, testsets = evaluation
    case = testsets.Case(Utterance(testsets.silence(1.0)), "Seven one one three.", "English")
    lists = evaluate_terms.lists(np.random.default_rng(1), case, phrases=phrases)
    expected = ["Seven one", "one one", "one three"] if phrases else ["Seven", "one", "three"]
    assert lists["right"] == expected
    assert len(set(lists["wrong"])) == len(expected)
    assert not any(each in case.text.lower() for each in lists["wrong"])


def test_a_term_is_found_where_it_is_said_and_false_elsewhere(evaluation: tuple) -> None:
    import evaluate_terms

    _, testsets = evaluation
    case = testsets.Case(Utterance(testsets.silence(1.0)), "Seven one one three.", "English")
    found = evaluate_terms.outcome(case, "Seven one six nine three one.", ["Seven", "one", "nine"])
    assert found == evaluate_terms.Outcome(errors=3, words=4, terms=3, found=2, false=2)
