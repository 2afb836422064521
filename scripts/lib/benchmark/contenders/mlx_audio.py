"""mlx-audio 0.6.2, by its own functions and in its own order."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.contenders.contender import Contender, Samples


class MLXAudio(Contender):
    import_statement = "from mlx_audio.stt.utils import load_model"

    def load(self, checkpoint: Path, dtype: str) -> None:
        import mlx.core as mx
        from mlx_audio.stt.utils import load_model

        self._model = load_model(str(checkpoint))._model  # the wrapper's generator refuses input embeddings
        stored = self._model.model.norm.weight.dtype
        if stored != getattr(mx, dtype):
            raise ValueError(f"loaded as {stored}, asked for {dtype}")
        self._model._eos_token_ids = set
        self._tokens: list[int] = []
        stream_generate = self._model.stream_generate

        def recorded(*args: Any, **options: Any) -> Iterator[Any]:
            for token, logprobs in stream_generate(*args, **options):
                self._tokens.append(int(token))
                yield token, logprobs

        self._model.stream_generate = recorded

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

    def fence(self) -> None:
        import mlx.core as mx
        from mlx_audio.lm.generate import generation_stream

        mx.synchronize(generation_stream)
        mx.synchronize()
