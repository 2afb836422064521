"""The audio tower: log-mel frames → one embedding for each 80 ms of speech (13 a second).

Three strided convolutions see chunks of 100 frames, each on its own; the transformer sees windows of 104 tokens (8 s),
each on its own. Nothing crosses a window, so a finished one never changes. Attribute names are the checkpoint's;
`prepare` on a GPU replaces the projections that share an input by one.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count
from qwen3_asr_mlx_runtime.model.activations import gelu
from qwen3_asr_mlx_runtime.model.config import AudioEncoderConfig
from qwen3_asr_mlx_runtime.model.projections import join

_CHUNKS_PER_BLOCK = 32  # convolutions see at most 32 s at a time: their first output is 6 MB a second in float32
_CHUNKS_PER_BLOCK_ON_CPU = 1  # what they write stays in the processor's cache
_FLOAT16_LIMIT = 65504.0 - 1000.0


class Run(NamedTuple):
    """Rows `start` to `stop` of a packed batch: whole windows of one length, one after the other."""

    start: int
    stop: int
    window: int


class Attention(nn.Module):
    """Bidirectional attention inside each window."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.scale = (width // heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def join(self) -> None:
        join(self, ("q_proj", "k_proj", "v_proj"), "qkv_proj")

    def __call__(self, x: mx.array, runs: Sequence["Run"]) -> mx.array:
        """x (T, d) → (T, d), each run attending in windows of its own."""
        if "qkv_proj" in self:
            queries, keys, values = mx.split(self.qkv_proj(x), 3, axis=-1)
        else:
            queries, keys, values = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        attended = [self._attend(queries[a:b], keys[a:b], values[a:b], window) for a, b, window in runs]
        return self.out_proj(_joined(attended))

    def _attend(self, queries: mx.array, keys: mx.array, values: mx.array, length: int) -> mx.array:
        """(W·length, d) → (W·length, d): the windows are a batch axis."""
        T, d = queries.shape
        shape = (T // length, length, self.num_heads, d // self.num_heads)
        # each (W, heads, length, head_dim)
        q, k, v = (x.reshape(shape).transpose(0, 2, 1, 3) for x in (queries, keys, values))
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return out.transpose(0, 2, 1, 3).reshape(T, d)


class EncoderLayer(nn.Module):
    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.d_model, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def __call__(self, x: mx.array, runs: Sequence[Run]) -> mx.array:
        x = x + self.self_attn(self.self_attn_layer_norm(x), runs)
        x = x + self.fc2(gelu(self.fc1(self.final_layer_norm(x))))
        if x.dtype == mx.float16:
            x = mx.clip(x, -_FLOAT16_LIMIT, _FLOAT16_LIMIT)
        return x


class AudioTower(nn.Module):
    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        channels = config.downsample_hidden_size
        self.config = config
        self.conv2d1 = nn.Conv2d(1, channels, kernel_size=3, stride=2, padding=1)
        self.conv2d2 = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
        self.conv2d3 = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
        self.conv_out = nn.Linear(channels * math.ceil(config.num_mel_bins / 8), config.d_model, bias=False)
        self.layers = [EncoderLayer(config) for _ in range(config.encoder_layers)]
        self.ln_post = nn.LayerNorm(config.d_model)
        self.proj1 = nn.Linear(config.d_model, config.d_model)
        self.proj2 = nn.Linear(config.d_model, config.output_dim)
        self._positions = sinusoids(audio_token_count(config.chunk_frames), config.d_model)

    def prepare(self) -> None:
        """Prepare loaded weights to run, layer by layer. On a GPU their names then differ from the checkpoint's."""
        self._positions = self._positions.astype(self.ln_post.weight.dtype)
        mx.eval(self._positions)
        if mx.default_device() != mx.cpu:
            for layer in self.layers:
                layer.self_attn.join()
                mx.eval(layer.parameters())

    def __call__(self, features: mx.array) -> mx.array:
        """features (F, 128) in the model's dtype, F ≥ 1 → embeddings (audio_token_count(F), output_dim) in the same
        dtype."""
        return self.encode([features])[0]

    def one_by_one(self, features: mx.array) -> mx.array:
        """Like `__call__`, but each window alone, so that the bits of its embeddings depend on nothing else."""
        frames, size = features.shape[0], self.window_frames
        windows = []
        for start in range(0, frames, size):
            rows = self.embed_chunks(features[start : start + size], part=frames >= self.config.chunk_frames)
            windows.append(self.encode_window(rows))
        return _joined(windows)

    @property
    def window_frames(self) -> int:
        """Mel frames of a whole window."""
        return self.config.chunk_frames * self.config.chunks_per_window

    def encode_window(self, rows: mx.array) -> mx.array:
        """The output of `embed_chunks` for one window (T, d_model) → its embeddings (T, output_dim)."""
        return self._transform(rows, [Run(0, rows.shape[0], rows.shape[0])])

    def encode(self, batch: Sequence[mx.array]) -> list[mx.array]:
        """Several utterances at once, without padding: features (F, 128) each → embeddings of each.

        Windows are packed by length: every layer except attention works row by row. The products have other shapes than
        for an utterance alone, so the last bits may differ.
        """
        longest = audio_token_count(self.config.chunk_frames) * self.config.chunks_per_window
        embedded: list[mx.array] = []
        for features in batch:
            embedded.append(self.embed_chunks(features))
            mx.eval(embedded[-2:-1])  # limits memory, as in embed_chunks
        spans = _spans([rows.shape[0] for rows in embedded], longest)
        if len(batch) == 1:  # its spans are in order
            x = embedded[0]
        else:
            x = _joined([embedded[span.utterance][span.start : span.stop] for span in spans])
        return _unpacked(self._transform(x, _runs(spans)), spans, len(batch))

    def _transform(self, x: mx.array, runs: Sequence[Run]) -> mx.array:
        for layer in self.layers:
            x = layer(x, runs)
        return self.proj2(gelu(self.proj1(self.ln_post(x))))

    def embed_chunks(self, features: mx.array, *, part: bool = False) -> mx.array:
        """The convolutional stem and chunk positions: features (F, 128) → (audio_token_count(F), d_model).

        `part`: of a clip that has a whole second.
        """
        chunks = self._chunk(features, part)  # (C, 100, 128), or (1, F, 128) for less than a second
        size = _CHUNKS_PER_BLOCK_ON_CPU if mx.default_device() == mx.cpu else _CHUNKS_PER_BLOCK
        blocks: list[mx.array] = []
        for i in range(0, chunks.shape[0], size):
            blocks.append(self._convolve(chunks[i : i + size]))
            mx.async_eval(blocks[-1])
            mx.eval(blocks[-2:-1])  # at most two at a time: a queued block holds its memory already
        x = _joined(blocks).reshape(-1, self.config.d_model)
        return x[: audio_token_count(features.shape[0])]  # only the last chunk's padding is cut off

    def _chunk(self, features: mx.array, part: bool) -> mx.array:
        """Cut into seconds. The last is padded with 0.0, in feature space, to a whole one if there is any whole one."""
        F, bins = features.shape
        size = self.config.chunk_frames
        if F < size and not part:
            return features[None]
        padding = -F % size
        padded = mx.pad(features, [(0, padding), (0, 0)]) if padding else features
        return padded.reshape(-1, size, bins)

    def _convolve(self, chunks: mx.array) -> mx.array:
        """(C, frames, 128) → (C, tokens, d_model); positions start again in every chunk."""
        x = chunks.transpose(0, 2, 1)[..., None]  # (C, 128, frames, 1)
        for conv in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = gelu(mx.conv2d(x, conv.weight, conv.stride, conv.padding), conv.bias)
        C, bins, tokens, channels = x.shape
        x = x.transpose(0, 2, 3, 1).reshape(C, tokens, channels * bins)  # the checkpoint flattens channel first
        return self.conv_out(x) + self._positions[:tokens].astype(chunks.dtype)


class Span(NamedTuple):
    """Rows `start` to `stop` of an utterance: whole windows of one length."""

    utterance: int
    start: int
    stop: int
    window: int


def _spans(counts: Sequence[int], longest: int) -> list[Span]:
    """Utterances of so many rows, cut into their full windows and a last, shorter one; equal lengths side by side."""
    spans = []
    for utterance, count in enumerate(counts):
        whole = count // longest * longest
        spans += [Span(utterance, 0, whole, longest), Span(utterance, whole, count, count - whole)]
    return sorted((span for span in spans if span.start < span.stop), key=lambda span: -span.window)


def _runs(spans: Sequence[Span]) -> list[Run]:
    runs: list[Run] = []
    for window, group in groupby(spans, key=lambda span: span.window):
        start = runs[-1].stop if runs else 0
        runs.append(Run(start, start + sum(span.stop - span.start for span in group), window))
    return runs


def _unpacked(x: mx.array, spans: Sequence[Span], count: int) -> list[mx.array]:
    """Rows in the order of the spans → those of each utterance, in their order."""
    if count == 1:
        return [x]
    parts: list[list[mx.array]] = [[] for _ in range(count)]
    start = 0
    for span in spans:
        stop = start + span.stop - span.start
        parts[span.utterance].append(x[start:stop])
        start = stop
    return [_joined(rows) for rows in parts]


def _joined(rows: Sequence[mx.array]) -> mx.array:
    return rows[0] if len(rows) == 1 else mx.concatenate([*rows])


def sinusoids(length: int, width: int) -> mx.array:
    """The position table: float32 (length, width), sines in the first half of a row, cosines in the second."""
    step = math.log(10_000) / (width // 2 - 1)
    inverse_timescales = mx.exp(-step * mx.arange(width // 2))
    angles = mx.arange(length)[:, None] * inverse_timescales[None]
    return mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=1)
