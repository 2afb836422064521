"""scripts/qwen3-asr-mlx-wyoming."""
