"""scripts/qwen3-asr-mlx-live: partial texts of sound files in the terminal, at the pace of speech."""
