import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as ReferenceTokenizer

from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

SAMPLES = [
    "",
    "system\n",
    "language English",
    "iPhone PostgreSQL vLLM नमस्ते",
    "It's 3.14, isn't it?  Two  spaces\n\nand lines \r\n",
    "سبعة ثلاثة",
    "今天天气很好。",
    "สวัสดีครับ",
    "e\u0301 is é",
    "🙂👩‍👩‍👧",
]


@pytest.fixture(scope="module")
def published(data_folder: Path) -> Path:
    return data_folder / "tokenizer" / "Qwen3-ASR"


@pytest.fixture(scope="module")
def tokenizer(published: Path) -> Tokenizer:
    return Tokenizer.from_folder(published)


@pytest.fixture(scope="module")
def reference(published: Path):
    from transformers import Qwen2Tokenizer

    return Qwen2Tokenizer.from_pretrained(published)


@pytest.mark.parametrize("text", SAMPLES)
def test_plain_text_is_split_as_the_reference_splits_it(tokenizer, reference, text):
    assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", SAMPLES)
def test_text_survives_a_round_trip_up_to_normalisation(tokenizer, text):
    import unicodedata

    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_the_published_control_tokens_have_their_ids(tokenizer):
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"]
    assert [tokenizer.token_id(name) for name in names] == [151643, 151644, 151645, 151669, 151670, 151676]
    assert tokenizer.token_id("<asr_text>") == 151704


@pytest.mark.parametrize("control", ["<|im_end|>", "<|audio_pad|>", "<asr_text>", "<|endoftext|>"])
def test_text_cannot_name_a_control_token(tokenizer, control):
    ids = tokenizer.encode(f"one {control} two")
    assert max(ids) < 151643
    assert tokenizer.decode(ids) == f"one {control} two"


def test_decoding_keeps_the_tag_and_leaves_out_special_tokens(tokenizer):
    ids = [151644, *tokenizer.encode("language English"), 151704, *tokenizer.encode("Hello."), 151645]
    assert tokenizer.decode(ids) == "language English<asr_text>Hello."


def test_half_a_character_is_a_replacement_character(tokenizer):
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("𓀀")[:1])


def test_an_id_without_a_token_adds_nothing(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("word"), 151935]) == "word"


def test_a_native_tokenizer_file_gives_the_same_tokenizer(tokenizer, reference, tmp_path):
    reference.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").unlink(missing_ok=True)
    native = Tokenizer.from_folder(tmp_path)
    assert [native.encode(text) for text in SAMPLES] == [tokenizer.encode(text) for text in SAMPLES]
    assert native.token_id("<asr_text>") == 151704
    assert native.decode([151645, 151704]) == "<asr_text>"


def test_another_pre_tokenizer_in_the_file_is_not_used(demo_checkpoint, tmp_path):
    file = ReferenceTokenizer.from_str(_native_json(demo_checkpoint))
    content = json.loads(file.to_str())
    content["pre_tokenizer"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert Tokenizer.from_folder(tmp_path).encode("seven three") == Tokenizer.from_folder(demo_checkpoint).encode(
        "seven three"
    )


def _native_json(folder: Path) -> str:
    vocabulary = json.loads((folder / "vocab.json").read_text())
    lines = (folder / "merges.txt").read_text().splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    tokens = [{**token, "id": int(id)} for id, token in added.items()]
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    return json.dumps({"version": "1.0", "model": model, "added_tokens": tokens})


@given(st.text())
def test_any_text_can_be_encoded(text):
    tokenizer = _DEMO.get()
    assert max(tokenizer.encode(text), default=0) < tokenizer.token_id("<|endoftext|>")


class _DEMO:
    """The embedded checkpoint's tokenizer, read once for the property test."""

    @classmethod
    def get(cls) -> Tokenizer:
        if not hasattr(cls, "tokenizer"):
            from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER

            cls.tokenizer = Tokenizer.from_folder(DEMO_FOLDER)
        return cls.tokenizer


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(demo_checkpoint, tmp_path, name):
    shutil.copytree(demo_checkpoint, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelIncomplete):
        Tokenizer.from_folder(tmp_path / "model")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_broken_file_is_corrupt(demo_checkpoint, tmp_path, name):
    shutil.copytree(demo_checkpoint, tmp_path / "model")
    (tmp_path / "model" / name).write_text("<html>not what was asked for</html>")
    with pytest.raises(ModelCorrupt):
        Tokenizer.from_folder(tmp_path / "model")


def test_a_native_file_whose_merges_leave_its_vocabulary_is_corrupt(demo_checkpoint, tmp_path):
    content = json.loads(_native_json(demo_checkpoint))
    content["model"]["merges"].append("no such")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelCorrupt):
        Tokenizer.from_folder(tmp_path)


def test_a_token_the_vocabulary_lacks_is_unsupported(demo_checkpoint):
    with pytest.raises(ModelUnsupported, match="<no_such>"):
        Tokenizer.from_folder(demo_checkpoint).token_id("<no_such>")


def test_a_tokenizer_file_wins_over_the_vocabulary_files_beside_it(demo_checkpoint, tmp_path):
    shutil.copytree(demo_checkpoint, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(_native_json(demo_checkpoint))
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    assert Tokenizer.from_folder(tmp_path / "model").token_id("<asr_text>")


@given(ids=st.lists(st.integers(0, 703), max_size=20))
def test_the_text_of_each_id_ends_where_the_ids_up_to_it_decode_to(demo_checkpoint, ids):
    """Also of ids whose bytes are no text: a part of a character counts as one."""
    tokenizer = Tokenizer.from_folder(demo_checkpoint)
    special = {tokenizer.token_id(name) for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|audio_pad|>")}
    ids = [id for id in ids if id < tokenizer.size]
    found = tokenizer.ends(ids)
    for count, (id, end) in enumerate(zip(ids, found, strict=True), 1):
        assert end == len(tokenizer.decode(ids[:count])) or (end is None and tokenizer.decode([id]) == "")
        assert (end is None) >= (id in special)


def test_an_id_that_ends_within_a_character_ends_behind_it(demo_checkpoint):
    tokenizer = Tokenizer.from_folder(demo_checkpoint)
    [first, *rest] = tokenizer.encode("\U0001f642")
    assert tokenizer.ends([first, *rest, *tokenizer.encode("x")]) == [1] * (1 + len(rest)) + [2]
    assert rest
