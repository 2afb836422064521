"""The messages of `qwen3-asr-mlx-jsonl-v1`: bytes → typed requests, typed replies → bytes."""
