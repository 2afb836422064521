"""The implementation of scripts/qwen3-asr-mlx-install. Uses only the standard library."""
