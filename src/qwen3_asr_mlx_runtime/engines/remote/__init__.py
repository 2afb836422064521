"""The engine on another machine: vLLM servers over HTTP. Imports no MLX."""
