"""Qwen3-ASR in torch, small, to train the demonstration checkpoint with. Module names are the checkpoint's keys."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

AUDIO = {
    "d_model": 192,
    "encoder_layers": 5,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 704,
    "downsample_hidden_size": 48,
    "output_dim": 192,
}
TEXT = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
ALIGNER_AUDIO = {**AUDIO, "encoder_layers": 3, "encoder_ffn_dim": 512, "output_dim": 128}
ALIGNER_TEXT = {**TEXT, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4}
CLASSES, CLASS_SECONDS = 5000, 0.08
MEL, CHUNK, CHUNK_TOKENS, WINDOW, ROPE_THETA = 128, 100, 13, 104, 1e6
Sizes = dict[str, int]


def audio_tokens(frames: int) -> int:
    """The number of embeddings of `frames` mel frames."""
    return CHUNK_TOKENS * (frames // CHUNK) + math.ceil(frames % CHUNK / 8)


class Attention(nn.Module):
    """Multi-head attention of the audio tower: biased, bidirectional."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = x.shape
        q, k, v = (
            proj(x).view(B, T, self.heads, -1).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(B, T, D))


class EncoderLayer(nn.Module):
    def __init__(self, audio: Sizes, dropout: float) -> None:
        super().__init__()
        width, hidden = audio["d_model"], audio["encoder_ffn_dim"]
        self.self_attn = Attention(width, audio["encoder_attention_heads"])
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), mask))
        return x + self.dropout(self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))))


class AudioTower(nn.Module):
    """(B, 128, F) log-mel of equally long clips to (B, audio_tokens(F), output_dim)."""

    def __init__(self, audio: Sizes, dropout: float) -> None:
        super().__init__()
        width, channels = audio["d_model"], audio["downsample_hidden_size"]
        self.conv2d1 = nn.Conv2d(1, channels, 3, 2, 1)
        self.conv2d2 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.conv2d3 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.conv_out = nn.Linear(channels * MEL // 8, width, bias=False)
        self.layers = nn.ModuleList(EncoderLayer(audio, dropout) for _ in range(audio["encoder_layers"]))
        self.ln_post = nn.LayerNorm(width)
        self.proj1, self.proj2 = nn.Linear(width, width), nn.Linear(width, audio["output_dim"])
        rate = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2).float())
        angle = torch.arange(CHUNK_TOKENS)[:, None] * rate[None]
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], 1), persistent=False)

    def stem(self, mel: Tensor) -> Tensor:
        """(B, 128, F) to (B, T, d_model): chunks of 100 frames are convolved; fewer than 100 are one chunk."""
        B, _, frames = mel.shape
        size = min(frames, CHUNK)
        mel = F.pad(mel, (0, -frames % size))
        x = mel.view(B, MEL, -1, size).transpose(1, 2).reshape(-1, 1, MEL, size)
        for conv in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = F.gelu(conv(x))
        x = self.conv_out(x.permute(0, 3, 1, 2).flatten(2))
        x = x + self.positions[: x.shape[1]].to(x.dtype)
        return x.reshape(B, -1, x.shape[-1])[:, : audio_tokens(frames)]

    def forward(self, mel: Tensor) -> Tensor:
        x = self.stem(mel)
        B, T, D = x.shape
        size, mask = min(T, WINDOW), None
        if T % size:
            x = F.pad(x, (0, 0, 0, -T % size))
            valid = torch.arange(x.shape[1], device=x.device).view(-1, 1, 1, size) < T
            mask = valid.expand(-1, 1, size, -1).repeat(B, 1, 1, 1)
        x = x.reshape(-1, size, D)
        for layer in self.layers:
            x = layer(x, mask)
        x = x.view(B, -1, D)[:, :T]
        return self.proj2(F.gelu(self.proj1(self.ln_post(x))))


def rope(x: Tensor) -> Tensor:
    """Rotate (B, H, L, D) by its positions 0..L-1: halves, not pairs. On equal positions MRoPE is this."""
    D = x.shape[-1]
    inverse = ROPE_THETA ** (-torch.arange(0, D, 2, device=x.device).float() / D)
    angle = torch.arange(x.shape[2], device=x.device)[:, None] * inverse
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class RMSNorm(nn.RMSNorm):
    """With the weight in the activations' dtype, for which torch has one kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Grouped-query attention of the decoder: causal, no biases, q and k normed per head before the rotation."""

    def __init__(self, text: Sizes) -> None:
        super().__init__()
        width, self.size = text["hidden_size"], text["head_dim"]
        heads, kv = text["num_attention_heads"] * self.size, text["num_key_value_heads"] * self.size
        self.q_proj, self.o_proj = nn.Linear(width, heads, bias=False), nn.Linear(heads, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(width, kv, bias=False), nn.Linear(width, kv, bias=False)
        self.q_norm, self.k_norm = RMSNorm(self.size, 1e-6), RMSNorm(self.size, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        B, L, _ = x.shape
        q, k, v = (proj(x).view(B, L, -1, self.size) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rope(self.q_norm(q).transpose(1, 2)).to(v.dtype), rope(self.k_norm(k).transpose(1, 2)).to(v.dtype)
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v.transpose(1, 2)))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, L, -1))


class MLP(nn.Module):
    def __init__(self, text: Sizes) -> None:
        super().__init__()
        width, hidden = text["hidden_size"], text["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, text: Sizes, dropout: float) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (RMSNorm(text["hidden_size"], 1e-6) for _ in range(2))
        self.self_attn, self.mlp = SelfAttention(text), MLP(text)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x)))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Decoder(nn.Module):
    """Qwen3 on input embeddings (B, L, hidden_size)."""

    def __init__(self, vocabulary: int, text: Sizes, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, text["hidden_size"])
        self.layers = nn.ModuleList(DecoderLayer(text, dropout) for _ in range(text["num_hidden_layers"]))
        self.norm = RMSNorm(text["hidden_size"], 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Thinker(nn.Module):
    """The recogniser, or, with a number of `classes`, the aligner, whose head is its own."""

    def __init__(
        self,
        vocabulary: int,
        dropout: float = 0.0,
        audio: Sizes = AUDIO,
        text: Sizes = TEXT,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.audio_tower = AudioTower(audio, dropout)
        self.model = Decoder(vocabulary, text, dropout)
        self.lm_head = nn.Linear(text["hidden_size"], classes, bias=False) if classes else None
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def hidden(self, mel: Tensor, tokens: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's output (B, L, H) and the audio embeddings (B, T, H).

        `tokens` (B, L) has its audio placeholders at `starts` (B,), as many as the clip has embeddings.
        """
        audio = self.audio_tower(mel)
        x = self.model.embed_tokens(tokens).to(audio.dtype)
        places = starts[:, None] + torch.arange(audio.shape[1], device=mel.device)
        x = x.scatter(1, places[..., None].expand(-1, -1, x.shape[-1]), audio)
        return self.model(x), audio

    def logits(self, hidden: Tensor) -> Tensor:
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(hidden, head.weight)
