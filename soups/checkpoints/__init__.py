"""Checkpoint files: weights with a card, safe reading of others' files, averages."""
