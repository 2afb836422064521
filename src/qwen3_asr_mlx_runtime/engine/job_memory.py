"""The memory that a job takes beside the weights, computed from the model's dimensions."""

import mlx.core as mx

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.decoder import PREFILL_BLOCK, round_up

_CHUNKS_IN_FLIGHT = 64  # two blocks of the convolutions; on a CPU a block is one chunk
_CHUNKS_IN_FLIGHT_ON_CPU = 2


class JobMemory:
    """Upper bounds in bytes, not tight. `itemsize`: of the model's dtype."""

    def __init__(self, config: ModelConfig, itemsize: int) -> None:
        self._config = config
        self._itemsize = itemsize

    def job(self, samples: int, positions: int, rows: int = 1) -> int:
        """The peak of a job. `samples`: all that go through the tower at once. `positions`: keys and values reserved
        for each of `rows`."""
        chunks = -(-frame_count(samples) // self._config.audio.chunk_frames)
        tokens = audio_token_count(frame_count(samples))
        text = self._config.text
        before = max(self._stem_bytes(chunks), tokens * self._token_bytes())
        kept = (tokens + rows * positions) * text.hidden_size * self._itemsize
        cached = rows * self.row(positions)
        logits = rows * self.logits()
        return kept + max(before, cached + logits + self._prefill_bytes(positions, rows))

    def row(self, positions: int) -> int:
        """The keys and values of a row in all layers."""
        text = self._config.text
        per_position = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        return round_up(positions) * per_position * self._itemsize

    def logits(self) -> int:
        """The logits of a row, with the arrays computed from them."""
        return self._config.text.vocab_size * (self._itemsize + 20)

    def alignment(self, samples: int, positions: int, units: int, rows: int = 1) -> int:
        """The peak of a pass of the aligner. `samples` and `units`: of all rows. `positions`: of the longest."""
        features = frame_count(samples) * self._config.audio.num_mel_bins * 2 * mx.float32.size
        scores = 2 * units * self._config.head_size * (self._itemsize + 24)  # with the arrays computed from them
        return features + self.job(samples, positions, rows) + scores

    def _stem_bytes(self, chunks: int) -> int:
        """The convolutions, in multiples of the first one's output. A CPU unfolds the input of the next, and computes
        GELU in many steps."""
        audio, on_cpu = self._config.audio, mx.default_device() == mx.cpu
        written = audio.num_mel_bins // 2 * (audio.chunk_frames // 2) * audio.downsample_hidden_size
        in_flight = min(chunks, _CHUNKS_IN_FLIGHT_ON_CPU if on_cpu else _CHUNKS_IN_FLIGHT)
        return in_flight * (11 if on_cpu else 5) * written * self._working_itemsize

    def _token_bytes(self) -> int:
        """A token in a layer of the tower: the feed-forward part takes most, or attention if it is narrow."""
        audio = self._config.audio
        window = audio_token_count(audio.chunk_frames) * audio.chunks_per_window
        scores = 2 * audio.encoder_attention_heads * window
        width, ffn = audio.d_model, audio.encoder_ffn_dim
        return (max(9 * ffn + 8 * width, 5 * ffn + 18 * width) + scores) * self._working_itemsize

    def _prefill_bytes(self, positions: int, rows: int) -> int:
        """One layer of the decoder on the longest run of positions of one pass, with the attention scores that a
        backend without fused attention stores."""
        text = self._config.text
        heads = text.num_attention_heads + 2 * text.num_key_value_heads
        run = rows * min(positions, PREFILL_BLOCK)
        width = 6 * text.intermediate_size + 6 * heads * text.head_dim + 2 * text.hidden_size
        scores = 3 * text.num_attention_heads * positions // 2
        return run * (width + scores) * self._working_itemsize

    @property
    def _working_itemsize(self) -> int:
        return 4 if mx.default_device() == mx.cpu else self._itemsize
