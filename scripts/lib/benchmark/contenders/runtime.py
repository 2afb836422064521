"""This runtime."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmark.contenders.contender import Aligner, Recogniser, Samples


class Runtime(Recogniser):
    quantize: ClassVar[str | None] = None
    import_statement = "from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer"
    queues_ahead = True

    def load(self, checkpoint: Path, dtype: str) -> None:
        from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
        from qwen3_asr_mlx_runtime.model import generate
        from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
        from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

        Tokenizer.eos_ids = frozenset()
        generate.loops = lambda _: False  # nor does a loop end a text, which trained weights write for such audio
        self._recognizer = Recognizer.load(str(checkpoint), dtype=dtype, quantize=self.quantize)
        self._prompt = PromptBuilder(Tokenizer.from_folder(checkpoint)).build("", None)

    def load_unused(self, checkpoint: Path, dtype: str) -> None:
        """Without the warm-up of a GPU."""
        from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
        from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
        from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

        self._recognizer = Recognizer(load_model(checkpoint, dtype), Tokenizer.from_folder(checkpoint))

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

    def step(self, rows: int, positions: int) -> Callable[[], object]:
        """Alone, or in a batch."""
        import mlx.core as mx

        from qwen3_asr_mlx_runtime.model.batch import Batch, Row, RowCache, choose
        from qwen3_asr_mlx_runtime.model.generate import NextTokens

        model = self._recognizer.model
        tokens = mx.zeros((rows,), mx.int32)
        cache = model.make_cache(positions + 1, rows=rows)
        mx.eval(tokens, [(layer.keys, layer.values) for layer in cache])
        self.queues_ahead = True
        if rows == 1:
            for layer in cache:
                layer.offset = positions
            embed = model.model.embed_tokens
            return lambda: NextTokens.among(model.logits(embed(tokens)[:, None], cache))
        batch = Batch(model, frozenset())
        prompt = mx.zeros((1, positions, model.config.text.hidden_size), model.dtype)
        batch.rows = [Row(prompt, max_new_tokens=2) for _ in range(rows)]
        batch._caches = [RowCache(layer.keys, layer.values) for layer in cache]
        self.queues_ahead = not batch._waits
        return lambda: choose(batch.rows, batch._forward(tokens)).start()

    def prefill(self, positions: int) -> Callable[[], object]:
        import mlx.core as mx

        from qwen3_asr_mlx_runtime.model.generate import NextTokens, prefill_prompt

        model = self._recognizer.model
        prompt = mx.zeros((1, positions, model.config.text.hidden_size), model.dtype)
        mx.eval(prompt)
        return lambda: NextTokens.among(prefill_prompt(model, prompt, model.make_cache(positions + 128), ()))


class Runtime8Bit(Runtime):
    quantize = "8bit"


class RuntimeMixed(Runtime):
    quantize = "mixed"


class RuntimeAligner(Aligner):
    import_statement = "from qwen3_asr_mlx_runtime.model.aligner import Aligner"

    def load(self, checkpoint: Path, dtype: str) -> None:
        from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner
        from qwen3_asr_mlx_runtime.model.aligner import Aligner
        from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

        self._aligner = Aligner(load_aligner(checkpoint, dtype), Tokenizer.from_folder(checkpoint))

    def features(self, samples: Samples) -> Any:
        from qwen3_asr_mlx_runtime.model.features import log_mel

        return log_mel(samples)

    def tower(self, features: Any) -> Any:
        import mlx.core as mx

        [audio] = self._aligner.model.embed_audio([features])
        mx.eval(audio)
        return audio

    def units(self, text: str, language: str) -> Sequence[str]:
        from qwen3_asr_mlx_runtime.model.word_units import word_units

        return [unit.letters for unit in word_units(text, language).units]

    def classes(self, features: Any, units: Sequence[str]) -> Sequence[int]:
        [logits] = self._aligner.logits([features], [units])
        return logits.argmax(axis=1).tolist()

    def align(self, samples: Samples, text: str, language: str) -> int:
        from qwen3_asr_mlx_runtime.model.word_times import viterbi

        [logits] = self._aligner.logits([self.features(samples)], [self.units(text, language)])
        return len(viterbi(logits, len(samples) // 16))

    def prefill(self, audio: Any, units: Sequence[str]) -> int:
        import mlx.core as mx

        from qwen3_asr_mlx_runtime.model.generate import prefill
        from qwen3_asr_mlx_runtime.model.splice import splice

        model, others = self._aligner.model, self._aligner.positions(units)
        embeddings = model.embed(range(others))
        prompt = splice(embeddings[:1], audio, embeddings[1:])
        positions = prompt.shape[1]
        mx.eval(model.head(prefill(model, prompt, model.make_cache(positions))[0]))
        return positions
