"""scripts/qwen3-asr-mlx-live: partials of sound files in the terminal, in real time."""
