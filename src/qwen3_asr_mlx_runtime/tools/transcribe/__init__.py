"""scripts/qwen3-asr-mlx-transcribe."""
