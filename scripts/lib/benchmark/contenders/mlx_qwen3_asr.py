"""mlx-qwen3-asr 0.4.4, by its own functions and in its own order.

It leaves the checkpoint's epsilon out of the norms of queries and keys (1e-5 there, 1e-6 in the checkpoint), which
changes tokens of these weights and no time: here it is given the right one, so that tokens can be compared.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmark.contenders.contender import Aligner, Contender, Recogniser, Samples


class _MLXQwen3(Contender):
    _model: Any
    _dtype: Any

    def mend_epsilon(self) -> None:
        for layer in self._model.model.layers:
            for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
                norm.eps = layer.input_layernorm.eps

    def features(self, samples: Samples) -> Any:
        import mlx.core as mx
        from mlx_qwen3_asr.audio import compute_features

        features = compute_features(samples)
        mx.eval(features)
        return features

    def tower(self, features: Any) -> Any:
        import mlx.core as mx

        mel, lengths = features
        audio, _ = self._model.audio_tower(mel.astype(self._dtype), lengths)
        mx.eval(audio)
        return audio


class MLXQwen3ASR(_MLXQwen3, Recogniser):
    import_statement = "from mlx_qwen3_asr import Session"
    queues_ahead = False

    def load(self, checkpoint: Path, dtype: str) -> None:
        import mlx.core as mx
        from mlx_qwen3_asr import Session

        self._dtype = getattr(mx, dtype)
        self._session = Session(str(checkpoint), dtype=self._dtype)
        self._model = self._session.model
        self.mend_epsilon()
        self._generate = import_module("mlx_qwen3_asr.generate")
        self._tokens: Sequence[int] = ()
        calls = import_module("mlx_qwen3_asr.transcribe")
        generate = calls.generate
        calls.GenerationConfig = partial(calls.GenerationConfig, eos_token_ids=[])

        def recorded(**arguments: Any) -> Any:
            generated = generate(**arguments)
            self._tokens = generated if isinstance(generated, list) else generated.tokens
            return generated

        calls.generate = recorded

    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        import mlx.core as mx

        model, sample = self._model, partial(self._generate._sample, temperature=0.0)
        prompt = self._session.tokenizer.build_prompt_tokens(n_audio_tokens=audio.shape[1])
        positions = mx.broadcast_to(mx.arange(len(prompt) + new_tokens), (1, 3, len(prompt) + new_tokens))
        cache = model.create_cache(max_seq_len=len(prompt) + new_tokens)
        logits = model.prefill(
            input_ids=mx.array([prompt]), audio_features=audio, position_ids=positions[:, :, : len(prompt)], cache=cache
        )
        token = sample(logits)
        yield token
        for position in range(len(prompt), len(prompt) + new_tokens - 1):
            logits = model.step(
                input_ids=mx.array([[token]]),
                position_ids=positions[:, :, position : position + 1],
                cache=cache,
                validate_input_ids=False,
            )
            token = sample(logits)
            yield token

    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        self._session.transcribe(samples, max_new_tokens=new_tokens)
        return self._tokens

    def step(self, rows: int, positions: int) -> Callable[[], object]:
        import mlx.core as mx

        if rows > 1:
            raise NotImplementedError
        model, text = self._model, self._model.config.text_config
        capacity = positions + 128
        cache = model.create_cache(max_seq_len=capacity)
        shape = (1, text.num_key_value_heads, capacity, text.head_dim)
        cache.keys = [mx.zeros(shape, self._dtype) for _ in cache.keys]
        cache.values = [mx.zeros(shape, self._dtype) for _ in cache.values]
        cache.offset = positions
        all_positions = self._generate._build_decode_positions(positions, 128, mx.int32)
        mx.eval(cache.keys, cache.values, all_positions)

        def build() -> None:
            logits = model.step(
                input_ids=mx.array([[0]]),
                position_ids=all_positions[:, :, :1],
                cache=cache,
                validate_input_ids=False,
            )
            mx.eval(mx.argmax(logits.reshape(-1)))

        return build

    def prefill(self, positions: int) -> Callable[[], object]:
        """What its `prefill` does after the embeddings of the audio are in their places."""
        import mlx.core as mx

        model = self._model
        embeddings = mx.zeros((1, positions, model.config.text_config.hidden_size), self._dtype)
        all_positions = mx.stack([mx.arange(positions)[None]] * 3, axis=1)
        mx.eval(embeddings, all_positions)

        def build() -> None:
            hidden = model.model(
                inputs_embeds=embeddings,
                position_ids=all_positions,
                attention_mask=None,
                cache=model.create_cache(max_seq_len=positions + 128),
            )
            mx.eval(mx.argmax(model.lm_head(hidden[:, -1:, :]).reshape(-1)))

        return build


class MLXQwen3Aligner(_MLXQwen3, Aligner):
    import_statement = "from mlx_qwen3_asr import ForcedAligner"

    def load(self, checkpoint: Path, dtype: str) -> None:
        import mlx.core as mx
        from mlx_qwen3_asr import ForcedAligner

        self._dtype = getattr(mx, dtype)
        self._aligner = ForcedAligner(str(checkpoint), dtype=self._dtype)
        self._aligner._ensure_loaded()
        self._model, self._tokenizer = self._aligner._backend.model, self._aligner._backend.tokenizer
        self.mend_epsilon()

    def units(self, text: str, language: str) -> Sequence[str]:
        from mlx_qwen3_asr.forced_aligner import ForcedAlignTextProcessor

        return ForcedAlignTextProcessor.tokenize_text(text, language)

    def classes(self, features: Any, units: Sequence[str]) -> Sequence[int]:
        import mlx.core as mx
        import numpy as np

        mel, lengths = features
        audio, _ = self._model.audio_tower(mel.astype(self._dtype), lengths)
        prompt = self._aligner._backend._build_prompt(units, int(audio.shape[1]))
        input_ids = mx.array([self._tokenizer.encode(prompt, add_special_tokens=False)])
        positions = mx.arange(input_ids.shape[1])[None]
        embeddings = self._model._inject_audio_features(
            self._model.model.embed_tokens(input_ids), audio, input_ids == self._model.audio_token_id
        )
        hidden = self._model.model(
            inputs_embeds=embeddings,
            position_ids=mx.stack([positions] * 3, axis=1),
            attention_mask=None,
            cache=None,
        )
        best, ids = np.array(mx.argmax(self._model.lm_head(hidden), axis=-1)[0]), np.array(input_ids[0])
        return best[ids == self._aligner._backend.timestamp_token_id].tolist()

    def align(self, samples: Samples, text: str, language: str) -> int:
        return len(self._aligner.align(samples, text, language))
