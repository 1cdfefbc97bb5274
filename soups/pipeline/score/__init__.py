"""Logits, scores and votes of models on a run's sets."""
