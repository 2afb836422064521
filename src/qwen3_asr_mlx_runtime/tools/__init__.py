"""Instruments around the engine, each a command. The bridge never imports them, nor the extra `tools` they need."""
