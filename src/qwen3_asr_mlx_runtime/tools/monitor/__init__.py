"""Figures of a bridge session, observed on its pipes."""
