"""Qwen3-ASR in MLX: configuration, audio tower, splice, decoder, weights, generation."""
