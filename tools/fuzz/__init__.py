"""Mutated files of every kind that the package reads: `scripts/fuzz.py`."""
