"""Sound files and PCM → samples: float32, mono, 16 kHz."""
