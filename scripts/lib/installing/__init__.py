"""What scripts/qwen3-asr-mlx-install does. Nothing but the standard library is at hand here."""
