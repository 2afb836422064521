"""scripts/qwen3-asr-mlx-serve."""
