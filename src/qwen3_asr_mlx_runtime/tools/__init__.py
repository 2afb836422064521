"""Measuring tools around the engine, each a command. The bridge imports neither them nor the extra `tools`."""
