"""Local speech recognition with Qwen3-ASR on MLX: a library, and a child process with a newline-JSON protocol."""

__version__ = "0.2.0"
