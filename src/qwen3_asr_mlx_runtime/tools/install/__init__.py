"""qwen3-asr-mlx-install: the folder that an app ships. Uses only the standard library, in the Python of that folder."""
