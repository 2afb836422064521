"""mlx-audio 0.6.2, by its own functions and in its own order."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.contenders.contender import Aligner, Contender, Recogniser, Samples


class _MLXAudio(Contender):
    import_statement = "from mlx_audio.stt.utils import load_model"

    def load(self, checkpoint: Path, dtype: str) -> None:
        import mlx.core as mx
        from mlx_audio.stt.utils import load_model

        self._model = load_model(str(checkpoint))._model  # the wrapper's generator refuses input embeddings
        stored = self._model.model.norm.weight.dtype
        if stored != getattr(mx, dtype):
            raise ValueError(f"loaded as {stored}, asked for {dtype}")

    def features(self, samples: Samples) -> Any:
        import mlx.core as mx

        features = self._model._preprocess_audio(samples)
        mx.eval(features[:2])
        return features

    def tower(self, features: Any) -> Any:
        import mlx.core as mx

        input_features, mask, audio_tokens = features
        audio = self._model.get_audio_features(input_features, mask)
        mx.eval(audio)
        return audio, audio_tokens

    def fence(self) -> None:
        import mlx.core as mx
        from mlx_audio.lm.generate import generation_stream

        mx.synchronize(generation_stream)
        mx.synchronize()


class MLXAudio(_MLXAudio, Recogniser):
    queues_ahead = True

    def load(self, checkpoint: Path, dtype: str) -> None:
        super().load(checkpoint, dtype)
        self._model._eos_token_ids = set
        self._tokens: list[int] = []
        stream_generate = self._model.stream_generate

        def recorded(*args: Any, **options: Any) -> Iterator[Any]:
            for token, logprobs in stream_generate(*args, **options):
                self._tokens.append(int(token))
                yield token, logprobs

        self._model.stream_generate = recorded

    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        from mlx_audio.lm.generate import generate_step

        embeddings, audio_tokens = audio
        input_ids = self._model._build_prompt(audio_tokens)
        spliced = self._model._build_inputs_embeds(input_ids, embeddings)
        steps = generate_step(
            prompt=input_ids[0], input_embeddings=spliced[0], model=self._model, max_tokens=new_tokens
        )
        return (int(token) for token, _ in steps)

    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        self._tokens = []
        self._model.generate(samples, max_tokens=new_tokens)
        return self._tokens

    def step(self, rows: int, positions: int) -> Callable[[], object]:
        import mlx.core as mx

        if rows > 1:
            raise NotImplementedError
        text, dtype = self._model.config.text_config, self._model.model.norm.weight.dtype
        cache = self._model.make_cache()
        for layer in cache:
            capacity = -(-(positions + 1) // layer.step) * layer.step
            shape = (1, text.num_key_value_heads, capacity, text.head_dim)
            layer.keys, layer.values, layer.offset = mx.zeros(shape, dtype), mx.zeros(shape, dtype), positions
            mx.eval(layer.keys, layer.values)
        token = mx.zeros((1,), mx.int32)
        mx.eval(token)
        return self._first(prompt=token, prompt_cache=cache)

    def prefill(self, positions: int) -> Callable[[], object]:
        import mlx.core as mx

        shape = (positions, self._model.config.text_config.hidden_size)
        embeddings, ids = mx.zeros(shape, self._model.model.norm.weight.dtype), mx.zeros((positions,), mx.int32)
        mx.eval(embeddings, ids)
        return self._first(prompt=ids, input_embeddings=embeddings)

    def _first(self, **arguments: Any) -> Callable[[], object]:
        """Its own loop as far as the first token."""
        from mlx_audio.lm.generate import generate_step

        return lambda: next(generate_step(model=self._model, max_tokens=2, **arguments))


class MLXAudioAligner(_MLXAudio, Aligner):
    def units(self, text: str, language: str) -> Sequence[str]:
        return self._model.aligner_processor.encode_timestamp(text, language)[0]

    def classes(self, features: Any, units: Sequence[str]) -> Sequence[int]:
        import mlx.core as mx
        import numpy as np

        input_features, mask, audio_tokens = features
        marks = "<timestamp><timestamp>"
        text = "<|audio_start|>" + "<|audio_pad|>" * audio_tokens + "<|audio_end|>" + marks.join(units) + marks
        input_ids = mx.array(self._model._tokenizer.encode(text, return_tensors="np", add_special_tokens=False))
        logits = self._model(input_ids, input_features=input_features, feature_attention_mask=mask)
        mx.eval(logits)
        best, ids = np.array(mx.argmax(logits, axis=-1)[0]), np.array(input_ids[0])
        return best[ids == self._model.config.timestamp_token_id].tolist()

    def align(self, samples: Samples, text: str, language: str) -> int:
        return len(self._model.generate(samples, text, language))
