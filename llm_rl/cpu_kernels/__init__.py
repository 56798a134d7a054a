"""Compiled loops of a transformer on a processor."""
