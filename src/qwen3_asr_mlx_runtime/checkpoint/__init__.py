"""A model's name in, its files, its weights out."""
