"""How fast the engine transcribes files, and what it takes."""
