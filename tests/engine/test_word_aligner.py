"""The aligner without the bridge."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_ALIGNER_FOLDER
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.word_aligner import WordAligner
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import LanguageUnsupported, ModelCorrupt, ModelNotFound
from qwen3_asr_mlx_runtime.session.results import join_words
from qwen3_asr_mlx_runtime.settings import Settings


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32", max_segment_seconds=3.0)


@pytest.fixture(scope="module")
def aligner(recognizer: Recognizer) -> WordAligner:
    aligner = WordAligner(recognizer, Settings(model="demo"))
    aligner.load()
    return aligner


def test_long_audio_has_an_outcome_for_each_segment_and_words_for_the_whole_text(
    recognizer: Recognizer, aligner: WordAligner, repository: Path
) -> None:
    names = ("sample", "english-ten", "english-one")
    utterances = [Utterance(read_file(f"{repository}/examples/audio/{name}.wav").samples) for name in names]
    transcripts = recognizer.transcribe_batch(utterances)
    assert len(transcripts[1].segments) > 1
    found = aligner.align(zip(utterances, transcripts, strict=True))
    assert [len(outcomes) for outcomes in found] == [len(transcript.segments) for transcript in transcripts]
    for utterance, transcript, outcomes in zip(utterances, transcripts, found, strict=True):
        words = join_words(transcript, outcomes, "viterbi").words
        assert [word.text for word in words] == transcript.text.split()
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 < times[-1] <= utterance.seconds


def test_a_text_of_nothing_has_no_words_and_a_language_that_is_unknown_says_so(
    recognizer: Recognizer, aligner: WordAligner, repository: Path
) -> None:
    silence = Utterance(np.zeros(SAMPLE_RATE, np.float32))
    [[nothing]] = aligner.align([(silence, recognizer.transcribe(silence))])
    assert nothing.words == []
    seven = Utterance(read_file(f"{repository}/examples/audio/sample.wav").samples, "Thai")
    [[unknown]] = aligner.align([(seven, recognizer.transcribe(seven))])
    assert isinstance(unknown, LanguageUnsupported)


def test_what_is_wrong_with_its_files_is_raised_by_the_load(recognizer: Recognizer, tmp_path: Path) -> None:
    stages: list[str] = []
    WordAligner(recognizer, Settings(model="demo")).load(lambda progress: stages.append(progress.stage))
    assert stages == ["resolve", "load"]
    with pytest.raises(ModelNotFound):
        WordAligner(recognizer, Settings(aligner="no/where", cache_dir=tmp_path, local_files_only=True)).load()
    broken = shutil.copytree(DEMO_ALIGNER_FOLDER, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelCorrupt):
        WordAligner(recognizer, Settings(model="demo", aligner=str(broken))).load()
