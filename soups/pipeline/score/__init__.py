"""Logits, scores and votes of the models of a run, on its own machine or on others."""
