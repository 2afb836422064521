"""Run as `python3 -I -B -X utf8 runtime`: Python puts this folder in front of its path, isolated or not."""

from qwen3_asr_mlx_runtime.entry import bridge

bridge()
