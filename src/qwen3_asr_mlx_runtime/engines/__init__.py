"""The interface to an engine, and the values that cross it."""
