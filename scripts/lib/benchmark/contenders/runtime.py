"""This runtime."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.contenders.contender import Contender, Samples


class Runtime(Contender):
    import_statement = "from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer"

    def load(self, checkpoint: Path, dtype: str) -> None:
        from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
        from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
        from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

        Tokenizer.eos_ids = frozenset()
        self._recognizer = Recognizer.load(str(checkpoint), dtype=dtype)
        self._prompt = PromptBuilder(Tokenizer.from_folder(checkpoint)).build("", None)

    def features(self, samples: Samples) -> Any:
        from qwen3_asr_mlx_runtime.model.features import log_mel

        return log_mel(samples)

    def tower(self, features: Any) -> Any:
        import mlx.core as mx

        audio = self._recognizer.encode(features)
        mx.eval(audio)
        return audio

    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        from qwen3_asr_mlx_runtime.model.generate import generate
        from qwen3_asr_mlx_runtime.model.splice import splice

        model, prompt = self._recognizer.model, self._prompt
        embeddings = splice(model.embed(prompt.prefix_ids), audio, model.embed(prompt.suffix_ids))
        return (token.id for token in generate(model, embeddings, frozenset(), new_tokens))

    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        from qwen3_asr_mlx_runtime.engines.utterance import Utterance

        return self._recognizer.transcribe(Utterance(samples, max_new_tokens=new_tokens)).token_ids

    def transcribe_batch(self, clips: Sequence[Samples], new_tokens: int, decoder_mode: str) -> list[Sequence[int]]:
        from qwen3_asr_mlx_runtime.engines.utterance import Utterance

        utterances = [Utterance(samples, max_new_tokens=new_tokens) for samples in clips]
        transcripts = self._recognizer.transcribe_batch(utterances, decoder_mode=decoder_mode, drift_guard=False)
        return [transcript.token_ids for transcript in transcripts]
