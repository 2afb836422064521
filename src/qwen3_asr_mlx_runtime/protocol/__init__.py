"""The messages of `qwen3-asr-mlx-jsonl-v1`: bytes to typed requests, typed replies to bytes."""
