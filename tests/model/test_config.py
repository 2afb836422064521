import copy
import json

import pytest
from msgspec.structs import replace
from reference.configs import config_json

from qwen3_asr_mlx_runtime.errors import ModelUnsupported
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.model.config import AlignerConfig, ModelConfig

RELEASED = config_json("0.6b", "released", "bfloat16")
NATIVE = config_json("0.6b", "native", "bfloat16")


def test_the_three_layouts_give_one_configuration():
    released = ModelConfig.from_dict(RELEASED)
    assert ModelConfig.from_dict(NATIVE) == released
    assert ModelConfig.from_dict({**RELEASED["thinker_config"], "model_type": "qwen3_asr"}) == released
    assert (released.audio.d_model, released.text.num_key_value_heads, released.audio_token_id) == (896, 8, 151676)


def test_native_names_of_the_audio_section_are_known():
    config = copy.deepcopy(NATIVE)
    audio = config["audio_config"]
    for native, released in [("hidden_size", "d_model"), ("num_hidden_layers", "encoder_layers")]:
        audio[native] = audio.pop(released)
    assert ModelConfig.from_dict(config) == ModelConfig.from_dict(NATIVE)


def test_released_names_win_over_library_defaults_beside_them():
    config = copy.deepcopy(RELEASED)
    config["thinker_config"]["audio_config"]["num_hidden_layers"] = 99
    assert ModelConfig.from_dict(config).audio.encoder_layers == 18


AUDIO_KEYS = [
    "num_mel_bins",
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "downsample_hidden_size",
    "output_dim",
    "n_window",
    "n_window_infer",
    "activation_function",
]
TEXT_KEYS = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "max_position_embeddings",
    "hidden_act",
    "tie_word_embeddings",
]


@pytest.mark.parametrize(
    ("section", "key"), [("audio_config", key) for key in AUDIO_KEYS] + [("text_config", key) for key in TEXT_KEYS]
)
def test_every_key_is_required(section, key):
    config = copy.deepcopy(RELEASED)
    del config["thinker_config"][section][key]
    with pytest.raises(ModelUnsupported) as caught:
        ModelConfig.from_dict(config)
    assert caught.value.data["field"] == key


@pytest.mark.parametrize("section", ["audio_config", "text_config", "audio_token_id"])
def test_every_section_is_required(section):
    config = copy.deepcopy(RELEASED)
    del config["thinker_config"][section]
    with pytest.raises(ModelUnsupported, match=section):
        ModelConfig.from_dict(config)


def changed(section: str, **values: object) -> dict:
    config = copy.deepcopy(RELEASED)
    config["thinker_config"][section].update(values)
    return config


