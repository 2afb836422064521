"""The conversation half: requests, files and audio in, lines out. It never imports MLX."""
