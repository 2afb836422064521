"""Jobs in, transcripts out, on the thread that owns MLX."""
