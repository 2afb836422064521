"""Speed and memory of the engine on files."""
