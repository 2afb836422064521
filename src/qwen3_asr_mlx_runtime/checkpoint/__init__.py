"""A model's name → its files → its weights."""