@pytest.mark.parametrize(
    "config",
    [
        {**RELEASED, "model_type": "whisper"},
        {"model_type": "qwen3_asr", "thinker_config": {"model_type": "qwen3_forced_aligner"}},
        changed("audio_config", n_window=100),
        changed("audio_config", n_window_infer=750),
        changed("audio_config", num_mel_bins=80),
        changed("audio_config", activation_function="gelu_new"),
        changed("audio_config", output_dim=2048),
        changed("audio_config", d_model=900),
        changed("audio_config", d_model=2, encoder_attention_heads=2),
        changed("audio_config", d_model=897, encoder_attention_heads=3),
        changed("audio_config", encoder_layers="18"),
        changed("text_config", hidden_act="gelu"),
        {**RELEASED, "thinker_config": None},
        {**RELEASED, "quantization": [64, 8]},
        {**RELEASED, "quantization": {"group_size": 0, "bits": 8}},
        {**RELEASED, "quantization": {"group_size": 64, "bits": 7}},
        {**RELEASED, "quantization": {"group_size": 64, "bits": 8, "model.norm": {"group_size": 0, "bits": 8}}},
        changed("audio_config", n_window=0),
        changed("audio_config", encoder_attention_heads=0),
        changed("text_config", num_key_value_heads=0),
        changed("text_config", rope_scaling=[24, 20, 20]),
        changed("text_config", rope_scaling={"mrope_section": 64}),
        changed("text_config", num_key_value_heads=5),
        changed("text_config", head_dim=127, rope_scaling=None),
        changed("text_config", max_position_embeddings=512),
        changed("text_config", rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        changed("text_config", rope_scaling={"rope_type": "default", "mrope_section": [16, 24, 20]}),
        changed("text_config", rope_scaling={"rope_type": "default", "mrope_section": [100, -36, 0]}),
        changed("text_config", rope_scaling={"rope_type": "default", "partial_rotary_factor": 0.5}),
    ],
)
def test_what_this_runtime_would_compute_wrongly_is_refused(config):
    with pytest.raises(ModelUnsupported):
        ModelConfig.from_dict(config)


@pytest.mark.parametrize(
    ("quantization", "field"),
    [
        ({"group_size": 64, "bits": 7}, "bits"),
        ({"group_size": 2**53 + 1, "bits": 8}, "group_size"),
        ({"group_size": 64, "bits": 8, "model.norm": {"group_size": 64, "bits": -1}}, "bits"),
        ({"group_size": 64, "bits": 8, "model.norm": {"bits": 8}}, "group_size"),
        ([64, 8], "quantization"),
    ],
)
def test_a_quantisation_that_does_not_exist_is_refused_by_its_name(quantization, field):
    with pytest.raises(ModelUnsupported) as caught:
        ModelConfig.from_dict({**RELEASED, "quantization": quantization})
    assert caught.value.data["field"] == field


def test_quantisation_is_read():
    config = {**RELEASED, "quantization": {"group_size": 64, "bits": 8}}
    assert ModelConfig.from_dict(config).quantization.bits == 8


@pytest.mark.parametrize(("name", "layers", "hidden_size"), [("0.6B", 18, 1024), ("1.7B", 24, 2048)])
def test_the_configurations_of_the_released_models_are_read(data_folder, name, layers, hidden_size):
    file = data_folder / "tokenizer" / "config_reconstructed" / f"Qwen3-ASR-{name}.config.json"
    config = ModelConfig.from_dict(json.loads(file.read_text()))
    assert (config.audio.encoder_layers, config.text.hidden_size) == (layers, hidden_size)
    assert (config.audio_token_id, config.text.tie_word_embeddings) == (151676, True)


def test_the_configuration_of_the_released_aligner_is_read(data_folder):
    file = data_folder / "tokenizer" / "config_reconstructed" / "Qwen3-ForcedAligner-0.6B.config.json"
    config = AlignerConfig.from_dict(json.loads(file.read_text()))
    assert (config.audio.d_model, config.audio.encoder_layers, config.text.hidden_size) == (1024, 24, 1024)
    assert (config.text.vocab_size, config.head_size, config.text.tie_word_embeddings) == (152064, 5000, False)
    assert (config.timestamp_token_id, config.timestamp_segment_time) == (151705, 80)


ALIGNER = config_json("aligner", "released", "bfloat16")
NATIVE_ALIGNER = config_json("aligner", "native", "bfloat16")
THINKER = ALIGNER["thinker_config"]
IDS = {key: ALIGNER[key] for key in ("timestamp_token_id", "timestamp_segment_time")}


@pytest.mark.parametrize(
    "config",
    [
        NATIVE_ALIGNER,
        {key: value for key, value in NATIVE_ALIGNER.items() if key != "id2label"} | {"num_labels": 5000},
        {**ALIGNER, "thinker_config": {**THINKER, "model_type": "qwen3_asr_thinker"}},
        {**ALIGNER, "model_type": "qwen3_forced_aligner"},
        {"model_type": "qwen3_asr", "thinker_config": {**THINKER, **IDS}},
        {**THINKER, **IDS},
        {**THINKER, **IDS, "model_type": "qwen3_asr"},
    ],
)
def test_every_layout_of_an_aligner_gives_one_configuration(config):
    one, other = (replace(AlignerConfig.from_dict(each), support_languages=None) for each in (config, ALIGNER))
    assert one == other
    with pytest.raises(ModelUnsupported, match="is a forced aligner") as caught:
        ModelConfig.from_dict(config)
    assert caught.value.data == {"field": "model_type"}


@pytest.mark.parametrize("absent", [{"support_languages": None}, {"support_languages": []}])
def test_an_aligner_knows_the_languages_of_its_configuration_or_the_eleven_of_the_released_one(absent):
    assert AlignerConfig.from_dict(ALIGNER).languages == ("Chinese", "English", "Arabic")
    languages = AlignerConfig.from_dict({**ALIGNER, **absent}).languages
    assert languages == AlignerConfig.from_dict(NATIVE_ALIGNER).languages
    assert len(languages) == 11
    assert {*languages} <= {*LANGUAGE_CODES}


@pytest.mark.parametrize(
    "sign",
    [
        {"model_type": "qwen3_forced_aligner"},
        {"thinker_config": {**RELEASED["thinker_config"], "model_type": "qwen3_forced_aligner"}},
        {"thinker_config": {**RELEASED["thinker_config"], "classify_num": 5000}},
        {"architectures": ["Qwen3ASRForTokenClassification"]},
    ],
)
def test_one_sign_of_an_aligner_is_enough(sign):
    with pytest.raises(ModelUnsupported, match="is a forced aligner"):
        ModelConfig.from_dict({**RELEASED, **sign})


@pytest.mark.parametrize("config", [RELEASED, NATIVE])
def test_a_recogniser_is_no_aligner(config):
    with pytest.raises(ModelUnsupported, match="is a recogniser") as caught:
        AlignerConfig.from_dict(config)
    assert caught.value.data == {"field": "model_type"}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model_type", {"model_type": "whisper"}),
        ("classify_num", {"thinker_config": {**THINKER, "classify_num": 0}}),
        ("classify_num", {"thinker_config": {**THINKER, "classify_num": "5000"}}),
        ("classify_num", {"thinker_config": {key: THINKER[key] for key in THINKER if key != "classify_num"}}),
        ("timestamp_token_id", {"timestamp_token_id": None}),
        ("timestamp_token_id", {"timestamp_token_id": -1}),
        ("timestamp_segment_time", {"timestamp_segment_time": 0}),
        ("timestamp_segment_time", {"timestamp_segment_time": "80"}),
        (
            "tie_word_embeddings",
            {"thinker_config": {**THINKER, "text_config": {**THINKER["text_config"], "tie_word_embeddings": True}}},
        ),
    ],
)
def test_an_aligner_without_its_head_or_marks_is_refused_by_the_key(field, changes):
    with pytest.raises(ModelUnsupported) as caught:
        AlignerConfig.from_dict({**ALIGNER, **changes})
    assert caught.value.data["field"] == field


def test_labels_that_are_no_object_count_for_nothing():
    with pytest.raises(ModelUnsupported) as caught:
        AlignerConfig.from_dict({**NATIVE_ALIGNER, "id2label": 5000})
    assert caught.value.data["field"] == "classify_num"
